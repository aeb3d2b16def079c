package provider

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A host that takes no more runs serves those that it has to their ends.
func TestRetirement(t *testing.T) {
	tests := map[string]struct {
		limits     Limits
		retire     func(t *testing.T, h *host, stop func())
		wantFailed bool
	}{
		"runs":          {limits: Limits{Runs: 1}},
		"age":           {limits: Limits{Age: time.Millisecond}},
		"asked to":      {retire: func(_ *testing.T, _ *host, stop func()) { stop() }},
		"dead provider": {retire: func(_ *testing.T, h *host, _ func()) { close(h.plugins[0].exited) }, wantFailed: true},
		"no directory": {retire: func(t *testing.T, h *host, _ func()) {
			if err := os.RemoveAll(h.dir); err != nil {
				t.Error(err)
			}
		}},
		"another configuration": {retire: func(_ *testing.T, h *host, _ func()) { h.runs[0].mismatch() }},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, ownPath(dir, logName), "")
			h := &host{
				dir: dir, limits: tt.limits.orDefault(), log: slog.New(slog.DiscardHandler), changed: make(chan struct{}, 1),
				plugins: []*plugin{{address: "example.com/ns/p", version: 6, exited: make(chan struct{})}},
			}
			outside := t.TempDir()
			output := lockedFile(t, filepath.Join(outside, "output"))
			run := Run{Output: output.Name(), Journal: filepath.Join(outside, "journal")}
			if _, ok, err := h.attach(t.Context(), run); !ok || err != nil {
				t.Fatalf("the first run: %t, %v", ok, err)
			}
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			over := make(chan struct{})
			go func() {
				h.loop(ctx)
				close(over)
			}()
			if tt.retire != nil {
				tt.retire(t, h, stop)
			}
			waitFor(t, "the host to take no more runs", func() bool { _, retired := h.look(); return retired })
			if _, ok, err := h.attach(t.Context(), run); ok || err != nil {
				t.Errorf("another run: %t, %v", ok, err)
			}
			select {
			case <-over:
				t.Error("it has ended with a run")
			default:
			}
			_ = output.Close()
			<-over
			if h.failed != tt.wantFailed {
				t.Errorf("failed: %t, want %t", h.failed, tt.wantFailed)
			}
		})
	}
}

func TestIdleHostEnds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, ownPath(dir, logName), "")
	h := &host{dir: dir, limits: Limits{Idle: time.Second}.orDefault(), log: slog.New(slog.DiscardHandler)}
	h.loop(t.Context()) // returns
}

func TestNoHost(t *testing.T) {
	dir := t.TempDir()
	if _, err := Attach(t.Context(), dir, Run{}); !errors.Is(err, ErrNoHost) {
		t.Errorf("Attach: %v, want %v", err, ErrNoHost)
	}
	if err := Stop(t.Context(), dir); err != nil {
		t.Errorf("Stop: %v", err)
	}
	write(t, ownPath(dir, limitsName), "")
	cmd, err := Start(t.Context(), Options{Dir: dir, Executable: "/bin/false"})
	if err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	if _, err := AttachFirst(t.Context(), dir, Run{}); err == nil || errors.Is(err, ErrNoHost) {
		t.Errorf("AttachFirst: %v, want one that says that it has ended", err)
	}
}
