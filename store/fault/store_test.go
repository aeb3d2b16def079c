package fault_test

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/fault"
	"github.com/duffy-broker/duffy-broker/store/memory"
	"github.com/duffy-broker/duffy-broker/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestStore(t *testing.T) {
	storetest.Run(t, func(*testing.T) broker.Store { return fault.New(memory.New()) })
}

// The suite itself must not care how often its functions run.
func TestStore_RunTwice(t *testing.T) {
	storetest.Run(t, func(*testing.T) broker.Store {
		s := fault.New(memory.New())
		s.RunTwice()
		return s
	})
}

func TestRunTwice(t *testing.T) {
	s := fault.New(memory.New())
	s.RunTwice()
	runs := 0
	err := s.Update(t.Context(), func(tx broker.Tx) error {
		runs++
		return appendEvent(tx)
	})
	if err != nil {
		t.Fatal(err)
	}
	if runs != 2 || countEvents(t, s) != 1 || s.Updates() != 1 {
		t.Errorf("the function ran %d times and left %d events in %d updates, want 2, 1 and 1", runs, countEvents(t, s), s.Updates())
	}
}

func TestFailUpdate(t *testing.T) {
	broken := errors.New("broken")
	for _, tt := range []struct {
		name       string
		n          int
		when       fault.When
		wantFailed int // the number of the call that fails, of 3 more; 0 for none
		wantEvents int
	}{
		{"no call", 0, fault.Before, 0, 4},
		{"first before", 1, fault.Before, 1, 3},
		{"second before", 2, fault.Before, 2, 3},
		{"second after", 2, fault.After, 2, 4},
		{"beyond", 4, fault.After, 0, 4},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := fault.New(memory.New())
			update := func() error { return s.Update(t.Context(), appendEvent) }
			if err := update(); err != nil {
				t.Fatal(err)
			}
			s.FailUpdate(tt.n, tt.when, broken)
			for i := 1; i <= 3; i++ {
				if err := update(); errors.Is(err, broken) != (i == tt.wantFailed) {
					t.Errorf("call %d: got %v", i, err)
				}
			}
			if got := countEvents(t, s); got != tt.wantEvents {
				t.Errorf("got %d events, want %d", got, tt.wantEvents)
			}
			if got := s.Updates(); got != 4 {
				t.Errorf("counted %d updates, want 4", got)
			}
		})
	}
}

func TestFailUpdate_ownErrorFirst(t *testing.T) {
	s := fault.New(memory.New())
	own := errors.New("own")
	s.FailUpdate(1, fault.After, errors.New("broken"))
	if err := s.Update(t.Context(), func(broker.Tx) error { return own }); !errors.Is(err, own) {
		t.Errorf("got %v, want the function's own error", err)
	}
}

func appendEvent(tx broker.Tx) error { return tx.AppendEvent(&broker.Event{Kind: broker.EventNode}) }

func countEvents(t *testing.T, s broker.Store) (n int) {
	t.Helper()
	err := s.View(context.Background(), func(tx broker.ReadTx) error {
		list, err := tx.Events(0, 100)
		n = len(list)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
