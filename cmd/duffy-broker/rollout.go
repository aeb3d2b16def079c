package main

import (
	"context"
	"encoding/json"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// rolloutPoll is how often a command that follows rollouts looks.
const rolloutPoll = time.Second

func newRolloutCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	cmd := &cobra.Command{
		Use:   "rollout",
		Short: "See and steer the replacement of stale nodes",
		Long: "See and steer the replacement of stale nodes: those in stock that were made from an older module, or older variables, than their pool has now.\n" +
			"Lent nodes are never touched. The rollout block of a pool sets the pace.",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	o.addFlags(cmd)
	cmd.AddCommand(
		newRolloutStatusCommand(s, &o),
		rolloutOrderCommand(s, &o, broker.RolloutPause, "Stop replacing until it is resumed"),
		rolloutOrderCommand(s, &o, broker.RolloutResume, "Go on, and forget the failures that paused it"),
		rolloutOrderCommand(s, &o, broker.RolloutNow, "Replace all as fast as the pool's maximum allows"),
		rolloutOrderCommand(s, &o, broker.RolloutAbort, "Leave the stale nodes as they are"),
	)
	return cmd
}

func newRolloutStatusCommand(s streams, o *clientOptions) *cobra.Command {
	var wait bool
	cmd := simpleCommand(s, o, "status [POOL]", "Show how far rollouts are", cobra.MaximumNArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			pool := ""
			if len(args) == 1 {
				pool = args[0]
			}
			if wait {
				if err := followRollouts(ctx, s.err, c, pool); err != nil {
					return nil, err
				}
			}
			a, err := c.Rollouts(ctx)
			if err != nil || pool == "" {
				return a.Raw, err
			}
			r, err := rolloutOf(a.Value.Rollouts, pool)
			if err != nil {
				return nil, err
			}
			return json.Marshal(v1.RolloutAnswer{Action: v1.ActionGet, Rollout: r})
		})
	cmd.Long = "Show how far rollouts are. With --wait, show the progress until nothing stale is left in stock, on a terminal in a line for each pool that is redrawn, elsewhere in a new line for each change;\nexit with 1 if a rollout pauses or is aborted."
	cmd.Example = "  duffy-broker rollout status\n  duffy-broker rollout status centos-9s --wait"
	cmd.Flags().BoolVar(&wait, "wait", false, "wait until nothing is left to replace")
	return cmd
}

func rolloutOrderCommand(s streams, o *clientOptions, order broker.RolloutOrder, short string) *cobra.Command {
	body := v1.RolloutOrder{Order: string(order)}
	cmd := simpleCommand(s, o, string(order)+" POOL", short, cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			a, err := c.OrderRollout(ctx, args[0], body)
			return a.Raw, err
		})
	cmd.Example = "  duffy-broker rollout " + string(order) + " centos-9s"
	cmd.Flags().StringVar(&body.Reason, "reason", "", "`text` for others to read")
	return cmd
}

func rolloutOf(list []v1.Rollout, pool string) (v1.Rollout, error) {
	for _, r := range list {
		if r.Pool == pool {
			return r, nil
		}
	}
	return v1.Rollout{}, broker.Errorf(broker.CodeNotFound, "there is no pool %q", pool).WithHint("client list-pools shows them")
}

// followRollouts waits until no stock is stale, of one pool or with "" of all,
// and shows how that goes: see [progress]. It gives up when a rollout waits for an
// admin.
func followRollouts(ctx context.Context, w io.Writer, c *client.Client, pool string) error {
	p := newProgress(w)
	for {
		a, err := c.Rollouts(ctx)
		if err != nil {
			return err
		}
		list := a.Value.Rollouts
		if pool != "" {
			r, err := rolloutOf(list, pool)
			if err != nil {
				return err
			}
			list = []v1.Rollout{r}
		}
		left := 0
		var stopped error
		for _, r := range list {
			left += r.Left
			if waits(r) {
				stopped = broker.Errorf(broker.CodeConflict, "the rollout of pool %s is %s: %s", r.Pool, r.State, r.Reason).
					WithHint("mend the cause, then duffy-broker rollout resume %s", r.Pool)
			}
		}
		if err := p.show(list, time.Now()); err != nil {
			return err
		}
		if stopped != nil || left == 0 {
			return stopped
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rolloutPoll):
		}
	}
}
