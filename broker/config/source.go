package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// Sources gives the files that [Load] reads for a path: the file itself, or the
// *.hcl files of a directory that are not hidden, sorted by name. Subdirectories
// are left alone: that is where modules are.
func Sources(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller tells it in its own words
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err //nolint:wrapcheck // the same
	}
	var found []string
	for _, e := range entries {
		name := filepath.Join(path, e.Name())
		if filepath.Ext(name) != ".hcl" || strings.HasPrefix(e.Name(), ".") {
			continue
		}
		// Through links, which are what a mounted config map is made of.
		if info, err := os.Stat(name); err == nil && info.IsDir() {
			continue
		}
		found = append(found, name)
	}
	return found, nil
}

// parse reads and parses what a path stands for, as if it were one file.
func (f *File) parse(path string) (*hclsyntax.Body, hcl.Diagnostics) {
	names, err := Sources(path)
	if err != nil {
		return nil, hcl.Diagnostics{unreadable(path, err)}
	}
	if len(names) == 0 {
		return nil, hcl.Diagnostics{{
			Severity: hcl.DiagError, Summary: "No pools file",
			Detail: fmt.Sprintf("The directory %s holds no .hcl file. Write one, such as %s, or name another place with --pools PATH.", path, filepath.Join(path, "pools.hcl")),
		}}
	}
	var diags hcl.Diagnostics
	whole := &hclsyntax.Body{Attributes: make(hclsyntax.Attributes)}
	for i, name := range names {
		src, err := os.ReadFile(name) //nolint:gosec // the operator names the file
		if err != nil {
			diags = append(diags, unreadable(name, err))
			continue
		}
		syntax, mistakes := hclsyntax.ParseConfig(src, name, hcl.InitialPos)
		diags = append(diags, foremost(mistakes)...)
		f.files[name] = syntax
		body, ok := syntax.Body.(*hclsyntax.Body)
		if !ok {
			panic(fmt.Sprintf("hclsyntax gave a %T", syntax.Body))
		}
		whole.Blocks = append(whole.Blocks, body.Blocks...)
		for key, attr := range body.Attributes { // none belongs here: all are to be reported
			whole.Attributes[fmt.Sprintf("%s in file %d", key, i)] = attr
		}
		if i == 0 {
			whole.SrcRange, whole.EndRange = body.SrcRange, body.EndRange
		}
	}
	return whole, diags
}

// unreadable says why there is no file to look into, and how to begin.
func unreadable(path string, err error) *hcl.Diagnostic {
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: "Unreadable pools file"}
	if errors.Is(err, fs.ErrNotExist) {
		d.Summary = "No pools file"
		d.Detail = fmt.Sprintf("%s does not exist. Name another file with --pools PATH, or write this one; it can be as short as\n\n"+
			"  pool \"first\" {\n    module     = \"./modules/local\"\n    fill_level = 1\n  }", path)
		return d
	}
	d.Detail = fmt.Sprintf("%s %s. Make it readable, or name another file with --pools PATH.", path, problem(err))
	return d
}
