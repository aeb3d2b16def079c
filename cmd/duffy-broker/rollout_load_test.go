package main

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// A change of a variable rolls the stock of a pool while clients come and go, in a
// cloud whose creates take their time.
func TestRolloutUnderLoadInACloud(t *testing.T) {
	t.Parallel()
	cloud := fakecloud.Start(t, fakecloud.Config{})
	module, err := filepath.Abs("../../broker/brokertest/fakecloud/testdata/shared")
	if err != nil {
		t.Fatal(err)
	}
	const fill = 20
	pools := fmt.Sprintf(`
terraform {
  runs = 8
}
pool "busy" {
  module           = %q
  fill_level       = %d
  max_nodes        = %d
  concurrency      = 8
  contextualize    = "none"
  provider_sharing = true
  variables        = { endpoint = %q, region = "north" }
  rollout {
    max_surge       = 4
    max_unavailable = 0
  }
}
`, module, fill, 3*fill, cloud.URL())
	s := newServer(t, pools)
	s.environment = []string{"TF_CLI_CONFIG_FILE=" + fakecloud.Mirror(t)}
	s.start()
	s.full(3 * time.Minute)
	cloud.SetFaults(fakecloud.Faults{Latency: map[fakecloud.Operation]time.Duration{fakecloud.Create: 2 * time.Second}})
	s.rollsUnderLoad(strings.Replace(pools, `"north"`, `"south"`, 1), fill)
	if got := uids(cloud); len(got) != fill {
		t.Errorf("%d nodes are in the cloud, want %d", len(got), fill)
	}
	s.stop()
}

// The same with nodes that one can log in to: each request and each node given
// back takes SSH, too.
func TestRolloutUnderLoadOnThisMachine(t *testing.T) {
	t.Parallel()
	module, err := filepath.Abs("../../modules/local")
	if err != nil {
		t.Fatal(err)
	}
	const fill = 20
	pools := fmt.Sprintf(`
terraform {
  runs = 6
}
pool "busy" {
  module      = %q
  fill_level  = %d
  max_nodes   = %d
  concurrency = 6
  variables   = { size = "small" }
  rollout {
    max_surge       = 4
    max_unavailable = 0
  }
}
`, module, fill, 3*fill)
	s := newServer(t, pools)
	s.start()
	s.full(3 * time.Minute)
	s.rollsUnderLoad(strings.Replace(pools, `"small"`, `"large"`, 1), fill)
	s.noStrays()
	s.stop()
}

// rollsUnderLoad makes the pools of a full broker, one pool named busy, those of
// another file. Clients come and go until all of its stock is new.
func (s *server) rollsUnderLoad(pools string, fill int) {
	s.t.Helper()
	before := s.knownNodes()
	s.writePools(pools)
	p, _, errOut := s.plan("--pools", s.pools, "--server")
	if p.Summary.StockDestroyed != fill || p.Pools[0].Rollout == nil || !p.Pools[0].Rollout.MadeFirst {
		s.t.Fatalf("the plan is %+v, rollout %+v: %s", p.Summary, p.Pools[0].Rollout, errOut)
	}
	last := s.lastEvent()
	c := clientele{server: s, fill: fill, old: before, stop: make(chan struct{})}
	var clients sync.WaitGroup
	for range 2 {
		clients.Go(func() { c.comeAndGo(2*time.Second, c.one) })
	}
	clients.Go(func() { c.comeAndGo(200*time.Millisecond, c.all) })
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	out, err := s.command(ctx, "reload", "--confirm", p.ID, "--wait").CombinedOutput()
	close(c.stop)
	clients.Wait()
	if err != nil {
		s.t.Errorf("the rollout ended with %v: %s", err, out)
	}
	if !c.whole {
		s.t.Error("nobody has asked for the whole stock: the rollout was over too soon")
	}
	if s.t.Failed() {
		s.t.FailNow()
	}
	s.full(3 * time.Minute)
	for name, n := range s.knownNodes() {
		if _, old := before[name]; old {
			s.t.Errorf("node %s is still there: %+v", name, n)
		}
	}
	s.stockHeld(last, fill, c.served)
}

// clientele are clients that ask for nodes and give them back. None is ever
// refused.
type clientele struct {
	*server
	fill int
	old  map[string]apiNode // by name: the stock before the change
	stop chan struct{}

	mu     sync.Mutex // held by a client who looks at the stock and asks for some
	served int        // nodes
	whole  bool       // somebody has had all of it
}

