package terraform

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/terraform-exec/tfexec"
	tfjson "github.com/hashicorp/terraform-json"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/modules"
)

const (
	// generationVersion is hashed into every generation. Changing it makes every
	// node stale.
	generationVersion = "duffy-broker generation 1"
	variablesPurpose  = "pool-variables"
	// unfinishedPrefix marks copies that were not accepted yet.
	unfinishedPrefix = ".new-"

	templateDigits   = 32
	generationDigits = 24
)

// Prepare accepts a pool's module: it keeps an initialised copy of the module
// tree, checks it against the module contract and the pool's variables, and gives
// the source that nodes are made from. All mistakes that it can find are reported
// at once, in a [ModuleError]. A tree that was accepted
// before costs no Terraform run.
//
// The module must be one self-contained tree: neither symbolic links nor local
// module sources may lead out of it.
func (e *Engine) Prepare(ctx context.Context, p broker.Pool) (broker.Source, error) {
	fail := func(problems ...Problem) (broker.Source, error) {
		return broker.Source{}, &ModuleError{Pool: p.Name, Module: p.Module, Problems: problems}
	}

	root, wrong := moduleRoot(p)
	if len(wrong) > 0 {
		return fail(wrong...)
	}
	if inside, err := filepath.Rel(root, e.Dir); err == nil && filepath.IsLocal(inside) {
		return fail(mistake("Module around the data directory", hcl.Range{}, "the data directory %s lies in it, and would be copied with it", e.Dir).
			hint("move the module into a directory of its own, or choose another data directory"))
	}
	variables, canonical, problems, foreign := readModuleTree(root).examine(p)
	if len(foreign) > 0 {
		return fail(slices.Concat(foreign, problems)...) // init would go there
	}

	e.initMu.Lock()
	defer e.initMu.Unlock()
	hash, err := hashTree(root)
	if err != nil {
		return fail(append(problems, treeProblem(err))...)
	}
	if !exists(filepath.Join(e.templatesDir(), hash)) {
		var more []Problem
		if hash, more = e.addTemplate(ctx, root); len(more) > 0 {
			if err := ctx.Err(); err != nil {
				return broker.Source{}, err
			}
			return fail(append(problems, unsaid(problems, more)...)...)
		}
	}
	if _, err := resolve(p.Credentials); err != nil {
		problems = append(problems, mistake("Unreadable credentials", hcl.Range{}, "%s", err).about("credentials").
			hint("the pool's credentials name a file (file:PATH) or a variable of the broker's environment (env:NAME) that must be there"))
	}
	if p.ProviderSharing {
		problems = append(problems, checkSharing(filepath.Join(e.templatesDir(), hash))...)
	}
	if len(problems) > 0 {
		return fail(problems...)
	}
	e.warn(ctx, p, hash)
	source := broker.Source{Template: hash, Generation: p.GenerationOver(generation(hash, canonical, p.Environ)), Sweeps: hasSweep(root)}
	if len(variables) > 0 {
		source.Variables, err = e.sealVariables(source.Generation, canonical)
	}
	return source, err
}

// PruneTemplates removes the kept module trees that keep does not name. The
// caller names those of all nodes and of all pools.
func (e *Engine) PruneTemplates(keep map[string]bool) error {
	e.tidyHosts(context.Background())
	e.initMu.Lock()
	defer e.initMu.Unlock()
	entries, err := os.ReadDir(e.templatesDir())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("kept modules: %w", err)
	}
	var problems []error
	for _, entry := range entries {
		if keep[entry.Name()] {
			continue
		}
		if err := os.RemoveAll(filepath.Join(e.templatesDir(), entry.Name())); err != nil {
			problems = append(problems, fmt.Errorf("kept module: %w", err))
		}
	}
	return errors.Join(problems...)
}

