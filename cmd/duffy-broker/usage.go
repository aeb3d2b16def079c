package main

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// ownFormats marks commands with other formats than those of all.
const ownFormats = "own-formats"

// addUsage makes all commands below root say alike what is wrong with a command
// line, and what to do about it.
func addUsage(root *cobra.Command) {
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return broker.Errorf(broker.CodeInvalid, "%v", err).WithHint("%s --help lists the flags", cmd.CommandPath())
	})
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := cmd.ValidateFlagGroups(); err != nil {
			return broker.Errorf(broker.CodeInvalid, "%v", err).WithHint("give one of them; %s --help says what each is for", cmd.CommandPath())
		}
		if f := cmd.Flags().Lookup("format"); f != nil && cmd.Annotations[ownFormats] == "" {
			return view.Check(f.Value.String())
		}
		return nil
	}
	for _, cmd := range commandsBelow(root) {
		if check := cmd.Args; check != nil {
			cmd.Args = func(cmd *cobra.Command, args []string) error {
				if err := check(cmd, args); err != nil {
					return broker.Errorf(broker.CodeInvalid, "%s %v", cmd.CommandPath(), err).WithHint("%s", usageHint(cmd))
				}
				return nil
			}
		}
	}
}

// addDataDirFlag adds --data-dir, or --data for short, to a command that needs the
// data directory of a broker.
func addDataDirFlag(cmd *cobra.Command, dir *string, usage string) {
	f := cmd.Flags()
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "data" {
			name = "data-dir"
		}
		return pflag.NormalizedName(name)
	})
	f.StringVar(dir, "data-dir", "data", usage)
}

// usageHint shows how a command is used.
func usageHint(cmd *cobra.Command) string {
	hint := "usage: " + strings.TrimSuffix(cmd.CommandPath(), cmd.Name()) + cmd.Use
	if first, _, _ := strings.Cut(strings.TrimSpace(cmd.Example), "\n"); first != "" {
		hint += "; for example: " + first
	}
	return hint
}

// commandsBelow gives a command and all that belong to it, in the order of help.
func commandsBelow(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, sub := range cmd.Commands() {
		all = append(all, commandsBelow(sub)...)
	}
	return all
}
