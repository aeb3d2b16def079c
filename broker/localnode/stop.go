package localnode

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"
)

// stopPatience is how long a server may take to end before it is killed.
const stopPatience = 15 * time.Second

// Stop ends the node dir with every process of its logins, and removes the
// directory. When it returns without an error nothing is left; a node that is not
// there is no error. A directory that holds anything else than a node is refused.
func Stop(ctx context.Context, dir string) error {
	d, err := openDirectory(dir)
	if err != nil {
		return fmt.Errorf("local node: %w", err)
	}
	turn, _, err := d.takeTurn(ctx, false)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = sweep(d) // a server may not have seen yet that its directory went
	case err == nil:
		err = errors.Join(stop(ctx, d), unlock(turn))
	}
	if err != nil {
		return fmt.Errorf("local node %s: %w", d, err)
	}
	return nil
}

func stop(ctx context.Context, dir directory) error {
	entries, err := os.ReadDir(string(dir))
	if err != nil {
		return err
	}
	lock, err := endServer(ctx, dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if !isBare(entries) {
			return errors.New("it is no node: there is no lock file in it. Remove it yourself if it may go")
		}
	case err != nil:
		return err
	default:
		defer unlock(lock) //nolint:errcheck // its file is gone by then
	}
	return errors.Join(sweep(dir), dir.remove())
}

// isBare tells whether a Start that was killed can have left no more than this.
func isBare(entries []fs.DirEntry) bool {
	return len(entries) == 0 || len(entries) == 1 && entries[0].Name() == "home"
}

// endServer ends the server, if there is one, and takes its lock.
func endServer(ctx context.Context, dir directory) (*os.File, error) {
	patience := time.After(stopPatience)
	signal := syscall.SIGTERM
	told := false
	for {
		lock, err := dir.lock(false)
		if !errors.Is(err, errHeld) {
			return lock, err
		}
		if !told {
			if pid, known := serverPID(dir); known {
				told = syscall.Kill(pid, signal) == nil
			}
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("its server has not ended: %w", context.Cause(ctx))
		case <-patience:
			if signal == syscall.SIGKILL {
				return nil, errors.New("its lock is held by a process that can't be killed")
			}
			signal, told, patience = syscall.SIGKILL, false, time.After(stopPatience)
		case <-time.After(pollInterval):
		}
	}
}

// serverPID gives the pid of the server, unless it is not known, or somebody
// else's by now.
func serverPID(dir directory) (int, bool) {
	text, err := dir.read("pid")
	if err != nil {
		return 0, false
	}
	pid, err := strconv.Atoi(text)
	return pid, err == nil && pid > 1 && isServer(pid, dir)
}

// sweep kills what is left of a node.
func sweep(dir directory) error {
	if left := killNode(dir); len(left) > 0 {
		return fmt.Errorf("processes %v can't be killed", left)
	}
	return nil
}
