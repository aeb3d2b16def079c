package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// runKill is how long a command may take to end after it was asked to.
	runKill = 10 * time.Second
	// giveBack bounds giving the session back, which happens whatever came before.
	giveBack = 2 * time.Minute
)

type runOptions struct {
	*clientOptions

	identity string
	local    bool
	wait     time.Duration
	timeout  time.Duration
	keep     time.Duration
}

func newRunCommand(s streams, o *clientOptions) *cobra.Command {
	r := runOptions{clientOptions: o}
	cmd := &cobra.Command{
		Use:   "run pool=NAME,quantity=N ... -- COMMAND",
		Short: "Ask for nodes, run a command on each, and give them back",
		Long: "Ask for nodes, run a command on all of them at once, and give them back whatever happens. Each line of output is preceded by\n" +
			"the node's name. The exit status is that of the first node, in the order asked for, whose command failed; 124 if the time was\n" +
			"over, 130 after Ctrl-C.\n\n" +
			"With --local the command runs here, once. It finds in its environment DUFFY_SESSION, DUFFY_NODES (the host names),\n" +
			"DUFFY_SSH_CONFIG (for ssh -F) and ANSIBLE_INVENTORY, which has a group for each pool.",
		Example: "  duffy-broker client run pool=local-small,quantity=2 -- uname -a\n" +
			"  duffy-broker client run pool=local-small,quantity=1 --local -- ansible-playbook site.yml\n" +
			"  duffy-broker client run pool=local-small,quantity=1 --local -- sh -c 'ssh -F $DUFFY_SSH_CONFIG $DUFFY_NODES make test'",
		RunE: func(cmd *cobra.Command, args []string) error {
			dash := cmd.ArgsLenAtDash()
			if dash < 1 || dash == len(args) {
				return broker.Errorf(broker.CodeInvalid, "run takes pool=NAME,quantity=N ... -- COMMAND").
					WithHint("for example: duffy-broker client run pool=local-small,quantity=1 -- uname -m")
			}
			req, err := sessionCreate(args[:dash])
			if err != nil {
				return err
			}
			return r.run(cmd.Context(), s, req, args[dash:])
		},
	}
	f := cmd.Flags()
	f.StringVarP(&r.identity, "identity", "i", "", "private key `file` (default: the tenant's, from the profile, else what ssh finds by itself)")
	f.BoolVar(&r.local, "local", false, "run the command here, once, with the nodes in its environment")
	f.DurationVar(&r.wait, "wait", 30*time.Minute, "how long to ask again while there are too few nodes; 0 asks once")
	f.DurationVar(&r.timeout, "timeout", 0, "how long the command may take; 0 means as long as the session lasts")
	f.DurationVar(&r.keep, "keep-on-failure", 0, "keep the session for so long if the command fails, to look at its nodes")
	return cmd
}

func (r runOptions) run(ctx context.Context, s streams, req v1.SessionCreate, command []string) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	c, key, err := r.client()
	if err != nil {
		return err
	}
	if r.identity != "" {
		key = r.identity
	}
	answer, err := order{req: req, key: broker.NewUUID(), wait: r.wait, settle: true}.place(ctx, s, c)
	if err != nil {
		if ctx.Err() != nil {
			return exitError{exitInterrupted}
		}
		return err
	}
	session := answer.Value.Session
	var runErr error
	if ctx.Err() == nil {
		runErr = r.withSession(ctx, s, session, key, command)
	} else {
		r.keep = 0 // nothing has run: there is nothing to look at
	}
	if ctx.Err() != nil { // the user has seen why
		runErr = exitError{exitInterrupted}
	}
	endErr := r.end(ctx, s, c, session, runErr)
	if runErr != nil && endErr != nil {
		printError(s.err, endErr) // the exit status is the command's
		return runErr
	}
	return cmp.Or(runErr, endErr)
}

