package broker_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/fault"
)

func TestNewHost(t *testing.T) {
	data := json.RawMessage(`{"arch": "x86_64", "cores": 16, "ratio": 1.50, "ssd": true, "nics": ["a"], "bmc": {"ip": "192.0.2.9"}, "rack": null}`)
	h, err := broker.NewHost(broker.Host{
		ID: 5, Inventory: "lab", Hostname: "N1.example.net", Address: "2001:DB8:0::1", Comment: "c", Pool: "p", Reusable: true, Data: data,
		NodeID: 9, Uses: 3, RetiredAt: t0, Attributes: map[string]string{"a": "b"},
	}, t0)
	if err != nil {
		t.Fatal(err)
	}
	want := broker.Host{
		Inventory: "lab", Hostname: "N1.example.net", Address: "2001:db8::1", Comment: "c", Pool: "p", Reusable: true, Data: data,
		Attributes: map[string]string{"arch": "x86_64", "cores": "16", "ratio": "1.50", "ssd": "true"}, CreatedAt: t0, UpdatedAt: t0,
	}
	if diff := cmp.Diff(want, h); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if h, err := broker.NewHost(broker.Host{Hostname: "n", Address: "::ffff:192.0.2.1"}, t0); err != nil || h.Address != "192.0.2.1" {
		t.Errorf("a mapped address: %q, %v", h.Address, err)
	}
	for _, bad := range []broker.Host{
		{Hostname: "", Address: "192.0.2.1"},
		{Hostname: "-n", Address: "192.0.2.1"},
		{Hostname: "n.", Address: "192.0.2.1"},
		{Hostname: "n 1", Address: "192.0.2.1"},
		{Hostname: "n\n", Address: "192.0.2.1"},
		{Hostname: strings.Repeat("n", 254), Address: "192.0.2.1"},
		{Hostname: "n", Address: ""},
		{Hostname: "n", Address: "192.0.2.256"},
		{Hostname: "n", Address: "192.0.2.0/24"},
		{Hostname: "n", Address: "192.0.2.1", Data: json.RawMessage(`[]`)},
		{Hostname: "n", Address: "192.0.2.1", Data: json.RawMessage(`null`)},
		{Hostname: "n", Address: "192.0.2.1", Data: json.RawMessage(`{}}`)},
		{Hostname: "n", Address: "192.0.2.1", Data: json.RawMessage(`{`)},
	} {
		if _, err := broker.NewHost(bad, t0); broker.CodeOf(err) != broker.CodeInvalid {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// A host is posted, shown, found, and retired, and every step is an event.
func TestHosts(t *testing.T) {
	w := newWorld(t, 1) // nodes 1 to 3
	w.fault.RunTwice()
	ctx := t.Context()
	create := func(name, address string) broker.Host {
		t.Helper()
		h, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: name, Address: address, Inventory: "ignored", Reusable: true})
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	a, b := create("a.example.net", "192.0.2.1"), create("b.example.net", "192.0.2.2")
	if a.ID <= 3 || b.ID <= a.ID || a.Inventory != broker.APIInventory || a.State() != broker.HostFree {
		t.Errorf("made %+v and %+v", a, b)
	}
	got, err := w.b.Host(ctx, w.admin, a.ID)
	if diff := cmp.Diff(broker.HostStatus{Host: a}, got); diff != "" || err != nil {
		t.Errorf("%v (-made +shown):\n%s", err, diff)
	}
	retired, err := w.b.RetireHost(ctx, w.admin, a.ID)
	if err != nil || retired.RetiredAt != t0 || retired.UpdatedAt != t0 || retired.State() != broker.HostRetired {
		t.Errorf("retired: %+v, %v", retired, err)
	}
	create("a.example.net", "192.0.2.1") // the machine is free to be posted again
	got, err = w.b.Host(ctx, w.admin, a.ID)
	if diff := cmp.Diff(retired, got); diff != "" || err != nil {
		t.Errorf("%v (-retired +shown):\n%s", err, diff)
	}
	events, _, err := w.b.Events(ctx, w.admin, 0)
	if err != nil {
		t.Fatal(err)
	}
	var told []string
	for _, e := range events {
		if e.Kind == broker.EventHost {
			told = append(told, e.From+" -> "+e.To+": "+e.Message)
			if e.NodeID < a.ID || e.At != t0 {
				t.Errorf("%+v", e)
			}
		}
	}
	want := []string{
		" -> unused: host 'a.example.net' (192.0.2.1) of inventory 'api' created by admin",
		" -> unused: host 'b.example.net' (192.0.2.2) of inventory 'api' created by admin",
		"unused -> retired: host 'a.example.net' (192.0.2.1) of inventory 'api' retired by admin",
		" -> unused: host 'a.example.net' (192.0.2.1) of inventory 'api' created by admin",
	}
	if diff := cmp.Diff(want, told); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if events, _, err := w.b.Events(ctx, w.demo, 0); len(events) != 0 || err != nil {
		t.Errorf("a tenant sees %v, %v", events, err)
	}
}

func TestHosts_refused(t *testing.T) {
	w := newWorld(t, 1)
	ctx := t.Context()
	lent := w.request(w.demo, want("plain", 1)).Nodes[0].ID
	free, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "a", Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	gone, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "b", Address: "192.0.2.2"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.b.RetireHost(ctx, w.admin, gone.ID); err != nil {
		t.Fatal(err)
	}
	create := func(actor broker.Tenant, name, address string) func() error {
		return func() error {
			_, err := w.b.CreateHost(ctx, actor, broker.Host{Hostname: name, Address: address})
			return err
		}
	}
	retire := func(actor broker.Tenant, id int64) func() error {
		return func() error { _, err := w.b.RetireHost(ctx, actor, id); return err }
	}
	show := func(actor broker.Tenant, id int64) func() error {
		return func() error { _, err := w.b.Host(ctx, actor, id); return err }
	}
	last, err := w.b.LastEvent(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		do   func() error
		want broker.Code
		text string
	}{
		"create as a tenant":     {create(w.demo, "x", "192.0.2.9"), broker.CodeForbidden, "only admins"},
		"create with no name":    {create(w.admin, "", "192.0.2.9"), broker.CodeInvalid, `"" is no host name`},
		"the same host name":     {create(w.admin, "A", "192.0.2.9"), broker.CodeConflict, "the host name 'a' already"},
		"the same address":       {create(w.admin, "x", "192.0.2.1"), broker.CodeConflict, "the address '192.0.2.1' already"},
		"retire as a tenant":     {retire(w.demo, free.ID), broker.CodeForbidden, "only admins"},
		"retire its own node":    {retire(w.demo, lent), broker.CodeForbidden, "only admins"},
		"retire a node":          {retire(w.admin, lent), broker.CodeInvalid, "Terraform made it"},
		"retire twice":           {retire(w.admin, gone.ID), broker.CodeInvalid, "is retired"},
		"retire what is not":     {retire(w.admin, 999), broker.CodeNotFound, "there is no node 999"},
		"show to a tenant":       {show(w.demo, free.ID), broker.CodeForbidden, "not lent to you"},
		"show a node as a host":  {show(w.admin, lent), broker.CodeNotFound, ""},
		"show what there is not": {show(w.demo, 999), broker.CodeNotFound, ""},
	} {
		if err := test.do(); broker.CodeOf(err) != test.want || !strings.Contains(err.Error(), test.text) {
			t.Errorf("%s: %v, want %s and %q", name, err, test.want, test.text)
		}
	}
	if after, err := w.b.LastEvent(ctx); after != last || err != nil {
		t.Errorf("refusals wrote %d events, %v", after-last, err)
	}

	lost := errors.New("lost")
	w.fault.FailUpdate(1, fault.Before, lost)
	if h, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "c", Address: "192.0.2.3"}); !errors.Is(err, lost) || h.ID != 0 {
		t.Errorf("a create that is not kept gives %+v, %v", h, err)
	}
	w.fault.FailUpdate(1, fault.Before, lost)
	if h, err := w.b.RetireHost(ctx, w.admin, free.ID); !errors.Is(err, lost) || h.ID != 0 {
		t.Errorf("a retirement that is not kept gives %+v, %v", h, err)
	}
}

