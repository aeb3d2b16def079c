package reconcile

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
)

func testHost(id int64, arch string) broker.Host {
	return broker.Host{ID: id, Inventory: "i", Name: fmt.Sprintf("h%d", id), Attributes: map[string]string{"arch": arch}, Uses: int(id)}
}

// Pools that draw from an inventory make as many nodes as there are hosts for.
func TestPlanHosts(t *testing.T) {
	x := broker.HostSelector{Name: "i", Where: map[string]string{"arch": "x86_64"}}
	pool := func(name string, fill, most int, s broker.HostSelector) broker.Pool {
		p := testPool(name, fill, most)
		p.Inventory = s
		return p
	}
	a := pool("a", 2, 4, x)
	on := func(id int64, p broker.Pool, state broker.NodeState, host int64) broker.Node {
		n := testNode(id, p, state)
		n.Host = &broker.NodeHost{ID: host, Inventory: "i"}
		return n
	}
	host := func(id int64, change func(*broker.Host)) broker.Host {
		h := testHost(id, "x86_64")
		change(&h)
		return h
	}
	free := func(*broker.Host) {}
	used := func(node int64) func(*broker.Host) { return func(h *broker.Host) { h.NodeID = node } }
	failed := func(ago time.Duration, pools ...string) func(*broker.Host) {
		return func(h *broker.Host) { h.Failures, h.FailedPools, h.RetryAt = 1, pools, t0.Add(-ago) }
	}
	gone := on(9, a, broker.NodeGone, 1)
	gone.RetiredAt = t0
	retired := func(h *broker.Host) { h.RetiredAt, h.NodeID = t0, 1 }
	tests := []struct {
		name  string
		world World
		want  []string // kind pool node host
		due   time.Time
	}{
		{
			name:  "no host, no node",
			world: World{Pools: []broker.Pool{a}},
		},
		{
			name:  "the hosts that were used least, and only those that fit",
			world: World{Pools: []broker.Pool{a}, Hosts: []broker.Host{testHost(1, "ppc64le"), host(4, free), host(3, free), host(2, free)}},
			want:  []string{"create_node a 0 2", "create_node a 0 3"},
		},
		{
			name: "of those that were used as often the one that has rested longest",
			world: World{Pools: []broker.Pool{pool("a", 1, 1, x)}, Hosts: []broker.Host{
				host(1, func(h *broker.Host) { h.Uses, h.LastUsed = 1, t0 }),
				host(2, func(h *broker.Host) { h.Uses, h.LastUsed = 1, t0.Add(-time.Hour) }),
			}},
			want: []string{"create_node a 0 2"},
		},
		{
			name:  "pools share them, the emptier one first, and none twice",
			world: World{Pools: []broker.Pool{pool("a", 2, 2, x), pool("b", 2, 2, broker.HostSelector{Name: "i"})}, Hosts: []broker.Host{host(1, free), host(2, free), host(3, free)}},
			want:  []string{"create_node a 0 1", "create_node b 0 2", "create_node a 0 3"},
		},
		{
			name:  "what one inventory has is nothing to the pools of another",
			world: World{Pools: []broker.Pool{pool("a", 1, 1, broker.HostSelector{Name: "j"})}, Hosts: []broker.Host{host(1, free)}},
		},
		{
			name: "quarantine is waited for, broken and occupied hosts are not",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{on(9, a, broker.NodeReady, 3)}, Hosts: []broker.Host{
				host(1, failed(-time.Minute, "a")), host(2, func(h *broker.Host) { h.Failures, h.BrokenAt = 2, t0 }), host(3, used(9)),
			}},
			due: t0.Add(time.Minute),
		},
		{
			name: "after its time a host is tried again, behind those that never failed, and first where it has not failed yet",
			world: World{Pools: []broker.Pool{pool("a", 3, 3, x)}, Hosts: []broker.Host{
				host(1, failed(time.Minute, "a")), host(2, failed(time.Minute, "b")), host(3, free),
			}},
			want: []string{"create_node a 0 3", "create_node a 0 2", "create_node a 0 1"},
		},
		{
			name:  "a claim of a node that is gone is mended, and the host is not used before that",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{gone}, Hosts: []broker.Host{host(1, used(9)), host(2, used(10))}},
			want:  []string{"mend_host  0 1", "mend_host  0 2"},
			due:   t0.Add(KeepGone),
		},
		{
			name:  "a claim that was lost is mended, too",
			world: World{Pools: []broker.Pool{pool("a", 1, 4, x)}, Nodes: []broker.Node{on(9, a, broker.NodeReady, 1)}, Hosts: []broker.Host{host(1, free)}},
			want:  []string{"mend_host  9 1"},
		},
		{
			name:  "a pool whose hosts are all in use is at its maximum: a stale node goes first",
			world: World{Pools: []broker.Pool{a}, Nodes: []broker.Node{on(1, pool("a", 0, 0, x), broker.NodeReady, 1), func() broker.Node { n := on(2, a, broker.NodeReady, 2); n.Source.Generation = "g0"; return n }()}, Hosts: []broker.Host{host(1, used(1)), host(2, used(2))}},
			want:  []string{"start_rollout a 0 0", "release_node a 2 0"},
		},
		{
			name:  "also if its fill level is more than it can ever have",
			world: World{Pools: []broker.Pool{pool("a", 5, 9, x)}, Nodes: []broker.Node{on(1, a, broker.NodeReady, 1), func() broker.Node { n := on(2, a, broker.NodeReady, 2); n.Source.Generation = "g0"; return n }()}, Hosts: []broker.Host{host(1, used(1)), host(2, used(2))}},
			want:  []string{"start_rollout a 0 0", "release_node a 2 0"},
		},
		{
			name:  "a node whose host is retired is replaced, as a stale one",
			world: World{Pools: []broker.Pool{pool("a", 1, 2, x)}, Nodes: []broker.Node{on(1, a, broker.NodeReady, 1)}, Hosts: []broker.Host{host(1, retired), host(2, free)}},
			want:  []string{"start_rollout a 0 0", "create_node a 0 2"},
		},
		{
			name:  "so is one whose host does not fit any more",
			world: World{Pools: []broker.Pool{pool("a", 1, 2, x)}, Nodes: []broker.Node{on(1, a, broker.NodeReady, 1)}, Hosts: []broker.Host{func() broker.Host { h := testHost(1, "ppc64le"); h.NodeID = 1; return h }(), host(2, free)}},
			want:  []string{"start_rollout a 0 0", "create_node a 0 2"},
		},
		{
			name:  "and one from before the pool drew from an inventory",
			world: World{Pools: []broker.Pool{pool("a", 1, 2, x)}, Nodes: []broker.Node{testNode(1, a, broker.NodeReady)}, Hosts: []broker.Host{host(2, free)}},
			want:  []string{"start_rollout a 0 0", "create_node a 0 2"},
		},
		{
			name:  "a destroy that makes room for stock is urgent",
			world: World{Pools: []broker.Pool{a}, Runs: 1, Nodes: []broker.Node{on(1, a, broker.NodeFailed, 1), on(2, a, broker.NodeReady, 2)}, Hosts: []broker.Host{host(1, used(1)), host(2, used(2))}},
			want:  []string{"destroy_node a 1 0"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.world.Runs == 0 {
				test.world.Runs = 100
			}
			actions, due := Plan(t0, test.world)
			var got []string
			for _, a := range actions {
				got = append(got, fmt.Sprintf("%s %s %d %d", a.Kind, a.Pool, a.NodeID, a.HostID))
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("actions (-want +got):\n%s", diff)
			}
			if !due.Equal(test.due) {
				t.Errorf("due %v, want %v", due, test.due)
			}
		})
	}
}

