package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func newPoolCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	cmd := &cobra.Command{
		Use:   "pool",
		Short: "See how pools do",
		Long: "See how pools do. Settings come from where `client` finds them; without a name it is the admin of the broker's profile who asks.\n" +
			"Tenants may ask, too, and see less.",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	o.addFlags(cmd)
	list := simpleCommand(s, &o, "list", "List the pools, with their levels", cobra.NoArgs, listPoolStatuses)
	list.Example = "  duffy-broker pool list"
	show := simpleCommand(s, &o, "show POOL", "Show all that is known of a pool", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			a, err := c.PoolStatus(ctx, args[0])
			return a.Raw, err
		})
	show.Long = "Show all that is known of a pool: what it keeps now, the window of its schedule that is open and the next changes,\n" +
		"its nodes by state, and why it makes none, if so."
	show.Example = "  duffy-broker pool show local-small\n  duffy-broker pool show local-small --format json | jq .pool_status.changes"
	cmd.AddCommand(list, show)
	return cmd
}

// listPoolStatuses asks for each pool. One that leaves the file meanwhile is left
// out.
func listPoolStatuses(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
	pools, err := c.Pools(ctx)
	if err != nil {
		return nil, err
	}
	list := struct {
		Action   v1.Action       `json:"action"`
		Statuses []v1.PoolStatus `json:"pool_statuses"`
	}{v1.ActionGet, make([]v1.PoolStatus, 0, len(pools.Value.Pools))}
	for _, p := range pools.Value.Pools {
		a, err := c.PoolStatus(ctx, p.Name)
		if broker.CodeOf(err) == broker.CodeNotFound {
			continue
		}
		if err != nil {
			return nil, err
		}
		list.Statuses = append(list.Statuses, a.Value.PoolStatus)
	}
	return json.Marshal(list)
}