// A host in use is shown by the node on it. Retired, it keeps its name until that
// has gone.
func TestHosts_occupied(t *testing.T) {
	w := newWorld(t, 1)
	ctx := t.Context()
	h, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "a", Address: "192.0.2.1"})
	if err != nil {
		t.Fatal(err)
	}
	h.NodeID = 1
	move := func(from broker.HostState) {
		t.Helper()
		if err := w.store.Update(ctx, func(tx broker.Tx) error { return tx.UpdateHost(from, h) }); err != nil {
			t.Fatal(err)
		}
	}
	move(broker.HostFree)
	retired, err := w.b.RetireHost(ctx, w.admin, h.ID)
	if h = retired.Host; err != nil || h.State() != broker.HostOccupied || h.RetiredAt.IsZero() || retired.Wire() != "ready" {
		t.Fatalf("%+v, %v", retired, err)
	}
	if _, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "a", Address: "192.0.2.2"}); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("somebody is on it: %v", err)
	}
	h.NodeID = 0
	move(broker.HostOccupied)
	if _, err := w.b.CreateHost(ctx, w.admin, broker.Host{Hostname: "a", Address: "192.0.2.2"}); err != nil {
		t.Error(err)
	}
}

func TestFindHosts(t *testing.T) {
	w := newWorld(t, 1) // nodes 1 to 3
	for i, h := range []broker.Host{
		{Hostname: "free", Address: "192.0.2.1"},
		{Hostname: "pooled", Pool: "plain", Address: "192.0.2.2"},
		{Hostname: "occupied", Address: "192.0.2.3", NodeID: 1},
		{Hostname: "retired", Address: "192.0.2.4", RetiredAt: t0},
		{Hostname: "lab", Inventory: "lab", Address: "192.0.2.5"},
		{Hostname: "resting", Address: "192.0.2.6", Failures: 1, RetryAt: t0},
		{Hostname: "broken", Address: "192.0.2.7", Failures: 2, RetryAt: t0, BrokenAt: t0},
	} {
		if h.Inventory == "" {
			h.Inventory = broker.APIInventory
		}
		err := w.store.Update(t.Context(), func(tx broker.Tx) error { h.ID = 0; return tx.CreateHost(&h) })
		if err != nil || h.ID != int64(i)+4 {
			t.Fatal(h.ID, err)
		}
	}
	free, occupied, retired := broker.HostFree, broker.HostOccupied, broker.HostRetired
	for name, test := range map[string]struct {
		actor        broker.Tenant
		f            broker.NodeFilter
		hosts, nodes string
	}{
		"all":                {w.admin, broker.NodeFilter{}, "free pooled lab", "123"},
		"a tenant":           {w.demo, broker.NodeFilter{}, "", ""},
		"of nodes":           {w.admin, broker.NodeFilter{States: []broker.NodeState{broker.NodeReady}}, "", "123"},
		"of hosts":           {w.admin, broker.NodeFilter{Hosts: []broker.HostState{free}}, "free pooled lab", ""},
		"retired":            {w.admin, broker.NodeFilter{Hosts: []broker.HostState{retired}}, "retired", ""},
		"both":               {w.admin, broker.NodeFilter{States: []broker.NodeState{broker.NodeReady}, Hosts: []broker.HostState{retired}}, "retired", "123"},
		"occupied":           {w.admin, broker.NodeFilter{Hosts: []broker.HostState{occupied}}, "", ""},
		"an inventory":       {w.admin, broker.NodeFilter{Inventory: "api"}, "free pooled occupied resting broken", ""},
		"part of it":         {w.admin, broker.NodeFilter{Inventory: "api", Hosts: []broker.HostState{occupied}}, "occupied", ""},
		"no inventory":       {w.admin, broker.NodeFilter{Inventory: "x"}, "", ""},
		"nodes of inventory": {w.admin, broker.NodeFilter{Inventory: "api", States: []broker.NodeState{broker.NodeReady}}, "occupied", ""},
		"states of nodes":    {w.admin, broker.NodeFilter{Inventory: "api", States: []broker.NodeState{broker.NodeDeployed}, Hosts: []broker.HostState{occupied}}, "", ""},
		"what failed":        {w.admin, broker.NodeFilter{Hosts: []broker.HostState{broker.HostQuarantined, broker.HostBroken}}, "resting broken", ""},
		"inventory, tenant":  {w.demo, broker.NodeFilter{Inventory: "api"}, "", ""},
		"a pool":             {w.admin, broker.NodeFilter{Pool: "plain"}, "pooled", "3"},
		"a pool's first":     {w.admin, broker.NodeFilter{Pool: "plain", Limit: 1}, "pooled", "3"},
		"a page":             {w.admin, broker.NodeFilter{Limit: 2, After: 4}, "pooled lab", ""},
	} {
		list, err := w.b.FindHosts(t.Context(), test.actor, test.f)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, h := range list {
			got = append(got, h.Hostname)
		}
		if got := strings.Join(got, " "); got != test.hosts {
			t.Errorf("%s: hosts %q, want %q", name, got, test.hosts)
		}
		nodes, err := w.b.FindNodes(t.Context(), test.actor, test.f)
		if err != nil {
			t.Fatal(err)
		}
		ids := ""
		for _, n := range nodes {
			ids += string(rune('0' + n.ID))
		}
		if ids != test.nodes {
			t.Errorf("%s: nodes %q, want %q", name, ids, test.nodes)
		}
	}
}
