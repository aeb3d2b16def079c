package main

import (
	"context"
	"log/slog"

	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// terraformRuns gives how many Terraform runs may be in flight at once: what
// pools.hcl says, else what the memory allows.
func terraformRuns(ctx context.Context, log *slog.Logger, tf config.Terraform) int {
	if tf.Runs > 0 {
		log.InfoContext(ctx, "terraform runs at once, as pools.hcl says", "runs", tf.Runs)
		return tf.Runs
	}
	available := terraform.AvailableMemory()
	runs := terraform.RunsFor(available, tf.MemoryPerRun)
	log.InfoContext(ctx, "terraform runs at once, for half of the available memory",
		"runs", runs, "available_mib", available>>20, "mib_per_run", tf.MemoryPerRun>>20)
	return runs
}
