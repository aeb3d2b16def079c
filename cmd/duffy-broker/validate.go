package main

import (
	"fmt"

	"github.com/hashicorp/hcl/v2"
	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// validateArgs are what the validate command was asked for.
type validateArgs struct{ path, format string }

func newValidateCommand(s streams) *cobra.Command {
	a := validateArgs{path: "pools.hcl"}
	cmd := &cobra.Command{
		Use:   "validate [PATH]",
		Short: "Check pools.hcl, and print every mistake in it",
		Long: "Check pools.hcl, or the *.hcl files of a directory, and print every mistake. Needs no broker, no Terraform, no credentials and no\n" +
			"network. The directories of modules must be there; what is in their files is for serve to check.",
		Example: "  duffy-broker validate\n  duffy-broker validate pools/ --format json",
		Args:    cobra.MaximumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 1 {
				a.path = args[0]
			}
			return validate(s, a)
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.path, "pools", a.path, "`path` of the file that declares the pools, or of a directory of such files (*.hcl)")
	f.StringVar(&a.format, "format", "text", "text, or json in the shape of `terraform validate -json`")
	return cmd
}

func validate(s streams, a validateArgs) error {
	switch a.format {
	case "text":
		file, err := loadPools(s, a.path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(s.out, "%s is valid: %s\n", a.path, count(len(file.Pools), "pool"))
		return err
	case "json":
		file, diags := config.Load(a.path)
		names := make([]string, 0, len(file.Pools))
		for _, p := range file.Pools {
			names = append(names, p.Name)
		}
		if err := view.Diagnostics(s.out, diags, names); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if diags.HasErrors() {
			return exitError{1}
		}
		return nil
	}
	return broker.Errorf(broker.CodeInvalid, "--format %s is not known", a.format).WithHint("one of text, json")
}

func writeDiagnostics(s streams, file *config.File, diags hcl.Diagnostics) error {
	return config.WriteDiagnostics(s.err, file.Files(), diags, false, 100)
}

// count puts a number before a noun.
func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}
