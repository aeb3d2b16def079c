package main

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/modulesource"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// finding is a problem of a pool's module.
type finding struct {
	terraform.Problem
	pool    broker.Pool
	secrets []string // variables whose values must not be shown
	path    []string // what it is about in the file: see [config.File.Place]
}

// checkModules finds what is wrong with the modules of a file's pools, as far as
// that can be told without Terraform and network.
func checkModules(file *config.File) hcl.Diagnostics {
	var checker terraform.Checker
	var found []finding
	for _, p := range file.Pools {
		var secrets []string
		if p.ModuleDir == "" && modulesource.Is(p.Module) {
			found = append(found, finding{Problem: notLookedAt(), pool: p})
			continue
		}
		merged := new(variantProblems)
		for _, way := range p.Ways() {
			var problems []terraform.Problem
			problems, secrets = checker.Check(way)
			merged.add(way, problems)
		}
		for _, problem := range merged.problems(len(p.Variants)) {
			found = append(found, finding{Problem: problem, pool: ofVariant(p, problem.Variant), secrets: secrets})
		}
	}
	return moduleDiagnostics(file, found)
}

// explain gives the places to an error of [preparePools]: what Terraform found is a
// mistake in the file's pools as any other.
func explain(file *config.File, err error) error {
	var found []finding
	var checker terraform.Checker
	for _, one := range joined(err) {
		refused, ok := one.(*terraform.ModuleError) //nolint:errorlint // a joined error is unwrapped already
		if !ok {
			return err
		}
		i := slices.IndexFunc(file.Pools, func(p broker.Pool) bool { return p.Name == refused.Pool })
		if i < 0 {
			return err
		}
		_, secrets := checker.Check(file.Pools[i])
		for _, problem := range refused.Problems {
			found = append(found, finding{Problem: problem, pool: ofVariant(file.Pools[i], problem.Variant), secrets: secrets})
		}
	}
	var text strings.Builder
	if err := config.WriteDiagnostics(&text, file.Files(), moduleDiagnostics(file, found), false, messageWidth); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	code := broker.CodeOf(err)
	if code == broker.CodeInternal {
		code = broker.CodeInvalid // all of it: only admins see it
	}
	return broker.Errorf(code, "modules of the pools are not accepted: nothing was changed\n%s", strings.TrimRight(text.String(), "\n"))
}

// joined takes joined errors apart.
func joined(err error) []error {
	if _, ok := err.(*terraform.ModuleError); ok { //nolint:errorlint // its own parts are not wanted
		return []error{err}
	}
	several, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, one := range several.Unwrap() {
		all = append(all, joined(one)...)
	}
	return all
}

// moduleDiagnostics gives findings both of their places, and puts those together
// that are the same for several pools: what is wrong in a template is told once.
func moduleDiagnostics(file *config.File, found []finding) hcl.Diagnostics {
	for i := range found {
		found[i].path = found[i].argument()
	}
	var result hcl.Diagnostics
	for _, same := range grouped(file, found) {
		if same[0].Missing && !everywhere(file, same) {
			// What some lack is not a mistake where all of them get the module from.
			for i := range same {
				same[i].path = nil
			}
			for _, own := range grouped(file, same) {
				result = append(result, moduleDiagnostic(file, own))
			}
			continue
		}
		result = append(result, moduleDiagnostic(file, same))
	}
	slices.SortStableFunc(result, func(a, b *hcl.Diagnostic) int {
		return cmp.Or(cmp.Compare(a.Subject.Filename, b.Subject.Filename), cmp.Compare(a.Subject.Start.Byte, b.Subject.Start.Byte))
	})
	return result
}

// argument gives the path of what a finding is about.
func (f finding) argument() []string {
	switch {
	case f.Missing:
		return []string{"module"}
	case f.Variable != "" && f.Variant != "":
		return []string{f.Argument, f.Variable, f.Variant}
	case f.Variable != "":
		return []string{f.Argument, f.Variable}
	}
	return []string{f.Argument}
}

