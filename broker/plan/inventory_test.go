package plan_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/plan"
)

// rack is an inventory with these hosts.
func rack(names ...string) []broker.Inventory {
	i := broker.Inventory{Name: "rack"}
	for _, name := range names {
		i.Hosts = append(i.Hosts, broker.Host{Name: name, Hostname: name, Address: "192.0.2." + name[1:], Reusable: true})
	}
	return []broker.Inventory{i}
}

func drawing(inventory string, fill int) plan.Config {
	p := testPool("a", fill, fill+1, "g")
	p.Inventory = broker.HostSelector{Name: inventory}
	return config(p)
}

// A plan that is made without a broker has the id of the one that the broker makes,
// and another one for each host that leaves the file, or is another.
func TestIDOfAnInventory(t *testing.T) {
	before, ids := drawing("rack", 2), make(map[string]string)
	before.Inventories = rack("n1", "n2", "n3")
	base := plan.Full(t0, before, 8)
	stored, _, err := broker.Declared(nil, before.Inventories, 40, t0.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	s := broker.Snapshot{At: t0, Running: broker.Running{Pools: before.Pools, Runs: 3}, Hosts: stored}
	moved := rack("n1", "n2", "n3")
	moved[0].Hosts[1].Address = "192.0.2.200"
	for name, inventories := range map[string][]broker.Inventory{
		"same": before.Inventories, "one less": rack("n1", "n2"), "another one less": rack("n1", "n3"), "one more": rack("n1", "n2", "n3", "n4"),
		"none": nil, "another address": moved,
	} {
		after := drawing("rack", 2)
		if err := after.Declare(t0, base, inventories); err != nil {
			t.Fatal(err)
		}
		p := plan.Compute(t0, before, after, base, plan.Options{Against: plan.Against{AssumedFull: true}})
		if err := after.Declare(t0, plan.World(s, true), inventories); err != nil {
			t.Fatal(err)
		}
		with := plan.Compute(t0, plan.Running(s), after, plan.World(s, true), plan.Options{})
		if p.ID != with.ID {
			t.Errorf("%s: id %s, and %s with a broker", name, p.ID, with.ID)
		}
		if changes := name != "same"; p.Summary.Changes() != changes || with.Summary.Changes() != changes {
			t.Errorf("%s: changes %+v, with a broker %+v", name, p.Summary, with.Summary)
		}
		if other := ids[p.ID]; other != "" {
			t.Errorf("%s has the id of %s", name, other)
		}
		ids[p.ID] = name
	}
	// The same file takes other hosts away where others are.
	larger := before
	larger.Inventories = rack("n1", "n2", "n3", "n4")
	w, after := plan.Full(t0, larger, 8), drawing("rack", 2)
	if err := after.Declare(t0, w, rack("n1", "n2")); err != nil {
		t.Fatal(err)
	}
	if p := plan.Compute(t0, larger, after, w, plan.Options{}); ids[p.ID] != "" {
		t.Errorf("a plan that takes two hosts away has the id of %s", ids[p.ID])
	}
}

// Nobody but a broker knows the hosts that were posted to it: it goes as if there
// were enough, and the plan says so. What is known of a broker counts.
func TestHostsThatNobodyKnows(t *testing.T) {
	before, after := drawing(broker.APIInventory, 2), drawing(broker.APIInventory, 3)
	p := plan.Compute(t0, before, after, plan.Full(t0, before, 8), plan.Options{Against: plan.Against{AssumedFull: true}})
	if p.Summary.Created != 1 || p.Pools[0].Ready.End != 3 || len(p.Pools[0].Stock.Destroyed) != 0 || len(p.Notes) != 1 || !strings.Contains(p.Notes[0], `"api"`) {
		t.Errorf("%d created, %+v, notes %q", p.Summary.Created, p.Pools[0], p.Notes)
	}
	var s broker.Snapshot
	for i := range 2 {
		s.Hosts = append(s.Hosts, broker.Host{ID: int64(10 + i), Inventory: broker.APIInventory, Hostname: fmt.Sprint("h", i), Address: fmt.Sprint("192.0.2.", i+1), NodeID: int64(i + 1)})
		s.Nodes = append(s.Nodes, broker.SnapshotNode{ID: int64(i + 1), Pool: "a", State: broker.NodeReady, Template: "t", Generation: "g", HostID: int64(10 + i), Inventory: broker.APIInventory})
	}
	s.Pools, s.Runs = before.Pools, 4
	w := plan.World(s, true)
	if err := after.Declare(t0, w, nil); err != nil {
		t.Fatal(err)
	}
	p = plan.Compute(t0, before, after, w, plan.Options{})
	want := &plan.Hosts{Inventory: broker.APIInventory, InUse: 2, Short: 1}
	if diff := cmp.Diff(want, p.Pools[0].Hosts); diff != "" || p.Summary.Created != 0 || p.Summary.StockDestroyed != 0 {
		t.Errorf("%d created, %d destroyed, hosts (-want +got):\n%s", p.Summary.Created, p.Summary.StockDestroyed, diff)
	}
}

// A machine in use that gets another name is one that waits.
func TestHostThatWaits(t *testing.T) {
	before := drawing("rack", 1)
	before.Inventories = rack("n1")
	w := plan.Full(t0, before, 8)
	after := drawing("rack", 1)
	if err := after.Declare(t0, w, rack("m1")); err != nil {
		t.Fatal(err)
	}
	p := plan.Compute(t0, before, after, w, plan.Options{})
	if len(p.Notes) != 1 || !strings.Contains(p.Notes[0], "m1") || p.Summary.StockDestroyed != 1 || p.Pools[0].Ready.End != 0 {
		t.Errorf("notes %q, %+v", p.Notes, p.Pools[0])
	}
	if err := after.Declare(t0, w, []broker.Inventory{{Name: "rack", Hosts: append(rack("n1")[0].Hosts, broker.Host{Name: "x", Hostname: "x", Address: "192.0.2.1"})}}); broker.CodeOf(err) != broker.CodeConflict || broker.HintOf(err) == "" {
		t.Errorf("two hosts with one address: %v", err)
	}
}

// As long as it waits, the file that a broker runs with changes nothing: the plan
// says of the host that it waits, and not each time that it is new.
func TestHostThatStillWaits(t *testing.T) {
	before := drawing("rack", 1)
	before.Inventories = rack("n1")
	w := plan.Full(t0, before, 8)
	inventories := append(rack("m1"), broker.Inventory{Name: "lab", Hosts: []broker.Host{{Name: "m1", Hostname: "m1.lab", Address: "192.0.2.9"}}})
	after := drawing("rack", 1)
	if err := after.Declare(t0, w, inventories); err != nil {
		t.Fatal(err)
	}
	fields := func(p plan.Plan) (names []string) {
		for _, f := range p.Settings {
			names = append(names, f.Name)
		}
		return names
	}
	first := plan.Compute(t0, before, after, w, plan.Options{})
	if got, want := fields(first), []string{"inventory.lab.m1", "inventory.rack.n1"}; !slices.Equal(got, want) || len(first.Notes) != 1 {
		t.Errorf("the first plan has the settings %v, want %v; notes %q", got, want, first.Notes)
	}
	w.Hosts = after.Hosts
	running := plan.Running(broker.Snapshot{Running: broker.Running{Pools: after.Pools}, Hosts: after.Hosts})
	if err := after.Declare(t0, w, inventories); err != nil {
		t.Fatal(err)
	}
	again := plan.Compute(t0, running, after, w, plan.Options{})
	if again.Summary.Changes() || again.ExitCode() != plan.ExitNone || len(again.Notes) != 1 || !strings.Contains(again.Notes[0], "m1") {
		t.Errorf("while it waits: settings %v, pools %+v, notes %q", fields(again), again.Pools, again.Notes)
	}
	// Once the machine is free, it is new.
	for i := range w.Hosts {
		w.Hosts[i].NodeID = 0
	}
	w.Nodes = nil
	if err := after.Declare(t0, w, inventories); err != nil {
		t.Fatal(err)
	}
	if p := plan.Compute(t0, running, after, w, plan.Options{}); !slices.Equal(fields(p), []string{"inventory.rack.m1"}) || len(p.Notes) != 0 {
		t.Errorf("once it is free: settings %v, notes %q", fields(p), p.Notes)
	}
}
