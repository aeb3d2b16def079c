package main

import "github.com/spf13/cobra"

// newImportCommand holds what brings data of other systems in.
func newImportCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:                        "import",
		Short:                      "Take over what another system knows",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(newImportDuffyCommand(s), newImportCSVCommand(s))
	return cmd
}
