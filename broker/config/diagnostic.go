package config

import (
	"bytes"
	"io"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/duffy-broker/duffy-broker/broker/modulesource"
)

// ModulePlace is the Extra of a diagnostic that has a second place, in a module, or
// whose own must not be shown.
type ModulePlace struct {
	// Range is in the module. Without a file name there is none.
	Range hcl.Range
	// Hidden: the first place has values that must not be shown.
	Hidden bool
}

// hide keeps the lines of what was reported last out of sight: who wrote a secret
// there need not read it in logs as well.
func (l *loader) hide() { l.diags[len(l.diags)-1].Extra = ModulePlace{Hidden: true} }

// mayHoldSecret tells whether a setting with a mistake may have a secret in it: one
// in the place of a reference to it, or in the address of something.
func mayHoldSecret(name string, v cty.Value) bool {
	switch name {
	case "credentials", "bmc":
		return true
	case "module":
		source, wrong := text(v)
		return wrong == "" && modulesource.HasSecret(source)
	}
	return false
}

// WriteDiagnostics prints diagnostics for people: what is wrong, the lines in
// question from files, and what to do. One about a module has the lines there as
// well. A width of 0 wraps nothing.
func WriteDiagnostics(w io.Writer, files map[string]*hcl.File, diags hcl.Diagnostics, color bool, width uint) error {
	for _, d := range diags {
		var err error
		if extra, ok := d.Extra.(ModulePlace); ok {
			err = writeModuleDiagnostic(w, files, d, extra, color, width)
		} else {
			err = hcl.NewDiagnosticTextWriter(w, files, width, color).WriteDiagnostic(d)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// The library's words for a place whose source it was not given, and ours for one
// that is not to be seen.
const (
	notAvailable = "(source code not available)"
	notShown     = "(not shown: there may be a secret in it)"
)

// writeModuleDiagnostic puts the second place of a diagnostic between its first one
// and its text.
func writeModuleDiagnostic(w io.Writer, files map[string]*hcl.File, d *hcl.Diagnostic, extra ModulePlace, color bool, width uint) error {
	render := func(d hcl.Diagnostic, files map[string]*hcl.File) (string, error) {
		var out bytes.Buffer
		err := hcl.NewDiagnosticTextWriter(&out, files, width, color).WriteDiagnostic(&d)
		return out.String(), err
	}
	of := files
	if extra.Hidden {
		of = nil
	}
	whole, err := render(*d, of)
	if err != nil {
		return err
	}
	untold := *d
	untold.Detail = ""
	first, err := render(untold, of)
	if err != nil {
		return err
	}
	detail := strings.TrimPrefix(whole, first)
	if extra.Hidden {
		first = strings.Replace(first, notAvailable, notShown, 1)
	}
	second := ""
	if extra.Range.Filename != "" {
		placeless := untold
		placeless.Subject = nil
		title, err := render(placeless, files)
		if err != nil {
			return err
		}
		untold.Subject, untold.Context = &extra.Range, nil
		if second, err = render(untold, files); err != nil {
			return err
		}
		second = strings.TrimPrefix(second, title)
	}
	_, err = io.WriteString(w, first+second+detail)
	return err
}