// drawHosts makes hosts in every state; whose they are comes with the nodes.
func drawHosts(t *rapid.T, w *World) {
	for id := range int64(rapid.IntRange(0, 8).Draw(t, "hosts")) {
		h := testHost(2000+id, rapid.SampledFrom([]string{"x86_64", "ppc64le"}).Draw(t, "arch"))
		h.Uses = rapid.IntRange(0, 3).Draw(t, "uses")
		switch rapid.IntRange(0, 6).Draw(t, "host's state") {
		case 0:
			h.Failures, h.RetryAt = 1, t0.Add(time.Duration(rapid.IntRange(-60, 60).Draw(t, "quarantine"))*time.Minute)
			h.FailedPools = []string{rapid.SampledFrom([]string{"a", "b"}).Draw(t, "failed pool")}
		case 1:
			h.Failures, h.BrokenAt = 2, t0
		case 2:
			h.NodeID = 999 // of a node that is not there
		}
		w.Hosts = append(w.Hosts, h)
	}
}

// drawHost gives a node a host, mostly as its pool would.
func drawHost(t *rapid.T, w *World, p broker.Pool, n *broker.Node) {
	if !p.Inventory.Draws() || len(w.Hosts) == 0 || rapid.IntRange(0, 5).Draw(t, "no host") == 0 {
		return
	}
	h := &w.Hosts[rapid.IntRange(0, len(w.Hosts)-1).Draw(t, "host")]
	if h.NodeID != 0 && n.State != broker.NodeGone && rapid.IntRange(0, 5).Draw(t, "twice") > 0 {
		return
	}
	n.Host = &broker.NodeHost{ID: h.ID, Inventory: h.Inventory}
	if n.State == broker.NodeGone || h.NodeID != 0 {
		return
	}
	if rapid.IntRange(0, 5).Draw(t, "claim lost") > 0 {
		h.NodeID = n.ID
	}
	if rapid.IntRange(0, 5).Draw(t, "retired") == 0 {
		h.RetiredAt = t0
	}
}

