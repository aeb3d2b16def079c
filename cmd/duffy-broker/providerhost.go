package main

import (
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

// newProviderHostCommand is what the broker starts for pools with provider_sharing:
// a process that outlives it, as their Terraform runs do.
func newProviderHostCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:    "provider-host DIR",
		Short:  "Be the process that shares Terraform providers",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM)
			defer stop()
			return provider.Serve(ctx, args[0], s.err)
		},
	}
}
