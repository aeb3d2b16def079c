package storetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
)

// model is what a store should hold, kept as simply as possible.
type model struct {
	nodes     map[int64]broker.Node
	terraform map[string]string
	sessions  map[int64]broker.Session
	tenants   map[int64]broker.Tenant
	health    map[string]broker.PoolHealth
	events    []broker.Event
	hosts     map[int64]broker.Host
	last      struct{ node, session, tenant, event int64 }
}

func newModel() model {
	return model{
		nodes: map[int64]broker.Node{}, terraform: map[string]string{}, sessions: map[int64]broker.Session{},
		tenants: map[int64]broker.Tenant{}, health: map[string]broker.PoolHealth{}, hosts: map[int64]broker.Host{},
	}
}

func (m model) clone() model {
	m.nodes, m.terraform, m.sessions = maps.Clone(m.nodes), maps.Clone(m.terraform), maps.Clone(m.sessions)
	m.tenants, m.health, m.events = maps.Clone(m.tenants), maps.Clone(m.health), slices.Clone(m.events)
	m.hosts = maps.Clone(m.hosts)
	return m
}

func (m model) everything() everything {
	return everything{
		Nodes: values(m.nodes), Counts: count(values(m.nodes)), Terraform: m.terraform,
		Sessions: values(m.sessions), Tenants: values(m.tenants), Healths: values(m.health), Events: m.events, Last: m.last.event,
		Hosts: values(m.hosts), Free: m.freeHosts(),
	}
}

func values[K int64 | string, V any](m map[K]V) (list []V) {
	for _, k := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[k])
	}
	return list
}

func count(nodes []broker.Node) map[broker.NodeState]int {
	counts := make(map[broker.NodeState]int)
	for _, n := range nodes {
		counts[n.State]++
	}
	return counts
}

// step is one write: what the model says must come of it, and the same on a store.
type step struct {
	name  string
	store func(broker.Tx) error
	want  broker.Code // "" for success
}

func pools() []string { return []string{"a", "b", "aa"} }

func someID[V any](t *rapid.T, m map[int64]V) int64 {
	ids := append([]int64{0, 1000}, slices.Sorted(maps.Keys(m))...)
	return rapid.SampledFrom(ids).Draw(t, "id")
}

func someTime(t *rapid.T) time.Time {
	return start().Add(time.Duration(rapid.IntRange(-5, 5).Draw(t, "minutes")) * time.Minute)
}

func someNodeState(t *rapid.T) broker.NodeState {
	if rapid.IntRange(0, 2).Draw(t, "gone") == 0 {
		return broker.NodeGone // often, so that some can be forgotten
	}
	return rapid.SampledFrom(broker.NodeStates()).Draw(t, "state")
}

// draw makes up a write and carries it out on the model.
func (m *model) draw(t *rapid.T) step {
	kinds := []func(*rapid.T) step{
		m.createNode, m.updateNode, m.updateNode, m.setNodePool, m.deleteNode, m.setTerraform,
		m.createSession, m.updateSession, m.createTenant, m.updateTenant, m.setHealth, m.appendEvent, m.pruneEvents,
		m.createHost, m.updateHost, m.updateHost,
	}
	return rapid.SampledFrom(kinds).Draw(t, "kind")(t)
}

func (m *model) createNode(t *rapid.T) step {
	n := node(rapid.SampledFrom(pools()).Draw(t, "pool"))
	n.UID = fmt.Sprintf("uid-%d", rapid.IntRange(0, 20).Draw(t, "uid"))
	n.State, n.SessionID = someNodeState(t), rapid.Int64Range(0, 5).Draw(t, "session")
	s := step{name: "create node " + n.UID, want: broker.CodeConflict}
	if !slices.ContainsFunc(values(m.nodes), func(other broker.Node) bool { return other.UID == n.UID }) {
		s.want = ""
		m.last.node++
		n.ID = m.last.node
		m.nodes[n.ID] = n
	}
	id := n.ID
	s.store = func(tx broker.Tx) error {
		n := n
		err := tx.CreateNode(&n)
		if err == nil && n.ID != id {
			return fmt.Errorf("the node got id %d, want %d", n.ID, id)
		}
		return err
	}
	return s
}

