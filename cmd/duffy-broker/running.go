package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

const (
	// runningFile is where a broker notes in its data directory what it runs with,
	// without secrets, so that a plan can be made while it is stopped.
	runningFile = "running.json"
	// maskPurpose is what the key is for that masks sensitive variables in it.
	maskPurpose = "running-mask"
)

// keptModules reads the modules that are kept in a data directory.
type keptModules struct{ dir string }

func (k keptModules) ReadModule(template string) (broker.Module, error) {
	return terraform.ReadKeptModule(k.dir, template)
}

// absoluteDir gives the directory of pools.hcl; "" if there is no telling.
func absoluteDir(pools string) string {
	path, err := filepath.Abs(pools)
	if err != nil {
		return ""
	}
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return path
	}
	return filepath.Dir(path)
}

// noteRunning notes what the broker runs with from now on. Without it only plans
// against the data directory lack something.
func (d *daemon) noteRunning(ctx context.Context) {
	key := d.keys.Current()
	running, err := d.broker.Running(key.Derive(maskPurpose))
	if err == nil {
		running.KeyID = key.ID()
		var text []byte
		if text, err = json.Marshal(running); err == nil {
			err = writePrivate(d.dir.join(runningFile), text)
		}
	}
	if err != nil {
		d.log.WarnContext(ctx, "what the broker runs with can't be noted for `duffy-broker plan --data-dir`", "error", err)
	}
}

// readRunning reads what noteRunning noted; CodeNotFound where it did not.
func readRunning(data string) (r broker.Running, err error) {
	text, err := os.ReadFile(filepath.Join(data, runningFile)) //nolint:gosec // the operator names the directory
	if errors.Is(err, fs.ErrNotExist) {
		return r, broker.Errorf(broker.CodeNotFound, "%s does not say what the broker ran with: there is no %s in it", data, runningFile).
			WithHint("start this version of the broker once on it, or plan against a revision in git (--base REV)")
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	if err != nil {
		return r, broker.Wrap(broker.CodeInvalid, err, "%s in %s can't be read", runningFile, data)
	}
	return r, nil
}

// maskKey gives the key that running.json is masked with.
func maskKey(keys *secret.Keyring, id string) ([]byte, error) {
	for _, k := range keys.Keys() {
		if k.ID() == id {
			return k.Derive(maskPurpose), nil
		}
	}
	return nil, broker.Errorf(broker.CodeConflict, "the broker's keys are not those that it ran with last").
		WithHint("start it once, or name the right key with --key-file")
}
