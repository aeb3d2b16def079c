package bolt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.etcd.io/bbolt"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestOpen_mode(t *testing.T) {
	s := openTest(t)
	info, err := os.Stat(s.path)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != 0o600 {
		t.Errorf("the file has mode %o, want 600", got)
	}
	entries, err := os.ReadDir(filepath.Dir(s.path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("got %d files, want the database only: %v", len(entries), entries)
	}
}

func TestOpen_inUse(t *testing.T) {
	s := openTest(t)
	other, err := Open(s.path, Options{Timeout: 100 * time.Millisecond})
	if err == nil {
		_ = other.Close()
	}
	wantRefusal(t, err, broker.CodeConflict, s.path, "in use by another process")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	reopenTest(t, s.path)
}

// wantRefusal demands an error that an operator can work with.
func wantRefusal(t *testing.T, err error, code broker.Code, path, text string) {
	t.Helper()
	if broker.CodeOf(err) != code || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), text) || broker.HintOf(err) == "" {
		t.Errorf("got error %v with code %q and hint %q, want code %q, the path, %q, and a hint", err, broker.CodeOf(err), broker.HintOf(err), code, text)
	}
}

// filled gives the path of a closed database of some size, and its content.
func filled(t *testing.T) (path string, content []byte) {
	t.Helper()
	s := openTest(t)
	err := s.Update(t.Context(), func(tx broker.Tx) error {
		for i := range 60 {
			n := broker.Node{UID: broker.NewUID(), Pool: "a", State: broker.NodeReady, Failure: strings.Repeat("x", 300)}
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
			if err := tx.SetNodeTerraform(n.UID, make([]byte, i*100)); err != nil {
				return err
			}
			if err := tx.AppendEvent(&broker.Event{NodeID: n.ID, At: time.Unix(int64(i), 0)}); err != nil {
				return err
			}
			if err := tx.CreateSession(&broker.Session{TenantID: int64(i), State: broker.SessionActive}); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	content, err = os.ReadFile(s.path)
	if err != nil {
		t.Fatal(err)
	}
	return s.path, content
}

func TestOpen_refusals(t *testing.T) {
	_, good := filled(t)
	page := os.Getpagesize()
	for _, tt := range []struct {
		name string
		make func(t *testing.T, path string)
		code broker.Code
		text string
	}{
		{"empty", write(nil), broker.CodeInvalid, "is damaged"},
		{"text", write([]byte("pools {}\n")), broker.CodeInvalid, "is damaged"},
		{"long text", write(bytes.Repeat([]byte("pools {}\n"), 10_000)), broker.CodeInvalid, "is damaged"},
		{"zeros", write(make([]byte, 16*page)), broker.CodeInvalid, "is damaged"},
		{"cut to a page", write(good[:page]), broker.CodeInvalid, "is damaged"},
		{"cut in half", write(good[:len(good)/2]), broker.CodeInvalid, "is damaged"},
		{"no meta pages", write(append(make([]byte, 2*page), good[2*page:]...)), broker.CodeInvalid, "is damaged"},
		{"meta pages only", write(append(good[:2*page:2*page], make([]byte, len(good)-2*page)...)), broker.CodeInvalid, "is damaged"},
		{"somebody else's", foreign(nil), broker.CodeInvalid, "is not a database of duffy-broker"},
		{"somebody else's meta", foreign(func(b *bbolt.Bucket) error { return b.Put([]byte("version"), []byte("1")) }), broker.CodeInvalid, "is not a database of duffy-broker"},
		{"newer schema", foreign(func(b *bbolt.Bucket) error { return b.Put([]byte(keySchema), fmt.Append(nil, Schema+1)) }), broker.CodeInvalid, "has schema 2"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, broker.CodeUnavailable, "can't be opened"},
		{"a link to nothing", func(t *testing.T, path string) {
			if err := os.Symlink(filepath.Join(filepath.Dir(path), "nothing"), path); err != nil {
				t.Fatal(err)
			}
		}, broker.CodeUnavailable, "can't be opened"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "db")
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			for range 2 { // the second time shows that the first let go of the lock
				s, err := Open(path, Options{Timeout: 100 * time.Millisecond})
				if err == nil {
					_ = s.Close()
				}
				wantRefusal(t, err, tt.code, path, tt.text)
			}
			after, _ := os.ReadFile(path)
			if !bytes.Equal(before, after) {
				t.Error("the refused file was changed")
			}
			if entries, _ := os.ReadDir(filepath.Dir(path)); len(entries) != 1 {
				t.Errorf("got %v, want the refused file only", entries)
			}
		})
	}
}

func write(content []byte) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// foreign makes a sound bbolt file, with a bucket "meta" if fill is given.
func foreign(fill func(meta *bbolt.Bucket) error) func(*testing.T, string) {
	return func(t *testing.T, path string) {
		t.Helper()
		db, err := bbolt.Open(path, 0o600, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = db.Update(func(tx *bbolt.Tx) error {
			if fill == nil {
				_, err := tx.CreateBucket([]byte("other"))
				return err
			}
			b, err := tx.CreateBucket([]byte(bucketMeta))
			return errors.Join(err, fill(b))
		})
		if err := errors.Join(err, db.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpen_noDirectory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "missing", "db")
	_, err := Open(path, Options{})
	wantRefusal(t, err, broker.CodeUnavailable, path, "can't be opened")
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want the cause to be %v", err, fs.ErrNotExist)
	}
}

func TestOpen_forbidden(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root may read everything: nothing to test")
		return
	}
	path, _ := filled(t)
	if err := os.Chmod(path, 0); err != nil {
		t.Fatal(err)
	}
	_, err := Open(path, Options{})
	wantRefusal(t, err, broker.CodeUnavailable, path, "can't be opened")
}

// Whatever page is damaged and how: no panic, no hang, and no error that a client
// could take for its own fault.
func TestDamage(t *testing.T) {
	path, good := filled(t)
	page := os.Getpagesize()
	random := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, page)
	for i := range noise {
		noise[i] = byte(random.Uint32())
	}
	shifted := bytes.Clone(good[3*page : 4*page])
	refused, unsound := 0, 0
	for kind, junk := range map[string][]byte{"zeros": make([]byte, page), "ones": bytes.Repeat([]byte{255}, page), "noise": noise, "another page": shifted} {
		for at := 0; at+page <= len(good); at += page {
			name := fmt.Sprintf("%s in page %d", kind, at/page)
			content := bytes.Clone(good)
			copy(content[at:], junk)
			write(content)(t, path)
			s, err := Open(path, Options{})
			if err != nil {
				wantRefusal(t, err, broker.CodeInvalid, path, "")
				refused++
				continue
			}
			found := s.Check(t.Context())
			if found != nil {
				unsound++
			}
			for call, err := range map[string]error{"view": s.view(t.Context(), readAllOf), "update": s.update(t.Context(), func(t *tx) error {
				if err := readAllOf(t); err != nil {
					return err
				}
				return t.AppendEvent(&broker.Event{})
			})} {
				if err == nil {
					continue
				}
				if broker.CodeOf(err) != broker.CodeInternal || !strings.Contains(err.Error(), path) {
					t.Errorf("%s, %s: got %v", name, call, err)
				}
				if found == nil {
					t.Errorf("%s, %s: got %v, and the check found nothing", name, call, err)
				}
			}
			if err := s.Close(); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		}
	}
	t.Logf("of %d damaged files %d were refused, and %d found unsound", 4*len(good)/page, refused, unsound)
	if refused == 0 || unsound == 0 {
		t.Errorf("%d files were refused, and %d found unsound: want some of both", refused, unsound)
	}
}

