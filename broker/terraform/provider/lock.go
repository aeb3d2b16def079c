package provider

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// flock takes or gives back a lock on an open file, and waits for it unless how
// says otherwise.
func flock(f *os.File, how int) error {
	for {
		err := syscall.Flock(int(f.Fd()), how)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

// Locked tells whether somebody holds the lock on a file. Nobody does on one that
// is not there.
func Locked(path string) (bool, error) {
	f, err := os.Open(path) //nolint:gosec // a file of ours
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }() // gives the lock back, if we got it
	err = flock(f, syscall.LOCK_SH|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}
