package main

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

func newValidateCommand(s streams) *cobra.Command {
	path := "pools.hcl"
	cmd := &cobra.Command{
		Use:   "validate [FILE]",
		Short: "Check pools.hcl, and print every mistake in it",
		Long:  "Check pools.hcl, and print every mistake in it. Needs no broker, no Terraform and no network.",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				path = args[0]
			}
			file, err := loadPools(s, path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(s.out, "%s is valid: %s\n", path, count(len(file.Pools), "pool"))
			return err
		},
	}
	cmd.Flags().StringVar(&path, "pools", path, "`path` of the file that declares the pools, or of a directory of such files (*.hcl)")
	return cmd
}

func writeDiagnostics(s streams, file *config.File, diags hcl.Diagnostics) error {
	return config.WriteDiagnostics(s.err, file.Files(), diags, false, 100)
}

// count puts a number before a noun.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
