package terraform

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/zclconf/go-cty/cty"
)

// builtIn is the provider that is part of Terraform itself, and in no lock file.
const builtIn = "terraform.io/builtin/terraform"

// requirements are the providers of one module: by the name that they have in it,
// where that is used first, and which they are.
type requirements struct {
	used    map[string]hcl.Range // relative to the root of the tree
	sources map[string]string    // as the module says it
}

func newRequirements() requirements {
	return requirements{used: make(map[string]hcl.Range), sources: make(map[string]string)}
}

// use notes the provider of a resource or data source.
func (r requirements) use(block *hcl.Block, at hcl.Range) {
	name, _, _ := strings.Cut(block.Labels[0], "_")
	content, _, _ := block.Body.PartialContent(&hcl.BodySchema{Attributes: []hcl.AttributeSchema{{Name: "provider"}}})
	if attr := content.Attributes["provider"]; attr != nil {
		if t, diags := hcl.AbsTraversalForExpr(attr.Expr); !diags.HasErrors() {
			name = t.RootName()
		}
	}
	r.configure(name, at)
}

// configure notes a provider that is named.
func (r requirements) configure(name string, at hcl.Range) {
	if _, known := r.used[name]; !known {
		r.used[name] = at
	}
}

// require reads a required_providers block. The place of an entry tells more than
// that of a resource.
func (r requirements) require(root string, block *hcl.Block) {
	attributes, _ := block.Body.JustAttributes()
	for name, attr := range attributes {
		r.used[name] = inModule(root, attr.NameRange)
		// configuration_aliases are no values, so the object is taken apart.
		pairs, diags := hcl.ExprMap(attr.Expr)
		if diags.HasErrors() {
			continue // a version alone
		}
		for _, pair := range pairs {
			key, _ := pair.Key.Value(nil)
			if hcl.ExprAsKeyword(pair.Key) != "source" && !key.RawEquals(cty.StringVal("source")) {
				continue
			}
			if v, diags := pair.Value.Value(nil); !diags.HasErrors() && v.Type() == cty.String && !v.IsNull() {
				r.sources[name] = v.AsString()
			}
		}
	}
}

// addresses gives the providers by what ends their address in a lock file, such as
// "hashicorp/aws": the host may be left to Terraform.
func (r requirements) addresses() map[string]hcl.Range {
	result := make(map[string]hcl.Range)
	for _, name := range slices.Sorted(maps.Keys(r.used)) {
		source := r.sources[name]
		switch {
		case source == "" && name == "terraform":
			source = builtIn
		case source == "":
			source = "hashicorp/" + name
		case !strings.Contains(source, "/"):
			source = "hashicorp/" + source
		}
		if source == builtIn || isOwn(source) {
			continue
		}
		if _, known := result[source]; !known {
			result[source] = r.used[name]
		}
	}
	return result
}

// checkLockFile compares the lock file of the module in root with the providers
// that it needs. What it finds are warnings: init fetches what is missing. For which
// platforms checksums are can't be seen, so that is for init to find, and so are the
// providers of modules from elsewhere.
func checkLockFile(root string, needed map[string]hcl.Range) []Problem {
	warning := func(at hcl.Range, format string, args ...any) Problem {
		p := mistake("Providers not pinned", at, format, args...).
			hint("run \"terraform providers lock -platform=%s\" in the module's directory, and commit the file with the module", platform())
		p.Warning, p.Code = true, ""
		return p
	}
	providers := slices.Sorted(maps.Keys(needed))
	lock := readLockFile(root)
	if lock == nil {
		if len(providers) == 0 {
			return nil
		}
		return []Problem{warning(needed[providers[0]], "it has no %s, which would pin its providers: %s", lockFileName, strings.Join(providers, ", "))}
	}
	places, diags := lockPlaces(root)
	if diags.HasErrors() {
		return syntaxProblems(root, diags)
	}
	var problems []Problem
	for _, provider := range providers {
		address, hashes, locked := lock.find(provider)
		switch {
		case !locked:
			problems = append(problems, warning(needed[provider], "its %s does not have the provider %s", lockFileName, provider))
		case len(hashes) == 0:
			problems = append(problems, warning(places[address], "its %s has no checksums of the provider %s", lockFileName, provider))
		}
	}
	return problems
}

// find gives a provider whose address ends so.
func (l lockFile) find(provider string) (address string, hashes []string, locked bool) {
	for _, address := range slices.Sorted(maps.Keys(l)) {
		if address == provider || strings.HasSuffix(address, "/"+provider) {
			return address, l[address], true
		}
	}
	return "", nil, false
}

// lockPlaces gives the places of the providers in the lock file of a module.
func lockPlaces(root string) (map[string]hcl.Range, hcl.Diagnostics) {
	f, diags := hclparse.NewParser().ParseHCLFile(filepath.Join(root, lockFileName))
	if diags.HasErrors() {
		return nil, diags
	}
	content, _, _ := f.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "provider", LabelNames: []string{"address"}}}})
	places := make(map[string]hcl.Range)
	for _, block := range content.Blocks {
		places[block.Labels[0]] = inModule(root, block.DefRange)
	}
	return places, nil
}
