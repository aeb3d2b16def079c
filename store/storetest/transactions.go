package storetest

import (
	"context"
	"errors"
	"runtime"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

// everything is what a store holds, read in one transaction.
type everything struct {
	Identity  broker.Identity
	Nodes     []broker.Node
	Counts    map[broker.NodeState]int
	Terraform map[string]string
	Sessions  []broker.Session
	Tenants   []broker.Tenant
	Healths   []broker.PoolHealth
	Rollouts  []broker.Rollout
	Events    []broker.Event
	Last      int64
	Handouts  []broker.Handouts
	Idem      broker.Idempotency // of tenant 1 under "k"
	Hosts     []broker.Host
	Free      []broker.Host // of inventory "a"
}

func readEverything(tx broker.ReadTx) (all everything, err error) {
	var errs [13]error
	all.Identity, errs[0] = tx.Identity()
	if broker.CodeOf(errs[0]) == broker.CodeNotFound {
		errs[0] = nil
	}
	all.Nodes, errs[1] = tx.Nodes(broker.NodeQuery{})
	all.Counts, errs[2] = tx.CountNodes("")
	all.Sessions, errs[3] = tx.Sessions(broker.SessionQuery{})
	all.Tenants, errs[4] = tx.Tenants()
	all.Healths, errs[5] = tx.PoolHealths()
	all.Rollouts, errs[10] = tx.Rollouts()
	all.Events, errs[6] = tx.Events(0, 1<<20)
	all.Last, errs[7] = tx.LastEvent()
	all.Handouts, errs[8] = tx.Handouts()
	if all.Idem, errs[9] = tx.Idempotency(1, "k"); broker.CodeOf(errs[9]) == broker.CodeNotFound {
		errs[9] = nil
	}
	all.Hosts, errs[11] = tx.Hosts(broker.HostQuery{})
	all.Free, errs[12] = tx.Hosts(broker.HostQuery{Inventory: "a", States: []broker.HostState{broker.HostFree}})
	all.Terraform = make(map[string]string)
	for _, n := range all.Nodes {
		sealed, err := tx.NodeTerraform(n.UID)
		if err != nil {
			return all, err
		}
		if sealed != nil {
			all.Terraform[n.UID] = string(sealed)
		}
	}
	return all, errors.Join(errs[:]...)
}

// touchEverything writes one thing of every kind.
func touchEverything(tx broker.Tx) error {
	list, err := tx.Nodes(broker.NodeQuery{})
	if err != nil {
		return err
	}
	for i := range list {
		old := list[i].State
		list[i].State = broker.NodeGone
		if err := tx.UpdateNode(old, list[i]); err != nil {
			return err
		}
		if err := tx.SetNodeTerraform(list[i].UID, []byte(broker.NewUID())); err != nil {
			return err
		}
		if i%2 == 0 {
			if err := tx.DeleteNode(list[i].ID); err != nil {
				return err
			}
		}
	}
	n, e := node("a"), broker.Event{At: start()}
	s, tenant := broker.Session{TenantID: 1, State: broker.SessionActive}, broker.Tenant{Name: broker.NewUID()}
	h := broker.Host{Inventory: "a", Hostname: broker.NewUID(), Address: broker.NewUID()}
	failures, err := tx.PoolHealth("a")
	if err != nil {
		return err
	}
	failures.Failures++
	_, noIdentity := tx.Identity()
	for _, write := range []func() error{
		func() error {
			if noIdentity == nil {
				return nil
			}
			return tx.SetIdentity(broker.Identity{ID: broker.NewUUID(), CreatedAt: start()})
		},
		func() error { return tx.CreateNode(&n) },
		func() error { return tx.SetNodeTerraform(n.UID, []byte("sealed")) },
		func() error { return tx.CreateHost(&h) },
		func() error { h.NodeID = n.ID; return tx.UpdateHost(broker.HostFree, h) },
		func() error { return tx.CreateSession(&s) },
		func() error { s.State = broker.SessionRetired; return tx.UpdateSession(broker.SessionActive, s) },
		func() error { return tx.CreateTenant(&tenant) },
		func() error { tenant.Name = broker.NewUID(); return tx.UpdateTenant(tenant) },
		func() error { return tx.SetPoolHealth(failures) },
		func() error {
			return tx.SetRollout(broker.Rollout{Pool: "a", State: broker.RolloutPaused, Reason: broker.NewUID()})
		},
		func() error { _, err := tx.PruneEvents(start().AddDate(1, 0, 0)); return err },
		func() error { return tx.AppendEvent(&e) },
		func() error { return tx.AddHandouts(1, "a", 1) },
		func() error { _, err := tx.PruneIdempotency(start().AddDate(1, 0, 0)); return err },
		func() error {
			return tx.SetIdempotency(broker.Idempotency{TenantID: 1, Key: "k", Request: broker.NewUID(), CreatedAt: start()})
		},
	} {
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

func (s *suite) testTransactions(t *testing.T) {
	// ways of not committing
	for name, abort := range map[string]func(t *testing.T, store broker.Store, fn func(broker.Tx) error){
		"an error undoes all": func(t *testing.T, store broker.Store, fn func(broker.Tx) error) {
			err := store.Update(t.Context(), func(tx broker.Tx) error {
				if err := fn(tx); err != nil {
					return err
				}
				return errTest
			})
			if err != errTest { //nolint:errorlint // as it is, the contract says
				t.Errorf("got %v, want the function's own error", err)
			}
		},
		"a panic undoes all and stays a panic": func(t *testing.T, store broker.Store, fn func(broker.Tx) error) {
			defer func() {
				if r := recover(); r != errTest { //nolint:errorlint // see above
					t.Errorf("recovered %v, want the function's own panic", r)
				}
			}()
			_ = store.Update(t.Context(), func(tx broker.Tx) error {
				if err := fn(tx); err != nil {
					return err
				}
				panic(errTest)
			})
		},
		"an ended goroutine undoes all": func(t *testing.T, store broker.Store, fn func(broker.Tx) error) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				_ = store.Update(t.Context(), func(tx broker.Tx) error {
					if err := fn(tx); err != nil {
						t.Error(err)
					}
					runtime.Goexit() // what t.FailNow does
					return nil
				})
			}()
			<-done
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := s.store(t)
			for range 3 { // from an empty store, and from one with something in it
				before := read(t, store, readEverything)
				abort(t, store, touchEverything)
				same(t, "what is stored", read(t, store, readEverything), before)
				update(t, store, touchEverything) // usable, and no id was lost or given twice
				after := read(t, store, readEverything)
				if cmpLast(after) != cmpLast(before)+1 {
					t.Errorf("the last event is %d, and was %d before an aborted and a good transaction", cmpLast(after), cmpLast(before))
				}
			}
		})
	}
	t.Run("the function sees its own writes", func(t *testing.T) {
		store := s.store(t)
		update(t, store, func(tx broker.Tx) error {
			n := node("a")
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
			n.State = broker.NodeReady
			if err := tx.UpdateNode(broker.NodePlanned, n); err != nil {
				return err
			}
			got, err := tx.Nodes(broker.NodeQuery{Pool: "a", States: []broker.NodeState{broker.NodeReady}})
			same(t, "nodes inside", got, []broker.Node{n})
			return err
		})
	})
	t.Run("a view passes errors and panics on", func(t *testing.T) {
		store := s.store(t)
		err := store.View(t.Context(), func(broker.ReadTx) error { return errTest })
		if err != errTest { //nolint:errorlint // see above
			t.Errorf("got %v, want the function's own error", err)
		}
		func() {
			defer func() {
				if r := recover(); r != errTest { //nolint:errorlint // see above
					t.Errorf("recovered %v, want the function's own panic", r)
				}
			}()
			_ = store.View(t.Context(), func(broker.ReadTx) error { panic(errTest) })
		}()
		update(t, store, touchEverything)
	})
	t.Run("functions may run again", func(t *testing.T) {
		store := s.store(t)
		var handedOut int64
		update(t, store, func(tx broker.Tx) error {
			n := node("a")
			err := tx.CreateNode(&n)
			handedOut = n.ID
			return err
		})
		same(t, "ids of nodes", idsOf(read(t, store, nodes(broker.NodeQuery{}))), []int64{handedOut})
	})
	t.Run("a cancelled context", func(t *testing.T) {
		store := s.store(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := store.View(ctx, func(broker.ReadTx) error { t.Error("the view ran"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("view: got %v, want %v", err, context.Canceled)
		}
		err = store.Update(ctx, func(broker.Tx) error { t.Error("the update ran"); return nil })
		if !errors.Is(err, context.Canceled) {
			t.Errorf("update: got %v, want %v", err, context.Canceled)
		}
	})
	t.Run("a context cancelled inside", func(t *testing.T) {
		store := s.store(t)
		ctx, cancel := context.WithCancel(t.Context())
		err := store.Update(ctx, func(tx broker.Tx) error {
			defer cancel()
			return tx.AppendEvent(&broker.Event{At: start()})
		})
		// Either is right, but it must be the truth.
		got := len(read(t, store, events(0, 10)))
		if committed := err == nil; committed != (got == 1) {
			t.Errorf("got %v, and %d events are stored", err, got)
		}
	})
	t.Run("closed", func(t *testing.T) {
		store := s.open(t)
		finish(t, store)
		if err := store.View(t.Context(), func(broker.ReadTx) error { return nil }); err == nil {
			t.Error("a view of a closed store succeeds")
		}
		if err := store.Update(t.Context(), func(broker.Tx) error { return nil }); err == nil {
			t.Error("an update of a closed store succeeds")
		}
		if err := store.Close(); err != nil {
			t.Errorf("the second close: %v", err)
		}
	})
}

func cmpLast(all everything) int64 {
	if len(all.Events) == 0 {
		return 0
	}
	return all.Events[len(all.Events)-1].Seq
}
