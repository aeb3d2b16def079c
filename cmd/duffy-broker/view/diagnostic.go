package view

import (
	"encoding/json"
	"io"

	"github.com/hashicorp/hcl/v2"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

// diagnosticsVersion rises by a whole number when something in the answer goes or
// changes its meaning.
const diagnosticsVersion = "1.0"

// checkAnswer is what a check found, in the shape of `terraform validate -json`,
// which editors know.
type checkAnswer struct {
	FormatVersion string       `json:"format_version"`
	Valid         bool         `json:"valid"`
	Errors        int          `json:"error_count"`
	Warnings      int          `json:"warning_count"`
	Diagnostics   []diagnostic `json:"diagnostics"`
	Pools         []string     `json:"pools"`
}

type diagnostic struct {
	Severity string       `json:"severity"` // error or warning
	Summary  string       `json:"summary"`
	Detail   string       `json:"detail"`
	Range    *sourceRange `json:"range,omitempty"` // not there if it is about no place
	// ModuleRange is a second place, in the module of a pool, where it is about that.
	ModuleRange *sourceRange `json:"module_range,omitempty"`
}

type sourceRange struct {
	Filename string    `json:"filename"`
	Start    sourcePos `json:"start"`
	End      sourcePos `json:"end"` // behind the last character
}

// sourcePos counts lines and columns from 1, bytes from 0.
type sourcePos struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

// Diagnostics writes what a check of pools.hcl found as JSON, for programs: pools
// are the names of those that it gives, none if it has errors.
func Diagnostics(w io.Writer, diags hcl.Diagnostics, pools []string) error {
	a := checkAnswer{FormatVersion: diagnosticsVersion, Valid: !diags.HasErrors(), Diagnostics: []diagnostic{}, Pools: append([]string{}, pools...)}
	for _, d := range diags {
		x := diagnostic{Severity: "error", Summary: d.Summary, Detail: d.Detail}
		if d.Severity == hcl.DiagWarning {
			x.Severity = "warning"
			a.Warnings++
		} else {
			a.Errors++
		}
		if d.Subject != nil {
			x.Range = newRange(*d.Subject)
		}
		if extra, ok := d.Extra.(config.ModulePlace); ok && extra.Range.Filename != "" {
			x.ModuleRange = newRange(extra.Range)
		}
		a.Diagnostics = append(a.Diagnostics, x)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(a)
}

func newRange(r hcl.Range) *sourceRange {
	return &sourceRange{Filename: r.Filename, Start: sourcePos(r.Start), End: sourcePos(r.End)}
}
