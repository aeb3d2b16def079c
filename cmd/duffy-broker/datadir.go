package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/duffy-broker/duffy-broker/broker"
)

// dataDir is the directory that one broker has to itself.
type dataDir struct {
	path string
	lock *os.File
}

// holder is what a broker writes about itself into the lock file.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// openDataDir makes the directory, private, and takes it for this process. A
// second broker on the same directory gets an error that says who holds it. The
// lock goes with the process, however it ends.
func openDataDir(path string, now time.Time) (*dataDir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, broker.Wrap(broker.CodeInternal, err, "the data directory %s can't be made", path).
			WithHint("choose another one with --data, or mend its parent's permissions")
	}
	lock, err := os.OpenFile(filepath.Join(path, "broker.lock"), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, broker.Wrap(broker.CodeInternal, err, "the data directory %s can't be written", path).
			WithHint("choose another one with --data, or mend its permissions")
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = lock.Close() }()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, broker.Wrap(broker.CodeInternal, err, "the data directory %s can't be locked", path)
		}
		var h holder
		if err := json.NewDecoder(lock).Decode(&h); err != nil {
			return nil, broker.Errorf(broker.CodeConflict, "another broker is using the data directory %s", path).
				WithHint("stop it first, or choose another directory with --data")
		}
		return nil, broker.Errorf(broker.CodeConflict, "the data directory %s is held by the broker with process id %d on %s, since %s",
			path, h.PID, h.Host, h.Since.Format(time.RFC3339)).
			WithHint("stop that one first (kill %d), or choose another directory with --data", h.PID)
	}
	host, _ := os.Hostname()
	text, err := json.Marshal(holder{PID: os.Getpid(), Host: host, Since: now})
	if err == nil {
		err = lock.Truncate(0)
	}
	if err == nil {
		_, err = lock.WriteAt(append(text, '\n'), 0)
	}
	if err != nil { // a full disk, most likely: the lock itself holds all the same
		_ = lock.Close()
		return nil, broker.Wrap(broker.CodeInternal, err, "the data directory %s can't be written", path).
			WithHint("free some disk space, or choose another directory with --data")
	}
	return &dataDir{path: path, lock: lock}, nil
}

// checkKeys refuses a database whose keys are missing: new ones would be of no
// use for what is in it, and would stand in the way of the right ones. The keys
// are made first, so an interrupted first start is no such case.
func (d *dataDir) checkKeys() error {
	if _, err := os.Stat(d.join("broker.db")); err != nil {
		return nil //nolint:nilerr // a first start, or one that fails later with a better message
	}
	if _, err := os.Stat(d.join("keys", "root.key")); errors.Is(err, os.ErrNotExist) {
		return broker.Errorf(broker.CodeConflict, "%s is there, but %s is not: without its key the database is of no use", d.join("broker.db"), d.join("keys", "root.key")).
			WithHint("put back the keys directory from the backup that belongs to the database, or name the key's file with --key-file")
	}
	return nil
}

func (d *dataDir) join(elem ...string) string {
	return filepath.Join(append([]string{d.path}, elem...)...)
}

// Close gives the directory up.
func (d *dataDir) Close() error {
	return fmtErr("give up the data directory", d.lock.Close())
}

func fmtErr(doing string, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return nil
}
