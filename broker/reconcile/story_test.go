package reconcile_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// recorder is a provisioner that takes down which runs begin when, and how many
// are in flight. A run that is adopted does not begin again.
type recorder struct {
	broker.Provisioner

	mu       sync.Mutex
	known    map[string]bool
	began    []time.Time
	inFlight int
	most     int
}

func (r *recorder) begin(operation string, n broker.Node) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[string]bool{}
	}
	if run := operation + n.UID; !r.known[run] {
		r.known[run] = true
		r.began = append(r.began, time.Now())
	}
	r.inFlight++
	r.most = max(r.most, r.inFlight)
}

func (r *recorder) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inFlight--
}

func (r *recorder) Apply(ctx context.Context, n broker.Node) (broker.Result, error) {
	r.begin("apply", n)
	defer r.end()
	return r.Provisioner.Apply(ctx, n)
}

func (r *recorder) Destroy(ctx context.Context, n broker.Node, sealed []byte) (broker.Result, error) {
	r.begin("destroy", n)
	defer r.end()
	return r.Provisioner.Destroy(ctx, n, sealed)
}

// counts gives the runs in flight, now and at most.
func (r *recorder) counts() (now, most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.inFlight, r.most
}

// after gives how long after a time each run began that did.
func (r *recorder) after(from time.Time) (times []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, at := range r.began {
		if !at.Before(from) {
			times = append(times, at.Sub(from))
		}
	}
	return times
}

// Story 13: neither a start, nor a restart, nor a changed file makes everything
// begin at once: runs ramp up at the rate of the account, within the limit of all
// runs. What is in flight already is watched again at once.
func TestStory13ThunderingHerd(t *testing.T) {
	const rate, runs, fill = 0.5, 12, 5
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "apply" || op == "destroy" {
				return 20 * time.Second
			}
			return 0
		}}
		account := broker.Account{Name: "x", Rate: rate, Burst: 6, DestroyShare: 0.5}
		pools := func(generation string) (all []broker.Pool) {
			for i := range 10 {
				p := testPool(fmt.Sprintf("p%d", i), fill, 2*fill)
				p.Account, p.Source.Generation = "x", generation
				all = append(all, p)
			}
			return all
		}
		r := &recorder{Provisioner: cloud}
		w := newWorld(t, cloud)
		w.provisioner, w.runs = r, runs
		w.pools.Set(pools("g1"), account)
		// ramp checks that no more began since then than the account lets through,
		// if it had this many tokens.
		ramp := func(what string, from time.Time, tokens float64) {
			t.Helper()
			times := r.after(from)
			for i, at := range times {
				if allowed := tokens + rate*at.Seconds() + 0.001; float64(i+1) > allowed {
					t.Errorf("%s: %d runs began within %s, %.1f were allowed", what, i+1, at, allowed)
				}
			}
			if len(times) == 0 {
				t.Errorf("%s: nothing began", what)
			}
			if _, most := r.counts(); most > runs {
				t.Errorf("%s: %d runs in flight, %d are allowed", what, most, runs)
			}
		}

		began := time.Now()
		w.start()
		time.Sleep(30 * time.Second)
		ramp("start", began, 2)
		flying, _ := r.counts()
		w.stopLoop()
		if flying < 5 {
			t.Fatalf("%d runs in flight at the stop", flying)
		}

		restarted := time.Now()
		w.start()
		time.Sleep(time.Second)
		if watched, _ := r.counts(); watched < flying {
			t.Errorf("%d runs are watched after the restart, %d were in flight", watched, flying)
		}
		time.Sleep(30 * time.Second)
		ramp("restart", restarted, 2)
		time.Sleep(10 * time.Minute)
		w.rest()

		changed := time.Now()
		w.pools.Set(pools("g2"), account)
		w.b.AbandonedByClient(t.Context(), 0) //nolint:errcheck // only wakes the loop
		time.Sleep(30 * time.Second)
		ramp("changed file", changed, 6)
		time.Sleep(30 * time.Minute)
		w.rest()
		w.stopLoop()
		ramp("all along", began, 6)
	})
}

// Without an account the limit of all runs is what holds a restart back.
func TestStory13WithoutAnAccount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return 10 * time.Second }}
		r := &recorder{Provisioner: cloud}
		var pools []broker.Pool
		for i := range 20 {
			pools = append(pools, testPool(fmt.Sprintf("p%d", i), 4, 8))
		}
		w := newWorld(t, cloud, pools...)
		w.provisioner, w.runs = r, 8
		for range 3 {
			w.start()
			time.Sleep(15 * time.Second)
			w.stopLoop()
		}
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(10 * time.Minute)
		w.rest()
		if _, most := r.counts(); most != 8 {
			t.Errorf("%d runs in flight at most, want 8", most)
		}
	})
}

// Story 16: destroys that take long, and are many, don't keep a pool empty.
func TestStory16CleaningBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			switch op {
			case "destroy":
				return time.Minute
			case "apply":
				return 10 * time.Second
			}
			return 0
		}}
		dirty, clean := testPool("dirty", 0, 50), testPool("clean", 10, 20)
		w := newWorld(t, cloud, dirty, clean)
		w.runs = 4
		err := w.store.Update(t.Context(), func(tx broker.Tx) error {
			for range 40 {
				n := broker.NewNode(dirty, time.Now())
				n.State = broker.NodeFailed
				if err := tx.CreateNode(&n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(75 * time.Second) // two runs at a time make ten nodes in 50 s
		if got := w.states(); got[broker.NodeReady] != 10 || got[broker.NodeGone] == 0 {
			t.Errorf("states %v, want the pool full, and the backlog begun", got)
		}
		time.Sleep(20 * time.Minute)
		w.rest()
	})
}

// A request that was refused is what the next runs are for.
func TestDemandComesFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "apply" {
				return 10 * time.Second
			}
			return 0
		}}
		w := newWorld(t, cloud, testPool("a", 6, 8), testPool("b", 6, 8), testPool("c", 6, 8))
		w.runs = 1
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(5 * time.Second) // the first node of a is being made
		ask := func() error {
			_, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "c", Quantity: 3}}})
			return err
		}
		if err := ask(); broker.CodeOf(err) != broker.CodeCapacity {
			t.Fatalf("got %v, want a refusal", err)
		}
		time.Sleep(40 * time.Second)
		var made []string
		for _, n := range w.nodes() {
			made = append(made, n.Pool)
		}
		if want := []string{"a", "c", "c", "c", "b"}; !slices.Equal(made, want) {
			t.Errorf("nodes were made for %v, want %v", made, want)
		}
		if err := ask(); err != nil {
			t.Errorf("the second try: %v", err)
		}
	})
}
