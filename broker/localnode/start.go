package localnode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTimeout bounds how long a server may take until it listens.
const startTimeout = 30 * time.Second

// pollInterval is the pause between two looks at something that has no event.
const pollInterval = 5 * time.Millisecond

// Start makes the node o.Dir, detached from this process, and returns when it
// listens (with Options.BootDelay: when its address is recorded). Then the files
// address, port, user, pid and host_key.pub are in the directory.
//
// If the node runs already, nothing happens and the other options are ignored.
// What a crash left of it is started again, on the same address if that is still
// free, with the same host key and home. After an error, or if this process dies
// meanwhile, no process is left, nor any file that this call made.
func Start(ctx context.Context, o Options) error {
	if err := o.check(); err != nil {
		return fmt.Errorf("local node: %w", err)
	}
	dir, err := openDirectory(o.Dir)
	if err != nil {
		return fmt.Errorf("local node: %w", err)
	}
	o.Dir = string(dir)
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("no answer from its server within %s", startTimeout))
	defer cancel()

	turn, isNew, err := dir.takeTurn(ctx, true)
	if err != nil {
		return fmt.Errorf("local node %s: %w", dir, err)
	}
	defer unlock(turn) //nolint:errcheck // closing frees it in any case
	if err := start(ctx, o, dir); err != nil {
		if isNew {
			cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTimeout)
			defer cancel()
			err = errors.Join(err, stop(cleanup, dir))
		}
		return fmt.Errorf("local node %s: %w", dir, err)
	}
	return nil
}

func start(ctx context.Context, o Options, dir directory) error {
	lock, err := dir.lock(true)
	for errors.Is(err, errHeld) {
		// A server writes its pid once it is there to stay. One that does not
		// was left by a Start that died, and frees the lock soon; so does one
		// that is being killed.
		if _, known := serverPID(dir); known {
			return nil
		}
		if !pause(ctx, pollInterval) {
			return context.Cause(ctx)
		}
		lock, err = dir.lock(true)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(clear(o, dir), unlock(lock)); err != nil {
		return err
	}
	return launch(ctx, o, dir)
}

// clear makes the directory ready for a server. An earlier one may have died and
// left its pid and its logins.
func clear(o Options, dir directory) error {
	if err := os.Remove(dir.path("pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := sweep(dir); err != nil {
		return err
	}
	text, err := o.encode()
	if err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(dir.path("home"), 0o700), dir.write("options.json", text, 0o600))
}

// launch starts the server and waits for its word.
func launch(ctx context.Context, o Options, dir directory) error {
	log, err := os.OpenFile(dir.path("log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close() //nolint:errcheck // the server writes it
	hear, to, err := os.Pipe()
	if err != nil {
		return err
	}
	from, agree, err := os.Pipe()
	if err != nil {
		return errors.Join(err, hear.Close(), to.Close())
	}
	defer hear.Close()  //nolint:errcheck // only read
	defer agree.Close() //nolint:errcheck // closed unused, it tells the server to end

	cmd := exec.Command(o.Executable, "local-node", "serve", "--dir", string(dir)) //nolint:noctx,gosec // it outlives ctx; our own binary
	cmd.Dir = dir.path("home")
	cmd.Env = serverEnviron(dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{to, from}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	err = cmd.Start()
	if err = errors.Join(err, to.Close(), from.Close()); err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = hear.Close() })
	defer stop()
	if err = negotiate(hear, agree, dir); err == nil {
		return cmd.Process.Release()
	}
	if ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	_ = agree.Close()
	_ = syscall.Kill(cmd.Process.Pid, syscall.SIGTERM) // a child of ours until Wait, so the number is its own
	kill := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	_ = cmd.Wait() // what went wrong is known
	return err
}

// negotiate hears that the server is ready, agrees to it, and waits until it has
// taken note of that.
func negotiate(hear io.Reader, agree io.Writer, dir directory) error {
	lines := bufio.NewScanner(hear)
	for _, want := range []string{saidReady, saidStays} {
		lines.Scan()
		word, err := strconv.Unquote(lines.Text())
		switch {
		case err != nil:
			return fmt.Errorf("its server ended without a word; its log ends %q", tail(dir.path("log")))
		case word != want:
			return errors.New(word)
		}
		if word == saidReady {
			if _, err := agree.Write([]byte{1}); err != nil {
				return err
			}
		}
	}
	return nil
}

// serverEnviron keeps the caller's secrets from a server that outlives it. The
// runtime is told to stay small: a node idles nearly all of its life.
func serverEnviron(dir directory) []string {
	env := []string{nodeDirVariable + "=" + string(dir), starterVariable + "=1", "GOGC=25", "GOMAXPROCS=2"}
	for _, name := range []string{"HOME", "USER", "LOGNAME", "SHELL", "PATH", "LANG", "TZ", "TMPDIR", "GOCOVERDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

// tail gives the end of a log for an error.
func tail(path string) string {
	text, _ := os.ReadFile(path) //nolint:gosec // the node's log
	return strings.TrimSpace(string(text[max(0, len(text)-500):]))
}
