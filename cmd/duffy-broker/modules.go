package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/modulesource"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/modules"
)

func newModulesCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "modules",
		Short: "Show, copy, lock and try the Terraform modules that make nodes",
		Long: "Show, copy, lock and try the Terraform modules that make nodes. Some are shipped with the broker: a pool takes one with\n" +
			"module = \"builtin:NAME\", without a checkout of it.",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	cmd.AddCommand(newModulesListCommand(s), newModulesShowCommand(s), newModulesCopyCommand(s), newModulesLockCommand(s), newModulesTestCommand(s))
	return cmd
}

// shippedModule is one line of the list.
type shippedModule struct {
	Name        string `json:"name"`
	Source      string `json:"source"`
	Description string `json:"description"`
}

func newModulesListCommand(s streams) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the modules that are shipped",
		Long:    "List the modules that are shipped with the broker.",
		Example: "  duffy-broker modules list",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			list := []shippedModule{}
			for _, m := range modules.All() {
				list = append(list, shippedModule{m.Name, modulesource.Source{Builtin: m.Name}.String(), m.Description})
			}
			return printData(s, format, map[string]any{"modules": list})
		},
	}
	addFormatFlag(cmd.Flags(), &format)
	return cmd
}

// moduleView is what show prints.
type moduleView struct {
	Name    string `json:"name"`
	Source  string `json:"source"`
	Summary string `json:"description,omitempty"`
	terraform.Description
}

func newModulesShowCommand(s streams) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "show MODULE",
		Short: "Show the variables, outputs and providers of a module",
		Long: "Show the variables, outputs and providers of a module, the classes of errors that it knows, and whether it can list its nodes for the\n" +
			"leak sweep. MODULE is one of those that are shipped, or a directory.",
		Example: "  duffy-broker modules show local\n  duffy-broker modules show ./modules/vm --format json",
		Args:    cobra.ExactArgs(1), ValidArgsFunction: completeModule,
		RunE: func(_ *cobra.Command, args []string) error {
			shown, err := describeModule(args[0])
			if err != nil {
				return err
			}
			return printData(s, format, map[string]any{"module": shown})
		},
	}
	addFormatFlag(cmd.Flags(), &format)
	return cmd
}

// describeModule reads a module that is shipped, by its name, or one in a directory.
func describeModule(name string) (shown moduleView, err error) {
	m, shipped, err := moduleNamed(name)
	if err != nil {
		return shown, err
	}
	shown, dir := moduleView{Name: filepath.Base(filepath.Clean(name)), Source: name}, name
	if shipped {
		shown.Name, shown.Source, shown.Summary = m.Name, modulesource.Source{Builtin: m.Name}.String(), m.Description
		var l locator
		defer func() { err = errors.Join(err, l.close()) }()
		if dir, err = l.find(context.Background(), broker.Pool{Module: shown.Source}); err != nil { // waits for nobody
			return shown, err
		}
	}
	shown.Description, err = terraform.Describe(dir)
	return shown, err
}

// moduleNamed tells which shipped module a word names, with builtin: before it or
// not, if it does not name a directory: that has a slash or a dot.
func moduleNamed(name string) (m modules.Module, shipped bool, err error) {
	if m, ok := modules.Lookup(strings.TrimPrefix(name, "builtin:")); ok {
		return m, true, nil
	}
	if info, err := os.Stat(name); err == nil && info.IsDir() {
		return m, false, nil
	}
	problem := broker.Errorf(broker.CodeNotFound, "there is no module %q", name)
	if meant := closest(strings.TrimPrefix(name, "builtin:"), modules.Names()); meant != "" {
		return m, false, problem.WithHint("did you mean %s?", meant)
	}
	return m, false, problem.WithHint("`duffy-broker modules list` names those that are shipped; others are named by their directory")
}

// closest gives the name that was probably meant, or "".
func closest(given string, names []string) string {
	best, least := "", 3
	for _, name := range names {
		if d := levenshtein.Distance(given, name, nil); d < least {
			best, least = name, d
		}
	}
	return best
}

func newModulesCopyCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "copy MODULE DIR",
		Short: "Copy a module that is shipped into a directory, to change it",
		Long: "Copy a module that is shipped into a directory, to change it. DIR is made, or is empty. As long as the copy is the same, so is what\n" +
			"nodes are made from: a pool may go from builtin:NAME to it without losing its stock.",
		Example: "  duffy-broker modules copy local modules/local",
		Args:    cobra.ExactArgs(2), ValidArgsFunction: completeModule,
		RunE: func(_ *cobra.Command, args []string) error {
			m, shipped, err := moduleNamed(args[0])
			if err != nil {
				return err
			}
			if !shipped {
				return broker.Errorf(broker.CodeInvalid, "%s is not one of the modules that are shipped", args[0]).WithHint("`duffy-broker modules list` names them")
			}
			return copyModule(s, m, args[1])
		},
	}
}

