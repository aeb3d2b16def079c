package storetest

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
)

func hostByID(id int64) func(broker.ReadTx) (broker.Host, error) {
	return func(tx broker.ReadTx) (broker.Host, error) { return tx.Host(id) }
}

func hosts(q broker.HostQuery) func(broker.ReadTx) ([]broker.Host, error) {
	return func(tx broker.ReadTx) ([]broker.Host, error) { return tx.Hosts(q) }
}

// host is number n of an inventory.
func host(inventory string, n int) broker.Host {
	return broker.Host{
		Inventory: inventory, Hostname: fmt.Sprintf("h%d.example.net", n), Address: fmt.Sprintf("192.0.2.%d", n), CreatedAt: start(),
	}
}

// createHosts stores them and sets their ids.
func createHosts(t *testing.T, store broker.Store, hosts ...*broker.Host) {
	t.Helper()
	update(t, store, func(tx broker.Tx) error {
		for _, h := range hosts {
			if err := tx.CreateHost(h); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *suite) testHosts(t *testing.T) {
	t.Run("every field comes back, and is a copy", s.testHostCopies)
	t.Run("ids", func(t *testing.T) {
		store := s.store(t)
		a, b := host("a", 1), host("a", 2)
		createHosts(t, store, &a)
		n := createNodes(t, store, "a", broker.NodeReady)[0]
		createHosts(t, store, &b)
		same(t, "ids of a host, a node and a host", []int64{a.ID, n.ID, b.ID}, []int64{1, 2, 3})
		lost(t, store, nodeByID(a.ID))
		lost(t, store, hostByID(n.ID))
		same(t, "nodes", idsOf(read(t, store, nodes(broker.NodeQuery{}))), []int64{2})
		refused(t, store, broker.CodeNotFound, func(tx broker.Tx) error {
			return tx.UpdateHost(broker.HostFree, broker.Host{ID: n.ID, Inventory: "a", Hostname: "h", Address: "192.0.2.9"})
		})
	})
	t.Run("claims", s.testHostClaims)
	t.Run("compare and set", func(t *testing.T) {
		store := s.store(t)
		h := host("a", 1)
		createHosts(t, store, &h)
		for node := range int64(2) { // two want it, one gets it
			h := h
			h.NodeID = node + 7
			err := store.Update(t.Context(), func(tx broker.Tx) error { return tx.UpdateHost(broker.HostFree, h) })
			if won := err == nil; won != (node == 0) || !won && !broker.IsTransition(err) {
				t.Errorf("node %d: %v", h.NodeID, err)
			}
		}
		h.NodeID = 7
		same(t, "host", read(t, store, hostByID(h.ID)), h)
		h.Inventory = "b"
		refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.UpdateHost(broker.HostOccupied, h) })
	})
	t.Run("what can't be stored", func(t *testing.T) {
		store := s.store(t)
		good := host("a", 1)
		createHosts(t, store, &good)
		for _, spoil := range []func(*broker.Host){
			func(h *broker.Host) { h.Inventory = "" },
			func(h *broker.Host) { h.Hostname = "" },
			func(h *broker.Host) { h.Hostname = "\xff" },
			func(h *broker.Host) { h.Address = "" },
		} {
			bad := host("a", 2)
			spoil(&bad)
			refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.CreateHost(&bad) })
			bad.ID = good.ID
			refused(t, store, broker.CodeInvalid, func(tx broker.Tx) error { return tx.UpdateHost(broker.HostFree, bad) })
		}
		same(t, "hosts", read(t, store, hosts(broker.HostQuery{})), []broker.Host{good})
	})
	t.Run("queries", func(t *testing.T) {
		store := s.store(t)
		for i, state := range []func(*broker.Host){
			func(*broker.Host) {},
			func(h *broker.Host) { h.NodeID = 99 },
			func(h *broker.Host) { h.RetiredAt = start() },
			func(h *broker.Host) { h.NodeID, h.RetiredAt = 99, start() },
			func(h *broker.Host) { h.RetryAt = start() },
			func(h *broker.Host) { h.RetryAt, h.BrokenAt = start(), start() },
		} {
			for j, inventory := range []string{"a", "aa", "b"} {
				h := host(inventory, 10*i+j)
				state(&h)
				createHosts(t, store, &h)
			}
		}
		for _, tt := range []struct {
			q    broker.HostQuery
			want []int64
		}{
			{broker.HostQuery{}, []int64{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18}},
			{broker.HostQuery{After: 16}, []int64{17, 18}},
			{broker.HostQuery{Inventory: "a"}, []int64{1, 4, 7, 10, 13, 16}},
			{broker.HostQuery{Inventory: "c"}, nil},
			{broker.HostQuery{States: []broker.HostState{broker.HostFree}}, []int64{1, 2, 3}},
			{broker.HostQuery{States: []broker.HostState{broker.HostOccupied}, Inventory: "aa"}, []int64{5, 11}},
			{broker.HostQuery{States: []broker.HostState{broker.HostRetired, broker.HostFree}, Limit: 4, After: 1}, []int64{2, 3, 7, 8}},
			{broker.HostQuery{States: []broker.HostState{broker.HostQuarantined}, Inventory: "b"}, []int64{15}},
			{broker.HostQuery{States: []broker.HostState{broker.HostBroken}}, []int64{16, 17, 18}},
			{broker.HostQuery{States: broker.UsefulHostStates(), Inventory: "a"}, []int64{1, 4, 10, 13, 16}},
		} {
			var got []int64
			for _, h := range read(t, store, hosts(tt.q)) {
				got = append(got, h.ID)
			}
			same(t, fmt.Sprintf("hosts of %+v", tt.q), got, tt.want)
		}
	})
}

