package terraform

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/modulesource"
	"github.com/duffy-broker/duffy-broker/modules"
)

const (
	// fetchTimeout bounds the fetching of one module: a server that doesn't answer
	// must not keep a reload waiting for ever.
	fetchTimeout = 5 * time.Minute
	// fetchGrace is how long Terraform may take to stop then.
	fetchGrace = 10 * time.Second
	// fetchedName is what the module is called while it is fetched.
	fetchedName = "module"
)

// Trees keeps the files of modules that are no directories of the operator's:
// those of the program, and those that [Engine.Locate] fetches. Each has a
// directory of its own, named by what it is made of, which is written once.
type Trees struct {
	Dir string // made when it is needed
}

// Find gives the directory of a pool's module: a module of the program is written
// there if it is not there yet. known is false for one that has not been fetched.
// For the path of a directory dir is "".
func (t Trees) Find(p broker.Pool) (dir string, known bool, err error) {
	source, is, problem := modulesource.Parse(p.Module)
	switch {
	case !is:
		return "", true, nil
	case problem != "":
		return "", false, broker.Errorf(broker.CodeInvalid, "pool %q: module %s", p.Name, problem)
	case source.Builtin == "":
		dir = t.fetched(source)
		return dir, exists(dir), nil
	}
	m, ok := modules.Lookup(source.Builtin)
	if !ok {
		return "", false, broker.Errorf(broker.CodeInvalid, "pool %q: there is no module %s", p.Name, source)
	}
	dir, err = t.write(m)
	if err != nil {
		return "", false, broker.Wrap(broker.CodeUnavailable, err, "pool %q: module %s can't be written to %s", p.Name, source, t.Dir)
	}
	return dir, true, nil
}

// fetched gives the directory for a source.
func (t Trees) fetched(s modulesource.Source) string {
	sum := sha256.Sum256([]byte(s.String()))
	return filepath.Join(t.Dir, "fetched-"+hex.EncodeToString(sum[:])[:templateDigits])
}

// write writes a module of the program.
func (t Trees) write(m modules.Module) (string, error) {
	h := sha256.New()
	err := fs.WalkDir(m.Files, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(m.Files, name)
		_, _ = fmt.Fprintf(h, "%q %x\n", name, sha256.Sum256(content)) // hashes take all
		return err
	})
	if err != nil {
		return "", err
	}
	target := filepath.Join(t.Dir, "builtin-"+m.Name+"-"+hex.EncodeToString(h.Sum(nil))[:templateDigits])
	if exists(target) {
		return target, nil
	}
	return target, t.add(target, func(dir string) error {
		return fs.WalkDir(m.Files, ".", func(name string, d fs.DirEntry, err error) error {
			to := filepath.Join(dir, filepath.FromSlash(name))
			switch {
			case err != nil || name == ".":
				return err
			case d.IsDir():
				return os.Mkdir(to, 0o700)
			}
			content, err := fs.ReadFile(m.Files, name)
			if err != nil {
				return err
			}
			return writeFile(to, content)
		})
	})
}

