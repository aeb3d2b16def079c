package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/modulesource"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// locateModules finds the files of the modules of a file's pools that are no
// directories, each once. The errors of all come together, and leave the file as it
// was.
func locateModules(file *config.File, locate func(broker.Pool) (string, error)) error {
	dirs := make(map[string]string)
	var errs []error
	for _, p := range file.Pools {
		if _, done := dirs[p.Module]; done || !modulesource.Is(p.Module) {
			continue
		}
		dir, err := locate(p)
		if err != nil {
			errs = append(errs, err)
		}
		dirs[p.Module] = dir
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	for i := range file.Pools {
		file.Pools[i].ModuleDir = dirs[file.Pools[i].Module]
	}
	return nil
}

// locator finds modules for commands that have no data directory: it writes into a
// directory that is made when it is needed, and removed by close.
type locator struct {
	// kept is a data directory, or "". It is only read.
	kept string
	// engine fetches what kept does not have, into the data directory that it is
	// given; nil: nothing is fetched, and pools have no ModuleDir then.
	engine func(ctx context.Context, dataDir string) (*terraform.Engine, error)

	scratch string
	made    *terraform.Engine
}

// locate is [locateModules].
func (l *locator) locate(ctx context.Context, file *config.File) error {
	return locateModules(file, func(p broker.Pool) (string, error) { return l.find(ctx, p) })
}

func (l *locator) find(ctx context.Context, p broker.Pool) (string, error) {
	source, _, _ := modulesource.Parse(p.Module) // config has found it good
	if source.Builtin == "" && l.kept != "" {
		if dir, known, err := terraform.KeptTrees(l.kept).Find(p); known || err != nil {
			return dir, err
		}
	}
	if source.Builtin == "" && l.engine == nil {
		return "", nil
	}
	if l.scratch == "" {
		var err error
		if l.scratch, err = os.MkdirTemp("", "duffy-modules-"); err != nil {
			return "", fmt.Errorf("make a directory for modules: %w", err)
		}
	}
	if source.Builtin != "" {
		dir, _, err := terraform.KeptTrees(l.scratch).Find(p)
		return dir, err
	}
	if l.made == nil {
		var err error
		if l.made, err = l.engine(ctx, l.scratch); err != nil {
			return "", err
		}
	}
	return l.made.Locate(ctx, p)
}

// close removes what was written.
func (l *locator) close() error {
	if l.scratch == "" {
		return nil
	}
	return fmtErr("remove the directory of modules", os.RemoveAll(l.scratch))
}

// checkKnownModules is [checkModules] for the modules that can be had without the
// network; those of other pools are left out. The file stays as it is.
func checkKnownModules(ctx context.Context, file *config.File) (diags hcl.Diagnostics, err error) {
	var l locator
	defer func() { err = errors.Join(err, l.close()) }()
	if err := l.locate(ctx, file); err != nil {
		return nil, err
	}
	defer func() {
		for i := range file.Pools {
			file.Pools[i].ModuleDir = ""
		}
	}()
	return checkModules(file), nil
}

// notLookedAt is a warning for pools whose module has not been fetched.
func notLookedAt() terraform.Problem {
	return terraform.Problem{
		Warning: true, Summary: "Module not looked at", Argument: "module",
		Detail: "it comes from elsewhere, and has not been fetched",
		Hint:   "plan and serve fetch and check it; --data-dir names a data directory that may have it",
	}
}

// moduleName gives the module of a pool for messages.
func moduleName(file *config.File, p broker.Pool) string {
	if modulesource.Is(p.Module) {
		return p.Module
	}
	return file.Shown(p.Module)
}

// shownModule gives the path of a file of a pool's module for messages.
func shownModule(file *config.File, p broker.Pool, name string) string {
	if modulesource.Is(p.Module) {
		return p.Module + "/" + name
	}
	return file.Shown(filepath.Join(p.Module, filepath.FromSlash(name)))
}
