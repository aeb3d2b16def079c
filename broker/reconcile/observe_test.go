package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// blind is a store that can't be read while it is sick.
type blind struct {
	broker.Store

	sick atomic.Bool
}

func (b *blind) View(ctx context.Context, fn func(broker.ReadTx) error) error {
	if b.sick.Load() {
		return errors.New("no such disk: /secret/path")
	}
	return b.Store.View(ctx, fn)
}

// A loop is ready from its first pass on, and as long as passes succeed. One that
// fails for a while is forgiven.
func TestLoopReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &blind{Store: memory.New()}
		var failed atomic.Int32
		loop := New(Config{
			Store: store, Pools: new(broker.PoolSet), Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Serving: func() map[string]bool { return nil },
			ObservePass: func(p Pass) {
				if p.Err != nil {
					failed.Add(1)
				}
			},
		})
		ready := func(want bool) {
			t.Helper()
			err := loop.Ready(time.Now())
			if (err == nil) != want || err != nil && broker.CodeOf(err) != broker.CodeUnavailable {
				t.Errorf("got %v, want ready: %t", err, want)
			}
		}
		ready(false)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { loop.Run(ctx) })
		synctest.Wait()
		ready(true)
		time.Sleep(time.Hour)
		ready(true)
		store.sick.Store(true)
		loop.Wake()
		time.Sleep(time.Minute)
		ready(true)
		if failed.Load() == 0 {
			t.Error("no pass has failed")
		}
		time.Sleep(2 * time.Minute)
		ready(false)
		store.sick.Store(false)
		time.Sleep(time.Minute)
		ready(true)
		cancel()
		running.Wait()
		time.Sleep(3 * time.Minute) // it is stuck
		ready(false)
	})
}

// What woke the loop before a pass began is seen by that pass: there is no other one
// for it, which would see nothing new. A forecast counts on it.
func TestOnePassForAllThatWoke(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var passes []time.Duration
		start := time.Now()
		loop := New(Config{
			Store: memory.New(), Pools: new(broker.PoolSet), Log: slog.New(slog.DiscardHandler), Now: time.Now,
			Serving:     func() map[string]bool { return nil },
			ObservePass: func(Pass) { passes = append(passes, time.Since(start)) },
		})
		loop.Wake()
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { loop.Run(ctx) })
		time.Sleep(2*tick + time.Second)
		loop.Wake()
		time.Sleep(time.Second)
		cancel()
		running.Wait()
		if want := []time.Duration{0, tick, 2 * tick, 2*tick + time.Second}; !slices.Equal(passes, want) {
			t.Errorf("passes at %v, want %v", passes, want)
		}
	})
}

func TestBreakerOpen(t *testing.T) {
	p := testPool("a", 1, 1)
	g := p.Source.Generation
	for name, test := range map[string]struct {
		h    broker.PoolHealth
		want bool
	}{
		"well":                {broker.PoolHealth{Generation: g}, false},
		"two failures":        {broker.PoolHealth{Generation: g, Failures: 2, Class: broker.FailureOther}, false},
		"three":               {broker.PoolHealth{Generation: g, Failures: 3, Class: broker.FailureOther}, true},
		"one that is certain": {broker.PoolHealth{Generation: g, Failures: 1, Class: broker.FailureAuth}, true},
		"of another module":   {broker.PoolHealth{Generation: "old", Failures: 9}, false},
		"none":                {broker.PoolHealth{}, false},
	} {
		if got := BreakerOpen(p, test.h); got != test.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}
