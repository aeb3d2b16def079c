package broker_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// scriptedLogs has logs in clear, and runs in progress that a test lets end.
type scriptedLogs struct {
	mu   sync.Mutex
	live []string      // the lines of the run in progress, none: there is no run
	ends chan struct{} // ends it
}

func (*scriptedLogs) OpenLog(r broker.Run, log []byte) ([]byte, error) {
	if string(log) == "damaged" {
		return nil, fmt.Errorf("log of run %d is damaged", r.ID)
	}
	return log, nil
}

func (l *scriptedLogs) WatchRun(ctx context.Context, _ broker.Node, write func(string, []byte) error) error {
	l.mu.Lock()
	lines := l.live
	l.live = nil
	l.mu.Unlock()
	for _, line := range lines {
		if err := write("destroy", []byte(line)); err != nil {
			return err
		}
	}
	if lines == nil {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.ends:
		return nil
	}
}

func TestNodeLog(t *testing.T) {
	store, logs := memory.New(), &scriptedLogs{ends: make(chan struct{})}
	b := broker.New(broker.Config{Store: store, Logs: logs, Log: slog.New(slog.DiscardHandler), Now: time.Now, Wake: func() {}})
	admin := broker.Tenant{ID: 1, Name: "admin", IsAdmin: true}
	update := func(fn func(broker.Tx) error) {
		t.Helper()
		if err := store.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	n := broker.NewNode(broker.Pool{Name: "small"}, time.Now())
	n.State = broker.NodeDestroying
	began := time.Now()
	update(func(tx broker.Tx) error {
		if err := tx.CreateNode(&n); err != nil {
			return err
		}
		return broker.AddRuns(tx, n, []broker.Run{
			{Operation: "apply", Began: began, Log: []byte("made\n")},
			{Operation: "destroy", Began: began, Log: []byte("damaged"), Class: broker.FailureQuota, Failure: "too many"},
		})
	})
	ask := func(ctx context.Context, actor broker.Tenant, req broker.NodeLogRequest, line func(string)) (string, error) {
		var all strings.Builder
		err := b.NodeLog(ctx, actor, req, func(text []byte) error {
			all.Write(text)
			if line != nil {
				line(string(text))
			}
			return nil
		})
		return all.String(), err
	}

	if _, err := ask(t.Context(), broker.Tenant{ID: 2}, broker.NodeLogRequest{Node: n.ID}, nil); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("a tenant: %v", err)
	}
	for _, req := range []broker.NodeLogRequest{{Node: 99}, {Node: n.ID, Run: 99}} {
		if _, err := ask(t.Context(), admin, req, nil); broker.CodeOf(err) != broker.CodeNotFound {
			t.Errorf("%+v: %v", req, err)
		}
	}
	got, err := ask(t.Context(), admin, broker.NodeLogRequest{Node: n.ID}, nil)
	if err != nil || strings.Count(got, `"run_start"`) != 2 || !strings.Contains(got, "made\n") || !strings.Contains(got, `"class":"quota","failure":"too many"`) {
		t.Errorf("both runs, one of them not readable: %s (%v)", got, err)
	}
	got, err = ask(t.Context(), admin, broker.NodeLogRequest{Node: n.ID, Run: 1}, nil)
	if err != nil || strings.Contains(got, `"run":2`) || !strings.Contains(got, "made\n") {
		t.Errorf("one run: %s (%v)", got, err)
	}

	// Followed: a run in progress is passed on once, and what was stored of it is
	// not passed on again; the end comes with the node's rest.
	logs.live = []string{"going\n"}
	got, err = ask(t.Context(), admin, broker.NodeLogRequest{Node: n.ID, Follow: true}, func(line string) {
		if line != "going\n" {
			return
		}
		update(func(tx broker.Tx) error {
			if err := broker.AddRuns(tx, n, []broker.Run{{Operation: "destroy", Began: began.Add(1), Log: []byte("going\n")}}); err != nil {
				return err
			}
			gone := n
			return broker.MoveNode(tx, &gone, broker.NodeGone, began, "")
		})
		go func() { logs.ends <- struct{}{} }()
	})
	if err != nil || strings.Count(got, "going\n") != 1 || strings.Count(got, `"run_end"`) != 3 || !strings.Contains(got, "terraform destroy succeeded") {
		t.Errorf("followed: %s (%v)", got, err)
	}

	// The record of the node goes before its runs do.
	update(func(tx broker.Tx) error { return tx.DeleteNode(n.ID) })
	for _, follow := range []bool{false, true} {
		got, err = ask(t.Context(), admin, broker.NodeLogRequest{Node: n.ID, Follow: follow}, nil)
		if err != nil || !strings.Contains(got, "going\n") {
			t.Errorf("after the record has gone, follow %t: %s (%v)", follow, got, err)
		}
	}

	// A client that goes ends it.
	busy := broker.NewNode(broker.Pool{Name: "small"}, time.Now())
	busy.State = broker.NodeApplying
	update(func(tx broker.Tx) error { return tx.CreateNode(&busy) })
	logs.live = []string{"for ever\n"}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := ask(ctx, admin, broker.NodeLogRequest{Node: busy.ID, Follow: true}, func(line string) {
		if line == "for ever\n" {
			cancel()
		}
	}); !errors.Is(err, context.Canceled) {
		t.Errorf("a client that goes: %v", err)
	}
}
