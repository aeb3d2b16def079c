package bolt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"go.etcd.io/bbolt"

	"github.com/duffy-broker/duffy-broker/broker"
)

var errTest = errors.New("an error of the test")

// openTest opens a new store that is checked and closed when the test ends.
func openTest(t testing.TB) *Store {
	t.Helper()
	return reopenTest(t, filepath.Join(t.TempDir(), "db"))
}

func reopenTest(t testing.TB, path string) *Store {
	t.Helper()
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Check(context.Background()); err != nil && broker.CodeOf(err) != broker.CodeUnavailable { // closed by the test
			t.Error(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// member is one call of a group that a test puts together.
type member struct {
	ctx  context.Context // nil: the test's
	fn   func(*tx) error
	err  error // what the caller got
	paid any   // what the caller's panic said
}

// serveGroup lets the calls share a group, in this order.
func serveGroup(t *testing.T, s *Store, members ...*member) {
	t.Helper()
	var (
		group []*call
		wg    sync.WaitGroup
	)
	for _, m := range members {
		if m.ctx == nil {
			m.ctx = t.Context()
		}
		c := newCall()
		group = append(group, c)
		wg.Go(func() {
			defer func() { m.paid = recover() }()
			m.err = c.serve(m.ctx, m.fn)
		})
	}
	s.serve(group)
	wg.Wait()
}

// commits counts the transactions that were committed so far.
func commits(t *testing.T, s *Store) int {
	t.Helper()
	var id int
	if err := s.view(t.Context(), func(t *tx) error { id = t.b.ID(); return nil }); err != nil {
		t.Fatal(err)
	}
	return id
}

func createTenant(name string) func(*tx) error {
	return func(t *tx) error { return t.CreateTenant(&broker.Tenant{Name: name}) }
}

func tenantNames(t *testing.T, s *Store) (names []string) {
	t.Helper()
	err := s.View(t.Context(), func(tx broker.ReadTx) error {
		list, err := tx.Tenants()
		for _, tenant := range list {
			names = append(names, tenant.Name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func wantNames(t *testing.T, s *Store, want ...string) {
	t.Helper()
	if got := tenantNames(t, s); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got tenants %v, want %v", got, want)
	}
}

func TestGroup_sharesACommit(t *testing.T) {
	s := openTest(t)
	before := commits(t, s)
	a, b, c := &member{fn: createTenant("a")}, &member{fn: createTenant("b")}, &member{fn: createTenant("c")}
	serveGroup(t, s, a, b, c)
	for _, m := range []*member{a, b, c} {
		if m.err != nil {
			t.Error(m.err)
		}
	}
	wantNames(t, s, "a", "b", "c")
	if got := commits(t, s) - before; got != 1 {
		t.Errorf("three calls of a group took %d commits, want 1", got)
	}
}

func TestGroup_failuresStayWithTheirCaller(t *testing.T) {
	s := openTest(t)
	before := commits(t, s)
	writeAnd := func(name string, end func() error) func(*tx) error {
		return func(t *tx) error {
			if err := createTenant(name)(t); err != nil {
				return err
			}
			return end()
		}
	}
	first := &member{fn: writeAnd("x", func() error { return errTest })}
	good := &member{fn: createTenant("good")}
	failed := &member{fn: writeAnd("x", func() error { return errTest })}
	panicked := &member{fn: writeAnd("x", func() error { panic("oh") })}
	conflict := &member{fn: createTenant("good")}
	late := &member{fn: createTenant("x")} // is free: nobody else has got it
	serveGroup(t, s, first, good, failed, panicked, conflict, late)

	wantNames(t, s, "good", "x")
	for _, m := range []*member{good, late} {
		if m.err != nil || m.paid != nil {
			t.Errorf("a good call got %v, %v", m.err, m.paid)
		}
	}
	for _, m := range []*member{first, failed} {
		// Alone, the second one finds that "x" exists by now: that is the truth.
		if m.err != errTest && broker.CodeOf(m.err) != broker.CodeConflict { //nolint:errorlint // as it is
			t.Errorf("got %v", m.err)
		}
	}
	if first.err != errTest { //nolint:errorlint // as it is
		t.Errorf("the first call got %v, want its own error", first.err)
	}
	if panicked.paid != "oh" {
		t.Errorf("the panicking call recovered %v, want its own panic", panicked.paid)
	}
	if broker.CodeOf(conflict.err) != broker.CodeConflict {
		t.Errorf("got %v, want a conflict", conflict.err)
	}
	if got := commits(t, s) - before; got != 1 {
		t.Errorf("the group took %d commits, want 1", got)
	}
}

// An error may rest on what another call of the group wrote. When that call then
// fails, the error would be a lie.
func TestGroup_errorsAreTrue(t *testing.T) {
	s := openTest(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	runs := 0
	faster := &member{ctx: ctx, fn: createTenant("bob")}
	second := &member{fn: func(t *tx) error {
		runs++
		cancel() // the faster one won't run again
		return createTenant("bob")(t)
	}}
	serveGroup(t, s, faster, second)
	if !errors.Is(faster.err, context.Canceled) {
		t.Errorf("the cancelled call got %v", faster.err)
	}
	if second.err != nil || runs != 2 {
		t.Errorf("the second call got %v after %d runs: no bob is stored", second.err, runs)
	}
	wantNames(t, s, "bob")
}

func TestUpdate_withoutWritesDoesNotCommit(t *testing.T) {
	s := openTest(t)
	before := commits(t, s)
	if err := s.Update(t.Context(), func(tx broker.Tx) error { _, err := tx.Tenants(); return err }); err != nil {
		t.Fatal(err)
	}
	if got := commits(t, s); got != before {
		t.Errorf("an update that only reads took %d commits", got-before)
	}
}

// busy keeps the writer busy until the returned function is called, which gives
// what the call came to.
func busy(t *testing.T, s *Store) (release func() error) {
	t.Helper()
	began, wait, done := make(chan struct{}), make(chan struct{}), make(chan error)
	go func() {
		done <- s.update(context.Background(), func(t *tx) error {
			close(began)
			<-wait
			return createTenant("busy")(t)
		})
	}()
	<-began
	return func() error {
		close(wait)
		return <-done
	}
}

func TestUpdate_cancelledWhileWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openTest(t)
		release := busy(t, s)
		ctx, cancel := context.WithCancel(t.Context())
		waiting := make(chan error)
		go func() { waiting <- s.update(ctx, createTenant("waiting")) }()
		synctest.Wait() // until it waits
		cancel()
		if err := <-waiting; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
		wantNames(t, s, "busy")
	})
}

func TestClose_finishesWhatRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := openTest(t)
		release := busy(t, s)
		waiting, closed := make(chan error), make(chan error)
		go func() { waiting <- s.update(t.Context(), createTenant("waiting")) }()
		synctest.Wait()
		go func() { closed <- s.Close() }()
		if err := <-waiting; broker.CodeOf(err) != broker.CodeUnavailable {
			t.Errorf("the waiting call got %v, want that the store is closed", err)
		}
		if err := release(); err != nil {
			t.Errorf("the running call got %v", err)
		}
		if err := <-closed; err != nil {
			t.Error(err)
		}
		wantNames(t, reopenTest(t, s.path), "busy")
	})
}

// A commit that meets damage panics inside bbolt, which may keep its locks.
func TestCommit_damage(t *testing.T) {
	path, content := filled(t)
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.update(t.Context(), func(tx *tx) error {
		if err := createTenant("lost")(tx); err != nil {
			return err
		}
		page := os.Getpagesize()
		write(append(content[:2*page:2*page], make([]byte, len(content)-2*page)...))(t, path)
		return nil
	})
	if broker.CodeOf(err) != broker.CodeInternal || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want that the database is damaged", err)
	}
	write(content)(t, path)
	if _, err := s.db.Begin(true); err != nil { // what bbolt would keep
		t.Fatal(err)
	}
	if err := s.update(t.Context(), createTenant("after")); broker.CodeOf(err) != broker.CodeInternal {
		t.Errorf("an update after damage: got %v", err)
	}
	wantNames(t, s) // reading goes on
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.view(t.Context(), readAllOf); broker.CodeOf(err) != broker.CodeUnavailable {
		t.Errorf("a view of the closed store: got %v", err)
	}
	wantNames(t, reopenTest(t, path))
}

func TestUpdate_nothingIsLostInACrowd(t *testing.T) {
	s := openTest(t)
	const callers, each = 16, 25
	before := commits(t, s)
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			for i := range each {
				if err := s.update(t.Context(), createTenant(fmt.Sprint(caller, "-", i))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if got := commits(t, s) - before; got >= callers*each {
		t.Errorf("%d updates of a crowd took %d commits: they share none", callers*each, got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := len(tenantNames(t, reopenTest(t, s.path))); got != callers*each {
		t.Errorf("got %d tenants, want %d", got, callers*each)
	}
}

func TestTx_usedTooLate(t *testing.T) {
	s := openTest(t)
	var read broker.ReadTx
	var write broker.Tx
	if err := s.View(t.Context(), func(tx broker.ReadTx) error { read = tx; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Update(t.Context(), func(tx broker.Tx) error { write = tx; return nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := read.Node(1); !errors.Is(err, errOver) {
		t.Errorf("view: got %v, want %v", err, errOver)
	}
	if err := write.CreateTenant(&broker.Tenant{Name: "late"}); !errors.Is(err, errOver) {
		t.Errorf("update: got %v, want %v", err, errOver)
	}
}

// A function may overlook an error that leaves a record without its index: its
// writes must not be kept.
func TestUpdate_overlookedFailure(t *testing.T) {
	s := openTest(t)
	long := string(make([]byte, bbolt.MaxKeySize+1))
	err := s.Update(t.Context(), func(tx broker.Tx) error {
		if err := tx.CreateTenant(&broker.Tenant{Name: long}); err == nil {
			t.Error("a name longer than a key may be was accepted")
		}
		return nil
	})
	if err == nil {
		t.Error("the update succeeded")
	}
	wantNames(t, s)
}
