package broker_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/fault"
)

// keyed is a request with an idempotency key.
func keyed(key string, specs ...any) broker.SessionRequest {
	req := want(specs...)
	req.IdempotencyKey = key
	return req
}

func (w *world) request(actor broker.Tenant, req broker.SessionRequest) broker.Session {
	w.t.Helper()
	s, err := w.b.RequestSession(w.t.Context(), actor, req)
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

func TestIdempotencyKey(t *testing.T) {
	for _, pool := range []string{"small", "plain"} {
		t.Run(pool, func(t *testing.T) {
			w := newWorld(t, 5)
			first := w.request(w.demo, keyed("k", pool, 1))
			if again := w.request(w.demo, keyed("k", pool, 1)); again.ID != first.ID {
				t.Errorf("the same request gave session %d, want %d", again.ID, first.ID)
			}
			if other := w.request(w.demo, keyed("k2", pool, 1)); other.ID == first.ID {
				t.Error("another key gave the same session")
			}
			if other := w.request(w.admin, keyed("k", pool, 1)); other.ID == first.ID {
				t.Error("another tenant got the session")
			}
			_, err := w.b.RequestSession(t.Context(), w.demo, keyed("k", pool, 2))
			if broker.CodeOf(err) != broker.CodeInvalid || !strings.Contains(broker.MessageOf(err), "another request") {
				t.Errorf("another request with the same key: %v", err)
			}
			if _, err := w.b.RequestSession(t.Context(), w.demo, keyed(strings.Repeat("k", 256), pool, 1)); broker.CodeOf(err) != broker.CodeInvalid {
				t.Errorf("a long key: %v", err)
			}
			if got := w.states()[broker.NodeDeployed]; got != 3 {
				t.Errorf("%d nodes are lent, want 3", got)
			}
			// It is no new request when the session has ended meanwhile.
			if _, err := w.b.UpdateSession(t.Context(), w.demo, first.ID, broker.SessionUpdate{Retire: true}); err != nil {
				t.Fatal(err)
			}
			if again := w.request(w.demo, keyed("k", pool, 1)); again.ID != first.ID || again.State != broker.SessionRetired {
				t.Errorf("after its end: session %d, %s", again.ID, again.State)
			}
		})
	}
}

// A request that came to nothing leaves its key free.
func TestIdempotencyKeyOfFailure(t *testing.T) {
	w := newWorld(t, 1)
	if _, err := w.b.RequestSession(t.Context(), w.demo, keyed("k", "small", 2)); broker.CodeOf(err) != broker.CodeCapacity {
		t.Fatalf("got %v", err)
	}
	w.cloud.Fail = func(op string, _ broker.Node) error {
		if op == "contextualize" {
			return errors.New("connection refused")
		}
		return nil
	}
	if _, err := w.b.RequestSession(t.Context(), w.demo, keyed("k", "small", 1)); broker.CodeOf(err) != broker.CodeUnavailable {
		t.Fatalf("got %v", err)
	}
	w.cloud.Fail = nil
	if s := w.request(w.demo, keyed("k", "large", 1)); s.State != broker.SessionActive {
		t.Errorf("got %+v", s)
	}
	w.checkLinks()
}

// However the store fails, asking again gives one good session.
func TestIdempotencyKeyStoreFails(t *testing.T) {
	errDisk := errors.New("no space left on device")
	for _, pool := range []string{"small", "plain"} {
		for _, when := range []fault.When{fault.Before, fault.After} {
			for call := 1; ; call++ {
				w := newWorld(t, 3)
				w.fault.FailUpdate(call, when, errDisk)
				_, err := w.b.RequestSession(t.Context(), w.demo, keyed("k", pool, 2))
				failed := err != nil
				w.fault.FailUpdate(0, when, nil)
				s := w.request(w.demo, keyed("k", pool, 1+boolInt(!failed)))
				if s.State != broker.SessionActive {
					t.Errorf("%s, %v commit %d: asking again gives a session that is %s", pool, when, call, s.State)
				}
				sessions, err := w.b.Sessions(t.Context(), w.demo)
				if err != nil || len(sessions) != 1 {
					t.Errorf("%s, %v commit %d: %d sessions, %v", pool, when, call, len(sessions), err)
				}
				w.checkLinks()
				if !failed {
					break
				}
			}
		}
	}
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// The same request at once, many times, is one session.
func TestIdempotencyKeyAtOnce(t *testing.T) {
	w := newWorld(t, 10)
	var wg sync.WaitGroup
	ids := make([]int64, 20)
	for i := range ids {
		wg.Go(func() {
			s, err := w.b.RequestSession(t.Context(), w.demo, keyed("k", "small", 1))
			if err != nil {
				t.Error(err)
			}
			ids[i] = s.ID
		})
	}
	wg.Wait()
	for _, id := range ids {
		if id != ids[0] {
			t.Fatalf("sessions %v, want one", ids)
		}
	}
	if got := w.states()[broker.NodeDeployed]; got != 1 {
		t.Errorf("%d nodes are lent, want 1", got)
	}
}

// A client that has gone can come back for its session.
func TestIdempotencyKeyClientGone(t *testing.T) {
	w := newWorld(t, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var waited error
	w.cloud.Fail = func(op string, _ broker.Node) error {
		if op == "contextualize" {
			cancel()
			_, waited = w.b.RequestSession(ctx, w.demo, keyed("k", "small", 1)) // its own client has gone, too
		}
		return nil
	}
	s, err := w.b.RequestSession(ctx, w.demo, keyed("k", "small", 1))
	if err != nil || s.State != broker.SessionActive {
		t.Fatalf("got %+v, %v", s, err)
	}
	if broker.CodeOf(waited) != broker.CodeUnavailable {
		t.Errorf("who waited and went got %v", waited)
	}
	if again := w.request(w.demo, keyed("k", "small", 1)); again.ID != s.ID {
		t.Errorf("got session %d, want %d", again.ID, s.ID)
	}
}

// After a crash in the middle, asking again gives a new session, whether the
// loop has abandoned the first one by then or not.
func TestIdempotencyKeyAfterCrash(t *testing.T) {
	t.Run("at once", func(t *testing.T) { askAfterCrash(t, false) })
	t.Run("after the loop", func(t *testing.T) { askAfterCrash(t, true) })
}

func askAfterCrash(t *testing.T, abandoned bool) {
	w := newWorld(t, 2)
	first := w.request(w.demo, keyed("k", "small", 1))
	err := w.store.Update(t.Context(), func(tx broker.Tx) error {
		cut := first
		cut.State = broker.SessionPreparing
		n, err := tx.Node(first.Nodes[0].ID)
		if err != nil {
			return err
		}
		n.State = broker.NodeContextualizing
		err = errors.Join(tx.UpdateSession(broker.SessionActive, cut), tx.UpdateNode(broker.NodeDeployed, n))
		if err != nil || !abandoned {
			return err
		}
		return broker.EndSession(tx, &cut, t0, "abandoned")
	})
	if err != nil {
		t.Fatal(err)
	}
	s := w.request(w.demo, keyed("k", "small", 1))
	if s.ID == first.ID || s.State != broker.SessionActive {
		t.Errorf("got %+v", s)
	}
	if got := w.states(); got[broker.NodeChecking] != 1 || got[broker.NodeDeployed] != 1 {
		t.Errorf("states %v, want the node of the first try on its way back to stock", got)
	}
	w.checkLinks()
}

func TestIdempotencyKeyEnds(t *testing.T) {
	w := newWorld(t, 2)
	first := w.request(w.demo, keyed("k", "plain", 1))
	age := func(d time.Duration) {
		t.Helper()
		err := w.store.Update(t.Context(), func(tx broker.Tx) error { return broker.PruneIdempotency(tx, t0.Add(d)) })
		if err != nil {
			t.Fatal(err)
		}
	}
	age(24 * time.Hour)
	if again := w.request(w.demo, keyed("k", "plain", 1)); again.ID != first.ID {
		t.Error("the key is forgotten within a day")
	}
	age(25 * time.Hour)
	if again := w.request(w.demo, keyed("k", "plain", 1)); again.ID == first.ID {
		t.Error("the key is kept for more than a day")
	}
}

func TestStats(t *testing.T) {
	w := newWorld(t, 4)
	w.request(w.demo, want("small", 2, "plain", 1))
	w.request(w.demo, keyed("k", "plain", 1))
	w.request(w.demo, keyed("k", "plain", 1)) // counts once
	w.request(w.other, want("small", 1))
	_, _ = w.b.RequestSession(t.Context(), w.demo, want("large", 9))
	all := []broker.Handouts{
		{TenantID: 2, Pool: "plain", Nodes: 2}, {TenantID: 2, Pool: "small", Nodes: 2}, {TenantID: 3, Pool: "small", Nodes: 1},
	}
	for _, test := range []struct {
		actor broker.Tenant
		want  []broker.Handouts
	}{{w.admin, all}, {w.demo, all[:2]}, {w.other, all[2:]}} {
		got, err := w.b.Stats(t.Context(), test.actor)
		if err != nil || len(got) != len(test.want) {
			t.Fatalf("%s: %v, %v; want %v", test.actor.Name, got, err, test.want)
		}
		for i := range got {
			if got[i] != test.want[i] {
				t.Errorf("%s: %v, want %v", test.actor.Name, got[i], test.want[i])
			}
		}
	}
}
