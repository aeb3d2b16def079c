package reconcile_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// generation gives what a pool's nodes are made from another hash.
func (w *world) generation(name string) broker.Pool {
	pools := w.pools.All()
	pools[0].Source.Generation = name
	w.pools.Set(pools)
	return pools[0]
}

func (w *world) rollout() broker.RolloutStatus {
	w.t.Helper()
	list, err := w.b.Rollouts(context.Background(), w.admin)
	if err != nil {
		w.t.Fatal(err)
	}
	return list[0]
}

// rolloutEvents gives the states that a pool's rollouts went through.
func (w *world) rolloutEvents() string {
	w.t.Helper()
	var states []string
	err := w.store.View(context.Background(), func(tx broker.ReadTx) error {
		events, err := tx.Events(0, 100000)
		for _, e := range events {
			if e.Kind == broker.EventRollout {
				states = append(states, e.To)
			}
		}
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return strings.Join(states, " ")
}

// A change rolls 20 nodes while clients come and go: no request is refused that
// stock could have served, and stock falls below the fill level only by what was
// handed out within the time of a create.
func TestRolloutUnderLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const create, every = 20 * time.Second, 30 * time.Second
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "apply" {
				return create
			}
			return time.Second
		}}
		p := testPool("a", 20, 40)
		p.Rollout = broker.RolloutSettings{MaxSurge: 1, PauseAfter: 2}
		w := newWorld(t, cloud, p)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(5 * time.Minute)
		p = w.generation("g2")
		w.check()

		lent := []int64{}
		var lowest int
		for tick := 0; ; tick++ {
			if tick > 1000 {
				t.Fatalf("the rollout does not end: %+v", w.rollout())
			}
			s, err := w.b.RequestSession(context.Background(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
			if err != nil {
				t.Fatalf("a request was refused: %v", err)
			}
			if lent = append(lent, s.ID); len(lent) > 3 {
				if _, err := w.b.UpdateSession(context.Background(), w.admin, lent[0], broker.SessionUpdate{Retire: true}); err != nil {
					t.Fatal(err)
				}
				lent = lent[1:]
			}
			for range 10 {
				time.Sleep(every / 10)
				lowest = max(lowest, p.FillLevel-w.states()[broker.NodeReady])
			}
			w.check()
			if w.rollout().Finished() {
				break
			}
		}
		// One every 30 s, and a create takes 20 s and its check a second.
		if lowest > 1 {
			t.Errorf("stock fell %d nodes below the fill level, want 1 at most", lowest)
		}
		if got := w.rolloutEvents(); got != "running done" {
			t.Errorf("the rollout was %s", got)
		}
		for _, id := range lent {
			if _, err := w.b.UpdateSession(context.Background(), w.admin, id, broker.SessionUpdate{Retire: true}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Minute)
		w.rest()
	})
}

// A generation that can't be made pauses its rollout, with the stock as it was.
// Resumed after the cause was mended, it goes on.
func TestRolloutPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := true
		cloud := &brokertest.Cloud{
			Delay: func(string) time.Duration { return time.Second },
			Fail: func(op string, n broker.Node) error {
				if op == "apply" && broken && n.Source.Generation == "g2" {
					return errors.New("no such image")
				}
				return nil
			},
		}
		p := testPool("a", 4, 9)
		p.Rollout = broker.RolloutSettings{MaxSurge: 2, MaxUnavailable: 1, PauseAfter: 2}
		w := newWorld(t, cloud, p)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		p = w.generation("g2")
		w.stopLoop() // a restart sees the change, too
		w.start()
		time.Sleep(time.Hour)
		s := w.rollout()
		if s.State != broker.RolloutPaused || !strings.Contains(s.Reason, "no such image") || s.Failures < 2 {
			t.Fatalf("%+v, want it paused with the reason", s)
		}
		if s.Ready < p.FillLevel-p.Rollout.MaxUnavailable {
			t.Errorf("%d nodes are in stock, want %d or more", s.Ready, p.FillLevel-p.Rollout.MaxUnavailable)
		}
		before := s.Failures
		time.Sleep(24 * time.Hour)
		// What is missing in stock is still tried, in the pauses of a broken pool.
		if after := w.rollout(); after.State != broker.RolloutPaused || s.Ready == p.FillLevel && after.Failures > before {
			t.Errorf("a day later: %+v", after)
		}
		synctest.Wait()
		broken = false
		if _, err := w.b.OrderRollout(context.Background(), w.admin, "a", broker.RolloutResume, ""); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if s := w.rollout(); s.State != broker.RolloutDone || !s.Finished() {
			t.Errorf("after the resume: %+v", s)
		}
		w.rest()
		if got := w.rolloutEvents(); got != "running paused running done" {
			t.Errorf("the rollout was %s", got)
		}
	})
}

