package config

import (
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// Format gives the text of a file with spaces and indentation as they should be.
// Comments, blank lines and the order of everything stay. A text that can't be
// parsed is not formatted: the diagnostics say why, and the file, which may be nil,
// is for [WriteDiagnostics].
func Format(name string, src []byte) ([]byte, *hcl.File, hcl.Diagnostics) {
	file, diags := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
	if diags = foremost(diags); diags.HasErrors() {
		return nil, file, diags
	}
	return hclwrite.Format(src), file, nil
}
