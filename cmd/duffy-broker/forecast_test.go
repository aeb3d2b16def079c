package main

import (
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

// cloudPool is a pool of instances with shared providers.
type cloudPool struct {
	name, region string
	fill         int
	rollout      string // the settings of a rollout block
}

// oneAtATime is a pools.hcl with one Terraform run at a time.
func oneAtATime(t *testing.T, url string, pools ...cloudPool) string {
	t.Helper()
	module, err := filepath.Abs("../../broker/brokertest/fakecloud/testdata/shared")
	if err != nil {
		t.Fatal(err)
	}
	text := "terraform {\n  runs = 1\n}\n"
	for _, p := range pools {
		text += fmt.Sprintf(`
pool %q {
  module           = %q
  fill_level       = %d
  max_nodes        = 10
  contextualize    = "none"
  provider_sharing = true
  variables        = { endpoint = %q, region = %q }
  rollout {
    %s
  }
}
`, p.name, module, p.fill, url, p.region, p.rollout)
	}
	return text
}

// Where nobody asks for nodes, the forecast of a plan comes true step by step: the
// broker makes, releases and destroys the nodes that the plan names, in its order,
// and as many are ready meanwhile. With one run at a time the whole order is
// determined. The way back is another plan, of a broker that is no longer new.
func TestForecastComesTrue(t *testing.T) {
	t.Parallel()
	cloud := fakecloud.Start(t, fakecloud.Config{Faults: fakecloud.Faults{Latency: map[fakecloud.Operation]time.Duration{
		fakecloud.Create: 300 * time.Millisecond, fakecloud.Delete: 300 * time.Millisecond,
	}}})
	const surges, dips = "max_surge = 1", "max_unavailable = 1"
	before := oneAtATime(t, cloud.URL(),
		cloudPool{"lowered", "north", 3, surges}, cloudPool{"surges", "north", 2, surges},
		cloudPool{"dips", "north", 2, dips}, cloudPool{"removed", "north", 1, surges})
	after := oneAtATime(t, cloud.URL(),
		cloudPool{"lowered", "north", 1, surges}, cloudPool{"surges", "south", 2, surges},
		cloudPool{"dips", "south", 2, dips}, cloudPool{"added", "north", 2, surges})
	s := newServer(t, before)
	s.environment = []string{"TF_CLI_CONFIG_FILE=" + fakecloud.Mirror(t)}
	s.start()
	s.full(2 * time.Minute)
	for _, change := range []struct{ name, pools string }{{"there", after}, {"back", before}} {
		s.writePools(change.pools)
		p, code, errOut := s.plan("--pools", s.pools, "--server")
		if code != plan.ExitDanger || !p.Summary.Complete {
			t.Fatalf("%s: plan exits with %d, complete %t\n%s", change.name, code, p.Summary.Complete, errOut)
		}
		want := forecastOf(p)
		last := s.lastEvent()
		s.reload()
		s.eventually("all that was announced is done", 3*time.Minute, func() error {
			if got := len(s.followed(last, p).steps); got < len(want.steps) {
				return fmt.Errorf("%d of %d steps are", got, len(want.steps))
			}
			return nil
		})
		s.full(2 * time.Minute)
		if diff := cmp.Diff(want, s.followed(last, p), cmp.AllowUnexported(forecast{})); diff != "" {
			t.Errorf("%s: announced and done (-announced +done):\n%s", change.name, diff)
		}
		if p, code, _ := s.plan("--pools", s.pools, "--server"); code != plan.ExitNone || len(p.Actions) != 0 {
			t.Errorf("%s: after that, plan exits with %d: %+v", change.name, code, p.Actions)
		}
	}
	if got := len(cloud.Instances()); got != 8 {
		t.Errorf("%d instances are left, want 8", got)
	}
	s.stop()
}

// forecast is what happens to nodes, without times: those of a machine that has
// other things to do can't be foretold.
type forecast struct {
	// steps name nodes that the plan knows by their ids, and others by the order
	// in which they are made.
	steps []string
	// ready are the numbers of ready nodes that each pool goes through.
	ready map[string][]int
}

// announcedKinds are those of which an event is written when they are done.
func announcedKinds() []reconcile.Kind {
	return []reconcile.Kind{reconcile.CreateNode, reconcile.ReleaseNode, reconcile.DestroyNode}
}

func forecastOf(p plan.Plan) forecast {
	f := forecast{ready: make(map[string][]int)}
	for _, a := range p.Actions {
		if !slices.Contains(announcedKinds(), a.Kind) {
			continue
		}
		node := fmt.Sprint(a.NodeID)
		if a.NewNode > 0 {
			node = fmt.Sprintf("new %d", a.NewNode)
		}
		f.steps = append(f.steps, fmt.Sprintf("%s %s %s", a.Kind, a.Pool, node))
	}
	for _, pool := range p.Pools {
		f.count(pool.Name, pool.Ready.Now)
		for _, point := range pool.Ready.Points {
			f.count(pool.Name, point.Ready)
		}
		f.count(pool.Name, pool.Ready.End)
	}
	return f
}

// count notes how many nodes are ready, if that is another number.
func (f forecast) count(pool string, ready int) {
	if seen := f.ready[pool]; len(seen) == 0 || seen[len(seen)-1] != ready {
		f.ready[pool] = append(seen, ready)
	}
}

// followed is what events show. A rehearsal counts nodes after it has decided what
// follows from a change, so they are counted here after each step that the broker
// took, too: all that it decides at once has the same time.
func (s *server) followed(after int64, p plan.Plan) forecast {
	s.t.Helper()
	f := forecast{ready: make(map[string][]int)}
	ready, made := make(map[string]int), make(map[int64]int)
	for _, pool := range p.Pools {
		ready[pool.Name] = pool.Ready.Now
	}
	count := func() {
		for pool, n := range ready {
			f.count(pool, n)
		}
	}
	count()
	events := slices.DeleteFunc(s.events(after), func(e apiEvent) bool { return e.Kind != string(broker.EventNode) })
	for i, e := range events {
		if e.From == string(broker.NodeReady) {
			ready[e.Pool]--
		}
		if e.To == string(broker.NodeReady) {
			ready[e.Pool]++
		}
		var kind reconcile.Kind
		switch broker.NodeState(e.To) {
		case broker.NodeApplying:
			kind = reconcile.CreateNode
			made[e.NodeID] = len(made) + 1
		case broker.NodeReleasing:
			kind = reconcile.ReleaseNode
		case broker.NodeDestroying:
			kind = reconcile.DestroyNode
		default:
			continue
		}
		node := fmt.Sprint(e.NodeID)
		if n := made[e.NodeID]; n > 0 {
			node = fmt.Sprintf("new %d", n)
		}
		f.steps = append(f.steps, fmt.Sprintf("%s %s %s", kind, e.Pool, node))
		if i+1 == len(events) || !events[i+1].At.Equal(e.At) {
			count()
		}
	}
	count()
	return f
}