func (m *model) updateNode(t *rapid.T) step {
	id, expect := someID(t, m.nodes), someNodeState(t)
	n, ok := m.nodes[id]
	if ok && rapid.IntRange(0, 3).Draw(t, "right") > 0 {
		expect = n.State
	}
	old := n
	n.ID, n.State, n.Attempts = id, someNodeState(t), rapid.IntRange(0, 9).Draw(t, "attempts")
	if rapid.IntRange(0, 5).Draw(t, "move") == 0 {
		n.Pool = "moved"
	}
	s := step{name: fmt.Sprintf("update node %d", id), store: func(tx broker.Tx) error { return tx.UpdateNode(expect, n) }}
	switch {
	case !ok:
		s.want = broker.CodeNotFound
	case old.State != expect:
		s.want = broker.CodeConflict
	case old.Pool != n.Pool:
		s.want = broker.CodeInvalid
	default:
		m.nodes[id] = n
	}
	return s
}

func (m *model) setNodePool(t *rapid.T) step {
	id, pool := someID(t, m.nodes), rapid.SampledFrom(append(pools(), "")).Draw(t, "pool")
	n, ok := m.nodes[id]
	s := step{name: fmt.Sprintf("give node %d to pool %q", id, pool), store: func(tx broker.Tx) error { return tx.SetNodePool(id, pool) }}
	switch {
	case pool == "":
		s.want = broker.CodeInvalid
	case !ok:
		s.want = broker.CodeNotFound
	default:
		n.Pool = pool
		m.nodes[id] = n
	}
	return s
}

func (m *model) deleteNode(t *rapid.T) step {
	id := someID(t, m.nodes)
	n, ok := m.nodes[id]
	s := step{name: fmt.Sprintf("delete node %d", id), store: func(tx broker.Tx) error { return tx.DeleteNode(id) }}
	switch {
	case !ok:
		s.want = broker.CodeNotFound
	case n.State != broker.NodeGone:
		s.want = broker.CodeConflict
	default:
		delete(m.nodes, id)
		delete(m.terraform, n.UID)
	}
	return s
}

func (m *model) setTerraform(t *rapid.T) step {
	n, ok := m.nodes[someID(t, m.nodes)]
	if !ok {
		n.UID = "nobody"
	}
	sealed := rapid.SampledFrom([]string{"", "x", "yy"}).Draw(t, "sealed")
	s := step{name: "set Terraform state of " + n.UID, store: func(tx broker.Tx) error {
		if sealed == "" {
			return tx.SetNodeTerraform(n.UID, nil)
		}
		return tx.SetNodeTerraform(n.UID, []byte(sealed))
	}}
	switch {
	case !ok:
		s.want = broker.CodeNotFound
	case sealed == "":
		delete(m.terraform, n.UID)
	default:
		m.terraform[n.UID] = sealed
	}
	return s
}

func (m *model) createSession(t *rapid.T) step {
	n := broker.Session{
		TenantID: rapid.Int64Range(1, 3).Draw(t, "tenant"), State: rapid.SampledFrom(sessionStates()).Draw(t, "state"),
		CreatedAt: someTime(t), Nodes: []broker.LentNode{{ID: 1, Pool: "a"}},
	}
	m.last.session++
	stored := n
	stored.ID = m.last.session
	m.sessions[stored.ID] = stored
	return step{name: "create session", store: func(tx broker.Tx) error {
		n := n
		err := tx.CreateSession(&n)
		if err == nil && n.ID != stored.ID {
			return fmt.Errorf("the session got id %d, want %d", n.ID, stored.ID)
		}
		return err
	}}
}

func (m *model) updateSession(t *rapid.T) step {
	id, expect := someID(t, m.sessions), rapid.SampledFrom(sessionStates()).Draw(t, "expect")
	n, ok := m.sessions[id]
	if ok && rapid.Bool().Draw(t, "right") {
		expect = n.State
	}
	old := n
	n.ID, n.State, n.TenantID = id, rapid.SampledFrom(sessionStates()).Draw(t, "state"), rapid.Int64Range(1, 3).Draw(t, "tenant")
	s := step{name: fmt.Sprintf("update session %d", id), store: func(tx broker.Tx) error { return tx.UpdateSession(expect, n) }}
	switch {
	case !ok:
		s.want = broker.CodeNotFound
	case old.State != expect:
		s.want = broker.CodeConflict
	default:
		m.sessions[id] = n
	}
	return s
}

