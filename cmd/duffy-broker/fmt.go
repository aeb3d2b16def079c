package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
)

// fmtArgs are what the fmt command was asked for.
type fmtArgs struct {
	paths       []string
	check, diff bool
}

func newFmtCommand(s streams) *cobra.Command {
	var a fmtArgs
	cmd := &cobra.Command{
		Use:   "fmt [PATH...]",
		Short: "Format pools.hcl: spaces and indentation, nothing else",
		Long: "Format files of pools: spaces and indentation; comments stay as they are. A PATH is a file, a directory whose *.hcl files are\n" +
			"meant, or - for standard input, which is written to standard output. Without one it is pools.hcl.\n" +
			"The names of changed files are printed. With --check nothing is written, and the exit code is 3 if something would change.",
		Example: "  duffy-broker fmt\n  duffy-broker fmt --check --diff pools/\n  duffy-broker fmt - <pools.hcl",
		RunE: func(_ *cobra.Command, args []string) error {
			if a.paths = args; len(args) == 0 {
				a.paths = []string{"pools.hcl"}
			}
			return format(s, a)
		},
	}
	cmd.Flags().BoolVar(&a.check, "check", false, "write nothing; exit with 3 if something is not formatted")
	cmd.Flags().BoolVar(&a.diff, "diff", false, "print what changes")
	return cmd
}

func format(s streams, a fmtArgs) error {
	changed, broken := false, 0
	for _, path := range a.paths {
		names := []string{path}
		if path != "-" {
			var err error
			if names, err = config.Sources(path); err != nil {
				return broker.Wrap(broker.CodeInvalid, err, "%s can't be formatted", path)
			}
		}
		for _, name := range names {
			differs, good, err := formatFile(s, a, name)
			if err != nil {
				return err
			}
			changed = changed || differs
			if !good {
				broken++
			}
		}
	}
	if broken > 0 {
		return broker.Errorf(broker.CodeInvalid, "%s with mistakes: left as it was", count(broken, "file"))
	}
	if changed && a.check {
		return exitError{exitFound}
	}
	return nil
}

// formatFile formats one file. A file with mistakes is not good: they are printed.
func formatFile(s streams, a fmtArgs, name string) (changed, good bool, err error) {
	var src []byte
	if name == "-" {
		src, err = io.ReadAll(s.in)
	} else {
		src, err = os.ReadFile(name) //nolint:gosec // the user names the file
	}
	if err != nil {
		return false, false, broker.Wrap(broker.CodeInvalid, err, "%s can't be read", name)
	}
	formatted, file, diags := config.Format(name, src)
	if diags.HasErrors() {
		return false, false, config.WriteDiagnostics(s.err, map[string]*hcl.File{name: file}, diags, false, 100)
	}
	changed = !bytes.Equal(src, formatted)
	var out []byte
	switch {
	case a.diff:
		out = diff.Diff(name, src, name+" (formatted)", formatted)
	case changed && name != "-":
		out = []byte(name + "\n")
	}
	if name == "-" && !a.check && !a.diff {
		out = formatted
	}
	if _, err := s.out.Write(out); err != nil {
		return false, false, fmt.Errorf("print: %w", err)
	}
	if !changed || a.check || name == "-" {
		return changed, true, nil
	}
	if err := replaceFile(name, formatted); err != nil {
		return false, false, broker.Wrap(broker.CodeInvalid, err, "%s can't be written", name)
	}
	return true, true, nil
}

// replaceFile gives a file another content at once: a broker that reads it
// meanwhile finds the old or the new one. A link stays a link.
func replaceFile(name string, content []byte) (err error) {
	if name, err = filepath.EvalSymlinks(name); err != nil {
		return err //nolint:wrapcheck // names the file
	}
	info, err := os.Stat(name)
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	temporary, err := os.CreateTemp(filepath.Dir(name), ".fmt-*")
	if err != nil {
		return err //nolint:wrapcheck // names the file
	}
	defer func() {
		if err != nil {
			_ = os.Remove(temporary.Name())
		}
	}()
	_, err = temporary.Write(content)
	if chmodErr := temporary.Chmod(info.Mode().Perm()); err == nil {
		err = chmodErr
	}
	if closeErr := temporary.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(temporary.Name(), name) //nolint:wrapcheck // names the file
}