// comeAndGo asks for nodes again and again: what wants returns of those that are
// ready, of which so many are stale; 0 for none now.
func (c *clientele) comeAndGo(pace time.Duration, wants func(ready, stale int) int) {
	for {
		select {
		case <-c.stop:
			return
		case <-time.After(pace):
		}
		session, err := c.take(wants)
		if err != nil {
			c.t.Error(err)
			return
		}
		if session == 0 {
			continue
		}
		time.Sleep(500 * time.Millisecond) // it works
		if status, answer, err := c.call("admin", "PUT", fmt.Sprintf("/sessions/%d", session), map[string]any{"active": false}); err != nil || status != 200 {
			c.t.Errorf("session %d can't be given back: %d, %q, %v", session, status, answer.Detail, err)
			return
		}
	}
}

// one takes a node as soon as what was taken before is there again, nearly.
func (c *clientele) one(ready, _ int) int {
	if ready < c.fill-2 {
		return 0
	}
	return 1
}

// all takes the stock, once, when most of it is new. What is above the fill level
// may be given up at any time.
func (c *clientele) all(ready, stale int) int {
	if c.whole || stale > c.fill/4 {
		return 0
	}
	c.whole = true
	return min(ready, c.fill)
}

// take asks for as many nodes as wants says, and gives 0 where that is none.
func (c *clientele) take(wants func(ready, stale int) int) (session int64, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, list, err := c.call("admin", "GET", "/nodes?pool=busy", nil)
	if err != nil {
		return 0, err
	}
	ready, stale := 0, 0 // as nodes have it: the pool could leave out what it does not lend
	for _, n := range list.Nodes {
		if n.State != "ready" {
			continue
		}
		ready++
		if _, old := c.old[strings.TrimPrefix(n.Hostname, "node-")]; old {
			stale++
		}
	}
	quantity := wants(ready, stale)
	if quantity == 0 {
		return 0, nil
	}
	status, answer, err := c.call("admin", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "busy", "quantity": quantity}}})
	if err != nil {
		return 0, err
	}
	if status != 201 {
		return 0, fmt.Errorf("a request for %d of %d ready nodes is refused: %d, %q", quantity, ready, status, answer.Detail)
	}
	c.served += quantity
	return answer.Session.ID, nil
}

// stockHeld checks, by all that has happened to the nodes of a pool since an event
// when it was full, that stock only ever lacked what had been handed out within
// the time of a create.
func (s *server) stockHeld(after int64, fill, served int) {
	s.t.Helper()
	events := slices.DeleteFunc(s.events(after), func(e apiEvent) bool { return e.Kind != string(broker.EventNode) })
	// The longest time of a create in this very run, from its begin to a node in
	// stock; half as much again, since a create begins some time after a node was
	// handed out.
	began := make(map[int64]time.Time)
	var create time.Duration
	for _, e := range events {
		switch e.To {
		case string(broker.NodeApplying):
			began[e.NodeID] = e.At
		case string(broker.NodeReady):
			if at, made := began[e.NodeID]; made && e.From == string(broker.NodeChecking) {
				create = max(create, e.At.Sub(at))
			}
		}
	}
	window := create + create/2
	ready, lowest, given, replaced := fill, fill, 0, 0
	var handed []time.Time
	sinceReady := 0 // handed out since the last node came into stock
	for _, e := range events {
		switch {
		case e.To == string(broker.NodeReady):
			ready++
			sinceReady = 0
			continue
		case e.From != string(broker.NodeReady):
			continue
		case e.To == string(broker.NodeReserved):
			given++
			sinceReady++
			handed = append(handed, e.At)
		default:
			replaced++
			// Whatever makes a pass give up a node came before it. A request may come
			// between the pass and its commit.
			if missing := fill - (ready - 1); missing > sinceReady {
				s.t.Errorf("event %d (node %d is %s: %s) leaves %d of %d nodes in stock, and %d were handed out meanwhile",
					e.Seq, e.NodeID, e.To, e.Message, ready-1, fill, sinceReady)
			}
		}
		ready--
		lowest = min(lowest, ready)
		for len(handed) > 0 && e.At.Sub(handed[0]) > window {
			handed = handed[1:]
		}
		if missing := fill - ready; missing > len(handed) {
			s.t.Errorf("event %d (node %d is %s: %s) leaves %d of %d nodes in stock, and %d were handed out within %v",
				e.Seq, e.NodeID, e.To, e.Message, ready, fill, len(handed), window)
		}
	}
	if given != served || replaced == 0 {
		s.t.Errorf("%d nodes were handed out and %d replaced; clients got %d", given, replaced, served)
	}
	if ready != fill {
		s.t.Errorf("%d nodes are in stock in the end, want %d", ready, fill)
	}
	s.t.Logf("%d nodes handed out, %d replaced in stock, %d of %d ready at the lowest, the longest create took %v", given, replaced, lowest, fill, create)
}
