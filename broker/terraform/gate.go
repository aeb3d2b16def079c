package terraform

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// gateFactor is how many runs per CPU may be in their CPU phase at once. Two
	// CPUs start no more nodes a minute with eight at once than with four, and
	// each takes longer.
	gateFactor = 2
	// gateLimit is how long a run counts as being in its CPU phase at most: one
	// that reads slow data sources waits for them, and must not keep others out.
	gateLimit = 30 * time.Second
	// gatePoll is how often the output of a run in its CPU phase is looked at.
	gatePoll = 20 * time.Millisecond
)

// gate bounds how many runs are in their CPU phase: from the start of Terraform
// until its provider works on the first resource, most of which Terraform and
// its providers spend on starting up. After it a run waits. Without a gate, runs
// that start together all slow each other down, and none is done early. Who has
// waited longest enters first.
type gate struct {
	slots *semaphore.Weighted
	limit time.Duration
}

func newGate(slots int) *gate {
	return &gate{slots: semaphore.NewWeighted(int64(slots)), limit: gateLimit}
}

// enter waits for a slot, or gives ctx's error. Every enter that succeeds has one
// leave.
func (g *gate) enter(ctx context.Context) error { return g.slots.Acquire(ctx, 1) }

func (g *gate) leave() { g.slots.Release(1) }

// leaveAfter leaves once the CPU phase of the run with this output file is over,
// or the run is.
func (g *gate) leaveAfter(output string, done <-chan struct{}) {
	defer g.leave()
	f, err := os.Open(output) //nolint:gosec // a file of ours
	if err != nil {
		return // let nobody wait for what can't be seen
	}
	defer func() { _ = f.Close() }()
	limit := time.NewTimer(g.limit)
	defer limit.Stop()
	poll := time.NewTicker(gatePoll)
	defer poll.Stop()
	for lines := (tail{r: bufio.NewReader(f)}); !lines.applying(); {
		select {
		case <-done:
			return
		case <-limit.C:
			return
		case <-poll.C:
		}
	}
}

// tail reads the output of a run while it is written.
type tail struct {
	r    *bufio.Reader
	line []byte // begun, without its end so far
}

// applying reads on, and tells whether Terraform has begun to change a resource,
// or the output can't be read.
func (t *tail) applying() bool {
	for {
		part, err := t.r.ReadBytes('\n')
		t.line = append(t.line, part...)
		if err != nil {
			return !errors.Is(err, io.EOF)
		}
		var o output
		if json.Unmarshal(t.line, &o) == nil && o.Type == "apply_start" {
			return true
		}
		t.line = t.line[:0]
	}
}