// nameTaken tells whether a tenant other than id has the name.
func (m *model) nameTaken(name string, id int64) bool {
	return slices.ContainsFunc(values(m.tenants), func(n broker.Tenant) bool { return n.Name == name && n.ID != id })
}

func someName(t *rapid.T) string {
	return rapid.SampledFrom([]string{"alice", "bob", "carol", "dave"}).Draw(t, "name")
}

func (m *model) createTenant(t *rapid.T) step {
	n := broker.Tenant{Name: someName(t), CreatedAt: someTime(t)}
	s := step{name: "create tenant " + n.Name, want: broker.CodeConflict, store: func(tx broker.Tx) error {
		n := n
		return tx.CreateTenant(&n)
	}}
	if !m.nameTaken(n.Name, 0) {
		s.want = ""
		m.last.tenant++
		stored := n
		stored.ID = m.last.tenant
		m.tenants[stored.ID] = stored
	}
	return s
}

func (m *model) updateTenant(t *rapid.T) step {
	id := someID(t, m.tenants)
	n, ok := m.tenants[id]
	n.ID, n.Name, n.IsAdmin = id, someName(t), rapid.Bool().Draw(t, "admin")
	s := step{name: fmt.Sprintf("update tenant %d", id), store: func(tx broker.Tx) error { return tx.UpdateTenant(n) }}
	switch {
	case !ok:
		s.want = broker.CodeNotFound
	case m.nameTaken(n.Name, id):
		s.want = broker.CodeConflict
	default:
		m.tenants[id] = n
	}
	return s
}

func (m *model) setHealth(t *rapid.T) step {
	h := broker.PoolHealth{
		Pool: rapid.SampledFrom(pools()).Draw(t, "pool"), Failures: rapid.IntRange(0, 3).Draw(t, "failures"), LastFailure: someTime(t),
	}
	if h.Failures == 0 {
		delete(m.health, h.Pool)
	} else {
		m.health[h.Pool] = h
	}
	return step{name: "set health of " + h.Pool, store: func(tx broker.Tx) error { return tx.SetPoolHealth(h) }}
}

func (m *model) appendEvent(t *rapid.T) step {
	e := broker.Event{At: someTime(t), Kind: broker.EventNode}
	m.last.event++
	stored := e
	stored.Seq = m.last.event
	m.events = append(m.events, stored)
	return step{name: "append event", store: func(tx broker.Tx) error {
		e := e
		err := tx.AppendEvent(&e)
		if err == nil && e.Seq != stored.Seq {
			return fmt.Errorf("the event got sequence number %d, want %d", e.Seq, stored.Seq)
		}
		return err
	}}
}

func (m *model) pruneEvents(t *rapid.T) step {
	before := someTime(t)
	had := len(m.events)
	m.events = slices.DeleteFunc(slices.Clone(m.events), func(e broker.Event) bool { return e.At.Before(before) })
	want := had - len(m.events)
	return step{name: "prune events", store: func(tx broker.Tx) error {
		got, err := tx.PruneEvents(before)
		if err == nil && got != want {
			return fmt.Errorf("pruned %d events, want %d", got, want)
		}
		return err
	}}
}

// testModel does random transactions on a store and on the model, and compares
// after each.
func (s *suite) testModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		store := s.open(t)
		defer func() { finish(t, store) }()
		m := newModel()
		var c copied
		ctx := context.Background()
		transaction := func(rt *rapid.T) {
			next := m.clone()
			var steps []step
			for range rapid.IntRange(1, 6).Draw(rt, "writes") {
				steps = append(steps, next.draw(rt))
			}
			fail := rapid.IntRange(0, 4).Draw(rt, "fail") == 0
			err := store.Update(ctx, func(tx broker.Tx) error {
				for _, step := range steps {
					err := step.store(tx)
					if got := broker.CodeOf(err); got != step.want {
						rt.Errorf("%s: got error %v with code %q, want code %q", step.name, err, got, step.want)
					}
				}
				inside, err := readEverything(tx)
				if err != nil {
					return err
				}
				sameText(rt, "what the transaction sees", inside, next.everything())
				if fail {
					return errTest
				}
				return nil
			})
			switch {
			case fail && err != errTest: //nolint:errorlint // as it is, the contract says
				rt.Fatalf("got %v, want the function's own error", err)
			case !fail && err != nil:
				rt.Fatal(err)
			case !fail:
				m = next
			}
		}
		actions := map[string]func(*rapid.T){
			"transaction": transaction,
			"query":       func(rt *rapid.T) { m.query(rt, store) },
			"":            func(rt *rapid.T) { m.compare(rt, store) },
			"follow": func(rt *rapid.T) {
				if err := store.View(ctx, func(tx broker.ReadTx) error { return c.follow(rt, tx) }); err != nil {
					rt.Fatal(err)
				}
			},
		}
		if s.reopen != nil {
			actions["reopen"] = func(rt *rapid.T) {
				if rapid.IntRange(0, 3).Draw(rt, "really") > 0 {
					transaction(rt) // reopening is slow: less often
					return
				}
				store, c = s.restart(t, store), copied{}
			}
		}
		rt.Repeat(actions)
	})
}

