package main

import (
	"context"
	"slices"

	"github.com/duffy-broker/duffy-broker/broker"
)

// declareHosts makes the stored hosts those of the file. One whose machine is in
// use under another name is left out for now; it is tried again when the old name
// may have gone.
func (d *daemon) declareHosts(ctx context.Context, inventories []broker.Inventory) error {
	waiting, err := d.broker.SyncInventories(ctx, inventories)
	if err != nil {
		return err
	}
	d.inventories.Store(&inventories)
	if was := d.waitingHosts.Swap(&waiting); len(waiting) > 0 && (was == nil || !slices.Equal(*was, waiting)) {
		d.log.WarnContext(ctx, "hosts wait for machines that are in use under another name", "hosts", waiting)
	}
	return nil
}

// declareWaiting tries again to declare hosts that had to wait.
func (d *daemon) declareWaiting(ctx context.Context) error {
	waiting, inventories := d.waitingHosts.Load(), d.inventories.Load()
	if waiting == nil || len(*waiting) == 0 {
		return nil
	}
	if err := d.declareHosts(ctx, *inventories); err != nil {
		return err
	}
	d.loop.Wake()
	return nil
}
