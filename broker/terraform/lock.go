package terraform

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/hashicorp/terraform-exec/tfexec"

	"github.com/duffy-broker/duffy-broker/broker"
)

// LockOptions say for what a lock file is made.
type LockOptions struct {
	// Platforms are such as "linux_amd64"; none: that of this program.
	Platforms []string
	// FSMirror and NetMirror are where providers come from, if not from their
	// registry: a directory, or a URL. Not both.
	FSMirror, NetMirror string
}

// Locked is what [Lock] made of one lock file.
type Locked struct {
	Path string `json:"path"`
	// Change is "written", "changed", or "unchanged", or "none": nothing needs one.
	Change    string           `json:"change"`
	Platforms []string         `json:"platforms"`
	Providers []LockedProvider `json:"providers"`
}

// LockedProvider is a provider in a lock file.
type LockedProvider struct {
	Address   string `json:"address"`
	Checksums int    `json:"checksums"`
}

// Lock completes the lock file of the module in dir, and that of its sweep
// configuration if it has one, with `terraform providers lock`. It changes nothing
// else there. It stops at the first error; what was written by then is in the
// result.
func Lock(ctx context.Context, binary Binary, dir string, o LockOptions) ([]Locked, error) {
	if len(moduleFiles(dir)) == 0 {
		return nil, broker.Errorf(broker.CodeInvalid, "there is no Terraform module in %s", dir).WithHint("name a directory with .tf files")
	}
	dirs := []string{dir}
	if hasSweep(dir) {
		dirs = append(dirs, filepath.Join(dir, sweepDir))
	}
	if len(o.Platforms) == 0 {
		o.Platforms = []string{platform()}
	}
	var done []Locked
	for _, dir := range dirs {
		one, err := lockOne(ctx, binary, dir, o)
		if err != nil {
			return done, err
		}
		done = append(done, one)
	}
	return done, nil
}

func lockOne(ctx context.Context, binary Binary, dir string, o LockOptions) (result Locked, err error) {
	path := filepath.Join(dir, lockFileName)
	before, err := os.ReadFile(path) //nolint:gosec // a file of the module
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return result, broker.Wrap(broker.CodeInvalid, err, "%s can't be read", path)
	}
	// Not in the module: who has initialised it loses nothing.
	data, err := os.MkdirTemp("", "duffy-lock-")
	if err != nil {
		return result, broker.Wrap(broker.CodeUnavailable, err, "there is no place for what terraform needs meanwhile")
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	e := &Engine{Config: Config{Binary: binary}}
	tf, err := e.terraformWith(dir, broker.Environment{Environ: map[string]string{"TF_DATA_DIR": data}})
	if err != nil {
		return result, broker.Wrap(broker.CodeUnavailable, err, "terraform can't be run in %s", dir)
	}
	if err := tf.Get(ctx); err != nil {
		return result, broker.Errorf(broker.CodeUnavailable, "the modules that %s uses can't be had: terraform get: %s", dir, initText(err))
	}
	var options []tfexec.ProvidersLockOption
	for _, p := range o.Platforms {
		options = append(options, tfexec.Platform(p))
	}
	if o.FSMirror != "" {
		mirror, err := filepath.Abs(o.FSMirror)
		if err != nil {
			return result, broker.Wrap(broker.CodeInvalid, err, "%s is no directory", o.FSMirror)
		}
		options = append(options, tfexec.FSMirror(mirror))
	}
	if o.NetMirror != "" {
		options = append(options, tfexec.NetMirror(o.NetMirror))
	}
	if err := tf.ProvidersLock(ctx, options...); err != nil {
		return result, broker.Errorf(broker.CodeUnavailable, "the providers of %s can't be locked: terraform providers lock: %s", dir, initText(err)).
			WithHint("name a mirror that has them for all platforms (--fs-mirror DIR, --net-mirror URL), or fewer platforms")
	}
	after, err := os.ReadFile(path) //nolint:gosec // the same
	result = Locked{Path: path, Change: "unchanged", Platforms: o.Platforms, Providers: []LockedProvider{}}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		result.Change = "none"
		return result, nil
	case err != nil:
		return result, broker.Wrap(broker.CodeInvalid, err, "%s can't be read", path)
	case before == nil:
		result.Change = "written"
	case !bytes.Equal(before, after):
		result.Change = "changed"
	}
	locked := readLockFile(dir)
	if before == nil && len(locked) == 0 { // Terraform writes an empty one
		result.Change = "none"
		return result, os.Remove(path)
	}
	for _, address := range slices.Sorted(maps.Keys(locked)) {
		result.Providers = append(result.Providers, LockedProvider{address, len(locked[address])})
	}
	return result, nil
}