// grouped puts findings together that say the same of the same place, in their order.
func grouped(file *config.File, found []finding) [][]finding {
	type key struct {
		at, moduleAt                  hcl.Range
		module, summary, detail, hint string
	}
	index := make(map[key]int)
	var groups [][]finding
	for _, f := range found {
		k := key{file.Place(f.pool.Name, f.path...), f.ModuleRange, f.pool.Module, f.Summary, f.Detail, f.Hint}
		i, known := index[k]
		if !known {
			i = len(groups)
			index[k] = i
			groups = append(groups, nil)
		}
		if last := len(groups[i]) - 1; last >= 0 && groups[i][last].pool.Name == f.pool.Name {
			continue
		}
		groups[i] = append(groups[i], f)
	}
	return groups
}

// everywhere tells whether findings are about all pools for which the place is the
// same.
func everywhere(file *config.File, same []finding) bool {
	at := file.Place(same[0].pool.Name, same[0].path...)
	n := 0
	for _, p := range file.Pools {
		if file.Place(p.Name, same[0].path...) == at {
			n++
		}
	}
	return n == len(same)
}

// moduleDiagnostic writes findings that are the same but for the pool.
func moduleDiagnostic(file *config.File, same []finding) *hcl.Diagnostic {
	f := same[0]
	at := file.FirstLine(file.Place(f.pool.Name, f.path...))
	d := &hcl.Diagnostic{Severity: hcl.DiagError, Summary: f.Summary, Subject: &at}
	if f.Warning {
		d.Severity = hcl.DiagWarning
	}
	text := f.Detail
	if f.Cause != nil {
		text += ": " + f.Cause.Error()
	}
	d.Detail = "Module " + moduleName(file, f.pool) + ": " + sentence(text)
	if !everywhere(file, same) {
		d.Detail += " This is so for " + poolsOf(same) + "."
	}
	if f.Hint != "" {
		d.Detail += " " + sentence(strings.ToUpper(f.Hint[:1])+f.Hint[1:])
	}
	extra := config.ModulePlace{Range: f.ModuleRange}
	if extra.Range.Filename != "" {
		path := filepath.Join(cmp.Or(f.pool.ModuleDir, f.pool.Module), filepath.FromSlash(f.ModuleRange.Filename))
		extra.Range.Filename = shownModule(file, f.pool, f.ModuleRange.Filename)
		addSource(file, path, extra.Range.Filename)
	}
	extra.Hidden = slices.ContainsFunc(same, func(f finding) bool { return f.hidden(file, at) })
	d.Extra = extra
	return d
}

// hidden tells whether the line at a place has a value that must not be shown.
func (f finding) hidden(file *config.File, at hcl.Range) bool {
	if f.Secret {
		return true
	}
	var given map[string]json.RawMessage
	_ = json.Unmarshal(f.pool.Variables, &given) // an object: config has made it
	return slices.ContainsFunc(f.secrets, func(name string) bool {
		secret := file.Place(f.pool.Name, "variables", name, f.Variant)
		_, set := given[name]
		return set && secret.Filename == at.Filename && secret.Start.Line <= at.Start.Line && at.Start.Line <= secret.End.Line
	})
}

// addSource gives a file the text of one of a module's, for its lines to be shown.
func addSource(file *config.File, path, shown string) {
	if _, known := file.Files()[shown]; known {
		return
	}
	src, err := os.ReadFile(path) //nolint:gosec // a file of a module
	if err != nil {
		return // the place is shown without it
	}
	parse := hclparse.NewParser().ParseHCL
	if strings.HasSuffix(path, ".json") {
		parse = hclparse.NewParser().ParseJSON
	}
	source, _ := parse(src, shown)
	if source == nil {
		source = &hcl.File{}
	}
	source.Bytes = bytes.Clone(src)
	file.Source(shown, source)
}

// sentence ends a text with a full stop, unless it ends with another sign or with
// lines of code.
func sentence(text string) string {
	if text == "" || strings.HasSuffix(text, ".") || strings.HasSuffix(text, "?") || strings.HasSuffix(text, "\n  }") {
		return text
	}
	return text + "."
}

// poolsOf writes the pools of findings for the middle of a sentence, and not too
// many of them.
func poolsOf(found []finding) string {
	const most = 3
	var names []string
	for i, f := range found {
		if i == most && len(found) > most+1 {
			names = append(names, fmt.Sprintf("%d others", len(found)-most))
			break
		}
		names = append(names, fmt.Sprintf("%q", f.pool.Name))
	}
	if len(names) == 1 {
		return "pool " + names[0]
	}
	return "pools " + strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
