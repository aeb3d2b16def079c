package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// churn says how much comes and goes.
type churn struct {
	nodes int // to be lent, each of them once
	// latency is how long a create and a delete take.
	latency time.Duration
	pools   int
	fill    int // of each pool
	runs    int // at once
	clients int
}

// failing is the share of the cloud's calls that fail: all classes together, and
// each as often as the others.
const failing = 0.05

// BenchmarkChurn makes, lends and destroys a thousand nodes in a slow cloud that
// fails now and then.
func BenchmarkChurn(b *testing.B) {
	churn{nodes: setting(b, "NODES", 1000), latency: 3 * time.Second, pools: 4, fill: 10, runs: 32, clients: 8}.run(b)
	b.ReportMetric(0, "ns/op") // makes no sense here
}

// What comes and goes in a cloud that fails leaves nothing behind: no instance
// that the store does not know, no directory, no process, no memory.
func TestChurn(t *testing.T) {
	churn{nodes: setting(t, "NODES", 100), latency: 300 * time.Millisecond, pools: 3, fill: 4, runs: 12, clients: 4}.run(t)
}

// faults fail calls of every kind with every class that it can meet.
func (c churn) faults() fakecloud.Faults {
	f := fakecloud.Faults{
		Latency: map[fakecloud.Operation]time.Duration{
			fakecloud.Create: c.latency, fakecloud.Delete: c.latency, fakecloud.Read: c.latency / 30, fakecloud.List: c.latency / 30,
		},
		BootTime: c.latency / 60,
	}
	everywhere := []fakecloud.Failure{
		{Class: fakecloud.Throttled},
		{Class: fakecloud.InsufficientCapacity},
		{Class: fakecloud.QuotaExceeded},
		{Class: fakecloud.AuthFailure},
		{Class: fakecloud.InvalidConfiguration},
		{Class: fakecloud.Unreachable},
		{Class: fakecloud.Timeout},
		// The answer is lost, the call is not.
		{Class: fakecloud.Unreachable, Late: true},
		{Class: fakecloud.Timeout, Late: true},
	}
	for op, more := range map[fakecloud.Operation][]fakecloud.Failure{
		fakecloud.Create: {{Class: fakecloud.NotFound}, {Class: fakecloud.NeverBoots}},
		// A cloud that says "not found" of what it has leaves what only a sweep can find.
		fakecloud.Delete: {{Class: fakecloud.NotFound, Late: true}, {Class: fakecloud.DependencyViolation}},
		fakecloud.Read:   nil,
		fakecloud.List:   {{Class: fakecloud.PartialListing}},
	} {
		all := slices.Concat(everywhere, more)
		for _, failure := range all {
			// Each is tried when those before it did not hit: the difference is small.
			failure.Operation, failure.Rate = op, failing/float64(len(all))
			f.Failures = append(f.Failures, failure)
		}
	}
	return f
}

func (c churn) run(t testing.TB) {
	program := brokertest.NeedProgram(t, "terraform")
	t.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(t))
	f := c.start(t, program)
	f.stockFull()
	before := weigh()
	began := time.Now()

	f.lend()
	lent := time.Since(began)
	f.stockFull()
	took := time.Since(began)
	after := weigh()

	_, leaked := f.compare() // the sweep may be at work
	swept := f.swept()
	f.truth()
	if err := f.engine.StopProviders(t.Context()); err != nil {
		t.Error(err)
	}
	f.nothingLeft()
	if f.provisioner.most > c.runs {
		t.Errorf("%d runs were in flight at once, want %d at most", f.provisioner.most, c.runs)
	}
	if after.heap > before.heap*5/4+1<<20 {
		t.Errorf("the heap has grown from %d KiB to %d KiB", before.heap>>10, after.heap>>10)
	}
	if after.goroutines > before.goroutines+16 { // connections of the cloud come and go
		t.Errorf("goroutines: %d at the begin, %d at the end", before.goroutines, after.goroutines)
	}
	f.seen.print(t, c, lent, took, leaked, swept, f.provisioner.most, before, after)
}

// farm is a broker in this process, with its cloud.
type farm struct {
	churn

	t           testing.TB
	dir         string
	cloud       *fakecloud.Cloud
	store       *bolt.Store
	broker      *broker.Broker
	pools       []broker.Pool
	tenant      broker.Tenant
	seen        *observations
	engine      *terraform.Engine
	provisioner *counted
}