func (s *suite) testHostCopies(t *testing.T) {
	store := s.store(t)
	var h, want broker.Host
	fill(&h)
	fill(&want)
	createHosts(t, store, &h)
	want.ID = h.ID
	same(t, "what CreateHost hands out", h, want)
	spoil(&h)
	same(t, "host after the argument of CreateHost was changed", read(t, store, hostByID(want.ID)), want)
	update(t, store, func(tx broker.Tx) error {
		var h broker.Host
		fill(&h)
		h.ID = want.ID
		if err := tx.UpdateHost(want.State(), h); err != nil {
			return err
		}
		spoil(&h)
		return nil
	})
	got := read(t, store, hostByID(want.ID))
	spoil(&got)
	list := read(t, store, hosts(broker.HostQuery{}))
	spoil(&list[0])
	list = read(t, store, hosts(broker.HostQuery{Inventory: want.Inventory}))
	spoil(&list[0])
	same(t, "host after results were changed", read(t, store, hostByID(want.ID)), want)
}

// testHostClaims: a machine is in use once, until the last that ran on it is gone.
func (s *suite) testHostClaims(t *testing.T) {
	store := s.store(t)
	a, b := host("a", 1), host("b", 2)
	createHosts(t, store, &a, &b)
	create := func(hostname, address string) func(broker.Tx) error {
		return func(tx broker.Tx) error {
			return tx.CreateHost(&broker.Host{Inventory: "c", Hostname: hostname, Address: address})
		}
	}
	err := refused(t, store, broker.CodeConflict, create("H1.example.NET", "192.0.2.9"))
	if want := "node 1 has the host name 'h1.example.net' already"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	err = refused(t, store, broker.CodeConflict, create("h9.example.net", b.Address))
	if want := "node 2 has the address '192.0.2.2' already"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	taken := b
	taken.Hostname = a.Hostname
	refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.UpdateHost(broker.HostFree, taken) })

	moved := b
	moved.Hostname = "h3.example.net"
	update(t, store, func(tx broker.Tx) error { return tx.UpdateHost(broker.HostFree, moved) })
	update(t, store, create(b.Hostname, "192.0.2.9")) // which is free now

	a.NodeID = 50
	update(t, store, func(tx broker.Tx) error { return tx.UpdateHost(broker.HostFree, a) })
	a.RetiredAt = start()
	update(t, store, func(tx broker.Tx) error { return tx.UpdateHost(broker.HostOccupied, a) })
	refused(t, store, broker.CodeConflict, create(a.Hostname, "192.0.2.10"))
	a.NodeID = 0
	update(t, store, func(tx broker.Tx) error { return tx.UpdateHost(broker.HostOccupied, a) })
	update(t, store, create(a.Hostname, a.Address))
	again := a
	again.RetiredAt = broker.Host{}.RetiredAt
	refused(t, store, broker.CodeConflict, func(tx broker.Tx) error { return tx.UpdateHost(broker.HostRetired, again) })
}

func (m *model) freeHosts() []broker.Host {
	return slices.DeleteFunc(values(m.hosts), func(h broker.Host) bool { return h.Inventory != "a" || h.State() != broker.HostFree })
}

// hostTaken tells whether a host other than id has one of h's claims.
func (m *model) hostTaken(h broker.Host) bool {
	return slices.ContainsFunc(values(m.hosts), func(other broker.Host) bool {
		return other.ID != h.ID && slices.ContainsFunc(h.Claims(), func(claim string) bool { return slices.Contains(other.Claims(), claim) })
	})
}

// someHost changes h at random.
func someHost(t *rapid.T, h *broker.Host) {
	h.Hostname = rapid.SampledFrom([]string{"h1", "h2", "h3", "H3"}).Draw(t, "host name")
	h.Address = rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}).Draw(t, "address")
	h.NodeID, h.RetiredAt = rapid.Int64Range(0, 1).Draw(t, "node"), broker.Host{}.RetiredAt
	if rapid.Bool().Draw(t, "retired") {
		h.RetiredAt = someTime(t)
	}
	h.RetryAt, h.BrokenAt = broker.Host{}.RetryAt, broker.Host{}.BrokenAt
	if rapid.Bool().Draw(t, "quarantined") {
		h.RetryAt = someTime(t)
	}
	if rapid.Bool().Draw(t, "broken") {
		h.BrokenAt = someTime(t)
	}
}

func (m *model) createHost(t *rapid.T) step {
	h := broker.Host{Inventory: rapid.SampledFrom(pools()).Draw(t, "inventory")}
	someHost(t, &h)
	s := step{name: "create host " + h.Hostname, want: broker.CodeConflict}
	if !m.hostTaken(h) {
		s.want = ""
		m.last.node++
		h.ID = m.last.node
		m.hosts[h.ID] = h
	}
	id := h.ID
	s.store = func(tx broker.Tx) error {
		h := h
		err := tx.CreateHost(&h)
		if err == nil && h.ID != id {
			return fmt.Errorf("the host got id %d, want %d", h.ID, id)
		}
		return err
	}
	return s
}

func (m *model) updateHost(t *rapid.T) step {
	id, expect := someID(t, m.hosts), rapid.SampledFrom(broker.HostStates()).Draw(t, "expect")
	old, ok := m.hosts[id]
	if ok && rapid.IntRange(0, 3).Draw(t, "right") > 0 {
		expect = old.State()
	}
	h := old
	h.ID = id
	someHost(t, &h)
	s := step{name: fmt.Sprintf("update host %d", id), store: func(tx broker.Tx) error { return tx.UpdateHost(expect, h) }}
	switch {
	case !ok:
		s.want = broker.CodeNotFound
	case old.State() != expect, m.hostTaken(h):
		s.want = broker.CodeConflict
	default:
		m.hosts[id] = h
	}
	return s
}
