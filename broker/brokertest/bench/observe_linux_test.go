package bench_test

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// observations are what the loop tells of nodes.
type observations struct {
	mu       sync.Mutex
	ready    []time.Duration // from the record to the stock
	gone     int
	failures map[string]int // by step, the broker's class and what the cloud did
	attempts map[int64]int  // failed destroys, by node
	unheard  map[string]bool
}

func newObservations() *observations {
	return &observations{failures: map[string]int{}, attempts: map[int64]int{}, unheard: map[string]bool{}}
}

// observe is called with each node that has come to a new state, or starts or
// ends a step in it.
func (o *observations) observe(n broker.Node) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch n.State {
	case broker.NodeReady:
		o.ready = append(o.ready, n.Since.Sub(n.CreatedAt))
	case broker.NodeGone:
		o.gone++
	case broker.NodeFailed:
		class := classOf(n.Failure)
		o.failures[fmt.Sprintf("create: %s (%s)", n.FailureClass, class)]++
		o.unheard[n.UID] = class == string(fakecloud.Timeout) || class == string(fakecloud.Unreachable)
	case broker.NodeDestroying:
		if n.Attempts > o.attempts[n.ID] {
			o.attempts[n.ID] = n.Attempts
			o.failures[fmt.Sprintf("destroy: %s (%s)", n.FailureClass, classOf(n.Failure))]++
		}
	}
}

// counted counts the runs in flight of a provisioner.
type counted struct {
	broker.Provisioner

	mu        sync.Mutex
	now, most int
}

func (c *counted) Apply(ctx context.Context, n broker.Node) (broker.Result, error) {
	defer c.begin()()
	return c.Provisioner.Apply(ctx, n)
}

func (c *counted) Destroy(ctx context.Context, n broker.Node, sealed []byte) (broker.Result, error) {
	defer c.begin()()
	return c.Provisioner.Destroy(ctx, n, sealed)
}

func (c *counted) begin() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now++
	c.most = max(c.most, c.now)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now--
	}
}

// lost tells whether the answer to the create of a node was lost, so that there
// may be an instance that nobody knows.
func (o *observations) lost(uid string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unheard[uid]
}

// classOf finds what the cloud did in what Terraform says.
func classOf(failure string) string {
	if strings.Contains(failure, "still pending") {
		return string(fakecloud.NeverBoots)
	}
	for _, class := range []fakecloud.Class{
		fakecloud.Throttled, fakecloud.InsufficientCapacity, fakecloud.QuotaExceeded, fakecloud.AuthFailure, fakecloud.InvalidConfiguration,
		fakecloud.NotFound, fakecloud.DependencyViolation, fakecloud.Unreachable, fakecloud.Timeout,
	} {
		if strings.Contains(failure, string(class)+":") {
			return string(class)
		}
	}
	return "other: " + failure
}

// weight is what this process has, and what its children have used.
type weight struct {
	heap       uint64 // bytes, without garbage
	goroutines int
	peak       int64 // the most resident memory so far, in KiB
	own        time.Duration
	children   time.Duration
}

func weigh() (w weight) {
	runtime.GC()
	runtime.GC() // what finalizers of the first have let go
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	w.heap, w.goroutines = m.HeapAlloc, runtime.NumGoroutine()
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmHWM:" {
			w.peak, _ = strconv.ParseInt(fields[1], 10, 64)
		}
	}
	w.own, _ = processTime(syscall.RUSAGE_SELF)
	w.children, _ = processTime(syscall.RUSAGE_CHILDREN)
	for _, s := range descendants(os.Getpid()) {
		w.children += s.cpu
	}
	return w
}

// print prints what was seen from before to after.
func (o *observations) print(t testing.TB, c churn, lent, took time.Duration, leaked int, swept time.Duration, runs int, before, after weight) {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	var table bytes.Buffer
	row := func(name, format string, args ...any) {
		fmt.Fprintf(&table, "%s\t"+format+"\n", append([]any{name}, args...)...)
	}
	gone := max(1, o.gone)
	ready := slices.Sorted(slices.Values(o.ready))
	row("nodes lent / ready / destroyed", "%d / %d / %d", c.nodes, len(ready), o.gone)
	row("latency of the cloud; calls that fail", "%s; %.0f %%", c.latency, failing*100)
	row("time to lend all / until stock was full again", "%s / %s", lent.Round(time.Second), took.Round(time.Second))
	row("nodes a minute, created and destroyed", "%.0f", float64(o.gone)/took.Minutes())
	row("time to ready, p50 / p99", "%.1f s / %.1f s", ready[len(ready)/2].Seconds(), ready[len(ready)*99/100].Seconds())
	row("runs at once, at most", "%d", runs)
	row("CPU of Terraform and providers, a node", "%.0f ms", (after.children-before.children).Seconds()*1000/float64(gone))
	row("CPU of broker and cloud, a node", "%.0f ms", (after.own-before.own).Seconds()*1000/float64(gone))
	row("heap of this process, stock full: begin / end", "%.1f / %.1f MiB", float64(before.heap)/(1<<20), float64(after.heap)/(1<<20))
	row("most memory of this process", "%d MiB", after.peak>>10)
	row("instances left by answers that were lost", "%d", leaked)
	row("until sweeps had removed them", "%v", swept.Round(time.Second))
	for _, name := range slices.Sorted(maps.Keys(o.failures)) {
		row("failed "+name, "%d", o.failures[name])
	}
	t.Logf("\n%s", aligned(&table, 0))
}
