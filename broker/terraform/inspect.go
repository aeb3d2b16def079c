package terraform

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Inspector says what pools are made from, as [Engine.Prepare] would, without
// Terraform, data directory and network. It reads each module once: the zero value
// is for one look at a set of pools.
type Inspector struct {
	checker Checker
	trees   map[string]moduleTree // by root
}

// moduleTree is a module tree as it was read.
type moduleTree struct {
	hash   string
	module broker.Module
	err    error
}

// Inspect gives the source that nodes of p would be made from, without variables,
// and the module's files. Mistakes are those that [Engine.Prepare] finds without
// Terraform, all at once, in a [ModuleError].
func (i *Inspector) Inspect(p broker.Pool) (broker.Source, broker.Module, error) {
	fail := func(problems ...Problem) (broker.Source, broker.Module, error) {
		return broker.Source{}, broker.Module{}, &ModuleError{Pool: p.Name, Module: p.Module, Problems: problems}
	}
	root, wrong := moduleRoot(p)
	if len(wrong) > 0 {
		return fail(wrong...)
	}
	_, canonical, problems, foreign := i.checker.known(root).examine(p)
	if problems = slices.Concat(foreign, problems); len(problems) > 0 {
		return fail(problems...)
	}
	t, known := i.trees[root]
	if !known {
		t = readTree(root)
		if i.trees == nil {
			i.trees = make(map[string]moduleTree)
		}
		i.trees[root] = t
	}
	if t.err != nil {
		return fail(treeProblem(t.err))
	}
	return broker.Source{Template: t.hash, Generation: p.GenerationOver(generation(t.hash, canonical, p.Environ)), Sweeps: hasSweep(root)}, t.module, nil
}

func readTree(root string) (t moduleTree) {
	if t.hash, t.err = hashTree(root); t.err != nil {
		return t
	}
	t.module, t.err = manifest(root)
	return t
}

// manifest lists the files of a module with their digests, and the variables that
// nobody is to see.
func manifest(root string) (broker.Module, error) {
	var result broker.Module
	var err error
	if result.Files, err = digestFiles(root); err != nil {
		return result, err
	}
	m, _ := readModule(root, root)
	for _, name := range m.own() {
		if m.variables[name].secret() {
			result.Sensitive = append(result.Sensitive, name)
		}
	}
	return result, nil
}

// templatesName is the directory of kept modules, in the data directory.
const templatesName = "templates"

func digest(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])[:digestDigits]
}

// digestDigits are enough to tell that a file has changed.
const digestDigits = 16

// manifestFile is where a kept module's files are noted, below ownDir, as they
// were before init changed the lock file.
const manifestFile = "manifest.json"

// noteManifest keeps the manifest of the module copy in dir with it.
func noteManifest(dir string) error {
	m, err := manifest(dir)
	if err != nil {
		return err
	}
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Join(dir, ownDir), 0o700); err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, ownDir, manifestFile), text)
}

// ReadModule implements [broker.ModuleReader].
func (e *Engine) ReadModule(template string) (broker.Module, error) {
	return ReadKeptModule(e.Dir, template)
}

// ReadKeptModule gives the module of a template that is kept in a data directory;
// [broker.CodeNotFound] where it is not.
func ReadKeptModule(dataDir, template string) (broker.Module, error) {
	dir := filepath.Join(dataDir, templatesName, filepath.Base(template))
	var m broker.Module
	text, err := os.ReadFile(filepath.Join(dir, ownDir, manifestFile)) //nolint:gosec // a file of ours
	if err == nil {
		err = json.Unmarshal(text, &m)
		return m, err
	}
	if template == "" || !exists(dir) {
		return m, broker.Errorf(broker.CodeNotFound, "the module %q is not kept", template)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return m, err
	}
	// One that was kept by an earlier version: its lock file is what init made of it.
	if m, err = manifest(dir); err != nil {
		return m, err
	}
	delete(m.Files, lockFileName)
	m.LockUnknown = true
	return m, nil
}

// digestFiles gives the digest of each file and link of a module, by its path: of
// the content and of whether it may be executed.
func digestFiles(root string) (map[string]string, error) {
	digests := make(map[string]string)
	err := walkTree(root, func(tree *os.Root, name string, info fs.FileInfo) error {
		switch {
		case info.IsDir(), isReadme(name):
			return nil
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := tree.Readlink(name)
			digests[name] = digest(fmt.Appendf(nil, "link %q", target))
			return err
		}
		f, err := tree.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		content, err := io.ReadAll(f)
		digests[name] = digest(fmt.Appendf(content, "\nexecutable %t", info.Mode()&0o100 != 0))
		return err
	})
	return digests, err
}
