package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// validateArgs are what the validate command was asked for.
type validateArgs struct{ path, dataDir, format string }

func newValidateCommand(s streams) *cobra.Command {
	a := validateArgs{path: "pools.hcl"}
	cmd := &cobra.Command{
		Use:   "validate [PATH]",
		Short: "Check pools.hcl, and print every mistake in it",
		Long: "Check pools.hcl, or the *.hcl files of a directory, and the modules of the pools, and print every mistake. Needs no broker, no\n" +
			"Terraform, no credentials and no network. What needs them is for serve to check: providers, modules from\n" +
			"elsewhere that have not been fetched, and what `terraform validate` knows.",
		Example: "  duffy-broker validate\n  duffy-broker validate pools/ --format json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				a.path = args[0]
			}
			return validate(cmd.Context(), s, a)
		},
	}
	addFormatFlag(cmd.Flags(), &a.format)
	cmd.Flags().StringVar(&a.dataDir, "data-dir", "", "data `directory` of a broker, in which modules from elsewhere may lie")
	cmd.Flags().StringVar(&a.path, "pools", a.path, "`path` of the file that declares the pools, or of a directory of such files (*.hcl)")
	return cmd
}

// validation is what validate finds out about a file.
type validation struct {
	File        string       `json:"file"`
	Valid       bool         `json:"valid"`
	Pools       []string     `json:"pools"`
	Diagnostics []diagnostic `json:"diagnostics"`
}

type diagnostic struct {
	Severity string `json:"severity"` // error or warning
	File     string `json:"file"`
	Line     int    `json:"line"`
	Column   int    `json:"column"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	// The place in the module, if it is about one.
	ModuleFile string `json:"module_file,omitempty"`
	ModuleLine int    `json:"module_line,omitempty"`
}

func validate(ctx context.Context, s streams, a validateArgs) (err error) {
	if err := view.Check(a.format); err != nil {
		return err
	}
	file, diags := config.Load(a.path)
	modules := locator{kept: a.dataDir}
	defer func() { err = errors.Join(err, modules.close()) }()
	if err := modules.locate(ctx, file); err != nil {
		return err
	}
	diags = append(diags, checkModules(file)...) // nothing where the file has mistakes already
	v := validation{File: a.path, Valid: !diags.HasErrors(), Pools: []string{}, Diagnostics: []diagnostic{}}
	for _, p := range file.Pools {
		if !v.Valid {
			break
		}
		v.Pools = append(v.Pools, p.Name)
	}
	if a.format == view.JSON { // the shape that tools know
		if err := view.Diagnostics(s.out, diags, v.Pools); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if !v.Valid {
			return exitError{exitFailed}
		}
		return nil
	}
	for _, d := range diags {
		found := diagnostic{Severity: "error", File: a.path, Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			found.Severity = "warning"
		}
		if d.Subject != nil {
			found.File, found.Line, found.Column = d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column
		}
		if extra, ok := d.Extra.(config.ModulePlace); ok {
			found.ModuleFile, found.ModuleLine = extra.Range.Filename, extra.Range.Start.Line
		}
		v.Diagnostics = append(v.Diagnostics, found)
	}
	if a.format == view.Table && len(diags) > 0 {
		if err := writeDiagnostics(s, file, diags); err != nil {
			return err
		}
	}
	if err := printData(s, a.format, map[string]validation{"validation": v}); err != nil {
		return err
	}
	if !v.Valid {
		return broker.Errorf(broker.CodeInvalid, "%s has mistakes", a.path).WithHint("each is named above, with its place")
	}
	return nil
}

// messageWidth is where the text of diagnostics is wrapped.
const messageWidth = 100

func writeDiagnostics(s streams, file *config.File, diags hcl.Diagnostics) error {
	return config.WriteDiagnostics(s.err, file.Files(), diags, false, messageWidth)
}

// count puts a number before a noun.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