// add makes a tree with fill. It is complete as soon as it is there.
func (t Trees) add(target string, fill func(dir string) error) error {
	if err := os.MkdirAll(t.Dir, 0o700); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(t.Dir, unfinishedPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := fill(dir); err != nil {
		return err
	}
	if err := makeReadOnly(dir); err != nil {
		return err
	}
	err = os.Rename(dir, target)
	if err != nil && exists(target) { // another was first
		return nil
	}
	return err
}

// prune removes the trees that keep, by path, does not name.
func (t Trees) prune(keep map[string]bool) error {
	entries, err := os.ReadDir(t.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("modules: %w", err)
	}
	var problems []error
	for _, e := range entries {
		if dir := filepath.Join(t.Dir, e.Name()); !keep[dir] {
			problems = append(problems, os.RemoveAll(dir))
		}
	}
	return errors.Join(problems...)
}

// Trees are those in the data directory.
func (e *Engine) Trees() Trees { return KeptTrees(e.Dir) }

// KeptTrees gives the trees in a data directory.
func KeptTrees(dataDir string) Trees { return Trees{Dir: filepath.Join(dataDir, "modules")} }

// Locate gives the directory with the files of a pool's module if its source is no
// directory, else "": see [Trees]. What comes from elsewhere is fetched with
// Terraform, once for each source, in the environment of the broker. Where that does
// not succeed, the error is a [ModuleError] with what Terraform says.
func (e *Engine) Locate(ctx context.Context, p broker.Pool) (string, error) {
	e.fetchMu.Lock()
	defer e.fetchMu.Unlock()
	dir, known, err := e.Trees().Find(p)
	if err != nil || known {
		return dir, err
	}
	source, _, _ := modulesource.Parse(p.Module) // Find has
	err = e.Trees().add(dir, func(tree string) error { return e.fetch(ctx, source, tree) })
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err == nil {
		e.Log.InfoContext(ctx, "terraform module fetched", "module", p.Module)
		return dir, nil
	}
	problem := mistake("Module that can't be fetched", hcl.Range{}, "it can't be kept in %s", e.Trees().Dir).with(broker.CodeUnavailable, err)
	if said, ok := errors.AsType[fetchError](err); ok {
		problem = mistake("Module that can't be fetched", hcl.Range{}, "terraform get: %s", string(said)).with(broker.CodeUnavailable, nil).
			hint("check the source, the network, and the broker's credentials for it: Terraform fetches as the broker's user")
	} else if leaves := (errLeaves{}); errors.As(err, &leaves) {
		problem = treeProblem(err)
	}
	return "", &ModuleError{Pool: p.Name, Module: p.Module, Problems: []Problem{problem}}
}

// fetchError is what Terraform says when it can't fetch a module.
type fetchError string

func (e fetchError) Error() string { return string(e) }

// fetch has Terraform fetch a module, and copies it into tree. Modules of a
// registry are fetched by module blocks only, so one is written for each source.
func (e *Engine) fetch(ctx context.Context, source modulesource.Source, tree string) error {
	dir, err := os.MkdirTemp(e.Trees().Dir, unfinishedPrefix)
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	call := map[string]string{"source": source.Address}
	if source.Version != "" {
		call["version"] = source.Version
	}
	text, err := json.Marshal(map[string]any{"module": map[string]any{fetchedName: call}})
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, "main.tf.json"), text); err != nil {
		return err
	}
	// Git asks nobody anything. Credentials are those of its own configuration.
	environ := map[string]string{"GIT_TERMINAL_PROMPT": "0"}
	if os.Getenv("GIT_SSH_COMMAND") == "" {
		environ["GIT_SSH_COMMAND"] = "ssh -o BatchMode=yes"
	}
	tf, err := e.terraformWith(dir, broker.Environment{Environ: environ})
	if err != nil {
		return err
	}
	if err := tf.SetWaitDelay(fetchGrace); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	if err := tf.Get(ctx); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			return fetchError("it took longer than " + fetchTimeout.String())
		}
		return fetchError(initText(err))
	}
	root, err := fetchedDir(dir)
	if err != nil {
		return err
	}
	if len(moduleFiles(root)) == 0 {
		return fetchError("there are no .tf files at " + source.String())
	}
	return copyTree(root, tree)
}

// fetchedDir gives the directory of the module that was fetched into dir.
func fetchedDir(dir string) (string, error) {
	text, err := os.ReadFile(filepath.Join(dir, ".terraform", "modules", "modules.json")) //nolint:gosec // a directory of ours
	if err != nil {
		return "", err
	}
	var manifest struct {
		Modules []struct{ Key, Dir string }
	}
	if err := json.Unmarshal(text, &manifest); err != nil {
		return "", fmt.Errorf("what terraform get has noted: %w", err)
	}
	for _, m := range manifest.Modules {
		if m.Key == fetchedName {
			return filepath.Join(dir, filepath.FromSlash(m.Dir)), nil
		}
	}
	return "", errors.New("terraform get has not noted where the module is")
}

// PruneTrees removes the files of the modules of none of these pools. It must not
// run while others are located.
func (e *Engine) PruneTrees(pools []broker.Pool) error {
	keep := make(map[string]bool)
	for _, p := range pools {
		keep[p.ModuleDir] = true
	}
	e.fetchMu.Lock()
	defer e.fetchMu.Unlock()
	return e.Trees().prune(keep)
}