// copyModule writes a module into a directory that has nothing.
func copyModule(s streams, m modules.Module, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return broker.Wrap(broker.CodeInvalid, err, "%s can't be copied to %s", m.Name, dir).WithHint("name a directory that is empty, or not there yet")
	}
	if len(entries) > 0 {
		return broker.Errorf(broker.CodeConflict, "%s is not empty: nothing was copied", dir).WithHint("name a directory that is empty, or not there yet")
	}
	if err := os.CopyFS(dir, m.Files); err != nil {
		return broker.Wrap(broker.CodeUnavailable, err, "%s can't be copied to %s", m.Name, dir)
	}
	path := filepath.ToSlash(filepath.Clean(dir))
	if !filepath.IsAbs(dir) && !strings.HasPrefix(path, "../") {
		path = "./" + path
	}
	_, err = fmt.Fprintf(s.out, "%s is in %s: module = %q in a pools.hcl beside it\n", m.Name, dir, path)
	return fmtErr("print", err)
}

// lockArgs are what lock was asked for.
type lockArgs struct {
	dirs      []string
	pools     string
	terraform string
	format    string
	options   terraform.LockOptions
}

func newModulesLockCommand(s streams) *cobra.Command {
	var a lockArgs
	cmd := &cobra.Command{
		Use:   "lock [DIR...]",
		Short: "Write the lock files of modules, for the platforms wanted",
		Long: "Write or complete the .terraform.lock.hcl of modules, and that of their sweep/, with `terraform providers lock`: commit them with the\n" +
			"modules. Without a DIR it does so for the directories that the pools of --pools name. Providers come from their registries, unless a\n" +
			"mirror is named.",
		Example: "  duffy-broker modules lock modules/vm --platform linux_amd64 --platform linux_arm64\n" +
			"  duffy-broker modules lock --pools pools.hcl --fs-mirror /srv/providers",
		RunE: func(cmd *cobra.Command, args []string) error {
			a.dirs = args
			if len(args) > 0 && cmd.Flags().Changed("pools") {
				return broker.Errorf(broker.CodeInvalid, "directories and --pools were given").WithHint("give one of them")
			}
			return lockModules(cmd.Context(), s, a)
		},
	}
	f := cmd.Flags()
	addFormatFlag(f, &a.format)
	f.StringVar(&a.pools, "pools", "pools.hcl", "`path` of the file that declares the pools, or of a directory of such files (*.hcl)")
	f.StringArrayVar(&a.options.Platforms, "platform", nil, "`platform` to have checksums for, such as linux_amd64; may be repeated (default: this one)")
	f.StringVar(&a.options.FSMirror, "fs-mirror", "", "`directory` to take providers from: a filesystem mirror of Terraform's")
	f.StringVar(&a.options.NetMirror, "net-mirror", "", "`URL` of a network mirror of Terraform's to take providers from")
	f.StringVar(&a.terraform, "terraform", "", "Terraform `binary`: a path or a name such as tofu (default: terraform on PATH, else one is installed for the while)")
	cmd.MarkFlagsMutuallyExclusive("fs-mirror", "net-mirror")
	return cmd
}

func lockModules(ctx context.Context, s streams, a lockArgs) (err error) {
	constraint := ""
	if len(a.dirs) == 0 {
		file, err := readPools(s, a.pools)
		if err != nil {
			return err
		}
		constraint = file.Terraform.RequiredVersion.String()
		if a.dirs = moduleDirs(file); len(a.dirs) == 0 {
			return broker.Errorf(broker.CodeInvalid, "no pool of %s has a directory as its module", a.pools).WithHint("modules from elsewhere are locked where they come from")
		}
	}
	install, err := os.MkdirTemp("", "duffy-lock-")
	if err != nil {
		return fmt.Errorf("make a directory for Terraform: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(install)) }()
	binary, err := terraform.Find(ctx, terraform.FindOptions{Path: a.terraform, Constraint: constraint, InstallDir: install, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	locks := []terraform.Locked{}
	var problem error
	for _, dir := range a.dirs {
		done, err := terraform.Lock(ctx, binary, dir, a.options)
		locks = append(locks, done...)
		if err != nil {
			problem = err
			break
		}
	}
	if len(locks) > 0 || problem == nil {
		if err := printData(s, a.format, map[string]any{"locks": locks}); err != nil {
			return err
		}
	}
	return problem
}

// moduleDirs gives the directories that the pools of a file have as their module,
// each once, in the order of the file.
func moduleDirs(file *config.File) []string {
	var dirs []string
	for _, p := range file.Pools {
		if dir := shown(p.Module); !modulesource.Is(p.Module) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// completeModule completes the name of a shipped module. A directory is left to the
// shell.
func completeModule(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		if len(args) == 1 && strings.Contains(cmd.Use, "DIR") {
			return nil, cobra.ShellCompDirectiveFilterDirs
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var found []cobra.Completion
	for _, m := range modules.All() {
		if strings.HasPrefix(m.Name, toComplete) {
			found = append(found, cobra.CompletionWithDesc(m.Name, m.Description))
		}
	}
	return found, cobra.ShellCompDirectiveDefault
}
