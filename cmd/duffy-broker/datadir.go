package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	self holder
}

// holder is what a broker writes about itself into the lock file.
type holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
	URL   string    `json:"url,omitempty"` // where it serves the API, once it does
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
			WithHint("choose another one with --data-dir, or mend its parent's permissions")
	}
	lock, err := os.OpenFile(filepath.Join(path, "broker.lock"), os.O_RDWR|os.O_CREATE, 0o600) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, broker.Wrap(broker.CodeInternal, err, "the data directory %s can't be written", path).
			WithHint("choose another one with --data-dir, or mend its permissions")
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer func() { _ = lock.Close() }()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, broker.Wrap(broker.CodeInternal, err, "the data directory %s can't be locked", path)
		}
		h, err := readHolder(lock)
		if err != nil {
			return nil, broker.Errorf(broker.CodeConflict, "another broker is using the data directory %s", path).
				WithHint("stop it first, or choose another directory with --data-dir")
		}
		return nil, broker.Errorf(broker.CodeConflict, "the data directory %s is held by the broker with process id %d on %s, since %s",
			path, h.PID, h.Host, h.Since.Format(time.RFC3339)).
			WithHint("stop that one first (kill %d), or choose another directory with --data-dir", h.PID)
	}
	host, _ := os.Hostname()
	d := &dataDir{path: path, lock: lock, self: holder{PID: os.Getpid(), Host: host, Since: now}}
	if err := d.writeHolder(); err != nil { // a full disk, most likely: the lock itself holds all the same
		_ = lock.Close()
		return nil, broker.Wrap(broker.CodeInternal, err, "the data directory %s can't be written", path).
			WithHint("free some disk space, or choose another directory with --data-dir")
	}
	return d, nil
}

// readHolder reads who holds a data directory from its lock file.
func readHolder(lock io.Reader) (h holder, err error) {
	err = json.NewDecoder(lock).Decode(&h)
	return h, err
}

// holderOf tells who holds a data directory, as far as that is written down.
func holderOf(path string) (h holder) {
	f, err := os.Open(filepath.Join(path, "broker.lock")) //nolint:gosec // the operator names the directory
	if err != nil {
		return h
	}
	defer func() { _ = f.Close() }()
	h, _ = readHolder(f)
	return h
}

func (d *dataDir) writeHolder() error {
	text, err := json.Marshal(d.self)
	if err != nil {
		return err
	}
	if err := d.lock.Truncate(0); err != nil {
		return err
	}
	_, err = d.lock.WriteAt(append(text, '\n'), 0)
	return err
}

// serves writes down where the holder serves the API, for commands that find the
// directory taken.
func (d *dataDir) serves(url string) error {
	d.self.URL = url
	return fmtErr("write down where the API is served", d.writeHolder())
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