// addTemplate copies a module tree, initialises and validates the copy, and
// keeps it under its hash. The hash is the copy's: the tree may be changing.
func (e *Engine) addTemplate(ctx context.Context, root string) (string, []Problem) {
	internal := func(err error) (string, []Problem) {
		return "", []Problem{mistake("Module that can't be copied", hcl.Range{}, "it can't be copied to %s", e.templatesDir()).with(broker.CodeInternal, err)}
	}
	if err := os.MkdirAll(e.templatesDir(), 0o700); err != nil {
		return internal(err)
	}
	dir, err := os.MkdirTemp(e.templatesDir(), unfinishedPrefix) // mode 0700
	if err != nil {
		return internal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := copyTree(root, dir); err != nil {
		return "", []Problem{treeProblem(err)}
	}
	hash, err := hashTree(dir)
	if err != nil {
		return internal(err)
	}
	target := filepath.Join(e.templatesDir(), hash)
	if exists(target) {
		return hash, nil // the tree changed to one that is kept already
	}
	if err := noteManifest(dir); err != nil {
		return internal(err)
	}
	locked := readLockFile(dir)
	warnings, problems := e.initialise(ctx, root, dir)
	if len(problems) > 0 {
		return "", problems
	}
	more, problems := e.initialiseSweep(ctx, root, dir)
	if len(problems) > 0 {
		return "", problems
	}
	warnings = append(warnings, more...)
	if err := noteWarnings(dir, append(lockWarnings(locked, readLockFile(dir)), warnings...)); err != nil {
		return internal(err)
	}
	if err := ownPackages(dir); err != nil {
		return internal(err)
	}
	if err := ownPackages(filepath.Join(dir, sweepDir)); err != nil { // nothing without one
		return internal(err)
	}
	if err := makeReadOnly(dir); err != nil {
		return internal(err)
	}
	if err := os.Rename(dir, target); err != nil {
		return internal(err)
	}
	e.Log.InfoContext(ctx, "terraform module initialised", "module", root, "template", hash)
	return hash, nil
}

// initialise runs init and validate in dir, a copy of root.
func (e *Engine) initialise(ctx context.Context, root, dir string) ([]moduleWarning, []Problem) {
	internal := func(err error) ([]moduleWarning, []Problem) {
		return nil, []Problem{mistake("Terraform can't be run", hcl.Range{}, "terraform can't be run").with(broker.CodeInternal, err)}
	}
	more, withdraw, err := e.offerOwn(dir)
	defer func() { _ = withdraw() }() // done already, if all went well
	if err != nil {
		return internal(err)
	}
	tf, err := e.terraformWith(dir, broker.Environment{}, more...)
	if err != nil {
		return internal(err)
	}
	if err := tf.Init(ctx); ctx.Err() != nil {
		return internal(ctx.Err()) // the library's error may have no text then
	} else if err != nil {
		problem := mistake("Module that can't be initialised", hcl.Range{}, "terraform init: %s", initText(err)).with(broker.CodeUnavailable, nil)
		if strings.Contains(strings.Join(strings.Fields(problem.Detail), " "), checksumError) { // it is broken into lines
			return nil, []Problem{problem.hint("if its %s was made on another platform, complete it: %s (with -fs-mirror=DIR where providers come from a mirror)",
				lockFileName, e.lockCommand(root))}
		}
		return nil, []Problem{problem.
			hint("run \"terraform init\" in the module's directory; if it needs the network, check that, or the mirror of the CLI configuration")}
	}
	validation, err := tf.Validate(ctx)
	if err = errors.Join(err, e.linkOwn(dir), withdraw()); err != nil {
		return internal(err)
	}
	// Terraform reports them in no particular order.
	slices.SortFunc(validation.Diagnostics, func(a, b tfjson.Diagnostic) int {
		return cmp.Or(cmp.Compare(line(a), line(b)), cmp.Compare(diagnosticText(a), diagnosticText(b)))
	})
	var warnings []moduleWarning
	var problems []Problem
	for _, d := range validation.Diagnostics {
		text := diagnosticText(d)
		if d.Severity == tfjson.DiagnosticSeverityError {
			problems = append(problems, quotation(d).
				hint("\"terraform validate\" in the module's directory shows it too"))
			continue
		}
		warnings = append(warnings, moduleWarning{Text: text})
	}
	return warnings, problems
}

// terraformWith gives the library's Terraform for a directory, with the environment
// of runs, that of a pool, and more.
func (e *Engine) terraformWith(dir string, own broker.Environment, more ...string) (*tfexec.Terraform, error) {
	tf, err := tfexec.NewTerraform(dir, e.Binary.Path)
	if err != nil {
		return nil, err
	}
	entries, err := e.environmentOf(own)
	if err != nil {
		return nil, err
	}
	env := map[string]string{}
	for _, entry := range slices.Concat(entries, more) {
		name, value, _ := strings.Cut(entry, "=")
		env[name] = value
	}
	delete(env, "TF_IN_AUTOMATION") // the library's to set
	return tf, tf.SetEnv(env)
}

// initText gives what Terraform says, without what the library and warnings put
// in front of it.
func initText(err error) string {
	text := err.Error()
	if i := strings.Index(text, "\nError: "); i >= 0 {
		text = text[i:]
	}
	return strings.TrimSpace(text)
}

func line(d tfjson.Diagnostic) int {
	if d.Range == nil {
		return 0
	}
	return d.Range.Start.Line
}

func diagnosticText(d tfjson.Diagnostic) string { return quotation(d).String() }

func quotation(d tfjson.Diagnostic) Problem {
	return mistake(d.Summary, diagnosticRange(d), "%s", strings.TrimSpace(d.Detail)).quote()
}

// diagnosticRange gives the place of a diagnostic, relative to the directory that
// Terraform ran in; none where it has none.
func diagnosticRange(d tfjson.Diagnostic) hcl.Range {
	if d.Range == nil {
		return hcl.Range{}
	}
	position := func(p tfjson.Pos) hcl.Pos { return hcl.Pos{Line: p.Line, Column: p.Column, Byte: p.Byte} }
	return hcl.Range{Filename: d.Range.Filename, Start: position(d.Range.Start), End: position(d.Range.End)}
}

// unsaid leaves out of what Terraform finds the lines of which we have said what is
// wrong with them already.
func unsaid(said, found []Problem) []Problem {
	return slices.DeleteFunc(found, func(p Problem) bool {
		return p.ModuleRange.Filename != "" && slices.ContainsFunc(said, func(s Problem) bool {
			return s.Summary == invalidType && s.ModuleRange.Filename == p.ModuleRange.Filename && s.ModuleRange.Start.Line == p.ModuleRange.Start.Line
		})
	})
}

// canonicalVariables gives a pool's variables, and their one JSON form.
func canonicalVariables(raw json.RawMessage) (map[string]any, json.RawMessage, error) {
	variables := map[string]any{}
	if len(raw) > 0 {
		d := json.NewDecoder(bytes.NewReader(raw))
		d.UseNumber()
		if err := d.Decode(&variables); err != nil {
			return nil, nil, err
		}
	}
	canonical, err := json.Marshal(variables) // sorts the keys
	return variables, canonical, err
}

// sealVariables gives a pool's variables as they are kept with nodes: they may
// hold secrets, whatever the module says of them. The result is a JSON string.
func (e *Engine) sealVariables(generation string, variables []byte) (json.RawMessage, error) {
	return json.Marshal(e.Keyring.Seal(variablesPurpose, generation, variables))
}

func (e *Engine) unsealVariables(s broker.Source) ([]byte, error) {
	sealed, err := sealedVariables(s)
	if err != nil {
		return nil, err
	}
	if sealed == nil {
		return []byte("{}"), nil
	}
	return e.Keyring.Open(variablesPurpose, s.Generation, sealed)
}

// An environment that is empty counts for nothing: pools had none once.
func generation(template string, variables []byte, environ map[string]string) string {
	text := fmt.Appendf(nil, "%s\n%s\n%s", generationVersion, template, variables)
	for _, name := range slices.Sorted(maps.Keys(environ)) {
		text = fmt.Appendf(text, "\n%q=%q", name, environ[name])
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])[:generationDigits]
}

