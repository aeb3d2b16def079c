package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/fault"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// slow is a store whose next write takes a while.
type slow struct {
	broker.Store

	takes time.Duration
}

func (s *slow) Update(ctx context.Context, fn func(broker.Tx) error) error {
	takes := s.takes
	s.takes = 0
	time.Sleep(takes)
	return s.Store.Update(ctx, fn)
}

// Writable writes, but not each time, and does not wait for a store that is stuck.
func TestWritable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		disk := fault.New(memory.New())
		stuck := &slow{Store: disk}
		b := broker.New(broker.Config{Store: stuck, Keys: plainKeys{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		ctx := t.Context()
		id, err := b.Identity(ctx)
		if err != nil {
			t.Fatal(err)
		}
		ask := func(want string) {
			t.Helper()
			err := b.Writable(ctx)
			got := ""
			if err != nil {
				got = broker.MessageOf(err)
				if broker.CodeOf(err) != broker.CodeUnavailable || strings.Contains(got, "secret") {
					t.Errorf("%v, code %s", err, broker.CodeOf(err))
				}
			}
			if got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		before := disk.Updates()
		for range 100 {
			ask("")
		}
		if got := disk.Updates() - before; got != 1 {
			t.Errorf("100 questions cost %d commits, want 1", got)
		}
		disk.FailUpdate(1, fault.Before, errors.New("no space left on /secret/path"))
		ask("") // as it was a moment ago
		time.Sleep(11 * time.Second)
		ask("the store takes no changes")
		ask("the store takes no changes")
		time.Sleep(11 * time.Second)
		ask("")

		time.Sleep(11 * time.Second)
		stuck.takes = time.Minute
		gone, cancel := context.WithCancel(ctx)
		done := make(chan error)
		go func() { done <- b.Writable(gone) }()
		synctest.Wait()
		cancel() // who asks may lose patience
		ask("")
		time.Sleep(6 * time.Second)
		ask("the store does not answer")
		time.Sleep(time.Minute)
		if err := <-done; err != nil {
			t.Errorf("a slow store, and a client that has gone: %v", err)
		}
		ask("")
		if again, err := b.Identity(ctx); err != nil || again.ID != id.ID {
			t.Errorf("the identity was %s and is %s (%v)", id.ID, again.ID, err)
		}
	})
}
