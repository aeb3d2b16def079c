package bolt

import (
	"errors"
	"io/fs"
	"os"

	"go.etcd.io/bbolt"

	"github.com/duffy-broker/duffy-broker/broker"
)

// OpenReadOnly opens the database at path to read it alone: the file is opened
// without the right to write, and Update is an error. Errors are those of [Open],
// and CodeNotFound where there is no file; a broker that runs on the file is
// CodeConflict.
func OpenReadOnly(path string, o Options) (*Store, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, broker.Errorf(broker.CodeNotFound, "there is no database %s", path).WithHint("check the data directory")
	case err == nil && info.Mode().IsRegular() && info.Size() == 0:
		err = errEmpty
	}
	if err != nil {
		return nil, openError(path, err)
	}
	db, file, err := openFile(path, bbolt.Options{Timeout: o.Timeout, ReadOnly: true})
	if err != nil {
		return nil, openError(path, err)
	}
	s := start(db, file, path)
	s.readOnly = true
	if err := errors.Join(s.accept(), s.whole()); err != nil {
		return nil, errors.Join(openError(path, err), s.Close())
	}
	return s, nil
}

// whole refuses a file that lacks what an earlier version did not have.
func (s *Store) whole() error {
	return s.db.View(func(b *bbolt.Tx) error {
		for _, name := range addedBuckets() {
			if b.Bucket([]byte(name)) == nil {
				return broker.Errorf(broker.CodeInvalid, "the database %s was written by an earlier duffy-broker", s.path).
					WithHint("start this one once on it: it completes the file")
			}
		}
		return nil
	})
}

func errReadOnly(path string) error {
	return broker.Errorf(broker.CodeForbidden, "the database %s is open for reading only", path)
}
