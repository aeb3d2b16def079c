package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

func newNodeListCommand(s streams, o *clientOptions) *cobra.Command {
	var f client.NodeFilter
	var inventory string
	cmd := simpleCommand(s, o, "list", "List all nodes that exist, and the free machines of inventories", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
			if inventory != "" {
				a, err := c.Hosts(ctx, inventory)
				return a.Raw, err
			}
			a, err := c.FindNodes(ctx, f)
			return a.Raw, err
		})
	cmd.Example = "  duffy-broker node list\n  duffy-broker node list --pool local-small --state ready,deployed"
	cmd.Flags().StringVar(&f.Pool, "pool", "", "only those of the pool with this `name`")
	cmd.Flags().StringVar(&f.State, "state", "", "only those in this `state`, or in one of several with commas between them, in Duffy's words")
	cmd.Flags().StringVar(&inventory, "inventory", "", "list the machines of the inventory of this `name`, also those in use")
	cmd.MarkFlagsMutuallyExclusive("inventory", "pool")
	cmd.MarkFlagsMutuallyExclusive("inventory", "state")
	return cmd
}

func newNodeShowCommand(s streams, o *clientOptions) *cobra.Command {
	cmd := simpleCommand(s, o, "show NODE", "Show all that is known of a node", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := nodeID(args[0])
			if err != nil {
				return nil, err
			}
			a, err := c.Node(ctx, id)
			return a.Raw, err
		})
	cmd.Example = "  duffy-broker node show 12"
	return cmd
}

func newNodeHoldCommand(s streams, o *clientOptions) *cobra.Command {
	var h v1.HoldCreate
	cmd := simpleCommand(s, o, "hold NODE", "Keep a node as it is: not lent, checked, replaced or destroyed", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := nodeID(args[0])
			if err != nil {
				return nil, err
			}
			a, err := c.HoldNode(ctx, id, h)
			return a.Raw, err
		})
	cmd.Long = "Keep a node as it is: it is not lent, checked, replaced or destroyed until it is released. It counts for max_nodes; its pool makes\n" +
		"another one in its place where there is room. If something is being done to the node, the command waits for the end of that."
	cmd.Example = "  duffy-broker node hold 12 --reason 'why does it not boot?'"
	cmd.Flags().StringVar(&h.Reason, "reason", "", "`text` for others to read")
	return cmd
}

func newNodeReleaseCommand(s streams, o *clientOptions) *cobra.Command {
	cmd := simpleCommand(s, o, "release NODE", "Give a held node back", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := nodeID(args[0])
			if err != nil {
				return nil, err
			}
			a, err := c.ReleaseNode(ctx, id)
			return a.Raw, err
		})
	cmd.Long = "Give a held node back. One that was in stock is checked and returns there; any other is destroyed."
	cmd.Example = "  duffy-broker node release 12"
	return cmd
}