func (m *model) compare(rt *rapid.T, store broker.Store) {
	var got everything
	err := store.View(context.Background(), func(tx broker.ReadTx) (err error) {
		got, err = readEverything(tx)
		return err
	})
	if err != nil {
		rt.Fatal(err)
	}
	sameText(rt, "what is stored", got, m.everything())
}

// sameText is [same] for what is mostly equal, a hundred times faster. That every
// field survives is tested elsewhere.
func sameText(rt *rapid.T, what string, got, want everything) {
	x, errX := json.Marshal(got)
	y, errY := json.Marshal(want)
	if errX != nil || errY != nil || !bytes.Equal(x, y) {
		same(rt, what, got, want)
	}
}

// query asks what an index answers.
func (m *model) query(rt *rapid.T, store broker.Store) {
	q := broker.NodeQuery{
		Pool:   rapid.SampledFrom(append(pools(), "")).Draw(rt, "pool"),
		States: rapid.SliceOfN(rapid.SampledFrom(broker.NodeStates()), 0, 4).Draw(rt, "states"),
		After:  rapid.Int64Range(-1, 3).Draw(rt, "after"),
		Limit:  rapid.IntRange(0, 4).Draw(rt, "limit"),
	}
	sq := broker.SessionQuery{
		TenantID: rapid.Int64Range(0, 3).Draw(rt, "tenant"),
		States:   rapid.SliceOfN(rapid.SampledFrom(sessionStates()), 0, 3).Draw(rt, "session states"),
		After:    rapid.Int64Range(-1, 3).Draw(rt, "sessions after"),
		Limit:    rapid.IntRange(0, 4).Draw(rt, "session limit"),
	}
	name := someName(rt)
	err := store.View(context.Background(), func(tx broker.ReadTx) error {
		got, err := tx.Nodes(q)
		if err != nil {
			return err
		}
		same(rt, fmt.Sprintf("nodes of %+v", q), got, choose(values(m.nodes), q))
		counts, err := tx.CountNodes(q.Pool)
		if err != nil {
			return err
		}
		maps.DeleteFunc(counts, func(_ broker.NodeState, n int) bool { return n == 0 })
		byPool, err := tx.CountNodesByPool()
		if err != nil {
			return err
		}
		if got := byPool[q.Pool]; q.Pool != "" {
			maps.DeleteFunc(got, func(_ broker.NodeState, n int) bool { return n == 0 })
			same(rt, "counts by pool, of "+q.Pool, got, count(choose(values(m.nodes), broker.NodeQuery{Pool: q.Pool})))
		}
		same(rt, "counts of pool "+q.Pool, counts, count(choose(values(m.nodes), broker.NodeQuery{Pool: q.Pool})))
		sessions, err := tx.Sessions(sq)
		if err != nil {
			return err
		}
		want := slices.DeleteFunc(values(m.sessions), func(s broker.Session) bool {
			return s.ID <= sq.After || (sq.TenantID != 0 && s.TenantID != sq.TenantID) || (len(sq.States) > 0 && !slices.Contains(sq.States, s.State))
		})
		if sq.Limit > 0 {
			want = want[:min(sq.Limit, len(want))]
		}
		same(rt, fmt.Sprintf("sessions of %+v", sq), sessions, want)
		tenant, err := tx.TenantByName(name)
		if m.nameTaken(name, 0) != (err == nil) || (err == nil && tenant.Name != name) {
			return fmt.Errorf("tenant %s: got %+v, %w", name, tenant, err)
		}
		return nil
	})
	if err != nil {
		rt.Fatal(err)
	}
}