func hostOf(w *World, id int64) *broker.Host {
	i := slices.IndexFunc(w.Hosts, func(h broker.Host) bool { return h.ID == id })
	if i < 0 {
		return nil
	}
	return &w.Hosts[i]
}

// occupy and vacate do what the loop does as a node is made, and gone.
func occupy(w *World, host int64, n *broker.Node) {
	if h := hostOf(w, host); h != nil {
		n.Host = &broker.NodeHost{ID: h.ID, Inventory: h.Inventory}
		h.NodeID = n.ID
		h.Uses++
	}
}

func vacate(w *World, n *broker.Node) {
	if n.Host == nil {
		return
	}
	if h := hostOf(w, n.Host.ID); h != nil && h.NodeID == n.ID {
		h.NodeID = 0
	}
}

// freeHosts gives those that a plan may give away: no node runs on them, whatever
// the host says.
func freeHosts(w World) map[int64]broker.Host {
	free := make(map[int64]broker.Host)
	for _, h := range w.Hosts {
		if h.Available(t0) {
			free[h.ID] = h
		}
	}
	for _, n := range w.Nodes {
		if n.Host != nil && n.State != broker.NodeGone {
			delete(free, n.Host.ID)
		}
	}
	return free
}

// checkHost checks which host a new node gets, and takes it out of those that are
// free.
func checkHost(t *rapid.T, p broker.Pool, a Action, free map[int64]broker.Host) {
	h, ok := free[a.HostID]
	switch {
	case !p.Inventory.Draws():
		if a.HostID != 0 {
			t.Fatalf("a node of pool %s would get host %d, and needs none", p.Name, a.HostID)
		}
		return
	case !ok || !p.Inventory.Selects(h):
		t.Fatalf("a node of pool %s would get host %d, which is not free, or does not fit", p.Name, a.HostID)
	}
	for _, other := range free {
		if p.Inventory.Selects(other) && h.Failures == 0 && other.Failures == 0 && other.Uses < h.Uses {
			t.Fatalf("a node of pool %s would get host %d, though %d was used less", p.Name, h.ID, other.ID)
		}
	}
	delete(free, a.HostID)
}

