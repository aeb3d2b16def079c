package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// withDataDir compares with what a stopped broker has in its data directory. That
// is only read.
func (o planOptions) withDataDir(ctx context.Context) (c comparison, err error) {
	path, err := filepath.Abs(o.dataDir)
	if err != nil {
		return c, err
	}
	store, err := bolt.OpenReadOnly(filepath.Join(path, "broker.db"), bolt.Options{})
	if broker.CodeOf(err) == broker.CodeConflict {
		return c, broker.Wrap(broker.CodeConflict, err, "a broker is running on %s", o.dataDir).WithHint("compare with it: --server")
	}
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, fmtErr("close the store", store.Close())) }()
	running, err := readRunning(path)
	if err != nil {
		return c, err
	}
	if running.MaskKey, err = o.storedMaskKey(ctx, path, running.KeyID); err != nil {
		return c, err
	}
	snapshot, err := broker.TakeSnapshot(ctx, store, time.Now().UTC(), running)
	if err != nil {
		return c, err
	}
	return ofSnapshot(snapshot, false, plan.Against{Kind: "data_dir", Name: o.dataDir}), nil
}

// storedMaskKey gives the key of a data directory that running.json is masked with.
func (o planOptions) storedMaskKey(ctx context.Context, path, id string) ([]byte, error) {
	dir := &dataDir{path: path}
	if _, err := os.Stat(dir.join("keys")); err != nil { // opening the keys would make some
		return nil, broker.Wrap(broker.CodeNotFound, err, "there are no keys in %s", path).
			WithHint("put back the keys directory from the backup that belongs to the database")
	}
	keys, err := dir.openKeys(ctx, slog.New(slog.DiscardHandler), o.keyFile)
	if err != nil {
		return nil, err
	}
	return maskKey(keys, id)
}
