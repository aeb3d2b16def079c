package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

func newSchemaCommand(s streams) *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of pools.hcl, for editors and generators",
		Long: "Print the JSON Schema (2020-12) of pools.hcl in the JSON syntax of HCL: blocks are objects, their names are keys, and an\n" +
			"expression is a text with ${ } in it. docs/pools.md is made of the same descriptions.",
		Example: "  duffy-broker schema >pools.schema.json",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			if _, err := s.out.Write(config.Schema()); err != nil {
				return fmt.Errorf("print: %w", err)
			}
			return nil
		},
	}
}
