package terraform

import (
	"cmp"
	"encoding/json"
	"path/filepath"
	"slices"

	"github.com/hashicorp/hcl/v2"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/modulesource"
)

// Checker finds what is wrong with the modules of pools, without Terraform, network
// and credentials. It reads each module once: the zero value is for one look at a
// set of pools. It is not safe for concurrent use.
//
// Providers, and modules that come from elsewhere, are for [Engine.Prepare] to look
// at, and so is what `terraform validate` knows.
type Checker struct {
	modules map[string]*knownModule // by root
}

// knownModule is what is known of a module tree without Terraform.
type knownModule struct {
	root          string
	module, sweep module
	swept         bool      // there is a sweep configuration that could be read
	unreadable    []Problem // then nothing else is known
	problems      []Problem // that any pool with the module has
	foreign       []Problem // the same; init would go elsewhere
	lock          []Problem // warnings, mostly
	lockRead      bool
}

// Check gives the problems of a pool's module: the errors are those that
// [Engine.Prepare] finds before it runs Terraform, the warnings are about the lock
// file. secrets are the pool's variables whose values must not be shown.
func (c *Checker) Check(p broker.Pool) (problems []Problem, secrets []string) {
	root, wrong := moduleRoot(p)
	if len(wrong) > 0 {
		return wrong, nil
	}
	t := c.known(root)
	if !t.lockRead && t.unreadable == nil {
		t.lock, t.lockRead = checkLockFile(root, neededProviders(root)), true
	}
	_, _, found, foreign := t.examine(p)
	lock := slices.Clone(t.lock)
	if p.ModuleDir != "" {
		for i := range lock {
			lock[i].Hint = mendElsewhere(p.Module)
		}
	}
	return slices.Concat(foreign, found, lock), t.module.secrets()
}

// known gives the module in root, which is read once.
func (c *Checker) known(root string) *knownModule {
	t, ok := c.modules[root]
	if !ok {
		t = readModuleTree(root)
		if c.modules == nil {
			c.modules = make(map[string]*knownModule)
		}
		c.modules[root] = t
	}
	return t
}

// moduleRoot gives the directory of a pool's module, or what is wrong with it.
func moduleRoot(p broker.Pool) (string, []Problem) {
	if p.ModuleDir == "" && modulesource.Is(p.Module) {
		return "", []Problem{mistake("Module not fetched", hcl.Range{}, "it has not been fetched").with(broker.CodeInternal, nil)}
	}
	root, err := filepath.EvalSymlinks(cmp.Or(p.ModuleDir, p.Module))
	if err != nil {
		return "", []Problem{mistake("No module", hcl.Range{}, "there is no such directory").with(broker.CodeInvalid, err).
			hint("check the pool's module path: a relative one counts from the file that it stands in")}
	}
	if len(moduleFiles(root)) == 0 {
		return "", []Problem{mistake("No module", hcl.Range{}, "it has no .tf files").
			hint("module names the directory that holds the module's .tf files")}
	}
	return root, nil
}

// readModuleTree reads the module in root, and finds what is wrong with it whatever
// a pool gives it.
func readModuleTree(root string) *knownModule {
	t := &knownModule{root: root}
	m, diags := readModule(root, root)
	if diags.HasErrors() {
		t.unreadable = syntaxProblems(root, diags)
		return t
	}
	t.module = m
	t.sweep, t.swept, t.problems = readSweep(root)
	_, mistakes := readErrorRules(root)
	t.problems = append(t.problems, mistakes...)
	t.foreign = slices.Concat(m.checkBackends(), checkSources(root), checkSweepTree(root))
	return t
}

// examine finds what is wrong with a pool's module without Terraform. Where it
// can't be read, or leads elsewhere, that is foreign: then nothing more can be done
// with it. It also gives the pool's variables, and their one JSON form.
func (t *knownModule) examine(p broker.Pool) (variables map[string]any, canonical json.RawMessage, problems, foreign []Problem) {
	variables, canonical, err := canonicalVariables(p.Variables)
	if err != nil {
		return nil, nil, nil, []Problem{mistake("Invalid variables", hcl.Range{}, "the pool's variables are not an object").about("variables")}
	}
	if t.unreadable != nil {
		return nil, nil, nil, t.unreadable
	}
	problems = append(t.module.checkContract(variables), t.module.checkFollow(p.Follow)...)
	if t.swept {
		problems = append(problems, t.sweep.checkVariables(variables, "its sweep configuration's")...)
	}
	return variables, canonical, append(problems, t.problems...), t.foreign
}

// neededProviders gives the providers of the module in root and of those in its
// tree that it uses.
func neededProviders(root string) map[string]hcl.Range {
	needed := make(map[string]hcl.Range)
	_ = walkSources(root, ".", func(m module) { // what is wrong with the sources is reported elsewhere
		for provider, at := range m.providers.addresses() {
			if _, known := needed[provider]; !known {
				needed[provider] = at
			}
		}
	})
	return needed
}
