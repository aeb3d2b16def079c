package main

import (
	"context"
	"encoding/json"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func newSessionCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	cmd := &cobra.Command{
		Use:   "session",
		Short: "Look after the sessions of all tenants, as an admin",
		Long: "Look after sessions. An admin sees those of all tenants, anyone else their own; settings come from where `client` finds them.\n" +
			"Without a name it is the admin of the broker's profile who asks.",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	o.addFlags(cmd)
	o.addDataDirFlags(cmd)
	cmd.AddCommand(
		newSessionListCommand(s, &o),
		sessionCommand(s, &o, "show", "Show one session and its nodes", (*client.Client).Session),
		sessionCommand(s, &o, "retire", "End a session: its nodes are taken back", (*client.Client).RetireSession),
		newSessionExtendCommand(s, &o),
		sessionCommand(s, &o, "events", "Show what happened to a session and its nodes", (*client.Client).SessionEvents),
	)
	return cmd
}

// sessionCommand is a command about one session.
func sessionCommand[T any](s streams, o *clientOptions, name, short string, ask func(*client.Client, context.Context, int64) (client.Answer[T], error)) *cobra.Command {
	cmd := simpleCommand(s, o, name+" SESSION", short, cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := adminSessionID(args[0])
			if err != nil {
				return nil, err
			}
			a, err := ask(c, ctx, id)
			return a.Raw, err
		})
	cmd.Example = "  duffy-broker session " + name + " 12"
	return cmd
}

func newSessionListCommand(s streams, o *clientOptions) *cobra.Command {
	var f client.SessionFilter
	var all bool
	cmd := simpleCommand(s, o, "list", "List the active sessions", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
			f := f
			if f.Tenant != "" { // the server takes an unknown one for one without sessions
				id, err := c.FindTenant(ctx, f.Tenant)
				if err != nil {
					return nil, err
				}
				f.Tenant = strconv.FormatInt(id, 10)
			}
			if all {
				a, err := c.AllSessions(ctx, f.Tenant)
				return a.Raw, err
			}
			a, err := c.FindSessions(ctx, f)
			return a.Raw, err
		})
	cmd.Example = "  duffy-broker session list --tenant demo\n  duffy-broker session list --all --format json"
	cmd.Flags().StringVar(&f.Tenant, "tenant", "", "only those of the tenant with this `name` or id")
	cmd.Flags().BoolVar(&all, "all", false, "also those that have ended, as long as they are kept")
	return cmd
}

func newSessionExtendCommand(s streams, o *clientOptions) *cobra.Command {
	cmd := simpleCommand(s, o, "extend SESSION DURATION", "Let a session last longer", cobra.ExactArgs(2),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := adminSessionID(args[0])
			if err != nil {
				return nil, err
			}
			by := strings.TrimSpace(args[1])
			if by == "" || by[0] == '-' {
				return nil, broker.Errorf(broker.CodeInvalid, "duration %q does not extend a session", args[1]).WithHint("write it like 2h, or \"1d 12h\"")
			}
			if by[0] != '+' {
				by = "+" + by
			}
			a, err := c.UpdateSession(ctx, id, v1.SessionUpdate{ExpiresAt: &by})
			return a.Raw, err
		})
	cmd.Long = "Let a session last longer: its end moves by the duration, up to the longest lifetime that the tenant may have."
	cmd.Example = "  duffy-broker session extend 12 2h\n  duffy-broker session extend 12 '1d 12h'"
	return cmd
}

func adminSessionID(arg string) (int64, error) {
	id, err := sessionID(arg)
	if err != nil {
		return 0, broker.Errorf(broker.CodeInvalid, "session %q is not a number", arg).WithHint("duffy-broker session list shows the ids")
	}
	return id, nil
}
