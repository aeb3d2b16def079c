package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/duffy-broker/duffy-broker/broker/modulesource"
	"github.com/duffy-broker/duffy-broker/modules"
)

// module parses the source of a Terraform module. The path of a directory becomes
// absolute; what comes from elsewhere stays as it is written.
func (l *loader) module(v cty.Value) (string, complaint) {
	path, wrong := text(v)
	if wrong != "" {
		return "", wrong
	}
	if path == "" {
		return "", `must be the path of a directory, such as "./modules/local", or a source, such as "builtin:local".`
	}
	if source, is, problem := modulesource.Parse(path); is {
		return path, cmp.Or(complaint(problem), unknownBuiltin(source.Builtin))
	}
	shown, absolute := path, path
	if !filepath.IsAbs(path) {
		shown, absolute = filepath.Join(l.dir, path), filepath.Join(l.root, path)
	}
	info, err := os.Stat(absolute)
	switch {
	case err != nil:
		wrong = complaint(fmt.Sprintf("is %s, which %s.", shown, problem(err)))
		if name := suggest(filepath.Base(path), directories(filepath.Dir(absolute))); name != "" {
			return "", wrong + complaint(fmt.Sprintf(" Did you mean %q?", strings.TrimSuffix(path, filepath.Base(path))+name))
		}
		if _, is, problem := modulesource.Parse(path + "?version=1.2.3"); is && problem == "" {
			return "", wrong + complaint(fmt.Sprintf(" A module of a registry is written with its version: %q.", path+"?version=1.2.3"))
		}
		return "", wrong + " It must be the path of a directory, relative to this file."
	case !info.IsDir():
		return "", complaint(fmt.Sprintf("is %s, which is not a directory. Name the directory that holds the module's .tf files.", shown))
	}
	entries, err := os.ReadDir(absolute)
	if err != nil {
		return "", complaint(fmt.Sprintf("is %s, which %s. Make it readable.", shown, problem(err)))
	}
	if !slices.ContainsFunc(entries, isTerraform) {
		return "", complaint(fmt.Sprintf("is %s, which holds no .tf file. Name the directory that holds the module's .tf files.", shown))
	}
	return absolute, ""
}

// unknownBuiltin says that no module of that name is shipped.
func unknownBuiltin(name string) complaint {
	names := modules.Names()
	if name == "" || slices.Contains(names, name) {
		return ""
	}
	hint := "`duffy-broker modules list` names them."
	if meant := suggest(name, names); meant != "" {
		hint = fmt.Sprintf("Did you mean \"builtin:%s\"?", meant)
	}
	return complaint(fmt.Sprintf("is %q, which is not one of the modules that this program ships. %s", "builtin:"+name, hint))
}

// isTerraform tells whether Terraform would read a file of a module's directory.
func isTerraform(e fs.DirEntry) bool {
	return !e.IsDir() && !strings.HasPrefix(e.Name(), ".") &&
		(strings.HasSuffix(e.Name(), ".tf") || strings.HasSuffix(e.Name(), ".tf.json"))
}

// directories gives the names of the directories in one.
func directories(parent string) []string {
	entries, err := os.ReadDir(parent)
	if err != nil {
		return nil // only a suggestion is lost
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

// problem writes an error of the file system without its path.
func problem(err error) string {
	if os.IsNotExist(err) {
		return "does not exist"
	}
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		err = p.Err
	}
	return "can't be read: " + err.Error()
}
