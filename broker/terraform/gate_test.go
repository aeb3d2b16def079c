package terraform

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// A hundred creates at once: few are in their CPU phase at any time, and those
// that wait for their provider keep nobody out.
func TestGateBoundsTheCPUPhase(t *testing.T) {
	const creates, slots = 100, 4
	e, n := fakeEngine(t, `
		: > ../../cpu/$$
		set -- ../../cpu/*
		echo $# >> ../../counts
		sleep 0.02
		rm ../../cpu/$$
		begin
		: > ../../waiting/$$
		read -r _ < ../../go
		state '`+stateMade+`'
		summary apply`, "")
	e.gate = newGate(slots)
	for _, dir := range []string{"cpu", "waiting"} {
		if err := os.Mkdir(filepath.Join(e.Dir, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(e.Dir, "go"), 0o600); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	for range creates {
		node := broker.NewNode(broker.Pool{Name: n.Pool, CreateTimeout: n.CreateTimeout, Source: n.Source}, time.Now())
		running.Go(func() {
			if _, err := e.Apply(t.Context(), node); err != nil {
				t.Error(err)
			}
		})
	}
	waitFor(t, "all creates to be in their waiting phase", func() bool {
		waiting, err := os.ReadDir(filepath.Join(e.Dir, "waiting"))
		if err != nil {
			t.Fatal(err)
		}
		return len(waiting) == creates
	})
	open, err := os.OpenFile(filepath.Join(e.Dir, "go"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open.WriteString(strings.Repeat("\n", creates)); err != nil {
		t.Fatal(err)
	}
	running.Wait()
	if err := open.Close(); err != nil {
		t.Fatal(err)
	}
	counts := strings.Fields(read(t, filepath.Join(e.Dir, "counts")))
	most := 0
	for _, text := range counts {
		var count int
		if _, err := fmt.Sscan(text, &count); err != nil {
			t.Fatal(err)
		}
		most = max(most, count)
	}
	if len(counts) != creates || most > slots {
		t.Errorf("%d creates were in their CPU phase at once, want %d at most, of %d", most, slots, len(counts))
	}
}

// A start that waits ends with its context, and has begun nothing; one that ends
// or fails gives its slot back, whatever it wrote.
func TestGateGivesBack(t *testing.T) {
	e, n := fakeEngine(t, "state '"+stateMade+"'; summary apply", "state '"+stateGone+"'; summary destroy")
	e.gate = newGate(1)
	if err := e.gate.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	dir := filepath.Join(e.runsDir(), n.UID)
	go func() {
		for !exists(filepath.Join(dir, ownDir)) && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := e.Apply(ctx, n); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if r, err := e.run(n, opApply); err != nil || r.started() {
		t.Errorf("a run that waited counts as started (%v)", err)
	}
	e.gate.leave()

	program := e.Binary.Path
	e.Binary.Path = filepath.Join(dir, "nowhere")
	_, err := e.Apply(t.Context(), n)
	wantError(t, err, "no such file or directory")
	e.Binary.Path = program
	destroy(t, e, n, apply(t, e, n).State)
	e.reapers.Wait()
	if !e.gate.slots.TryAcquire(1) {
		t.Error("the slot was not given back")
	}
	if e.gate.slots.TryAcquire(1) {
		t.Error("a slot was given back twice")
	}
}

// A run that says nothing for long waits for something: it keeps no slot.
func TestGateLimit(t *testing.T) {
	e, n := fakeEngine(t, "read -r _ < ../../go; state '"+stateMade+"'; summary apply", "")
	e.gate = newGate(1)
	e.gate.limit = 10 * time.Millisecond
	if err := syscall.Mkfifo(filepath.Join(e.Dir, "go"), 0o600); err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if _, err := e.Apply(t.Context(), n); err != nil {
			t.Error(err)
		}
	})
	waitForFile(t, filepath.Join(e.runsDir(), n.UID, "calls"))
	if err := e.gate.enter(t.Context()); err != nil {
		t.Error(err)
	}
	e.gate.leave()
	write(t, filepath.Join(e.Dir, "go"), "\n")
	running.Wait()
}

// A run that another process started takes no slot.
func TestGateIgnoresAdoptedRuns(t *testing.T) {
	e, n := fakeEngine(t, "read -r _ < ../../go; state '"+stateMade+"'; summary apply", "")
	if err := syscall.Mkfifo(filepath.Join(e.Dir, "go"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for !exists(filepath.Join(e.runsDir(), n.UID, "calls")) && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := e.Apply(ctx, n); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	next := engineIn(t, e.Dir, e.Binary.Path)
	next.gate = newGate(1)
	if err := next.gate.enter(t.Context()); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(e.Dir, "go"), "\n")
	apply(t, next, n)
}

// Who has waited longest enters first, whatever it wants to do.
func TestGateIsFair(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(1)
		if err := g.enter(t.Context()); err != nil {
			t.Fatal(err)
		}
		var order []int
		var waiting sync.WaitGroup
		for i := range 20 {
			waiting.Go(func() {
				if err := g.enter(t.Context()); err != nil {
					t.Error(err)
				}
				order = append(order, i) // the gate has one slot
				g.leave()
			})
			synctest.Wait()
		}
		g.leave()
		waiting.Wait()
		if !slices.IsSorted(order) || len(order) != 20 {
			t.Errorf("they entered in the order %v", order)
		}
	})
}

// The beginning of the work is seen whole, however the output arrives.
func TestTail(t *testing.T) {
	begin := `{"@level":"info","type":"apply_start","hook":{"action":"delete"}}` + "\n"
	for _, before := range []string{"", "{\"type\":\"version\"}\n", "not JSON\n", "{\"@message\":\"\\\"type\\\":\\\"apply_start\\\"\",\"type\":\"log\"}\n"} {
		var arrived strings.Builder
		source := &growing{}
		lines := tail{r: bufio.NewReader(source)}
		for i, b := range []byte(before + begin) {
			source.more = append(source.more, b)
			arrived.WriteByte(b)
			if got, want := lines.applying(), i == len(before+begin)-1; got != want {
				t.Fatalf("after %q it says %v", arrived.String(), got)
			}
		}
	}
}

// growing is a file that is being written.
type growing struct{ more []byte }

func (g *growing) Read(p []byte) (int, error) {
	n := copy(p, g.more)
	g.more = g.more[n:]
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