// An admin's orders count, also before the loop has seen the change, and until the
// next change.
func TestRolloutOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "apply" {
				return time.Minute
			}
			return time.Second
		}}
		p := testPool("a", 4, 9)
		p.Concurrency = 9
		w := newWorld(t, cloud, p)
		w.runs = 20
		w.start()
		defer func() { w.stopLoop() }()
		order := func(o broker.RolloutOrder, code broker.Code) {
			t.Helper()
			if _, err := w.b.OrderRollout(context.Background(), w.admin, "a", o, "because"); broker.CodeOf(err) != code {
				t.Errorf("%s: %v, want %q", o, err, code)
			}
		}
		time.Sleep(10 * time.Minute)
		order(broker.RolloutPause, broker.CodeConflict) // nothing is stale

		w.generation("g2")
		order(broker.RolloutPause, "")
		time.Sleep(time.Hour)
		if s := w.rollout(); s.State != broker.RolloutPaused || s.StaleNow != 4 || s.Reason != "by admin: because" {
			t.Errorf("paused: %+v", s)
		}
		order(broker.RolloutNow, "")
		time.Sleep(4 * time.Minute) // a create and a check, all at once
		if s := w.rollout(); s.ReadyNew != 4 {
			t.Errorf("in a hurry: %+v", s)
		}
		time.Sleep(10 * time.Minute)
		w.rest()

		w.generation("g3")
		order(broker.RolloutAbort, "")
		order("stop", broker.CodeInvalid)
		time.Sleep(time.Hour)
		if s := w.rollout(); s.State != broker.RolloutAborted || s.StaleNow != 4 {
			t.Errorf("aborted: %+v", s)
		}
		w.generation("g4")
		time.Sleep(time.Hour)
		if s := w.rollout(); s.State != broker.RolloutDone || s.StaleNow != 0 {
			t.Errorf("after the next change: %+v", s)
		}
		if _, err := w.b.OrderRollout(context.Background(), broker.Tenant{Name: "demo"}, "a", broker.RolloutNow, ""); broker.CodeOf(err) != broker.CodeForbidden {
			t.Errorf("not an admin: %v", err)
		}
		if _, err := w.b.OrderRollout(context.Background(), w.admin, "nope", broker.RolloutNow, ""); broker.CodeOf(err) != broker.CodeNotFound {
			t.Errorf("no such pool: %v", err)
		}
		w.rest()
	})
}

// A pool that does not lend stale nodes counts none of them as ready, and lends
// what is new.
func TestRolloutWithoutStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "apply" {
				return time.Minute
			}
			return time.Second
		}}
		p := testPool("a", 2, 4)
		p.Rollout.NoStale = true
		w := newWorld(t, cloud, p)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(5 * time.Minute)
		w.generation("g2")
		ask := func() (broker.Session, error) {
			return w.b.RequestSession(context.Background(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
		}
		if _, levels, err := w.b.Pool(context.Background(), "a"); err != nil || levels.Ready != 0 {
			t.Errorf("%+v, %v; want no node ready", levels, err)
		}
		if s, err := ask(); broker.CodeOf(err) != broker.CodeCapacity {
			t.Errorf("session %+v, %v; want none", s, err)
		}
		time.Sleep(10 * time.Minute)
		s, err := ask()
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range w.nodes() {
			if n.ID == s.Nodes[0].ID && n.Source.Generation != "g2" {
				t.Errorf("a node of %s was lent", n.Source.Generation)
			}
		}
		if _, err := w.b.UpdateSession(context.Background(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		w.rest()
	})
}
