package main

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/plan"
)

// progress shows how rollouts go: on a terminal one line for each pool, which is
// redrawn, elsewhere a new line for each change. Pools that had nothing to replace
// from the start are left out.
type progress struct {
	out   io.Writer
	size  func() (width, height int) // of the terminal; nil for none
	seen  map[string]string          // the last line of each pool
	drawn int                        // lines that are to be redrawn
}

func newProgress(w io.Writer) *progress {
	p := &progress{out: w, seen: make(map[string]string)}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" {
		p.size = func() (int, int) {
			width, height, err := term.GetSize(int(f.Fd()))
			if err != nil || width <= 0 || height <= 0 {
				return 80, 24
			}
			return width, height
		}
	}
	return p
}

// show shows what has changed.
func (p *progress) show(list []v1.Rollout, now time.Time) error {
	list = slices.DeleteFunc(slices.Clone(list), func(r v1.Rollout) bool { return r.Left == 0 && p.seen[r.Pool] == "" })
	var text strings.Builder
	for _, r := range list {
		line := progressLine(r)
		if line != p.seen[r.Pool] && p.size == nil {
			text.WriteString(line + "\n")
		}
		p.seen[r.Pool] = line
	}
	if p.size != nil {
		text.WriteString(p.draw(list, now))
	}
	_, err := io.WriteString(p.out, text.String())
	return err
}

// progressLine says how a rollout goes, without what changes as time passes.
func progressLine(r v1.Rollout) string {
	all := max(r.Stale, r.Left)
	line := fmt.Sprintf("pool %s: %d of %d stale nodes replaced, %d of %d ready, %d being made", r.Pool, all-r.Left, all, r.Ready, r.FillLevel, r.Making)
	if r.Failures > 0 {
		line += fmt.Sprintf(", %d failed", r.Failures)
	}
	if waits(r) {
		line += ": " + r.State
	}
	return line
}

// waits tells whether a rollout goes on only when an admin says so.
func waits(r v1.Rollout) bool {
	return r.Left > 0 && (r.State == string(broker.RolloutPaused) || r.State == string(broker.RolloutAborted))
}

// draw gives what puts the lines of all pools in the place of those before. Where
// there are more than fit, those that are done are left out first.
func (p *progress) draw(list []v1.Rollout, now time.Time) string {
	width, height := p.size()
	more := len(list) - max(1, height-2)
	if more > 0 {
		slices.SortStableFunc(list, func(a, b v1.Rollout) int { return cmp.Compare(min(1, b.Left), min(1, a.Left)) })
		list = list[:len(list)-more]
	}
	name := 0
	for _, r := range list {
		name = max(name, len(r.Pool))
	}
	var lines []string
	for _, r := range list {
		lines = append(lines, fmt.Sprintf("%-*s  %s", name, r.Pool, barLine(r, now)))
	}
	if more > 0 {
		lines = append(lines, fmt.Sprintf("and %d more", more))
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn)
	}
	for _, line := range lines {
		if len(line) >= width { // it would go on in the next line
			line = line[:width-1]
		}
		b.WriteString("\r\x1b[K" + line + "\n")
	}
	b.WriteString("\x1b[J") // what is left of more lines than these
	p.drawn = len(lines)
	return b.String()
}

// barLine draws how a rollout goes.
func barLine(r v1.Rollout, now time.Time) string {
	const cells = 20
	all := max(r.Stale, r.Left, 1)
	done := (all - r.Left) * cells / all
	line := fmt.Sprintf("[%s%s] %d/%d replaced, %d/%d ready", strings.Repeat("#", done), strings.Repeat(".", cells-done), all-r.Left, all, r.Ready, r.FillLevel)
	if r.Making > 0 {
		line += fmt.Sprintf(", %d being made", r.Making)
	}
	if r.Failures > 0 {
		line += fmt.Sprintf(", %d failed", r.Failures)
	}
	switch left := timeLeft(r, now); {
	case r.Left == 0:
		line += ", done"
	case waits(r):
		line += ", " + strings.ToUpper(r.State)
	case left > 0:
		line += ", about " + plan.Duration(left) + " left"
	}
	return line
}

// timeLeft is how long a rollout still takes if it goes on as it did; 0 where there
// is no telling.
func timeLeft(r v1.Rollout, now time.Time) time.Duration {
	replaced := r.Stale - r.Left
	took := now.Sub(r.StartedAt.Time)
	if replaced <= 0 || r.StartedAt.IsZero() || took <= 0 || r.State != string(broker.RolloutRunning) {
		return 0
	}
	left := took / time.Duration(replaced) * time.Duration(r.Left)
	if left > time.Hour {
		return left.Round(time.Minute)
	}
	return max(time.Second, left.Round(time.Second))
}
