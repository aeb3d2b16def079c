package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"sync"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Store is a [broker.Store] in one file. Make it with [Open].
type Store struct {
	db      *bbolt.DB
	file    *os.File // below db
	path    string
	calls   chan *call    // from Update to the writer
	closing chan struct{} // closed when Close begins
	stopped chan struct{} // closed when the writer has ended
	close   func() error
	changes changeLog
	// readOnly: see OpenReadOnly.
	readOnly bool

	// broken is the damage that was met while writing. Only the writer touches
	// it until stopped is closed.
	broken error
}

var _ broker.Store = (*Store)(nil)

func start(db *bbolt.DB, file *os.File, path string) *Store {
	s := &Store{
		db: db, file: file, path: path,
		calls: make(chan *call), closing: make(chan struct{}), stopped: make(chan struct{}),
	}
	s.close = sync.OnceValue(s.shut)
	go s.write() // ends in Close, which waits for it
	return s
}

// Close waits for the transactions in progress and releases the file. Repeating
// it changes nothing.
func (s *Store) Close() error { return s.close() }

func (s *Store) shut() error {
	close(s.closing)
	<-s.stopped
	if s.broken != nil {
		// bbolt may still hold its own locks, and would wait for ever.
		return letGo(s.file)
	}
	return s.db.Close()
}

// View implements [broker.Store]. It never waits for writers.
func (s *Store) View(ctx context.Context, fn func(broker.ReadTx) error) error {
	return s.view(ctx, func(t *tx) error { return fn(t) })
}

func (s *Store) view(ctx context.Context, fn func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case <-s.closing:
		return errClosed()
	default:
	}
	b, err := s.db.Begin(false)
	if err != nil {
		return s.beginError(err)
	}
	defer func() { _ = b.Rollback() }() // of a read transaction: can't fail while it is open
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	t := &tx{b: b, path: s.path, log: &s.changes}
	defer t.end()
	if err := fn(t); err != nil {
		return err
	}
	return t.failure
}

func (s *Store) beginError(err error) error {
	if errors.Is(err, bbolterrors.ErrDatabaseNotOpen) {
		return errClosed()
	}
	return fmt.Errorf("begin a transaction in the database %s: %w", s.path, err)
}

func errClosed() error {
	return broker.Errorf(broker.CodeUnavailable, "the store is closed").WithHint("the broker is stopping; try again when it is back")
}

// damaged describes damage found in the file, from an error or a recovered panic.
func damaged(path string, what any) error {
	cause, ok := what.(error)
	if !ok {
		cause = fmt.Errorf("%v", what)
	}
	return broker.Wrap(broker.CodeInternal, cause, "the database %s is damaged", path).WithHint(damagedHint)
}

const damagedHint = "stop the broker, keep a copy of the file, and restore a backup in its place"
