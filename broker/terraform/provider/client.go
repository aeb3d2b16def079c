package provider

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// callTimeout bounds an answer of a host, which is to come at once.
	callTimeout = 10 * time.Second
	// pollInterval is how often one looks whether a new host answers.
	pollInterval = 10 * time.Millisecond
)

// Run is what a host must know of a run of Terraform. The paths are absolute.
type Run struct {
	Output  string `json:"output"`  // locked for as long as the run lasts
	Journal string `json:"journal"` // written by the host: see [ReadJournal]
}

// ErrNoHost says that there is no host that takes the run: it has ended, is about
// to, or takes no more.
var ErrNoHost = errors.New("the provider host takes no more runs")

// Attach asks the host of a directory to serve a run, whose output must be locked
// already. It gives the value of TF_REATTACH_PROVIDERS for the run's Terraform.
func Attach(ctx context.Context, dir string, run Run) (reattach string, err error) {
	text, err := call(ctx, dir, "attach", run)
	return strings.TrimSpace(string(text)), err
}

// Stop ends the host of a directory if it has no run, and waits for its end.
// A host that has runs goes on. One that has ended already is no error.
func Stop(ctx context.Context, dir string) error {
	if _, err := call(ctx, dir, "stop", nil); err != nil {
		if errors.Is(err, ErrNoHost) {
			return nil
		}
		return err
	}
	for {
		alive, err := Alive(dir)
		if !alive || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// Alive tells whether a directory has a host process that is not over.
func Alive(dir string) (bool, error) { return Locked(Log(dir)) }

// Log gives the path of a host's log.
func Log(dir string) string { return ownPath(dir, logName) }

// Options say how [Start] starts a host.
type Options struct {
	// Dir has links to all of an initialised module, and is the host's own.
	Dir string
	// Executable is a program that calls [Serve] with DIR when it is given the
	// arguments provider-host DIR.
	Executable string
	Env        []string // of host and providers
	Limits     Limits
}

// Start starts a host, detached from this process, and returns at once. The
// caller waits for the process, and for [Attach] to succeed.
func Start(ctx context.Context, o Options) (*exec.Cmd, error) {
	limits, err := json.Marshal(o.Limits.orDefault())
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(ownPath(o.Dir, limitsName), limits, 0o600); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(Log(o.Dir), os.O_CREATE|os.O_EXCL|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	// Taken before the process exists, and inherited with the file: so there is no
	// moment at which a host that begins looks like one that is over.
	if err := flock(log, syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), o.Executable, "provider-host", o.Dir) //nolint:gosec // this program
	cmd.Dir, cmd.Env = o.Dir, o.Env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	return cmd, cmd.Start()
}

// AttachFirst is [Attach] to a host that has just been started: it waits until
// the host answers or is over.
func AttachFirst(ctx context.Context, dir string, run Run) (reattach string, err error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout+callTimeout)
	defer cancel()
	for {
		alive, err := Alive(dir)
		if err != nil {
			return "", err
		}
		reattach, attachErr := Attach(ctx, dir, run)
		if attachErr == nil || !errors.Is(attachErr, ErrNoHost) {
			return reattach, attachErr
		}
		if !alive {
			text, _ := os.ReadFile(Log(dir))
			return "", fmt.Errorf("the provider host ended at once: %s", bytes.TrimSpace(text))
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(pollInterval):
		}
	}
}

// call posts a request to a host's control socket. [ErrNoHost] if nobody listens
// there or it is refused.
func call(ctx context.Context, dir, path string, body any) ([]byte, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://host/"+path, bytes.NewReader(text))
	if err != nil {
		return nil, err
	}
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", ownPath(dir, controlName))
		},
	}}
	resp, err := client.Do(req)
	if err != nil {
		if opErr, ok := errors.AsType[*net.OpError](err); ok && opErr.Op == "dial" && ctx.Err() == nil {
			return nil, fmt.Errorf("%w: %w", ErrNoHost, err)
		}
		return nil, fmt.Errorf("provider host in %s: %w", dir, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return nil, fmt.Errorf("provider host in %s: %w", dir, err)
	case resp.StatusCode == http.StatusConflict:
		return nil, ErrNoHost
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("provider host in %s: %s", dir, bytes.TrimSpace(answer))
	}
	return answer, nil
}
