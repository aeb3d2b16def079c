package broker_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestHostSelector(t *testing.T) {
	h := broker.Host{Inventory: "rack", Attributes: map[string]string{"arch": "x86_64", "site": "brno"}}
	retired := h
	retired.RetiredAt = t0
	where := func(pairs ...string) broker.HostSelector {
		s := broker.HostSelector{Name: "rack", Where: map[string]string{}}
		for i := 0; i < len(pairs); i += 2 {
			s.Where[pairs[i]] = pairs[i+1]
		}
		return s
	}
	for _, test := range []struct {
		s    broker.HostSelector
		h    broker.Host
		want bool
	}{
		{broker.HostSelector{}, h, false},
		{broker.HostSelector{}, broker.Host{}, false},
		{broker.HostSelector{Name: "rack"}, h, true},
		{broker.HostSelector{Name: "rack2"}, h, false},
		{broker.HostSelector{Name: "rack"}, retired, false},
		{where("arch", "x86_64"), h, true},
		{where("arch", "x86_64", "site", "brno"), h, true},
		{where("arch", "x86_64", "site", "rdu"), h, false},
		{where("rack", ""), h, false},
	} {
		if got := test.s.Selects(test.h); got != test.want {
			t.Errorf("%+v selects %+v: %t", test.s, test.h, got)
		}
	}
}

func TestRunEnvironment(t *testing.T) {
	n := broker.Node{Environment: broker.Environment{Environ: map[string]string{"A": "a"}, Credentials: map[string]string{"USER": "env:POOL", "TOKEN": "env:TOKEN"}}}
	if diff := cmp.Diff(n.Environment, n.RunEnvironment()); diff != "" {
		t.Errorf("without a host:\n%s", diff)
	}
	n.Host = &broker.NodeHost{Credentials: map[string]string{"USER": "file:/host"}}
	want := broker.Environment{Environ: n.Environ, Credentials: map[string]string{"USER": "file:/host", "TOKEN": "env:TOKEN"}}
	if diff := cmp.Diff(want, n.RunEnvironment()); diff != "" {
		t.Errorf("with a host (-want +got):\n%s", diff)
	}
	if n.Credentials["USER"] != "env:POOL" {
		t.Error("the node's own references have changed")
	}
}

// declared is a host as pools.hcl has it: "NAME HOSTNAME ADDRESS".
func declared(text string) broker.Host {
	words := strings.Fields(text)
	return broker.Host{Name: words[0], Hostname: words[1], Address: words[2], Reusable: true, Data: json.RawMessage("{}")}
}

func inventory(name string, hosts ...string) broker.Inventory {
	i := broker.Inventory{Name: name}
	for _, h := range hosts {
		i.Hosts = append(i.Hosts, declared(h))
	}
	return i
}

