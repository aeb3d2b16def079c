// Package fault wraps a store that fails when a test wants it to. A test walks
// the number of the failing call over a whole use case, and checks after each
// walk that nothing was lost or half done.
package fault

import (
	"context"
	"errors"
	"sync"

	"github.com/duffy-broker/duffy-broker/broker"
)

// When says on which side of the commit a call of Update fails.
type When int

const (
	// Before the commit: nothing is written.
	Before When = iota
	// After the commit: everything is written, and the caller is told that it failed.
	After
)

// Store passes everything on to another store, except for the faults asked for.
// Its methods may be called at once.
type Store struct {
	broker.Store

	mu       sync.Mutex
	updates  int
	failAt   int // the number of the call to fail, 0 for none
	when     When
	err      error
	runTwice bool
}

// New wraps a store. Without further calls it passes everything on.
func New(inner broker.Store) *Store { return &Store{Store: inner} }

// FailUpdate makes the n-th call of Update from now on fail with err: 1 is the
// next one. It replaces what was asked for before; n = 0 asks for nothing. A call
// whose function gives an error of its own returns that one.
func (s *Store) FailUpdate(n int, when When, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failAt, s.when, s.err = 0, when, err
	if n > 0 {
		s.failAt = s.updates + n
	}
}

// Updates counts the calls of Update so far, failed ones too: how far a test has
// to walk.
func (s *Store) Updates() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.updates
}

// RunTwice makes every Update run its function twice and keep the second run
// only, as a store does after a conflict.
func (s *Store) RunTwice() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runTwice = true
}

var errAgain = errors.New("run again")

// Update implements [broker.Store].
func (s *Store) Update(ctx context.Context, fn func(broker.Tx) error) error {
	before, after, twice := s.next()
	if twice {
		// Whatever comes of the first run, the second one finds out by itself.
		_ = s.Store.Update(ctx, func(tx broker.Tx) error {
			if err := fn(tx); err != nil {
				return err
			}
			return errAgain
		})
	}
	err := s.Store.Update(ctx, func(tx broker.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return before
	})
	if err != nil {
		return err
	}
	return after
}

// next counts a call and gives the errors that it is to end with.
func (s *Store) next() (before, after error, twice bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.updates++
	if s.updates == s.failAt {
		if s.when == Before {
			before = s.err
		} else {
			after = s.err
		}
	}
	return before, after, s.runTwice
}
