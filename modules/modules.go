// Package modules holds the Terraform modules that are shipped, as part of the
// program: `module = "builtin:NAME"` needs no checkout of them.
//
// What there is of a module is what decides what a node is: its .tf files, its
// lock file, duffy.hcl, sweep/, templates, the README. Tests are left out, as they
// are when the broker hashes a directory, so a module has one generation wherever
// it is read from.
package modules

import (
	"embed"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Every folder with a README.md is a module; one begins with a t: test, which has
// Go packages. The first pattern takes what has an ordinary name, directories
// with all that is in them, and the second what begins with a dot: the lock file.
// It is written so that it also matches something where no module has one. A
// directory's own dot files, such as .terraform, are left out by Go.
//
//go:embed [^t]*/[A-Za-z]* [^t]*/*.[hm][cd]*
var files embed.FS

// Module is a module that is shipped.
type Module struct {
	Name        string // of its folder
	Description string // one sentence, from its README
	// Files are the files of its folder, without tests.
	Files fs.FS
}

// All gives the modules, sorted by name.
func All() []Module {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic("modules: " + err.Error()) // the root is always there
	}
	var all []Module
	for _, e := range entries {
		below, err := fs.Sub(files, e.Name())
		if err != nil {
			panic("modules: " + err.Error()) // only names that are no paths give one
		}
		readme, err := fs.ReadFile(below, "README.md")
		if err != nil {
			continue // not a module
		}
		all = append(all, Module{Name: e.Name(), Description: firstSentence(string(readme)), Files: tree{below}})
	}
	return all
}

// Names gives the names of the modules, sorted.
func Names() []string {
	var names []string
	for _, m := range All() {
		names = append(names, m.Name)
	}
	return names
}

// Lookup gives the module of a name, and whether there is one.
func Lookup(name string) (Module, bool) {
	all := All()
	i := slices.IndexFunc(all, func(m Module) bool { return m.Name == name })
	if i < 0 {
		return Module{}, false
	}
	return all[i], true
}

// marks are Markdown's, for what a sentence is likely to have.
var marks = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)|[` + "`" + `*]`)

// firstSentence gives the first sentence below the title of a README, as plain text.
func firstSentence(readme string) string {
	_, text, _ := strings.Cut(readme, "\n")
	paragraph, _, _ := strings.Cut(strings.TrimSpace(text), "\n\n")
	sentence, _, more := strings.Cut(strings.Join(strings.Fields(paragraph), " "), ". ")
	if more {
		sentence += "."
	}
	return marks.ReplaceAllString(sentence, "$1")
}

// tree leaves out what is no part of a module. As [fs.ReadDirFS] it does so for all
// that walk it.
type tree struct{ all fs.FS }

func (t tree) Open(name string) (fs.File, error) {
	for at := name; at != "."; at = path.Dir(at) {
		if t.leftOut(at) {
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		}
	}
	return t.all.Open(name) //nolint:wrapcheck // it stands for all
}

func (t tree) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(t.all, name)
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return t.leftOut(path.Join(name, e.Name())) })
	return entries, err //nolint:wrapcheck // it stands for all
}

// leftOut tells of what Terraform leaves in a folder, and of tests.
func (t tree) leftOut(name string) bool {
	base := path.Base(name)
	return base == ".terraform" || strings.Contains(base, ".tfstate") || strings.HasSuffix(base, "_test.go") || IsTest(t.all, name)
}

// IsTest tells whether something in a module is for `terraform test` alone: a test
// file, or the directory tests, if it has some.
func IsTest(module fs.FS, name string) bool {
	if strings.HasSuffix(name, ".tftest.hcl") || strings.HasSuffix(name, ".tftest.json") {
		return true
	}
	if name != "tests" {
		return false
	}
	found, _ := fs.Glob(module, "tests/*.tftest.*") // the pattern is a good one
	return len(found) > 0
}
