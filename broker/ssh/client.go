package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Defaults of a module that says nothing.
const (
	defaultPort = 22
	defaultUser = "root"
)

// ErrHostKeyChanged is in every error that is about a node which showed another
// host key than its recorded ones.
var ErrHostKeyChanged = errors.New("host key changed")

// Client reaches nodes with the broker's key. It holds no connection between
// calls, and may be used by many goroutines at once.
type Client struct {
	signer ssh.Signer
	log    *slog.Logger

	// connectTimeout bounds one attempt up to the login. Long enough for a guest
	// that boots under emulation, short enough not to sit out one that hangs.
	connectTimeout time.Duration
}

var _ broker.Contextualizer = (*Client)(nil)

// New gives a client that logs in with signer, see [LoadOrCreateKey].
func New(signer ssh.Signer, log *slog.Logger) *Client {
	return &Client{signer: signer, log: log, connectTimeout: 20 * time.Second}
}

// step is how far an attempt got.
type step int

const (
	stepDial step = iota
	stepHandshake
	stepLogin
	stepCommand
)

// attemptError says which step failed, and why.
type attemptError struct {
	step  step
	what  string // "tcp 127.3.2.1:22"
	cause error
	final bool // trying again is no use
}

func (e *attemptError) Error() string { return e.what + ": " + e.cause.Error() }
func (e *attemptError) Unwrap() error { return e.cause }

// connection is one login on a node.
type connection struct {
	*ssh.Client
	shown string // the host key that the node showed, "type base64"
	stop  func() bool
}

func (c *connection) close() {
	c.stop()
	_ = c.Close() // nothing is left to be written
}

// connect logs in on a node. With learn a node without recorded host keys is
// believed whichever it shows. The connection ends with ctx.
func (c *Client) connect(ctx context.Context, n broker.Node, learn bool) (*connection, *attemptError) {
	if n.Address == "" {
		return nil, &attemptError{what: "address", cause: errors.New("the node has none"), final: true}
	}
	known, err := parseHostKeys(n.HostKeys)
	if err != nil {
		return nil, &attemptError{step: stepHandshake, what: "recorded host keys", cause: err, final: true}
	}
	if len(known) == 0 && !learn {
		return nil, &attemptError{
			step: stepHandshake, what: "recorded host keys", final: true,
			cause: errors.New("there are none, so the node can't be told from another"),
		}
	}
	user, port := n.SSHUser, n.SSHPort
	if user == "" {
		user = defaultUser
	}
	if port == 0 {
		port = defaultPort
	}
	address := net.JoinHostPort(n.Address, strconv.Itoa(port))

	attempt, cancel := context.WithTimeoutCause(ctx, c.connectTimeout, fmt.Errorf("no answer within %s", c.connectTimeout))
	defer cancel()
	conn, err := new(net.Dialer).DialContext(attempt, "tcp", address)
	if err != nil {
		return nil, &attemptError{step: stepDial, what: "tcp " + address, cause: plainer(attempt, err)}
	}
	// The handshake knows no context: closing the connection is what ends it.
	stopAttempt := context.AfterFunc(attempt, func() { _ = conn.Close() })
	defer stopAttempt()
	var shown ssh.PublicKey
	var changed error
	inner, channels, requests, err := ssh.NewClientConn(conn, address, &ssh.ClientConfig{
		User:              user,
		Auth:              []ssh.AuthMethod{ssh.PublicKeys(c.signer)},
		ClientVersion:     "SSH-2.0-duffy-broker",
		HostKeyAlgorithms: hostKeyAlgorithms(known),
		HostKeyCallback: func(_ string, _ net.Addr, key ssh.PublicKey) error {
			if len(known) > 0 {
				changed = checkHostKey(key, known)
			}
			shown = key
			return changed
		},
	})
	if err == nil && attempt.Err() != nil {
		err = errors.Join(attempt.Err(), inner.Close())
	}
	if err != nil {
		_ = conn.Close() // useless now
		failure := &attemptError{step: stepHandshake, what: "ssh handshake with " + address, cause: plainer(attempt, err)}
		if shown != nil {
			failure.step, failure.what = stepLogin, "login as "+user
		}
		if changed == nil {
			changed = missingKind(err, known)
		}
		if changed != nil {
			failure.what, failure.cause, failure.final = "host key of "+address, changed, true
		}
		return nil, failure
	}
	return &connection{
		Client: ssh.NewClient(inner, channels, requests),
		shown:  keyLine(shown),
		stop:   context.AfterFunc(ctx, func() { _ = conn.Close() }),
	}, nil
}

// run runs one command, with input on its standard input, and gives what it
// wrote to standard output. A command that failed, or that ctx cut short, is an
// error with the first lines of its standard error.
func (c *connection) run(ctx context.Context, what, command string, input io.Reader) (string, *attemptError) {
	fail := func(err error) *attemptError {
		if ctx.Err() != nil {
			err = errLate
		}
		return &attemptError{step: stepCommand, what: what, cause: err}
	}
	session, err := c.NewSession()
	if err != nil {
		return "", fail(err)
	}
	defer session.Close() //nolint:errcheck // ended by the command's end
	var stdout, stderr firstBytes
	session.Stdin, session.Stdout, session.Stderr = input, &stdout, &stderr
	if err := session.Start(command); err != nil {
		return "", fail(err)
	}
	err = session.Wait()
	if errors.Is(err, io.EOF) {
		// It exited 0 before it had read all of its input. What it said tells
		// whether that is well: the caller looks.
		err = nil
	}
	if exit := (*ssh.ExitError)(nil); errors.As(err, &exit) {
		err = fmt.Errorf("exited %d%s", exit.ExitStatus(), stderr.quoted())
		if exit.Signal() != "" {
			err = fmt.Errorf("was killed by SIG%s%s", exit.Signal(), stderr.quoted())
		}
	}
	if err != nil {
		return "", fail(err)
	}
	return stdout.String(), nil
}

// errLate is the cause of what ctx cut short; [unreachable] adds why ctx ended.
var errLate = errors.New("no answer when time was up")

// plainer takes what the caller knows out of an error of package net or ssh.
func plainer(attempt context.Context, err error) error {
	if cause := context.Cause(attempt); cause != nil {
		if errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, context.Canceled) {
			return errLate // the caller's context, not the attempt's own limit
		}
		return cause
	}
	if op := (*net.OpError)(nil); errors.As(err, &op) {
		return op.Err
	}
	if errors.Is(err, io.EOF) {
		return errors.New("the other side closed the connection")
	}
	if inner := errors.Unwrap(err); inner != nil && strings.HasPrefix(err.Error(), "ssh: handshake failed: ") {
		return inner
	}
	return err
}

// firstBytes keeps the first of what is written to it.
type firstBytes struct{ strings.Builder }

const firstBytesMax = 1000

func (f *firstBytes) Write(p []byte) (int, error) {
	_, _ = f.Builder.Write(p[:min(len(p), firstBytesMax-f.Len())])
	return len(p), nil
}

// quoted gives the first lines for an error, with what could upset a terminal escaped.
func (f *firstBytes) quoted() string {
	text := strings.TrimSpace(f.String())
	if text == "" {
		return ""
	}
	lines := strings.SplitN(text, "\n", 4)
	return ": " + strings.Trim(strconv.Quote(strings.Join(lines[:min(3, len(lines))], "; ")), `"`)
}