// hostLeft tells whether a pool could have another node.
func hostLeft(w World, p broker.Pool, now time.Time) bool {
	return slices.ContainsFunc(w.Hosts, func(h broker.Host) bool { return p.Inventory.Selects(h) && h.Available(now) })
}

// A rehearsal makes no more nodes than there are hosts, gives back those of nodes
// that are gone, and takes what it knows nothing of for granted.
func TestRehearseWithHosts(t *testing.T) {
	p := testPool("a", 2, 4)
	p.Inventory = broker.HostSelector{Name: "i"}
	host := func(id int64, change func(*broker.Host)) broker.Host {
		h := broker.Host{ID: id, Inventory: "i", Name: fmt.Sprint("n", id)}
		change(&h)
		return h
	}
	free := func(*broker.Host) {}
	retired := func(h *broker.Host) { h.NodeID, h.RetiredAt = 1, t0 }
	node := testNode(1, p, broker.NodeReady)
	node.Source, node.Host = p.Source, &broker.NodeHost{ID: 10, Inventory: "i"}
	for _, test := range []struct {
		name    string
		hosts   []broker.Host
		nodes   []broker.Node
		unknown []string
		want    []int64 // hosts of the nodes that are made
		ready   int
	}{
		{"no host", nil, nil, nil, nil, 0},
		{"unknown hosts", nil, nil, []string{"i"}, []int64{0, 0}, 2},
		{"one", []broker.Host{host(10, free)}, nil, nil, []int64{10}, 1},
		{"used least first", []broker.Host{host(10, func(h *broker.Host) { h.Uses = 2 }), host(11, free), host(12, free)}, nil, nil, []int64{11, 12}, 2},
		{"in quarantine for a while", []broker.Host{host(10, func(h *broker.Host) { h.Failures, h.RetryAt = 1, t0.Add(10*time.Minute) })}, nil, nil, []int64{10}, 1},
		{"in quarantine for long", []broker.Host{host(10, func(h *broker.Host) { h.Failures, h.RetryAt = 1, t0.Add(2*time.Hour) })}, nil, nil, nil, 0},
		{"broken", []broker.Host{host(10, func(h *broker.Host) { h.Failures, h.BrokenAt = 2, t0 })}, nil, nil, nil, 0},
		{"a host that leaves", []broker.Host{host(10, retired), host(11, free)}, []broker.Node{node}, nil, []int64{11}, 1},
		{"a host that nobody gave back", []broker.Host{host(10, func(h *broker.Host) { h.NodeID = 7 })}, nil, nil, []int64{10}, 1},
		{"a host of another inventory", []broker.Host{host(10, func(h *broker.Host) { h.Inventory = "j" })}, nil, nil, nil, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := World{Pools: []broker.Pool{p}, Nodes: test.nodes, Hosts: test.hosts, Runs: 4}
			before := fmt.Sprintf("%+v", w)
			r := Rehearse(t0, w, Script{Horizon: time.Hour, Unknown: test.unknown, Durations: func(string) Durations { return Durations{Create: time.Minute} }})
			var got []int64
			for _, step := range r.Steps {
				if step.Kind == CreateNode {
					got = append(got, step.HostID)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("hosts of new nodes (-want +got):\n%s", diff)
			}
			ready := 0
			for _, n := range r.World.Nodes {
				if n.State == broker.NodeReady {
					ready++
				}
			}
			if ready != test.ready {
				t.Errorf("%d nodes ready at the end, want %d", ready, test.ready)
			}
			for _, h := range r.World.Hosts {
				if i := slices.IndexFunc(r.World.Nodes, func(n broker.Node) bool { return n.ID == h.NodeID }); h.NodeID != 0 && i < 0 {
					t.Errorf("host %d has node %d, which is gone", h.ID, h.NodeID)
				}
				if h.NodeID > 1 && h.Failures != 0 && h.Inventory == "i" {
					t.Errorf("host %d works, and its failures are remembered", h.ID)
				}
			}
			if after := fmt.Sprintf("%+v", w); before != after {
				t.Errorf("the world of the caller has changed:\n%s", cmp.Diff(before, after))
			}
		})
	}
}