// skipped tells which entries are no part of a module: what Terraform, git and
// the broker itself leave in its directory.
func skipped(name string) bool {
	return name == ".git" || name == ".terraform" || name == ownDir || strings.Contains(name, ".tfstate")
}

// errLeaves says that a symbolic link leads out of the module.
type errLeaves struct{ name string }

func (e errLeaves) Error() string { return "symbolic link " + e.name + " leads out of it" }

func treeProblem(err error) Problem {
	if leaves := (errLeaves{}); errors.As(err, &leaves) {
		return mistake("Link out of the module", hcl.Range{}, "%s, or nowhere", leaves).
			hint("a pool's module is copied as one tree: put a copy of the file in place of the link")
	}
	return mistake("Unreadable module", hcl.Range{}, "it can't be read").with(broker.CodeInvalid, err)
}

// walkTree calls fn for each directory, regular file and symbolic link that
// belongs to the module in root, in lexical order. Its tests don't: a node is the
// same with others. Links that lead out of the tree are an error.
func walkTree(root string, fn func(tree *os.Root, name string, info fs.FileInfo) error) error {
	tree, err := os.OpenRoot(root)
	if err != nil {
		return err
	}
	defer func() { _ = tree.Close() }()
	return fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		if skipped(path.Base(name)) || modules.IsTest(tree.FS(), name) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink != 0 {
			if _, err := tree.Stat(name); err != nil {
				return errLeaves{name}
			}
		} else if !info.IsDir() && !info.Mode().IsRegular() {
			return fmt.Errorf("%s is neither a file nor a directory", name)
		}
		return fn(tree, name, info)
	})
}

