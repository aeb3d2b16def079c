// Package config reads pools.hcl, the file in which operators describe their
// pools, into [broker.Pool]s. A directory of such files is read as one file.
//
// The language is HCL, with these kinds of block:
//
//	environment       which variables of the environment expressions may read
//	locals            values with a name, for expressions
//	terraform         which Terraform, and how many runs of it at once
//	inventory "NAME"  machines that exist, on which pools make their nodes
//	account "NAME"    how fast runs may start against one provider account
//	legacy            how the API of Duffy v2 answers
//	reload            when a reload must be confirmed
//	policy            which changes of the file are refused, or warned of
//	tenant_defaults   quota and lifetimes of tenants that have none of their own
//	defaults          settings of every pool
//	template "NAME"   settings of the pools, and other templates, that extend it
//	pool "NAME"       one pool, or one for each element of a collection
//	moved             a pool that has another name now
//
// A setting of a pool comes from the pool itself, else from the template that it
// extends, else from that one's own template, and so on; else from defaults;
// else it is the built-in one. Variables of the module are inherited key by key,
// everything else as a whole. null means "not set", as in Terraform.
//
// A pool with for_each stands for one pool for each element. Its expressions have
// each.key and each.value; those of templates and defaults have not: what these
// say is the same for all, can be read on its own, and is evaluated once.
//
// Every mistake of a file is reported in one go, at the value that is wrong, and
// once: a mistake in a template is not repeated for the pools that extend it.
// So each value is read and checked in the block where it stands, and only what
// takes two values (max_nodes and fill_level) is checked on the finished pool.
//
// Expressions have Terraform's functions, but none whose result differs between
// two readings of the same file (timestamp, uuid, bcrypt): these would make all
// nodes stale at each reload.
package config

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty/function"

	"github.com/duffy-broker/duffy-broker/broker"
)

// File is what a pools.hcl says.
type File struct {
	// Root is the directory that the file is in, absolute: path.root.
	Root string
	// Terraform holds the settings of the terraform block, or the built-in ones.
	Terraform Terraform
	// Pools are in the order of the file, complete and checked, with an absolute
	// Module and an empty Source. There are none when the file has an error.
	Pools []broker.Pool
	// Legacy holds the settings of the legacy block; nil without one: then there
	// is no legacy API.
	Legacy *Legacy
	// Accounts are in the order of the file, complete and checked. There are none
	// when the file has an error.
	Accounts []broker.Account
	// Moves are the renamed pools of the moved blocks, each with its last name.
	// There are none when the file has an error.
	Moves []broker.Move
	// Inventories are in the order of the file, complete and checked. There are none
	// when the file has an error.
	Inventories []broker.Inventory
	// TenantDefaults are the settings of the tenant_defaults block.
	TenantDefaults broker.TenantDefaults
	// Reload says when a reload must be confirmed.
	Reload Reload
	// Policy are the rules of the policy block, denials first.
	Policy []Rule

	dir     string // of the file, as the caller wrote it
	files   map[string]*hcl.File
	places  places
	allowed []string // variables of the environment that expressions may read
}

// Terraform says which Terraform to run, and how often at once.
type Terraform struct {
	// RequiredVersion is nil where every version will do.
	RequiredVersion version.Constraints
	// Runs is the most that may run at once, over all pools; 0 where the file
	// leaves it to the memory that there is.
	Runs int
	// MemoryPerRun is how many bytes one run is taken to need.
	MemoryPerRun int64
}

// Files gives the sources that were read, by the names used in diagnostics, for
// [WriteDiagnostics]. It is also there when [Load] found errors.
func (f *File) Files() map[string]*hcl.File { return f.files }

// Load reads the file at path, or the files of the directory at path as one: see
// [Sources]. The paths in it are relative to its directory.
//
// The File is never nil, but use its settings only when the diagnostics have no
// errors. Diagnostics are sorted by place, and none comes twice.
func Load(path string) (*File, hcl.Diagnostics) {
	f := &File{
		Terraform: Terraform{MemoryPerRun: defaultMemoryPerRun},
		files:     make(map[string]*hcl.File),
	}
	body, diags := f.parse(path)
	if body == nil {
		return f, diags
	}
	l := &loader{path: path, dir: path, syntax: diags, owners: make(map[*hcl.Diagnostic]*instance), places: newPlaces()}
	if f.files[path] != nil { // a file
		l.dir = filepath.Dir(path)
	}
	root, err := filepath.Abs(l.dir)
	if err != nil {
		return f, hcl.Diagnostics{unreadable(path, err)}
	}
	l.root, f.Root, f.dir = root, root, l.dir
	l.context = l.evalContext()
	pools, accounts, legacy := l.file(body, &f.Terraform)

	diags = tidy(append(diags, l.keyed(l.diags)...))
	f.places, f.allowed = l.places, l.allowed.names
	if !diags.HasErrors() {
		f.Pools, f.Accounts, f.Legacy, f.TenantDefaults, f.Reload, f.Policy = pools, accounts, legacy, l.tenants, l.reload, l.rules
		f.Moves = l.moved
		f.Inventories = l.inventories
	}
	return f, diags
}

