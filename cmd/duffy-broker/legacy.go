package main

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api"
	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
)

// legacySettings hands the settings of the legacy block to the API.
func legacySettings(l *config.Legacy) *api.Legacy {
	if l == nil {
		return nil
	}
	return &api.Legacy{
		Pool: l.Pool, Hostname: l.Hostname,
		Version: l.Version, Arch: l.Arch, Flavors: l.Flavors,
		MainPort: l.MainPort, PlainWhenEmpty: l.PlainWhenEmpty, MaxWait: l.MaxWait,
		SessionLimit: l.SessionLimit, SessionWindow: l.SessionWindow, KeepFor: l.KeepFor, KeptNodes: l.KeptNodes,
		Rows: string(l.Inventory), AnonymousInventory: l.AnonymousInventory,
		Deprecated: l.Deprecated, Sunset: l.Sunset, Link: l.Link,
	}
}

func newLegacyCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	cmd := &cobra.Command{
		Use:   "legacy",
		Short: "Manage the keys of the legacy API, and see who uses it",
		Long: "Manage the keys of the legacy API, the one of Duffy v2, and see who still uses it. All of it needs the key of an admin.\n" +
			"The API itself is set up by the legacy block of pools.hcl.",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	o.addFlags(cmd)
	o.addDataDirFlags(cmd)
	report := simpleCommand(s, &o, "report", "Show who used the legacy API, when, and for what", cobra.NoArgs,
		func(ctx context.Context, c *client.Client, _ []string) (json.RawMessage, error) {
			a, err := c.LegacyKeys(ctx)
			return a.Raw, err
		})
	report.Example = "  duffy-broker legacy report\n  duffy-broker legacy report --format json"
	key := &cobra.Command{Use: "key", Short: "Add and remove keys", RunE: group, SuggestionsMinimumDistance: 2}
	addLegacyKeyCommands(s, &o, key, "duffy-broker legacy key")
	cmd.AddCommand(report, key)
	return cmd
}

// addLegacyKeyCommands adds what is done to keys of the legacy API to a group,
// which is called by path.
func addLegacyKeyCommands(s streams, o *clientOptions, group *cobra.Command, path string) {
	var create v1.LegacyKeyCreate
	add := simpleCommand(s, o, "add TENANT", "Give a tenant a key for the legacy API, and show it this once", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := c.FindTenant(ctx, args[0])
			if err != nil {
				return nil, err
			}
			a, err := c.AddLegacyKey(ctx, id, create)
			return a.Raw, err
		})
	add.Long = "Give a tenant a key for the legacy API. A new key is made unless one is given, such as the one that old jobs have."
	add.Example = "  " + path + " add demo --note 'jenkins of the storage team'"
	add.Flags().StringVar(&create.Key, "key", "", "the `key` that old jobs have (default: a new one)")
	add.Flags().StringVar(&create.Note, "note", "", "`text` that says whose jobs use it")
	remove := &cobra.Command{
		Use: "remove TENANT KEY-ID", Short: "Take a key of the legacy API from a tenant", Args: cobra.ExactArgs(2),
		Long:    "Take a key of the legacy API from a tenant. `duffy-broker legacy report` shows the ids of keys.",
		Example: "  " + path + " remove demo 1",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			id, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil {
				return broker.Errorf(broker.CodeInvalid, "key id %q is not a number", args[1]).WithHint("duffy-broker legacy report shows the ids")
			}
			c, err := o.connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			defer func() { err = c.end(err) }()
			tenant, err := c.FindTenant(cmd.Context(), args[0])
			if err == nil {
				err = c.RemoveLegacyKey(cmd.Context(), tenant, id)
			}
			if err != nil {
				return o.refused(s, err)
			}
			return nil
		},
	}
	group.AddCommand(add, remove)
}
