package localnode

import (
	"errors"
	"os/exec"
	"sync"
	"syscall"
)

// children are the processes that a server started, each the leader of a session
// and process group of its own.
type children struct {
	mu    sync.Mutex
	pids  map[int]bool
	ended bool
}

var errEnding = errors.New("the node is ending")

// start starts cmd in a session of its own, with the terminal on its standard
// input as the session's if terminal is set. It refuses after kill.
func (c *children) start(cmd *exec.Cmd, terminal bool) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: terminal}
	dieWithParent(cmd.SysProcAttr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return errEnding
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if c.pids == nil {
		c.pids = map[int]bool{}
	}
	c.pids[cmd.Process.Pid] = true
	return nil
}

// wait waits for what start started.
func (c *children) wait(cmd *exec.Cmd) error {
	err := cmd.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pids, cmd.Process.Pid)
	return err
}

// kill kills the process groups of all children, and lets no more start.
func (c *children) kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	for pid := range c.pids {
		_ = syscall.Kill(-pid, syscall.SIGKILL) // gone already is fine
	}
}

// reap collects orphans that have ended: those that this process adopted, and so
// none of those that somebody waits for.
func (c *children) reap() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, pid := range childrenOfSelf() {
		if !c.pids[pid] {
			var status syscall.WaitStatus
			_, _ = syscall.Wait4(pid, &status, syscall.WNOHANG, nil) // it may live
		}
	}
}