// loader collects the mistakes of one file, or directory, while it is read.
type loader struct {
	path    string // as the caller wrote it
	dir     string // of the file, as the caller wrote it: for messages
	root    string // the same, absolute: for results
	context *hcl.EvalContext
	// functions are those of context; allowed is what env may read.
	functions map[string]function.Function
	allowed   allowed
	syntax    hcl.Diagnostics // what the parser found
	diags     hcl.Diagnostics // what we found
	tenants   broker.TenantDefaults
	rules     []Rule
	reload    Reload
	moved     []broker.Move
	places    places
	// inventories are the ones of the file.
	inventories []broker.Inventory
	// locals is nil until they are read; allLocals: none was lost to a mistake.
	locals    map[string]*local
	allLocals bool
	// each is the instance that is read, nil outside of blocks with for_each;
	// owners are those of mistakes.
	each   *instance
	owners map[*hcl.Diagnostic]*instance
	// described is nil, unless the file is described instead of read.
	described map[*hclsyntax.Body]*Block
}

// report notes a mistake at a place.
func (l *loader) report(at hcl.Range, summary, format string, args ...any) {
	l.diags = append(l.diags, &hcl.Diagnostic{
		Severity: hcl.DiagError,
		Summary:  summary,
		Detail:   fmt.Sprintf(format, args...),
		Subject:  &at,
	})
}

// broken tells whether the parser stumbled within these lines. What it made of
// them is a guess, so nothing more is said about them.
func (l *loader) broken(at hcl.Range) bool {
	return slices.ContainsFunc(l.syntax, func(d *hcl.Diagnostic) bool {
		return d.Subject != nil && d.Subject.Filename == at.Filename && d.Subject.Start.Line <= at.End.Line && d.Subject.End.Line >= at.Start.Line
	})
}

// file reads the whole file.
func (l *loader) file(body *hclsyntax.Body, tf *Terraform) ([]broker.Pool, []broker.Account, *Legacy) {
	top := l.open(body, "the file")
	environments := top.blocks("environment", "Which variables of the broker's environment expressions may read, as `env(\"NAME\")`. They are no place for secrets: their values may be shown.")
	locals := top.blocks("locals", "Values with a name, for expressions everywhere: `local.NAME`. They may use each other.")
	terraforms := top.blocks("terraform", "Which Terraform runs, and how many runs of it at once. It is read at a start only.")
	accountBlocks := top.blocks("account", "How fast Terraform runs may start against one provider account. The pools that name it share its rate.")
	inventoryBlocks := top.blocks("inventory", "Machines that exist, on which the pools that draw from it make their nodes: see [inventory.md](inventory.md).")
	legacies := top.blocks("legacy", "How the API of Duffy v2 answers: see [legacy.md](legacy.md). Without the block there is none.")
	tenantDefaults := top.blocks("tenant_defaults", "Quota and lifetimes of tenants that have none of their own.")
	reloads := top.blocks("reload", "When a reload must be confirmed: see [reload.md](reload.md).")
	policies := top.blocks("policy", "What changes of this file are refused, or warned of: see [policy.md](policy.md).")
	defaultsBlocks := top.blocks("defaults", "Settings of every pool that neither says them nor inherits them from a template.")
	templateBlocks := top.blocks("template", "Settings of the pools, and of other templates, that extend it.")
	poolBlocks := top.blocks("pool", "One pool: nodes with like properties.")
	movedBlocks := top.blocks("moved", "A pool that has another name now. Its nodes are taken along, instead of being destroyed for the name.")
	meant := top.finish()
	// A block that the parser lost may be the one that is missing, and so may one
	// with a misspelt type.
	complete := !l.syntax.HasErrors() && len(meant) == 0

	l.environment(environments)
	l.readLocals(locals, complete)
	l.terraform(terraforms, tf)
	accounts := l.accounts(accountBlocks)
	inventories, allHosts := l.readInventories(inventoryBlocks)
	legacy := l.legacy(legacies)
	l.tenants = l.tenantDefaults(tenantDefaults)
	l.rules = l.policy(policies)
	l.reload = l.reloads(reloads)
	defaults := l.defaults(defaultsBlocks)
	templates, _ := l.layers(templateBlocks)
	pools, whole := l.layers(poolBlocks)
	moves := l.moves(movedBlocks)
	switch {
	case len(pools) > 0 || !complete || !whole:
	case len(poolBlocks) > 0:
		l.report(poolBlocks[0].DefRange(), "No pools", "for_each of every pool is empty, so there is no pool at all. Give one of them an element.")
	default:
		l.report(body.EndRange, "No pools", "%s has no pool. Write one, such as pool \"first\" { module = \"./modules/local\" }.", l.path)
	}
	if complete {
		l.checkAccounts(accounts, slices.Concat([]*layer{defaults}, templates, pools))
		l.checkSelectors(inventories, allHosts, slices.Concat([]*layer{defaults}, templates, pools))
	}
	l.moved = l.checkMoves(moves, pools, complete && whole)
	family := newFamily(l, defaults, templates, pools, complete)
	result := make([]broker.Pool, 0, len(pools))
	for _, p := range pools {
		from := family.chain(p)
		l.places.lineages[p.name] = from
		l.within(p.each, func() { result = append(result, l.pool(p, from)) })
	}
	return result, accounts, legacy
}