// start makes a broker and lets it begin. All is ended and removed with the test.
func (c churn) start(t testing.TB, program string) *farm {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	// Not t.TempDir: the path of a socket below it must not be too long.
	dir, err := os.MkdirTemp("", "churn-") //nolint:usetesting // too long, see above
	must(err)
	t.Cleanup(func() { must(os.RemoveAll(dir)) })
	logFile, err := os.Create(filepath.Join(dir, "log"))
	must(err)
	t.Cleanup(func() {
		if text, err := os.ReadFile(logFile.Name()); t.Failed() && err == nil {
			t.Logf("the end of the broker's log:\n%s", text[max(0, len(text)-20_000):])
		}
		must(logFile.Close())
	})
	log := slog.New(slog.NewTextHandler(logFile, nil))

	cloud := fakecloud.Start(t, fakecloud.Config{Faults: c.faults(), Seed: 1})
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	must(err)
	store, err := bolt.Open(filepath.Join(dir, "broker.db"), bolt.Options{})
	must(err)
	t.Cleanup(func() { must(store.Close()) })
	executable, err := os.Executable()
	must(err)
	engine := terraform.New(terraform.Config{
		Binary: terraform.Binary{Path: program}, Dir: dir, BrokerID: "churn", Keyring: keys, Executable: executable, Log: log,
	})
	t.Cleanup(func() { must(engine.StopProviders(context.Background())) })

	f := &farm{churn: c, t: t, dir: dir, cloud: cloud, store: store, seen: newObservations(), engine: engine, provisioner: &counted{Provisioner: engine}}
	module, err := filepath.Abs(filepath.Join("testdata", "module"))
	must(err)
	patience := (2*c.latency + 2*time.Second).String()
	for i := range c.pools {
		p := broker.Pool{
			Name: "pool-" + strconv.Itoa(i), Module: module, FillLevel: c.fill, MaxNodes: 3 * c.fill, Concurrency: c.runs/c.pools + 2,
			CreateTimeout: createTimeout, DestroyTimeout: time.Hour, Contextualize: broker.ContextualizeNone,
			Sweep:           broker.Sweep{Interval: 3 * time.Second, MaxDestroys: 50},
			ProviderSharing: i%2 == 1,
		}
		p.Variables, err = json.Marshal(map[string]string{"endpoint": cloud.URL(), "request_timeout": patience, "boot_timeout": patience})
		must(err)
		p.Source, err = engine.Prepare(t.Context(), p)
		must(err)
		f.pools = append(f.pools, p)
	}
	pools := new(broker.PoolSet)
	pools.Set(f.pools)
	var loop *reconcile.Loop
	f.broker = broker.New(broker.Config{
		Store: store, Keys: keys, Pools: pools, Log: log, Now: time.Now, Wake: func() { loop.Wake() },
	})
	loop = reconcile.New(reconcile.Config{
		Store: store, Provisioner: f.provisioner, Pools: pools, Serving: f.broker.Serving, Runs: c.runs, Log: log, Now: time.Now,
		Observe: f.seen.observe,
	})
	f.tenant = broker.Tenant{Name: "ci", IsAdmin: true, CreatedAt: time.Now()}
	must(store.Update(t.Context(), func(tx broker.Tx) error { return tx.CreateTenant(&f.tenant) }))

	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { loop.Run(ctx) })
	sweeper := reconcile.NewSweeper(reconcile.SweeperConfig{
		Store: store, Lister: engine, Pools: pools, Log: log, Now: time.Now, Wake: loop.Wake,
	})
	running.Go(func() { sweeper.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return f
}

// lend asks for sessions and gives them back until enough nodes were used.
func (f *farm) lend() {
	var left atomic.Int64
	left.Store(int64(f.nodes))
	var clients sync.WaitGroup
	for i := range f.clients {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		clients.Go(func() {
			for {
				quantity := min(1+rng.Int64N(3), left.Load())
				if quantity <= 0 {
					return
				}
				if left.Add(-quantity) < 0 {
					left.Add(quantity) // another was faster
					continue
				}
				f.session(rng, int(quantity))
			}
		})
	}
	clients.Wait()
}

// session lends nodes of one or two pools for a while. It waits for stock.
func (f *farm) session(rng *rand.Rand, quantity int) {
	specs := []broker.NodesSpec{{Pool: f.pools[rng.IntN(len(f.pools))].Name, Quantity: quantity}}
	if quantity > 1 {
		specs[0].Quantity--
		specs = append(specs, broker.NodesSpec{Pool: f.pools[rng.IntN(len(f.pools))].Name, Quantity: 1})
	}
	ctx := f.t.Context()
	for {
		s, err := f.broker.RequestSession(ctx, f.tenant, broker.SessionRequest{Specs: specs})
		if broker.CodeOf(err) == broker.CodeCapacity {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		if err == nil {
			time.Sleep(time.Duration(rng.Int64N(int64(f.latency))))
			_, err = f.broker.UpdateSession(ctx, f.tenant, s.ID, broker.SessionUpdate{Retire: true})
		}
		if err != nil {
			f.t.Errorf("session: %v", err)
		}
		return
	}
}

// live reads all nodes of which something may exist, by uid.
func (f *farm) live() map[string]broker.Node {
	f.t.Helper()
	all := map[string]broker.Node{}
	err := f.store.View(f.t.Context(), func(tx broker.ReadTx) error {
		clear(all)
		nodes, err := tx.Nodes(broker.NodeQuery{States: broker.LiveNodeStates()})
		for _, n := range nodes {
			all[n.UID] = n
		}
		return err
	})
	if err != nil {
		f.t.Fatal(err)
	}
	return all
}

// stockFull waits until every pool is full and there is no other node. A pool
// that rests after failures takes minutes; go test ends what takes for ever.
func (f *farm) stockFull() {
	f.t.Helper()
	want, got := map[string]int{}, map[string]int{}
	for _, p := range f.pools {
		want[p.Name+" ready"] = f.fill
	}
	for {
		clear(got)
		for _, n := range f.live() {
			got[n.Pool+" "+string(n.State)]++
		}
		if maps.Equal(got, want) {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// createTimeout is how old a machine must be before a sweep takes it for a leak.
const createTimeout = 20 * time.Second

// swept waits until the sweep has removed what answers that were lost have left:
// then the cloud has what the store knows, and nothing else.
func (f *farm) swept() time.Duration {
	f.t.Helper()
	began := time.Now()
	for {
		diff, leaked := f.compare()
		if diff == "" && leaked == 0 && !f.working() {
			return time.Since(began)
		}
		if time.Since(began) > 5*time.Minute {
			f.t.Fatalf("%d instances that lost answers have left are still there, or others (-in the store +in the cloud):\n%s", leaked, diff)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// working tells whether something is being made or removed.
func (f *farm) working() bool {
	for _, n := range f.live() {
		if n.State != broker.NodeReady {
			return true
		}
	}
	return false
}

// truth checks what exists against what the store knows. What may be left when the
// answer to a create is lost is counted.
func (f *farm) truth() (leaked int) {
	f.t.Helper()
	diff, leaked := f.compare()
	if diff != "" {
		f.t.Errorf("instances that exist (-in the store +in the cloud):\n%s", diff)
	}
	if err := f.store.Check(f.t.Context()); err != nil {
		f.t.Errorf("the store: %v", err)
	}
	return leaked
}

// compare compares the instances that exist with the nodes of the store, and counts
// those apart that answers that were lost have left.
func (f *farm) compare() (diff string, leaked int) {
	live := f.live()
	var want, got []string
	for uid := range live {
		want = append(want, uid)
	}
	for _, i := range f.cloud.Instances() {
		uid := i.Tags["duffy:node-id"]
		if _, known := live[uid]; !known && f.seen.lost(uid) {
			leaked++
			continue
		}
		got = append(got, uid)
	}
	slices.Sort(want)
	slices.Sort(got)
	return cmp.Diff(want, got), leaked
}

// nothingLeft looks for directories and processes of runs that have ended.
func (f *farm) nothingLeft() {
	f.t.Helper()
	runs, err := os.ReadDir(filepath.Join(f.dir, "runs"))
	if err != nil || len(runs) > 0 {
		f.t.Errorf("left in runs: %v, %v", runs, err)
	}
	for began := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		left := f.processes()
		if len(left) == 0 {
			return
		}
		if time.Since(began) > time.Minute { // ends take a moment
			f.t.Errorf("processes are left: %q", left)
			return
		}
	}
}

// processes lists the command lines of what runs in the broker's directory, or
// has it among its arguments.
func (f *farm) processes() (lines []string) {
	for pid := range descendants(os.Getpid()) {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if bytes.Contains(line, []byte(f.dir)) || strings.HasPrefix(cwd, f.dir) {
			lines = append(lines, string(bytes.ReplaceAll(line, []byte{0}, []byte(" "))))
		}
	}
	return lines
}
