package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

const (
	// runRetry is the pause before nodes are asked for again.
	runRetry = 5 * time.Second
	// lostRetry is the pause after an answer was lost, and lostWait how long it is
	// asked for: time for a broker to start again.
	lostRetry, lostWait = time.Second, time.Minute
)

// order is a request for nodes that may be repeated without getting more of them.
type order struct {
	req    v1.SessionCreate
	key    string        // the same for each repetition
	wait   time.Duration // how long to ask again while there are too few nodes
	settle bool          // when interrupted, wait for the answer, since nobody else knows the key
}

// place asks for nodes, again and again while there are too few or while the
// answer is lost. A session that settle waited for is given although ctx has ended.
func (o order) place(ctx context.Context, s streams, c *client.Client) (client.Answer[v1.SessionAnswer], error) {
	deadline := time.Now().Add(o.wait)
	told, lost := false, false
	for {
		answer, err := o.ask(ctx, s, c)
		if err == nil {
			return answer, nil
		}
		pause := runRetry
		if errors.Is(err, client.ErrAnswerLost) && !lost {
			lost = true
			if until := time.Now().Add(lostWait); until.After(deadline) {
				deadline = until
			}
		}
		code := broker.CodeOf(err)
		again := code == broker.CodeCapacity && o.wait > 0 || code == broker.CodeUnavailable && (o.wait > 0 || lost)
		if lost && code == broker.CodeUnavailable {
			pause = lostRetry
		}
		if lost && ctx.Err() != nil || errors.Is(err, context.Canceled) && o.settle {
			_, _ = fmt.Fprintln(s.err, "duffy-broker: a session may have been made, which nobody gives back: look at duffy-broker client list-sessions")
		}
		if !again || ctx.Err() != nil || time.Now().Add(pause).After(deadline) {
			return answer, err
		}
		if !told {
			_, _ = fmt.Fprintf(s.err, "duffy-broker: %v; asking again for %s\n", err, time.Until(deadline).Round(time.Second))
			told = true
		}
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(pause):
		}
	}
}

// ask asks once.
func (o order) ask(ctx context.Context, s streams, c *client.Client) (client.Answer[v1.SessionAnswer], error) {
	if !o.settle {
		return c.RequestSession(ctx, o.req, o.key)
	}
	// The broker goes on with a request that has a key. Going away would leave a
	// session that nobody gives back.
	asking, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	interrupted := context.AfterFunc(ctx, func() {
		_, _ = fmt.Fprintln(s.err, "duffy-broker: interrupted; waiting for the nodes, to give them back")
		select {
		case <-asking.Done():
		case <-time.After(giveBack):
			cancel()
		}
	})
	defer interrupted()
	return c.RequestSession(asking, o.req, o.key)
}

func newRequestSessionCommand(s streams, o *clientOptions) *cobra.Command {
	var key string
	cmd := &cobra.Command{
		Use:   "request-session pool=NAME,quantity=N ...",
		Short: "Ask for nodes, all of them or none",
		Long: "Ask for nodes, all of them or none. If the connection breaks or the broker restarts, the command asks again for a minute, and\n" +
			"gets the session that was made for it. Ctrl-C gives the nodes back.\n\n" +
			"With --idempotency-key the command itself can be repeated: for 24 hours the same key and nodes give the same session. Ctrl-C\n" +
			"then leaves the session to the next try.",
		Example: "  duffy-broker client request-session pool=local-small,quantity=2\n" +
			"  duffy-broker client request-session pool=local-small,quantity=2 --idempotency-key \"$BUILD_TAG\"",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, _, err := o.client()
			if err != nil {
				return err
			}
			req, err := sessionCreate(args)
			if err != nil {
				return o.refused(s, err)
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
			defer stop()
			answer, err := order{req: req, key: cmp.Or(key, broker.NewUUID()), settle: key == ""}.place(ctx, s, c)
			switch {
			case ctx.Err() != nil && err == nil && key == "":
				if err := (runOptions{clientOptions: o}).end(ctx, s, c, answer.Value.Session, nil); err != nil {
					return err
				}
				return exitError{exitInterrupted}
			case ctx.Err() != nil && err != nil:
				return exitError{exitInterrupted}
			case err != nil:
				return o.refused(s, err)
			}
			return view.Format(s.out, o.format, answer.Raw)
		},
	}
	cmd.Flags().StringVar(&key, "idempotency-key", "", "`text` of up to 255 bytes that makes the command repeatable, such as the name of a CI job's run (default: a random one)")
	return cmd
}

// sessionCreate reads what is asked for from arguments pool=NAME,quantity=N.
func sessionCreate(args []string) (req v1.SessionCreate, err error) {
	for _, arg := range args {
		spec, err := client.ParseNodesSpec(arg)
		if err != nil {
			return req, err
		}
		req.NodesSpecs = append(req.NodesSpecs, spec)
	}
	return req, nil
}
