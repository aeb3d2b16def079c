package main

import "github.com/spf13/cobra"

// newAdminCommand holds, once more and together, what admins need.
func newAdminCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "admin",
		Short: "Everything for admins: tenants, sessions, nodes, pools and the legacy API",
		Long:  "Everything for admins. `duffy-broker admin tenant` is `duffy-broker tenant`, and so on.",
		Example: "  duffy-broker admin tenant list\n" +
			"  duffy-broker admin session list --tenant demo",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(newTenantCommand(s), newSessionCommand(s), newNodeCommand(s), newPoolCommand(s), newLegacyCommand(s))
	return cmd
}