func readAllOf(t *tx) error {
	var errs []error
	_, err := t.Nodes(broker.NodeQuery{})
	errs = append(errs, err)
	_, err = t.Nodes(broker.NodeQuery{Pool: "a"})
	errs = append(errs, err)
	_, err = t.CountNodes("a")
	errs = append(errs, err)
	_, err = t.Sessions(broker.SessionQuery{States: []broker.SessionState{broker.SessionActive}})
	errs = append(errs, err)
	_, err = t.Events(0, 1000)
	return errors.Join(append(errs, err)...)
}

// The file is cut off while it is open: reading what is missing faults.
func TestDamage_whileOpen(t *testing.T) {
	path, content := filled(t)
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, int64(4*os.Getpagesize())); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{
		"view":   s.view(t.Context(), readAllOf),
		"update": s.update(t.Context(), readAllOf),
		"write":  s.update(t.Context(), createTenant("a")),
		"check":  s.Check(context.Background()),
	} {
		if broker.CodeOf(err) != broker.CodeInternal || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: got %v, want that the database is damaged", name, err)
		}
	}
	write(content)(t, path) // or closing faults, too
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// A database of an earlier version lacks some buckets: they come when it is opened.
func TestOpenAddsBuckets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.db")
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.db.Update(func(b *bbolt.Tx) error { return b.DeleteBucket([]byte(bucketRuns)) })
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(path, Options{}); err != nil {
		t.Fatal(err)
	}
	err = s.Update(t.Context(), func(tx broker.Tx) error { return tx.AddRun(&broker.Run{NodeID: 1}) })
	if err := errors.Join(err, s.Check(t.Context()), s.Close()); err != nil {
		t.Error(err)
	}
}

// What every version had is not made again as if nothing had been lost.
func TestOpenAddsNothingThatWasLost(t *testing.T) {
	path, _ := filled(t)
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(b *bbolt.Tx) error {
		return errors.Join(b.DeleteBucket([]byte(bucketNodes)), b.DeleteBucket([]byte(bucketRuns)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path, Options{})
	if err == nil {
		err = errors.Join(s.Check(t.Context()), s.Close())
	}
	if err == nil || !strings.Contains(err.Error(), "it has no bucket "+bucketNodes) {
		t.Errorf("got %v, want that the bucket %s is missing", err, bucketNodes)
	}
}
