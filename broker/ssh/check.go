package ssh

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// The pause between two attempts grows from the first to the second.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// Check tries until a login works and the node's ready command passes, or until
// ctx or the node's ready timeout ends; then the error says which step failed last
// and why. A changed host key ends it at once. It returns the node's recorded host
// keys, or the one that it showed if none was recorded.
func (c *Client) Check(ctx context.Context, n broker.Node) ([]string, error) {
	if n.Ready.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, n.Ready.Timeout)
		defer cancel()
	}
	var last *attemptError
	pause := firstPause
	for tries := 1; ; tries++ {
		shown, failure := c.checkOnce(ctx, n)
		if failure == nil {
			if len(n.HostKeys) > 0 {
				return slices.Clone(n.HostKeys), nil
			}
			return []string{shown}, nil
		}
		if failure.final {
			return nil, unreachable(ctx, n, failure)
		}
		// An attempt that ctx cut short before it got as far as an earlier one
		// tells less than that one.
		if last == nil || ctx.Err() == nil || failure.step > last.step {
			last = failure
		}
		c.log.DebugContext(ctx, "node is not ready yet", slog.Int64("node_id", n.ID), slog.Int("tries", tries), slog.String("reason", failure.Error()))
		select {
		case <-ctx.Done():
			return nil, unreachable(ctx, n, last)
		case <-time.After(pause):
		}
		pause = min(pause*3/2, lastPause)
	}
}

func (c *Client) checkOnce(ctx context.Context, n broker.Node) (string, *attemptError) {
	conn, failure := c.connect(ctx, n, true)
	if failure != nil {
		return "", failure
	}
	defer conn.close()
	if n.Ready.Command != "" {
		if _, failure := conn.run(ctx, "ready command", n.Ready.Command, nil); failure != nil {
			return "", failure
		}
	}
	return conn.shown, nil
}

// unreachable is how every failure leaves this package. It has the error of ctx
// in it too, if ctx has ended: that of a caller who stops says nothing about the
// node.
func unreachable(ctx context.Context, n broker.Node, failure error) error {
	if ctx.Err() != nil {
		failure = fmt.Errorf("%w (%w)", failure, ctx.Err())
	}
	err := broker.Wrap(broker.CodeUnavailable, failure, "node %d can't be used over ssh", n.ID)
	class := broker.FailureUnreachable
	if a, ok := errors.AsType[*attemptError](failure); ok && a.step >= stepCommand {
		class = broker.FailureOther // it was reached
	}
	if errors.Is(failure, ErrHostKeyChanged) {
		err = err.WithHint("either the machine was replaced behind the broker's back, or somebody sits between: destroy the node")
	}
	return &broker.Failure{Class: class, Err: err}
}
