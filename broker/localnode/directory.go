package localnode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// directory is the path of a node's directory; doc.go lists what is in it.
type directory string

// openDirectory gives the path in the one spelling that every process of the
// node carries: with the symbolic links above it followed, where they exist.
func openDirectory(dir string) (directory, error) {
	if err := checkDir(dir); err != nil {
		return "", err
	}
	dir = filepath.Clean(dir)
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		real, err := filepath.EvalSymlinks(parent)
		if err == nil {
			rest, err := filepath.Rel(parent, dir)
			if err != nil {
				return "", err
			}
			real = filepath.Join(real, rest)
			return directory(real), checkDir(real)
		}
		if parent == filepath.Dir(parent) {
			return directory(dir), nil
		}
	}
}

func (d directory) path(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

func (d directory) authorizedKeys() string { return d.path("home", ".ssh", "authorized_keys") }

// write replaces a file at once: a reader sees the old or the new one.
func (d directory) write(name string, text []byte, mode fs.FileMode) error {
	path := d.path(name)
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	err = errors.Join(err, temp.Chmod(mode), temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}

// read gives a one-line file without its end of line.
func (d directory) read(name string) (string, error) {
	text, err := os.ReadFile(d.path(name))
	return strings.TrimSpace(string(text)), err
}

// errHeld says that a server of this directory lives.
var errHeld = errors.New("another process holds the lock of this node")

// lock takes the lock that a server holds for its life, or gives [errHeld]. The
// kernel frees it when the process ends, however it ends. With create the lock
// file is made if it is missing.
func (d directory) lock(create bool) (*os.File, error) {
	flags := os.O_RDWR
	if create {
		flags |= os.O_CREATE
	}
	for {
		file, err := os.OpenFile(d.path("lock"), flags, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK):
			return nil, errors.Join(errHeld, file.Close())
		case err != nil:
			return nil, errors.Join(err, file.Close())
		case d.owns(file):
			return file, nil
		}
		// It was removed between open and flock: look again.
		if err := file.Close(); err != nil {
			return nil, err
		}
	}
}

// unlock frees a lock at once. Closing alone would not, while another goroutine
// forks: for a moment its child has the file open too.
func unlock(file *os.File) error {
	return errors.Join(syscall.Flock(int(file.Fd()), syscall.LOCK_UN), file.Close())
}

// owns tells whether lock is still the directory's lock file: no more when the
// directory was removed, or made anew for another server.
func (d directory) owns(lock *os.File) bool { return isFile(lock, d.path("lock")) }

// takeTurn makes Starts and Stops of one node go one after the other, until the
// file is closed. With create it makes the directory if it is missing, and tells
// whether it did.
func (d directory) takeTurn(ctx context.Context, create bool) (*os.File, bool, error) {
	isNew := false
	for {
		if create {
			if err := os.MkdirAll(filepath.Dir(string(d)), 0o700); err != nil {
				return nil, false, err
			}
			err := os.Mkdir(string(d), 0o700)
			if err != nil && !errors.Is(err, fs.ErrExist) {
				return nil, false, err
			}
			isNew = isNew || err == nil
		}
		file, err := os.Open(string(d))
		if err != nil {
			return nil, false, err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil && isFile(file, string(d)) {
			return file, isNew, nil
		}
		if err := file.Close(); err != nil {
			return nil, false, err
		}
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, false, err
		}
		if !pause(ctx, pollInterval) {
			return nil, false, fmt.Errorf("another start or stop is at work: %w", context.Cause(ctx))
		}
	}
}

// isFile tells whether path still leads to the open file.
func isFile(file *os.File, path string) bool {
	mine, err := file.Stat()
	if err != nil {
		return false
	}
	now, err := os.Stat(path)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR)
	}
	return os.SameFile(mine, now)
}

// remove deletes the directory. Tenants leave directories behind that may not be
// written, as every Go module cache is; those are opened first.
func (d directory) remove() error {
	if os.RemoveAll(string(d)) == nil {
		return nil
	}
	_ = filepath.WalkDir(string(d), func(path string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = os.Chmod(path, 0o700) //nolint:gosec // the walk reads it next; RemoveAll reports what stays closed
		}
		return nil
	})
	return os.RemoveAll(string(d))
}
