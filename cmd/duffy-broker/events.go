package main

import (
	"encoding/json"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

func newEventsCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	var req client.EventsRequest
	cmd := &cobra.Command{
		Use:   "events",
		Short: "Show what happened to nodes, sessions and tenants",
		Long: "Show what happened to nodes, sessions and tenants, oldest first, as long as events are kept, each after its number. A tenant sees the events of its own\n" +
			"sessions. With -f the command goes on with each event that comes, until Ctrl-C; when the connection breaks it makes a new one and\n" +
			"goes on where it was.",
		Example: "  duffy-broker events\n  duffy-broker events -f\n  duffy-broker events -f --after 1042 --format json | jq -r 'select(.kind == \"session\")'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if req.Follow {
				if err := o.needsBroker("events --follow", "nothing happens while none runs"); err != nil {
					return err
				}
			}
			c, err := o.connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			defer func() { err = c.end(err) }()
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			err = c.Events(ctx, req, func(event json.RawMessage) error { return view.Event(s.out, o.format, event) })
			if ctx.Err() != nil {
				return nil // which is how following ends
			}
			if err != nil {
				return o.refused(s, err)
			}
			return nil
		},
	}
	o.addFlags(cmd)
	o.addDataDirFlags(cmd)
	cmd.Flags().BoolVarP(&req.Follow, "follow", "f", false, "go on with what comes")
	cmd.Flags().Int64Var(&req.After, "after", 0, "begin behind the event with this `number`")
	return cmd
}
