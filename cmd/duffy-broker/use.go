package main

import (
	"context"
	"time"
)

// useInterval is how often uses of keys are written down.
const useInterval = time.Minute

// flushUse writes down which keys were used, until ctx ends.
func (d *daemon) flushUse(ctx context.Context) {
	ticker := time.NewTicker(useInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if err := d.broker.FlushUse(ctx); err != nil && ctx.Err() == nil {
			d.log.WarnContext(ctx, "use of keys can't be written down now", "error", err)
		}
	}
}
