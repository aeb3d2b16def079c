package reconcile

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// The tests in this file run the real Terraform against fakecloud. Sweeps are made
// by hand, ten minutes of the test's clock apart.

// clock is a clock that goes on by itself, and jumps ahead when told.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }

type sweptCloud struct {
	*testing.T
	*clock
	cloud   *fakecloud.Cloud
	id      string
	dir     string
	store   broker.Store
	engine  *terraform.Engine
	pools   *broker.PoolSet
	pool    broker.Pool
	loop    *Loop
	sweeper *Sweeper
	b       *broker.Broker
	mangle  func(broker.Listing) broker.Listing // what becomes of listings
}

// List implements [broker.Lister].
func (w *sweptCloud) List(ctx context.Context, p broker.Pool) (broker.Listing, error) {
	listing, err := w.engine.List(ctx, p)
	if err == nil && w.mangle != nil {
		listing = w.mangle(listing)
	}
	return listing, err
}

func newFakecloud(t *testing.T) (*clock, *fakecloud.Cloud) {
	t.Helper()
	brokertest.NeedProgram(t, "terraform")
	t.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(t))
	c := new(clock)
	return c, fakecloud.Start(t, fakecloud.Config{Now: c.now})
}

// startSwept runs a broker with one pool on a cloud until the end of the test, and
// waits until the pool is full.
func startSwept(t *testing.T, c *clock, cloud *fakecloud.Cloud, id string, fill int, change ...func(*broker.Pool)) *sweptCloud {
	t.Helper()
	dir := t.TempDir()
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	w := &sweptCloud{T: t, clock: c, cloud: cloud, id: id, dir: dir, store: memory.New(), pools: new(broker.PoolSet)}
	w.engine = terraform.New(terraform.Config{
		Binary: terraform.Binary{Path: brokertest.NeedProgram(t, "terraform")}, Dir: dir, BrokerID: id, Keyring: keys, Log: log,
	})
	variables, err := json.Marshal(map[string]any{"endpoint": cloud.URL()})
	if err != nil {
		t.Fatal(err)
	}
	w.pool = broker.Pool{
		Name: "a", Module: filepath.Join("..", "brokertest", "fakecloud", "testdata", "module"), Variables: variables,
		FillLevel: fill, MaxNodes: 20, Concurrency: 4, CreateTimeout: 5 * time.Minute, DestroyTimeout: 5 * time.Minute,
		Contextualize: broker.ContextualizeNone, Sweep: broker.Sweep{Interval: 10 * time.Minute, MaxDestroys: 5},
	}
	for _, f := range change {
		f(&w.pool)
	}
	if w.pool.Source, err = w.engine.Prepare(t.Context(), w.pool); err != nil {
		t.Fatal(err)
	}
	w.pools.Set([]broker.Pool{w.pool})
	contextualizer := new(brokertest.Cloud)
	w.b = broker.New(broker.Config{
		Store: w.store, Contextualizer: contextualizer, Pools: w.pools, Log: log, Now: c.now, Wake: func() { w.loop.Wake() },
	})
	w.sweeper = NewSweeper(SweeperConfig{Store: w.store, Lister: w, Pools: w.pools, Log: log, Now: c.now, Wake: func() { w.loop.Wake() }})
	w.loop = New(Config{
		Store: w.store, Provisioner: w.engine, Contextualizer: contextualizer, Pools: w.pools, Serving: w.b.Serving, Runs: 4,
		Soon: w.sweeper.Soon, Log: log, Now: c.now,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.loop.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	w.settle(fill)
	return w
}

// sweep makes a sweep, ten minutes after the one before.
func (w *sweptCloud) sweep() {
	w.Helper()
	w.advance(w.pool.Sweep.Interval)
	if _, _, ok := w.sweeper.next(); !ok {
		w.Fatal("the pool is not swept")
	}
	w.sweeper.pass(w.Context(), w.pool)
}

func (w *sweptCloud) nodes(states ...broker.NodeState) (nodes []broker.Node) {
	w.Helper()
	err := w.store.View(w.Context(), func(tx broker.ReadTx) (err error) {
		nodes, err = tx.Nodes(broker.NodeQuery{States: states})
		return err
	})
	if err != nil {
		w.Fatal(err)
	}
	return nodes
}

func (w *sweptCloud) until(what string, is func() bool) {
	w.Helper()
	for deadline := time.Now().Add(time.Minute); !is(); {
		if time.Now().After(deadline) {
			w.Fatalf("never happened: %s; nodes: %+v", what, w.nodes())
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// settle waits until so many nodes are ready, and none is on its way.
func (w *sweptCloud) settle(ready int) {
	w.Helper()
	w.until(fmt.Sprintf("%d ready nodes at rest", ready), func() bool {
		live := w.nodes(broker.LiveNodeStates()...)
		count := 0
		for _, n := range live {
			switch n.State {
			case broker.NodeReady:
				count++
			case broker.NodeDeployed, broker.NodeLost:
			default:
				return false
			}
		}
		return count == ready
	})
}

// owners gives the node ids of the instances with this broker's tag, sorted.
func (w *sweptCloud) owners() []string {
	owners := []string{}
	for _, i := range w.cloud.Instances() {
		if i.Tags["duffy:broker-id"] == w.id {
			owners = append(owners, i.Tags["duffy:node-id"])
		}
	}
	slices.Sort(owners)
	return owners
}

// agree checks that what exists is what the live nodes stand for.
func (w *sweptCloud) agree() {
	w.Helper()
	known := []string{}
	for _, n := range w.nodes(broker.LiveNodeStates()...) {
		if n.State != broker.NodeLost {
			known = append(known, n.UID)
		}
	}
	slices.Sort(known)
	if diff := cmp.Diff(known, w.owners()); diff != "" {
		w.Errorf("what exists (-recorded +there):\n%s", diff)
	}
}

// appear makes an instance behind everybody's back.
func (w *sweptCloud) appear(brokerID, uid string) {
	w.Helper()
	raw, err := json.Marshal(fakecloud.Request{Name: "node-" + uid, Tags: map[string]string{"duffy:broker-id": brokerID, "duffy:node-id": uid, "duffy:pool": "a"}})
	if err != nil {
		w.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.Context(), http.MethodPost, w.cloud.URL()+"/instances", bytes.NewReader(raw))
	if err != nil {
		w.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode >= http.StatusBadRequest {
		w.Fatal(resp.Status)
	}
}

// Story 4: a machine that nobody knows is imported and destroyed after two sweeps.
func TestStory04LeakedMachine(t *testing.T) {
	c, cloud := newFakecloud(t)
	w := startSwept(t, c, cloud, "broker-1", 1)
	const leak = "00000000000000ff"
	w.appear("broker-1", leak)
	w.appear("broker-1", "unheard-of")
	w.appear("somebody-else", "00000000000000ee")
	w.sweep()
	if len(w.owners()) != 3 {
		t.Errorf("after one sweep there are %v", w.owners())
	}
	w.sweep()
	w.settle(1)
	if len(cloud.Instances()) != 3 || slices.Contains(w.owners(), leak) {
		t.Errorf("after two sweeps there are %v", cloud.Instances())
	}
	gone := w.nodes(broker.NodeGone)
	if len(gone) != 1 || gone[0].UID != leak || !strings.HasPrefix(gone[0].Failure, "leaked: ") {
		t.Fatalf("nodes that are gone: %+v", gone)
	}
	err := w.store.View(t.Context(), func(tx broker.ReadTx) error {
		runs, err := tx.Runs(gone[0].ID)
		var operations []string
		for _, r := range runs {
			operations = append(operations, r.Operation+string(r.Class))
		}
		if diff := cmp.Diff([]string{"import", "destroy"}, operations); diff != "" {
			t.Errorf("runs (-want +got):\n%s", diff)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// At most as many as the pool allows in one sweep.
func TestSweepDestroysAFewAtATime(t *testing.T) {
	c, cloud := newFakecloud(t)
	w := startSwept(t, c, cloud, "broker-1", 0, func(p *broker.Pool) { p.Sweep.MaxDestroys = 2 })
	for i := range 3 {
		w.appear("broker-1", fmt.Sprintf("%016x", i))
	}
	for _, want := range []int{3, 1, 0} {
		w.sweep()
		w.settle(0)
		if got := len(w.owners()); got != want {
			t.Errorf("%d leaks are left, want %d", got, want)
		}
	}
}

// Story 5: no listing that is short, empty, stale, repeats itself or fails
// destroys a machine in use or in stock.
func TestStory05WrongListings(t *testing.T) {
	c, cloud := newFakecloud(t)
	w := startSwept(t, c, cloud, "broker-1", 4)
	s, err := w.b.RequestSession(t.Context(), admin(w), broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	w.settle(4)
	for _, tt := range []struct {
		name  string
		spoil func()
	}{
		{"short", func() {
			w.cloud.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Class: fakecloud.PartialListing}}})
		}},
		{"short, and not saying so", func() {
			w.mangle = func(l broker.Listing) broker.Listing { l.Nodes = l.Nodes[:1]; return l }
		}},
		{"empty", func() {
			w.mangle = func(l broker.Listing) broker.Listing { l.Nodes = nil; return l }
		}},
		{"duplicated", func() {
			w.mangle = func(l broker.Listing) broker.Listing { l.Nodes = append(l.Nodes, l.Nodes...); return l }
		}},
		{"failed", func() {
			w.cloud.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: fakecloud.List, Class: fakecloud.AuthFailure}}})
		}},
		{"stale", func() {
			// The old nodes are listed as ever, new ones for a long time not.
			w.advance(time.Hour)
			w.cloud.SetFaults(fakecloud.Faults{ListingLag: 50 * time.Minute})
			w.pool.FillLevel = 6
			w.pools.Set([]broker.Pool{w.pool})
			w.loop.Wake()
			w.settle(6)
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w.cloud.SetFaults(fakecloud.Faults{})
			w.mangle = nil
			w.sweep() // a good one
			tt.spoil()
			before := w.owners()
			w.sweep()
			w.sweep()
			w.sweep()
			w.settle(w.pool.FillLevel)
			if diff := cmp.Diff(before, w.owners()); diff != "" {
				t.Errorf("instances (-before +after):\n%s", diff)
			}
			if n := w.nodes(broker.NodeDeployed); len(n) != 1 || n[0].ID != s.Nodes[0].ID {
				t.Errorf("lent nodes: %+v", n)
			}
			if n := w.nodes(broker.NodeGone); len(n) > 0 {
				t.Errorf("destroyed: %+v", n)
			}
		})
	}
}

func admin(w *sweptCloud) broker.Tenant {
	w.Helper()
	admin := broker.Tenant{Name: "admin", IsAdmin: true, SSHKey: "key"}
	if err := w.store.Update(w.Context(), func(tx broker.Tx) error { return tx.CreateTenant(&admin) }); err != nil {
		w.Fatal(err)
	}
	return admin
}

// Story 6: two brokers on one account leave each other's machines alone.
func TestStory06TwoBrokersOnOneAccount(t *testing.T) {
	c, cloud := newFakecloud(t)
	one, two := startSwept(t, c, cloud, "broker-1", 2), startSwept(t, c, cloud, "broker-2", 2)
	one.appear("broker-2", "00000000000000ff") // leaked by the other one
	for range 3 {
		one.sweep()
	}
	one.settle(2)
	one.agree()
	if got := two.owners(); len(got) != 3 {
		t.Errorf("after the sweeps of the first broker the other one has %v", got)
	}
	if gone := one.nodes(broker.NodeGone); len(gone) > 0 {
		t.Errorf("the first broker has destroyed %+v", gone)
	}
	two.sweep()
	two.sweep()
	two.settle(2)
	two.agree()
	one.agree()
}

// Stories 1 and 4: Terraform is killed while it makes a machine, so that no state
// and no record knows it. It is gone after two sweeps.
func TestStory01CrashDuringCreate(t *testing.T) {
	c, cloud := newFakecloud(t)
	w := startSwept(t, c, cloud, "broker-1", 0)
	cloud.SetFaults(fakecloud.Faults{BootTime: time.Hour})
	w.pool.FillLevel = 1
	w.pools.Set([]broker.Pool{w.pool})
	w.loop.Wake()
	w.until("a machine", func() bool { return len(cloud.Instances()) == 1 })
	cloud.SetFaults(fakecloud.Faults{})
	killTerraform(t, w.dir)
	w.settle(1)
	if got := len(cloud.Instances()); got != 2 {
		t.Fatalf("%d machines, want the leak and its replacement", got)
	}
	w.sweep()
	w.sweep()
	w.settle(1)
	w.agree()
}

// killTerraform kills the apply that works in a data directory.
func killTerraform(t *testing.T, dir string) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		line, _ := os.ReadFile(path) // it may have ended
		args := strings.Split(string(line), "\x00")
		if !slices.Contains(args, "apply") || !strings.Contains(string(line), dir+"/") {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Fatal("no terraform to kill")
}

// Story 23: a machine is ended behind the broker's back while it is lent. Its
// session is told, and its state is destroyed when the session ends.
func TestStory23TerminatedWhileLent(t *testing.T) {
	c, cloud := newFakecloud(t)
	w := startSwept(t, c, cloud, "broker-1", 2)
	user := admin(w)
	s, err := w.b.RequestSession(t.Context(), user, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	w.settle(2)
	w.sweep()
	lent := w.nodes(broker.NodeDeployed)[0]
	for _, i := range cloud.Instances() {
		if i.Tags["duffy:node-id"] == lent.UID {
			cloud.Kill(i.ID)
		}
	}
	w.sweep()
	w.sweep()
	if n := w.nodes(broker.NodeLost); len(n) != 1 || n[0].UID != lent.UID || n[0].SessionID != s.ID {
		t.Fatalf("lost nodes: %+v", n)
	}
	w.agree()
	if _, err := w.b.UpdateSession(t.Context(), user, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
		t.Fatal(err)
	}
	w.until("the end of the lost node", func() bool { return len(w.nodes(broker.NodeLost, broker.NodeDestroying)) == 0 })
	w.settle(2)
	w.agree()
}
