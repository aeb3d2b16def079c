package bolt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Schema is the version of the layout that this package reads and writes.
const Schema = 1

// DefaultTimeout is how long [Open] waits for another process to let go of the file.
const DefaultTimeout = time.Second

// Options are the settings of [Open]. The zero value is right for all but tests.
type Options struct {
	// Timeout is how long to wait for the file's lock; 0 means [DefaultTimeout].
	Timeout time.Duration
}

var (
	errEmpty   = errors.New("the file is empty")
	errForeign = errors.New("it holds no schema version")
	errShort   = errors.New("the file is shorter than its content says")
)

// Open opens the database at path, and makes it first when there is no file. It
// changes nothing in a file that it refuses.
//
// Errors, all of which name the path and have a hint: CodeConflict when another
// process holds the file; CodeInvalid when it is not a database of ours, is
// damaged, or is of a newer schema; CodeUnavailable when the system does not let
// us open or make it.
func Open(path string, o Options) (*Store, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if err := create(path); err != nil {
		return nil, openError(path, err)
	}
	db, file, err := openFile(path, bbolt.Options{Timeout: o.Timeout})
	if err != nil {
		return nil, openError(path, err)
	}
	s := start(db, file, path)
	if err := s.accept(); err != nil {
		return nil, errors.Join(openError(path, err), s.Close())
	}
	if err := s.complete(); err != nil {
		return nil, errors.Join(openError(path, err), s.Close())
	}
	return s, nil
}

// complete adds the buckets that an earlier version did not have.
func (s *Store) complete() error {
	missing := false
	err := s.view(context.Background(), func(t *tx) (err error) {
		defer t.guard(&err)
		for _, name := range addedBuckets() {
			missing = missing || t.b.Bucket([]byte(name)) == nil
		}
		return nil
	})
	if err != nil || !missing {
		return err
	}
	return s.update(context.Background(), func(t *tx) (err error) {
		defer t.guard(&err)
		*t.dirty = true
		indexed := t.b.Bucket([]byte(bucketEventsBySession)) != nil
		for _, name := range addedBuckets() {
			if _, err := t.b.CreateBucketIfNotExists([]byte(name)); err != nil {
				return t.fail(err)
			}
		}
		if indexed {
			return nil
		}
		return t.indexEvents()
	})
}

// create makes a database if there is no file. It appears under its name only
// when it is complete, so that a full disk or a crash leaves no half-made file,
// and an empty file is always a sign of loss.
func create(path string) error {
	info, err := os.Stat(path)
	if err == nil {
		if info.Mode().IsRegular() && info.Size() == 0 {
			return errEmpty
		}
		return nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, filepath.Base(path)+".new-*") // mode 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) //nolint:errcheck // linked under its own name by then, or worthless
	if err := f.Close(); err != nil {
		return err
	}
	db, _, err := openFile(f.Name(), bbolt.Options{})
	if err != nil {
		return err
	}
	err = db.Update(func(b *bbolt.Tx) error {
		for _, name := range buckets() {
			if _, err := b.CreateBucket([]byte(name)); err != nil {
				return err
			}
		}
		return b.Bucket([]byte(bucketMeta)).Put([]byte(keySchema), fmt.Append(nil, Schema))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	// Unlike a rename, a link never replaces what another process has made meanwhile.
	if err := os.Link(f.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return syncDir(dir)
}

func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the operator's data directory
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// openFile opens an existing file and turns bbolt's panics into errors.
func openFile(path string, o bbolt.Options) (db *bbolt.DB, file *os.File, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%v", r)
			if file != nil {
				err = errors.Join(err, letGo(file))
			}
		}
	}()
	o.FreelistType = bbolt.FreelistMapType // allocation stays cheap after a large prune
	o.NoStatistics = true
	o.OpenFile = func(name string, flag int, perm os.FileMode) (f *os.File, err error) {
		f, err = os.OpenFile(name, flag&^os.O_CREATE, perm) //nolint:gosec // the operator's choice of file
		file = f
		return f, err
	}
	db, err = bbolt.Open(path, 0o600, &o)
	return db, file, err
}

// letGo closes a file that bbolt can't close any more. The mapping stays, and
// with it the file's lock, unless it is released by name.
func letGo(file *os.File) error {
	return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
}

// accept judges whether the opened file is one that this package may work on.
func (s *Store) accept() error {
	return s.view(context.Background(), func(t *tx) (err error) {
		defer t.guard(&err)
		if err := s.checkSize(t.b); err != nil {
			return err
		}
		if t.b.Bucket([]byte(bucketMeta)) == nil {
			return errForeign
		}
		raw, err := t.get(bucketMeta, []byte(keySchema))
		if err != nil {
			return err
		}
		var schema int
		if err := json.Unmarshal(raw, &schema); err != nil {
			return errForeign
		}
		if schema != Schema {
			return broker.Errorf(broker.CodeInvalid, "the database %s has schema %d, and this duffy-broker knows only %d", s.path, schema, Schema).
				WithHint("start the duffy-broker that wrote it, or restore a backup from before the upgrade; nothing was changed")
		}
		return nil
	})
}

// checkSize finds a file that was cut off: its missing pages would fault.
func (s *Store) checkSize(b *bbolt.Tx) error {
	info, err := os.Stat(s.path)
	if err != nil {
		return err
	}
	if info.Size() < b.Size() {
		return errShort
	}
	return nil
}

// openError says what an operator can do about err.
func openError(path string, err error) error {
	var (
		known  *broker.Error
		onPath *fs.PathError
		onLink *os.LinkError
		system syscall.Errno
	)
	switch {
	case errors.As(err, &known) && known.Code != broker.CodeInternal:
		return err
	case errors.Is(err, bbolterrors.ErrTimeout):
		return broker.Errorf(broker.CodeConflict, "the database %s is in use by another process", path).
			WithHint("stop the other duffy-broker, or give this one a data directory of its own")
	case errors.Is(err, errForeign):
		return broker.Wrap(broker.CodeInvalid, err, "%s is not a database of duffy-broker", path).
			WithHint("check the data directory; nothing was changed")
	case errors.As(err, &onPath), errors.As(err, &onLink), errors.As(err, &system):
		return broker.Wrap(broker.CodeUnavailable, err, "the database %s can't be opened", path).
			WithHint("check that its directory exists, that this user may read and write there, and that the disk is not full")
	}
	if errors.As(err, &known) { // damage met while reading: the cause is enough
		err = known.Err
	}
	return broker.Wrap(broker.CodeInvalid, err, "the database %s is damaged, or is not a database of duffy-broker", path).
		WithHint("keep a copy of the file and restore a backup in its place; nothing was changed")
}
