package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// streams are where commands read and write: results go to out, everything else
// to err.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// exitError ends the program with a code of its own; whatever there was to say
// has been said.
type exitError struct{ code int }

func (e exitError) Error() string { return fmt.Sprintf("exit status %d", e.code) }

// run carries out a command line and gives the exit code, see exitCodes.
func run(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer) int {
	root := newRootCommand(streams{in: in, out: out, err: errOut})
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitDone
	}
	if exit, ok := errors.AsType[exitError](err); ok {
		return exit.code
	}
	printError(errOut, err)
	return exitFailed
}

// printError tells the user of an error, and what to do about it.
func printError(errOut io.Writer, err error) {
	_, _ = fmt.Fprintln(errOut, "duffy-broker:", err)
	if hint := hintOf(err); hint != "" {
		label := "  what to do: "
		switch broker.CodeOf(err) {
		case broker.CodeNotFound, broker.CodeForbidden, broker.CodeUnauthorized:
			label = "  " // Duffy's bare words came first; this says what they mean
		case broker.CodeInvalid, broker.CodeConflict, broker.CodeQuota, broker.CodeCapacity, broker.CodeUnavailable, broker.CodeInternal:
		}
		_, _ = fmt.Fprintf(errOut, "%s%s\n", label, hint)
	}
}

// hintOf gives the hint of an error of any code: this is the operator's own
// terminal, where internal errors may be shown.
func hintOf(err error) string {
	if e, ok := errors.AsType[*broker.Error](err); ok {
		return advice(e)
	}
	return ""
}

// advice gives the hint of an error. Where a server has Duffy's bare words for a
// refusal, its hint says what is meant by them, if anything; this adds what to do.
func advice(e *broker.Error) string {
	var todo string
	switch e.Message {
	case http.StatusText(http.StatusUnauthorized):
		todo = "check --auth-name and --auth-key, or the client profile; an admin can make a new key with `duffy-broker tenant reset-key`"
	case http.StatusText(http.StatusForbidden):
		todo = "ask as somebody who may, with --auth-name and --auth-key, or have an admin do it"
	case http.StatusText(http.StatusNotFound):
		todo = "the list commands show what there is"
	default:
		return e.Hint
	}
	if e.Hint == "" {
		return todo
	}
	return e.Hint + "; " + todo
}

func newRootCommand(s streams) *cobra.Command {
	root := &cobra.Command{
		Use:           "duffy-broker",
		Short:         "Lends nodes that Terraform made ahead of demand",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.ArbitraryArgs, // group refuses them
		RunE:          group,
		// Without it cobra would suggest nothing.
		SuggestionsMinimumDistance: 2,
	}
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	root.AddCommand(
		newServeCommand(s),
		newPlanCommand(s),
		newClientCommand(s),
		newLegacyCommand(s),
		newNodeCommand(s),
		newPoolCommand(s),
		newTenantCommand(s),
		newSessionCommand(s),
		newEventsCommand(s),
		newAdminCommand(s),
		newReloadCommand(s),
		newRolloutCommand(s),
		newImportCommand(s),
		newValidateCommand(s),
		newFmtCommand(s),
		newSchemaCommand(s),
		newModulesCommand(s),
		newKeyCommand(s),
		newVersionCommand(s),
		newLocalNodeCommand(s),
		newProviderHostCommand(s),
		newExitCodesTopic(),
	)
	addUsage(root)
	addCompletion(root)
	return root
}

// group is what a command with subcommands does by itself: show them, and refuse
// words that are none.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := broker.Errorf(broker.CodeInvalid, "unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return err.WithHint("did you mean %s?", strings.Join(near, " or "))
	}
	return err.WithHint("%s --help lists the commands", cmd.CommandPath())
}

func newVersionCommand(s streams) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  duffy-broker version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			return printData(s, format, map[string]string{"version": version()})
		},
	}
	addFormatFlag(cmd.Flags(), &format)
	return cmd
}

// printData prints what did not come over the API.
func printData(s streams, format string, data any) error {
	raw, err := json.Marshal(data)
	if err != nil {
		return err
	}
	return view.Format(s.out, format, raw)
}

// version is that of the module, as the Go toolchain recorded it.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "(devel)"
	}
	return info.Main.Version
}

// executable is the path of this binary, for the runs that call it back.
func executable() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find the path of this binary: %w", err)
	}
	return path, nil
}