// withSession runs the command for a session.
func (r runOptions) withSession(ctx context.Context, s streams, session v1.Session, key string, command []string) error {
	if r.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.timeout)
		defer cancel()
	}
	config, err := newSSHConfig(session.Nodes, key)
	if err != nil {
		return err
	}
	defer config.remove()
	if r.local {
		var names []string
		for _, n := range session.Nodes {
			names = append(names, sshName(n))
		}
		cmd := stoppable(ctx, command[0], command[1:]...)
		cmd.Env = append(os.Environ(), fmt.Sprintf("DUFFY_SESSION=%d", session.ID), "DUFFY_NODES="+strings.Join(names, " "),
			"DUFFY_SSH_CONFIG="+config.path, "ANSIBLE_INVENTORY="+config.inventory)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.err
		return exitOf(ctx, cmd.Run())
	}
	results := make([]error, len(session.Nodes))
	out, errOut := newLineWriter(s.out), newLineWriter(s.err)
	var nodes sync.WaitGroup
	for i, n := range session.Nodes {
		nodes.Go(func() {
			cmd := stoppable(ctx, config.program, config.args(n, command)...)
			prefix := sshName(n) + " | "
			stdout, stderr := out.prefixed(prefix), errOut.prefixed(prefix)
			cmd.Stdout, cmd.Stderr = stdout, stderr
			results[i] = exitOf(ctx, cmd.Run())
			stdout.flush()
			stderr.flush()
		})
	}
	nodes.Wait()
	for _, err := range results {
		if err != nil {
			return err
		}
	}
	return nil
}

// stoppable is a command that is asked to end when ctx ends, and killed if it
// does not.
func stoppable(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the user's own command
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = runKill
	return cmd
}

// exitOf makes a command's exit status ours.
func exitOf(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return exitError{exitTimeout}
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitError{max(1, exit.ExitCode())}
	}
	if err != nil {
		return broker.Wrap(broker.CodeInvalid, err, "the command can't be run").WithHint("is its program installed here, and on PATH?")
	}
	return nil
}

// end gives the session back, or keeps it for a while after a failure.
func (r runOptions) end(ctx context.Context, s streams, c *client.Client, session v1.Session, runErr error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), giveBack)
	defer cancel()
	inactive := false
	update := v1.SessionUpdate{Active: &inactive}
	if runErr != nil && r.keep > 0 {
		until := time.Now().Add(r.keep).UTC().Format(time.RFC3339)
		update = v1.SessionUpdate{ExpiresAt: &until}
	}
	for {
		answer, err := c.UpdateSession(ctx, session.ID, update)
		if err == nil {
			if update.Active == nil {
				_, _ = fmt.Fprintf(s.err, "duffy-broker: session %d is kept until %s. Look at it: duffy-broker client ssh %d. Give it back: duffy-broker client retire-session %d\n",
					session.ID, answer.Value.Session.ExpiresAt.Format(time.RFC3339), session.ID, session.ID)
			}
			return nil
		}
		if code := broker.CodeOf(err); code != broker.CodeUnavailable || ctx.Err() != nil {
			return broker.Wrap(code, err, "session %d could not be given back", session.ID).
				WithHint("duffy-broker client retire-session %d; it expires by itself at %s", session.ID, session.ExpiresAt.Format(time.RFC3339))
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
		}
	}
}

// lineWriter writes whole lines of several sources to one writer.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func newLineWriter(w io.Writer) *lineWriter { return &lineWriter{w: w} }

func (l *lineWriter) prefixed(prefix string) *prefixWriter {
	return &prefixWriter{prefix: prefix, to: l}
}

// prefixWriter puts a prefix before each line. It is used by one source.
type prefixWriter struct {
	prefix string
	to     *lineWriter
	rest   []byte // the beginning of a line
}

// Write passes on the lines that are complete.
func (p *prefixWriter) Write(b []byte) (int, error) {
	p.rest = append(p.rest, b...)
	end := bytes.LastIndexByte(p.rest, '\n') + 1
	if end == 0 {
		return len(b), nil
	}
	err := p.write(p.rest[:end])
	p.rest = append([]byte(nil), p.rest[end:]...)
	return len(b), err
}

// flush writes what is left of a last line without an end.
func (p *prefixWriter) flush() {
	if len(p.rest) > 0 {
		_ = p.write(append(p.rest, '\n')) // nobody is left to hear of it
		p.rest = nil
	}
}

func (p *prefixWriter) write(lines []byte) error {
	var b bytes.Buffer
	for line := range bytes.Lines(lines) {
		b.WriteString(p.prefix)
		b.Write(line)
	}
	p.to.mu.Lock()
	defer p.to.mu.Unlock()
	_, err := p.to.w.Write(b.Bytes())
	return err
}