// isReadme tells whether a file of a module is there for people alone. It is kept
// with the module, but words that were put right make no node stale.
func isReadme(name string) bool { return path.Base(name) == "README.md" }

// hashTree gives the hash of a module: of the paths, contents and executable
// bits of its files.
func hashTree(root string) (string, error) {
	all := sha256.New()
	err := walkTree(root, func(tree *os.Root, name string, info fs.FileInfo) error {
		switch {
		case info.IsDir(), isReadme(name):
			return nil // as git sees it: a tree is its files
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := tree.Readlink(name)
			_, _ = fmt.Fprintf(all, "link %q %q\n", name, target) // hashes take all
			return err
		}
		f, err := tree.Open(name)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		one := sha256.New()
		if _, err := io.Copy(one, f); err != nil {
			return err
		}
		_, _ = fmt.Fprintf(all, "file %q %t %x\n", name, info.Mode()&0o100 != 0, one.Sum(nil))
		return nil
	})
	return hex.EncodeToString(all.Sum(nil))[:templateDigits], err
}

// copyTree copies a module, for its owner only.
func copyTree(root, to string) error {
	return walkTree(root, func(tree *os.Root, name string, info fs.FileInfo) error {
		target := filepath.Join(to, filepath.FromSlash(name))
		switch {
		case info.IsDir():
			return os.Mkdir(target, 0o700)
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := tree.Readlink(name)
			if err != nil {
				return err
			}
			return os.Symlink(link, target)
		}
		return copyFile(tree, name, target)
	})
}

// copyFile copies a file of a tree, for its owner only.
func copyFile(tree *os.Root, name, target string) error {
	from, err := tree.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = from.Close() }()
	info, err := from.Stat()
	if err != nil {
		return err
	}
	file, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600|info.Mode()&0o100) //nolint:gosec // a name in the tree
	if err != nil {
		return err
	}
	_, err = io.Copy(file, from)
	return errors.Join(err, file.Sync(), file.Close())
}

// makeReadOnly takes the right to write from the files of a kept module. All
// nodes share it. Directories stay writable for their owner, so that they can be
// removed.
func makeReadOnly(dir string) error {
	tree, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer func() { _ = tree.Close() }()
	return fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		return tree.Chmod(name, info.Mode().Perm()&0o500)
	})
}
