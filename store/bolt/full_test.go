//go:build unix

package bolt

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

// limitFiles lets no file of this process grow beyond size, as a full disk does,
// until the returned function is called.
func limitFiles(t *testing.T, size int64) (lift func()) {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	limit := old
	limit.Cur = uint64(size)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		t.Fatal(err)
	}
	lift = func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(lift)
	return lift
}

func TestUpdate_fullDisk(t *testing.T) {
	s := openTest(t)
	info, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	big := func(name string) func(*tx) error {
		return func(t *tx) error { return t.CreateTenant(&broker.Tenant{Name: name, KeyHash: make([]byte, 50_000)}) }
	}
	if err := s.update(t.Context(), createTenant("before")); err != nil {
		t.Fatal(err)
	}
	lift := limitFiles(t, info.Size())
	a, b := &member{fn: big("a")}, &member{fn: big("b")}
	serveGroup(t, s, a, b)
	for _, m := range []*member{a, b} {
		if broker.CodeOf(m.err) != broker.CodeUnavailable || broker.HintOf(m.err) == "" {
			t.Errorf("got %v with code %q, want %q and a hint", m.err, broker.CodeOf(m.err), broker.CodeUnavailable)
		}
	}
	wantNames(t, s, "before")
	if err := s.update(t.Context(), createTenant("small")); err != nil {
		t.Errorf("what still fits: %v", err)
	}
	lift()
	for i := range 3 {
		if err := s.update(t.Context(), big(fmt.Sprint("after ", i))); err != nil {
			t.Errorf("after the disk was enlarged: %v", err)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	wantNames(t, reopenTest(t, s.path), "before", "small", "after 0", "after 1", "after 2")
}

// A database that could not be made leaves nothing that the next start stumbles over.
func TestOpen_fullDisk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	lift := limitFiles(t, 5000)
	_, err := Open(path, Options{})
	lift()
	wantRefusal(t, err, broker.CodeUnavailable, path, "can't be opened")
	if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 0 {
		t.Errorf("got %v, want nothing", entries)
	}
	reopenTest(t, path)
}