// terraform reads the terraform block.
func (l *loader) terraform(blocks []*hclsyntax.Block, tf *Terraform) {
	l.once(blocks)
	for i, block := range blocks {
		b := l.open(block.Body, "a terraform block")
		required := read(b, "required_version", form[version.Constraints]{versionConstraint, "a version constraint, such as `\">= 1.5.0\"`", schema{"type": "string"}},
			"The Terraform versions that the modules work with.", "every version will do")
		runs := read(b, "runs", atLeast(1), "Terraform runs at once, over all pools: see [concurrency.md](concurrency.md).", "what half of the available memory holds")
		memory := read(b, "memory_per_run", form[int64]{size, "an amount of memory, such as `\"64MiB\"` or `\"1GiB\"`", schema{"type": "string"}},
			"What one run is taken to need, where `runs` follows from the memory.", "`\"64MiB\"`")
		b.finish()
		if i == 0 {
			tf.RequiredVersion = required.or(nil)
			tf.Runs = runs.or(tf.Runs)
			tf.MemoryPerRun = memory.or(tf.MemoryPerRun)
		}
	}
}

// defaults reads the defaults block. Without one it is empty.
func (l *loader) defaults(blocks []*hclsyntax.Block) *layer {
	l.once(blocks)
	d := &layer{}
	for i, block := range blocks {
		b := l.open(block.Body, "a defaults block")
		s := readSettings(b)
		if slices.Contains(b.finish(), "module") {
			s.module = setting[string]{set: true, bad: true}
		}
		if i == 0 {
			d = &layer{at: block.Range(), settings: s}
		}
	}
	return d
}

// layers reads template or pool blocks, also those whose name is wrong or taken
// and those that nothing uses. whole is false if some are missing, since what they
// are made for each of is wrong.
func (l *loader) layers(blocks []*hclsyntax.Block) (result []*layer, whole bool) {
	whole = true
	first := make(map[string]*layer)
	for _, block := range blocks {
		l.checkName(block)
		instances, good := l.instances(block)
		whole = whole && good
		if len(instances) == 0 {
			l.within(&instance{block: block}, func() { l.layer(block) })
			continue
		}
		for _, e := range instances {
			l.within(e, func() {
				x := l.layer(block)
				result = append(result, x)
				other := first[x.name]
				switch {
				case x.name == "":
				case other == nil:
					first[x.name] = x
				case e != nil && other.each != nil && other.each.block == block:
					l.report(x.nameAt, "Duplicate pool", "each.key %q and %q give the same name, %q. Use each.key, or all that differs, in the name.", other.each.key, e.key, x.name)
				default:
					l.report(x.nameAt, "Duplicate "+block.Type, "There is %s %q already, at %s. Give this one another name.", article(block.Type), x.name, place(other.nameAt))
				}
			})
		}
	}
	return result, whole
}

