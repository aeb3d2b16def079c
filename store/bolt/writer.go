package bolt

import (
	"context"
	"runtime/debug"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/duffy-broker/duffy-broker/broker"
)

// maxGroup bounds how many calls share a commit, so that the first of them does
// not wait for an endless stream of others.
const maxGroup = 64

// call is one Update on its way through the writer. The writer lends it the
// group's transaction by turn; the caller runs its function on its own goroutine,
// so that panics keep their stack and their owner, and reports by ran. A call may
// get several turns. The last message is on done.
type call struct {
	turn chan *tx
	ran  chan outcome
	done chan error // with room for one, so that the writer never waits for a caller
}

// outcome is what came of one turn. The zero value is success.
type outcome struct {
	err error
	// final: err does not depend on what other calls of the group wrote.
	final bool
}

func (o outcome) failed() bool { return o.err != nil || o.final }

func newCall() *call {
	return &call{turn: make(chan *tx), ran: make(chan outcome), done: make(chan error, 1)}
}

// Update implements [broker.Store]. Calls at once share a commit; each sees the
// store as if they had run one after the other. A panic of fn undoes its own
// writes and goes on in the caller. When the disk fails during a commit, whether
// the change is kept is known only from reading it again.
func (s *Store) Update(ctx context.Context, fn func(broker.Tx) error) error {
	return s.update(ctx, func(t *tx) error { return fn(t) })
}

func (s *Store) update(ctx context.Context, fn func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.readOnly {
		return errReadOnly(s.path)
	}
	c := newCall()
	select {
	case s.calls <- c:
		return c.serve(ctx, fn)
	case <-ctx.Done():
		return ctx.Err()
	case <-s.closing:
		return errClosed()
	}
}

// serve runs fn whenever it is the call's turn, until the call is done.
func (c *call) serve(ctx context.Context, fn func(*tx) error) error {
	for {
		select {
		case t := <-c.turn:
			c.run(ctx, t, fn)
		case err := <-c.done:
			return err
		}
	}
}

func (c *call) run(ctx context.Context, t *tx, fn func(*tx) error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	returned := false
	defer func() {
		if !returned { // a panic, or runtime.Goexit: let the writer undo first
			t.end()
			c.ran <- outcome{final: true}
			<-c.done //nolint:errcheck // it carries no error here
		}
	}()
	o := outcome{err: ctx.Err()}
	if o.err != nil {
		o.final = true
	} else if o.err = fn(t); o.err == nil {
		o.err = t.failure // even when fn has overlooked it
	}
	returned = true
	t.end()
	c.ran <- o
}

// write is the writer: it serves calls until the store closes.
func (s *Store) write() {
	defer close(s.stopped)
	debug.SetPanicOnFault(true)
	for {
		select {
		case c := <-s.calls:
			s.serve(s.gather(c))
		case <-s.closing:
			return
		}
	}
}

// gather adds the calls that are waiting at this moment, and waits for none.
func (s *Store) gather(c *call) []*call {
	group := []*call{c}
	for len(group) < maxGroup {
		select {
		case c := <-s.calls:
			group = append(group, c)
		default:
			return group
		}
	}
	return group
}

// serve takes a group of calls to their end. bbolt can't undo a part of a
// transaction, so when a function fails the others run again without it. Where
// the failed one had seen what others wrote, which was undone with it, it runs
// again alone, so that its error is true of what is stored.
func (s *Store) serve(group []*call) {
	var alone []*call
	for len(group) > 0 {
		i, o := s.try(group)
		if i < 0 {
			break
		}
		c := group[i]
		group = slices.Delete(group, i, i+1)
		if o.final {
			c.done <- o.err
		} else {
			alone = append(alone, c)
		}
	}
	for _, c := range alone {
		if i, o := s.try([]*call{c}); i == 0 {
			c.done <- o.err
		}
	}
}

// try runs the group in one transaction and commits it, which ends all calls. Or
// it gives the index of the first that failed, after undoing everything.
func (s *Store) try(group []*call) (int, outcome) {
	finish := func(err error) (int, outcome) {
		for _, c := range group {
			c.done <- err
		}
		return -1, outcome{}
	}
	if s.broken != nil {
		return finish(s.broken)
	}
	b, err := s.db.Begin(true)
	if err != nil {
		return finish(s.beginError(err))
	}
	dirty, touched := false, changeSet{}
	for i, c := range group {
		clean := !dirty
		c.turn <- &tx{b: b, path: s.path, dirty: &dirty, touched: &touched}
		if o := <-c.ran; o.failed() {
			s.rollback(b)
			o.final = o.final || clean
			return i, o
		}
	}
	if !dirty { // nothing to keep: no need to wait for the disk
		s.rollback(b)
		return finish(s.broken)
	}
	s.changes.add(b.ID(), touched)
	return finish(s.commit(b))
}

func (s *Store) commit(b *bbolt.Tx) (err error) {
	defer func() {
		if r := recover(); r != nil {
			s.broken = damaged(s.path, r)
			s.rollback(b)
			err = s.broken
		}
	}()
	if err := b.Commit(); err != nil { // it has rolled back
		return broker.Wrap(broker.CodeUnavailable, err, "the change could not be stored").
			WithHint("the disk of the broker is full or broken; try again when it is repaired")
	}
	return nil
}

func (s *Store) rollback(b *bbolt.Tx) {
	defer func() {
		if r := recover(); r != nil {
			s.broken = damaged(s.path, r)
		}
	}()
	if err := b.Rollback(); err != nil && s.broken == nil {
		s.broken = damaged(s.path, err)
	}
}