// The stored hosts follow the file, and tell of each change once.
func TestSyncInventories(t *testing.T) {
	w := newWorld(t, 1) // nodes 1 to 3
	w.fault.RunTwice()
	ctx := t.Context()
	posted, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "posted", Address: "192.0.2.100"}) // 4
	if err != nil {
		t.Fatal(err)
	}
	hosts := func() string {
		t.Helper()
		var told []string
		err := w.store.View(ctx, func(tx broker.ReadTx) error {
			told = nil
			list, err := tx.Hosts(broker.HostQuery{})
			for _, h := range list {
				told = append(told, fmt.Sprintf("%d %s/%s %s %s %s", h.ID, h.Inventory, h.Name, h.Hostname, h.Address, h.State()))
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(told, "\n")
	}
	sync := func(wantWaiting string, inventories ...broker.Inventory) {
		t.Helper()
		waiting, err := w.b.SyncInventories(ctx, inventories)
		if err != nil || strings.Join(waiting, " ") != wantWaiting {
			t.Fatalf("waiting %v, %v; want %q", waiting, err, wantWaiting)
		}
	}
	check := func(what string, want ...string) {
		t.Helper()
		want = append([]string{"4 api/ posted 192.0.2.100 unused"}, want...)
		if diff := cmp.Diff(strings.Join(want, "\n"), hosts()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	occupy := func(id, node int64) {
		t.Helper()
		err := w.store.Update(ctx, func(tx broker.Tx) error {
			h, err := tx.Host(id)
			if err != nil {
				return err
			}
			before := h.State()
			h.NodeID = node
			if err := tx.UpdateHost(before, h); err != nil || node == 0 {
				return err
			}
			n, err := tx.Node(node)
			if err != nil {
				return err
			}
			n.Host = &broker.NodeHost{ID: id, Inventory: h.Inventory, Name: h.Name}
			return tx.UpdateNode(n.State, n)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	first := []broker.Inventory{inventory("rack", "n1 a 192.0.2.1", "n2 b 192.0.2.2"), inventory("lab", "n1 c 192.0.2.3")}
	sync("", first...)
	check("declared", "5 rack/n1 a 192.0.2.1 unused", "6 rack/n2 b 192.0.2.2 unused", "7 lab/n1 c 192.0.2.3 unused")
	last, err := w.b.LastEvent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	sync("", first...)
	if now, err := w.b.LastEvent(ctx); now != last || err != nil {
		t.Errorf("the same file made %d events, %v", now-last, err)
	}

	occupy(5, 1)
	changed := inventory("rack", "n1 a2 192.0.2.11")
	changed.Hosts[0].BMC, changed.Hosts[0].MAC = &broker.BMC{Address: "192.0.2.201", Kind: "ipmi"}, "52:54:00:12:34:56"
	changed.Hosts[0].Credentials = map[string]string{"PASSWORD": "env:RACK"}
	changed.Hosts[0].Data = json.RawMessage(`{"arch":"x86_64"}`)
	sync("", changed)
	check("one changed, the others gone", "5 rack/n1 a2 192.0.2.11 occupied", "6 rack/n2 b 192.0.2.2 retired", "7 lab/n1 c 192.0.2.3 retired")
	n, err := w.b.Node(ctx, w.admin, 1)
	want := &broker.NodeHost{
		ID: 5, Inventory: "rack", Name: "n1", Hostname: "a2", Address: "192.0.2.11", MAC: "52:54:00:12:34:56", BMC: changed.Hosts[0].BMC,
		Attributes: map[string]string{"arch": "x86_64"}, Credentials: changed.Hosts[0].Credentials,
	}
	if diff := cmp.Diff(want, n.Host); diff != "" || err != nil {
		t.Errorf("what the node on it is destroyed with (-want +got), %v:\n%s", err, diff)
	}

	sync("m1", inventory("rack", "m1 a2 192.0.2.12", "n2 b 192.0.2.2"))
	check("another name waits for the machine; one that is back is itself", "5 rack/n1 a2 192.0.2.11 occupied", "6 rack/n2 b 192.0.2.2 unused", "7 lab/n1 c 192.0.2.3 retired")
	occupy(5, 0)
	sync("", inventory("rack", "m1 a2 192.0.2.12", "n2 b 192.0.2.2"), inventory("lab", "n1 a 192.0.2.11"))
	check("the machine is free", "5 rack/n1 a2 192.0.2.11 retired", "6 rack/n2 b 192.0.2.2 unused", "7 lab/n1 a 192.0.2.11 unused", "8 rack/m1 a2 192.0.2.12 unused")

	before := hosts()
	for text, bad := range map[string]broker.Inventory{
		`host "x" of inventory "rack" can't be declared: node 4 has the host name 'posted' already`: inventory("rack", "n9 new 192.0.2.9", "x posted 192.0.2.4"),
		`host "x" of inventory "rack": "nowhere" is no IPv4 or IPv6 address`:                        inventory("rack", "x x nowhere"),
	} {
		waiting, err := w.b.SyncInventories(ctx, []broker.Inventory{bad})
		if err == nil || broker.MessageOf(err) != text || waiting != nil {
			t.Errorf("got %v, %v; want %s", waiting, err, text)
		}
		if after := hosts(); after != before {
			t.Errorf("it changed something:\n%s", cmp.Diff(before, after))
		}
	}
	sync("")
	if strings.Contains(strings.TrimPrefix(hosts(), "4 api/ posted 192.0.2.100 unused"), "unused") {
		t.Errorf("no inventory is left, and hosts are:\n%s", hosts())
	}
	if _, err := w.b.RetireHost(ctx, w.admin, posted.ID); err != nil {
		t.Error(err)
	}
}

// What comes back from the dead takes its host along, unless somebody has it.
func TestHostOfANodeThatIsBack(t *testing.T) {
	for _, taken := range []bool{false, true} {
		w := newWorld(t, 0)
		ctx := t.Context()
		p := testPool("metal", broker.ContextualizeSSH)
		p.Inventory = broker.HostSelector{Name: broker.APIInventory}
		h, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "a", Address: "192.0.2.1"})
		if err != nil {
			t.Fatal(err)
		}
		first, second := broker.NewNode(p, t0), broker.NewNode(p, t0)
		err = w.store.Update(ctx, func(tx broker.Tx) error {
			if err := broker.AddNode(tx, p, &first, h.ID, t0); err != nil {
				return err
			}
			other := broker.NewNode(p, t0)
			if err := broker.AddNode(tx, p, &other, h.ID, t0); !broker.IsTransition(err) {
				t.Errorf("the host is given twice: %v", err)
			}
			if err := broker.MoveNode(tx, &first, broker.NodeGone, t0, ""); err != nil {
				return err
			}
			if taken {
				if err := broker.AddNode(tx, p, &second, h.ID, t0); err != nil {
					return err
				}
			}
			return broker.MoveNode(tx, &first, broker.NodeFailed, t0, "leaked")
		})
		if err != nil {
			t.Fatal(err)
		}
		want := first.ID
		if taken {
			want = second.ID
		}
		if h, err := w.b.Host(ctx, w.admin, h.ID); h.NodeID != want || err != nil {
			t.Errorf("taken %t: node %d has the host, want %d (%v)", taken, h.NodeID, want, err)
		}
	}
}

// A node in stock whose host has left the file is one that a rollout replaces, and
// what a plan needs to know of hosts is in the snapshot.
func TestRolloutOfAMisplacedNode(t *testing.T) {
	w := newWorld(t, 1) // nodes 1 to 3
	ctx := t.Context()
	p := w.pools.All()[0]
	p.Inventory = broker.HostSelector{Name: "rack"}
	w.pools.Set([]broker.Pool{p})
	if _, err := w.b.SyncInventories(ctx, []broker.Inventory{inventory("rack", "n1 n1 192.0.2.1", "n2 n2 192.0.2.2")}); err != nil {
		t.Fatal(err)
	}
	stale := func() int {
		t.Helper()
		list, err := w.b.Rollouts(ctx, w.admin)
		if err != nil {
			t.Fatal(err)
		}
		return list[0].StaleNow
	}
	before := stale() // those without a host
	err := w.store.Update(ctx, func(tx broker.Tx) error {
		hosts, err := tx.Hosts(broker.HostQuery{Inventory: "rack"})
		if err != nil {
			return err
		}
		for _, h := range hosts {
			n := broker.NewNode(p, t0)
			if err := broker.AddNode(tx, p, &n, h.ID, t0); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := stale(); got != before {
		t.Errorf("%d nodes are stale, want %d: both have their host", got, before)
	}
	if _, err := w.b.SyncInventories(ctx, []broker.Inventory{inventory("rack", "n2 n2 192.0.2.2")}); err != nil {
		t.Fatal(err)
	}
	if got := stale(); got != before+1 {
		t.Errorf("%d nodes are stale, want %d: one has lost its host", got, before+1)
	}
	s, err := w.b.Snapshot(ctx, w.admin)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.Hosts) != 2 || s.Hosts[0].RetiredAt.IsZero() || s.Hosts[1].NodeID == 0 {
		t.Errorf("hosts of the snapshot: %+v", s.Hosts)
	}
	last := s.Nodes[len(s.Nodes)-1]
	if last.HostID != s.Hosts[1].ID || last.Inventory != "rack" {
		t.Errorf("a node of the snapshot: %+v", last)
	}
}

func TestRepairHost_refused(t *testing.T) {
	w := newWorld(t, 1)
	ctx := t.Context()
	free, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "a", Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	last, err := w.b.LastEvent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := w.b.RepairHost(ctx, w.admin, free.ID); err != nil || !cmp.Equal(h.Host, free) {
		t.Errorf("one that is free becomes %+v, %v", h, err)
	}
	if now, err := w.b.LastEvent(ctx); now != last || err != nil {
		t.Errorf("which made %d events, %v", now-last, err)
	}
	if _, err := w.b.RepairHost(ctx, w.demo, free.ID); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("a tenant: %v", err)
	}
	if _, err := w.b.RetireHost(ctx, w.admin, free.ID); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[int64]broker.Code{free.ID: broker.CodeInvalid, 1: broker.CodeInvalid, 999: broker.CodeNotFound} {
		if _, err := w.b.RepairHost(ctx, w.admin, id); broker.CodeOf(err) != want {
			t.Errorf("%d: %v, want %s", id, err, want)
		}
	}
}