// layer reads a template or a pool, or an instance of one.
func (l *loader) layer(block *hclsyntax.Block) *layer {
	x := &layer{at: block.Range(), header: block.DefRange(), each: l.each}
	b := l.open(block.Body, "a "+block.Type)
	var name setting[string]
	if block.Type == "pool" {
		b.describe("for_each", "a map, an object or a set of texts", schema{"type": "object"},
			"Makes a pool for each element; expressions in the block may use `each.key` and `each.value`, which is the key again for a set.", []any{"one pool"})
		b.arguments = append(b.arguments, "for_each")
		name = read(b, "name", textForm, "The name of each pool of a block with `for_each`, such as `\"centos-${each.key}\"`.", "the block's own name, `-`, and the key")
	}
	x.extends = read(b, "extends", textForm, "The template whose settings hold where this block says nothing. Templates may extend others.")
	x.settings = readSettings(b)
	for _, name := range b.finish() {
		switch name {
		case "extends":
			x.extends = setting[string]{set: true, bad: true}
		case "module":
			x.module = setting[string]{set: true, bad: true}
		}
	}
	x.name, x.nameAt = l.instanceName(block, l.each, name)
	return x
}

// once reports names and repetitions of blocks that stand alone. The first one
// counts; the others are still to be read for the mistakes in them.
func (l *loader) once(blocks []*hclsyntax.Block) {
	l.mark(blocks, func(b *Block) { b.Once = true })
	for i, block := range blocks {
		if len(block.Labels) > 0 {
			l.report(labels(block, 0), "Unexpected name", "A %s block has no name. Write %s { ... }.", block.Type, block.Type)
		}
		if i > 0 {
			l.report(block.DefRange(), "Duplicate "+block.Type+" block",
				"There is %s block already, at %s. Move these settings there.", article(block.Type), place(blocks[0].DefRange()))
		}
	}
}

const nameRule = "Names are made of letters, digits, '.', '_' and '-', and don't begin with '.' or '-'."

// checkName reports a name that a block can't have.
func (l *loader) checkName(block *hclsyntax.Block) {
	l.mark([]*hclsyntax.Block{block}, func(b *Block) { b.Labelled = true })
	if len(block.Labels) == 0 {
		l.report(block.TypeRange, "Missing name", "%s needs a name. Write %s \"NAME\" { ... }.", capital(article(block.Type)), block.Type)
		return
	}
	name := block.Labels[0]
	if len(block.Labels) > 1 {
		l.report(labels(block, 1), "Unexpected name", "%s has one name. Write %s %q { ... }.", capital(article(block.Type)), block.Type, name)
	}
	// Clients put names into URLs and into lists with commas.
	if !validName(name) {
		l.report(block.LabelRanges[0], "Invalid name",
			"%q can't be the name of %s. %s", name, article(block.Type), nameRule)
	}
}

// labels gives the place of a block's labels from one of them on.
func labels(block *hclsyntax.Block, from int) hcl.Range {
	return hcl.RangeBetween(block.LabelRanges[from], block.LabelRanges[len(block.LabelRanges)-1])
}

func validName(name string) bool {
	for i, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
		case i > 0 && (r == '.' || r == '-'):
		default:
			return false
		}
	}
	return name != ""
}

// place writes a range for the middle of a sentence.
func place(at hcl.Range) string {
	return fmt.Sprintf("%s:%d", at.Filename, at.Start.Line)
}

// foremost keeps the first of the parser's messages about the same lines: the
// others come from its attempts to go on.
func foremost(diags hcl.Diagnostics) hcl.Diagnostics {
	var kept hcl.Diagnostics
	for _, d := range tidy(diags) {
		last := len(kept) - 1
		if last < 0 || d.Subject == nil || kept[last].Subject == nil || d.Subject.Filename != kept[last].Subject.Filename || d.Subject.Start.Line > kept[last].Subject.End.Line {
			kept = append(kept, d)
		}
	}
	return kept
}

// tidy sorts diagnostics by place and drops repetitions.
func tidy(diags hcl.Diagnostics) hcl.Diagnostics {
	start := func(d *hcl.Diagnostic) hcl.Range {
		if d.Subject == nil {
			return hcl.Range{}
		}
		return *d.Subject
	}
	compare := func(a, b *hcl.Diagnostic) int {
		return cmp.Or(compareRanges(start(a), start(b)), cmp.Compare(a.Summary, b.Summary), cmp.Compare(a.Detail, b.Detail))
	}
	slices.SortStableFunc(diags, compare)
	return slices.CompactFunc(diags, func(a, b *hcl.Diagnostic) bool { return compare(a, b) == 0 })
}
