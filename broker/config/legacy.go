package config

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/duffy-broker/duffy-broker/broker"
)

// LegacyInventory says which rows /Inventory gives to a caller with a key.
type LegacyInventory string

// The forms of rows.
const (
	// InventoryAuto: rows to python-cicoclient that all of its versions can read, pairs
	// to everybody else.
	InventoryAuto  LegacyInventory = "auto"
	InventoryPairs LegacyInventory = "pairs" // as Duffy v3: host name and session
	InventoryRows  LegacyInventory = "rows"  // as Duffy v2: 14 columns
)

// Legacy are the settings of the legacy block: how the API of Duffy v2 answers.
type Legacy struct {
	// MainPort: served beside the other API, too.
	MainPort bool
	// Version, Arch and Flavors (by arch) are what a request means that does not
	// say it.
	Version, Arch string
	Flavors       map[string]string
	// PlainWhenEmpty: an empty pool is answered in plain text, which makes old
	// clients try again.
	PlainWhenEmpty bool
	// MaxWait is how long a request may wait for nodes; 0: not at all.
	MaxWait time.Duration
	// SessionLimit is how many sessions a tenant may ask for within
	// SessionWindow; 0: any number.
	SessionLimit  int
	SessionWindow time.Duration
	// KeepFor is by how much /Node/fail extends a session; KeptNodes how many
	// nodes of a tenant may be kept so, 0: any number.
	KeepFor            time.Duration
	KeptNodes          int
	Inventory          LegacyInventory
	AnonymousInventory bool
	// Deprecated and Sunset are the days of which clients are told from
	// Deprecated on; zero: none. Link is where they read more.
	Deprecated, Sunset time.Time
	Link               string

	rules    []legacyRule
	hostname hcl.Expression
	context  *hcl.EvalContext
}

// legacyRule maps requests to a pool.
type legacyRule struct {
	version, arch, flavor *pattern // nil: any
	pool                  hcl.Expression
}

// pattern is a text, or a regular expression.
type pattern struct {
	text string
	expr *regexp.Regexp
}

func (p *pattern) matches(s string) bool {
	switch {
	case p == nil:
		return true
	case p.expr != nil:
		return p.expr.MatchString(s)
	}
	return p.text == s
}

// Pool gives the pool that a request means: that of the first rule that fits.
func (l *Legacy) Pool(version, arch, flavor string) (string, bool) {
	for _, r := range l.rules {
		if !r.version.matches(version) || !r.arch.matches(arch) || !r.flavor.matches(flavor) {
			continue
		}
		return l.evaluate(r.pool, map[string]cty.Value{
			"ver": cty.StringVal(version), "arch": cty.StringVal(arch), "flavor": cty.StringVal(flavor),
		})
	}
	return "", false
}

// Hostname gives the name that old clients see of a node.
func (l *Legacy) Hostname(n broker.LentNode) string {
	if l.hostname == nil {
		return n.Hostname
	}
	name, ok := l.evaluate(l.hostname, map[string]cty.Value{
		"hostname": cty.StringVal(n.Hostname), "ipaddr": cty.StringVal(n.Address), "pool": cty.StringVal(n.Pool),
	})
	if !ok {
		return n.Hostname
	}
	return name
}

func (l *Legacy) evaluate(e hcl.Expression, variables map[string]cty.Value) (string, bool) {
	child := l.context.NewChild()
	child.Variables = variables
	v, diags := e.Value(child)
	if diags.HasErrors() {
		return "", false
	}
	v, err := convert.Convert(v, cty.String)
	if err != nil || v.IsNull() || !v.IsKnown() {
		return "", false
	}
	return v.AsString(), true
}

// legacy reads the legacy block. nil without one.
func (l *loader) legacy(blocks []*hclsyntax.Block) *Legacy {
	l.once(blocks)
	var result *Legacy
	for _, block := range blocks {
		legacy := l.legacyBlock(block)
		if result == nil {
			result = legacy
		}
	}
	return result
}

func (l *loader) legacyBlock(block *hclsyntax.Block) *Legacy {
	b := l.open(block.Body, "a legacy block")
	legacy := &Legacy{
		context:  l.context,
		MainPort: read(b, "main_port", booleanForm, "Serve it beside the other API, too.", true).or(true),
		Version:  read(b, "default_ver", textForm, "The `ver` of requests that say none.", "`\"7\"`").or("7"),
		Arch:     read(b, "default_arch", textForm, "The `arch` of requests that say none.", "`\"x86_64\"`").or("x86_64"),
		Flavors: read(b, "default_flavor", form[map[string]string]{texts, "an object of texts", schema{"type": "object", "additionalProperties": schema{"type": "string"}}},
			"The `flavor` of requests that say none, by `arch`.", "`{ aarch64 = \"tiny\", ppc64le = \"tiny\" }`").or(map[string]string{"aarch64": "tiny", "ppc64le": "tiny"}),
		PlainWhenEmpty: read(b, "when_empty", oneOf("v2", "v3"), "How an empty pool is answered: `\"v2\"` in plain text, which makes old clients try again.", "`\"v2\"`").or("v2") == "v2",
		MaxWait:        read(b, "max_wait", durationOrNoneForm, "How long a request may wait for nodes.", 30*time.Second).or(30 * time.Second),
		SessionLimit:   read(b, "session_limit", atLeast(0), "Sessions that a tenant may ask for within `session_window`; 0: any number.", 0).or(0),
		SessionWindow:  read(b, "session_window", durationForm, "The time in which `session_limit` counts.", 5*time.Minute).or(5 * time.Minute),
		KeepFor:        read(b, "keep_for", durationForm, "By how much `/Node/fail` extends a session.", 6*time.Hour).or(6 * time.Hour),
		KeptNodes:      read(b, "kept_nodes", atLeast(0), "How many nodes of a tenant may be kept so; 0: any number.", 0).or(0),
		Inventory: LegacyInventory(read(b, "inventory", oneOf(string(InventoryAuto), string(InventoryPairs), string(InventoryRows)),
			"The rows of `/Inventory` for a caller with a key: `\"rows\"` as Duffy v2, `\"pairs\"` as v3, `\"auto\"` rows for python-cicoclient and pairs for others.", "`\"auto\"`").or(string(InventoryAuto))),
		AnonymousInventory: read(b, "anonymous_inventory", booleanForm, "Whether `/Inventory` answers callers without a key.", true).or(true),
		Link: read(b, "link", form[string]{link, "a URL", schema{"type": "string"}},
			"Where clients that are told of the deprecation read more.").or(""),
	}
	dayForm := form[time.Time]{day, "a day, such as `\"2027-01-31\"`", schema{"type": "string", "pattern": `^\d{4}-\d{2}-\d{2}$`}}
	deprecated := read(b, "deprecated", dayForm, "The day from which clients are told of the deprecation.")
	sunset := read(b, "sunset", dayForm, "The day of which they are told as the end. Needs `deprecated`.")
	legacy.Deprecated, legacy.Sunset = deprecated.or(time.Time{}), sunset.or(time.Time{})
	switch {
	case sunset.set && !deprecated.set:
		l.report(sunset.at, "Sunset without deprecation", "Clients are told of the sunset from the day of deprecation on. Write deprecated = \"YYYY-MM-DD\" too.")
	case !sunset.bad && !deprecated.bad && sunset.set && legacy.Sunset.Before(legacy.Deprecated):
		l.report(sunset.at, "Sunset before deprecation", "The sunset is before the day of deprecation, at %s. Exchange the two.", place(deprecated.at))
	}
	legacy.hostname = l.deferred(b, "hostname", "The name that old clients see of a node; may use `hostname`, `ipaddr` and `pool`.", []any{"`hostname`"}, "hostname", "ipaddr", "pool")
	maps := b.blocks("map", "Which pool a request means. The first block that fits counts, and what it leaves out fits everything.")
	for _, m := range maps {
		l.withoutName(m)
		r := l.open(m.Body, "a map block")
		rule := legacyRule{}
		patternForm := form[*pattern]{patternOf, "text, or a regular expression as `\"/.../\"`", schema{"type": "string"}}
		rule.version = read(r, "ver", patternForm, "The `ver` of the requests that it is for.", "any").or(nil)
		rule.arch = read(r, "arch", patternForm, "The `arch` of the requests that it is for.", "any").or(nil)
		rule.flavor = read(r, "flavor", patternForm, "The `flavor` of the requests that it is for.", "any").or(nil)
		rule.pool = l.deferred(r, "pool", "The pool; may use `ver`, `arch` and `flavor`.", []any{needed{}}, "ver", "arch", "flavor")
		if meant := r.finish(); rule.pool == nil && m.Body.Attributes["pool"] == nil && !slices.Contains(meant, "pool") && !l.broken(m.Range()) {
			l.report(m.DefRange(), "Missing pool", "A map block says which pool it leads to. Write pool = \"NAME\"; it may use ver, arch and flavor.")
		}
		legacy.rules = append(legacy.rules, rule)
	}
	if meant := b.finish(); len(maps) == 0 && !slices.Contains(meant, "map") && !l.broken(block.Range()) {
		l.report(block.DefRange(), "Missing map", "A legacy block says which pools old requests mean. Write map { pool = \"NAME\" }; ver, arch and flavor say which requests it is for.")
	}
	return legacy
}

// withoutName reports the name of a block that takes none.
func (l *loader) withoutName(block *hclsyntax.Block) {
	if len(block.Labels) > 0 {
		l.report(labels(block, 0), "Unexpected name", "A %s block has no name. Write %s { ... }.", block.Type, block.Type)
	}
}

// deferred gives an expression whose variables are known at each request only,
// or nil. It must give a text whatever texts the variables are.
func (l *loader) deferred(b *block, name, doc string, otherwise []any, variables ...string) hcl.Expression {
	b.describe(name, "text, found anew for each request", schema{"type": "string"}, doc, otherwise)
	b.arguments = append(b.arguments, name)
	attr := b.src.Attributes[name]
	if attr == nil || l.broken(attr.Range()) {
		return nil
	}
	for _, t := range attr.Expr.Variables() {
		switch root := t.RootName(); {
		case slices.Contains(variables, root):
		case root == "path" || root == "local":
			if !l.checkVariable(t) {
				return nil
			}
		default:
			says := fmt.Sprintf("There is no variable %q here. The variables are %s. %s", root, list(variables), didYouMean(root, variables))
			l.report(t.SourceRange(), "Unknown variable", "%s", strings.TrimSpace(says))
			return nil
		}
	}
	context := l.context.NewChild()
	context.Variables = make(map[string]cty.Value)
	for _, v := range variables {
		context.Variables[v] = cty.UnknownVal(cty.String).RefineNotNull()
	}
	v, diags := attr.Expr.Value(context)
	l.diags = append(l.diags, diags...)
	if diags.HasErrors() {
		return nil
	}
	if _, err := convert.Convert(v, cty.String); err != nil || v.IsKnown() && v.IsNull() {
		l.report(attr.Expr.Range(), "Invalid "+name, "%s %s", name, mustBe("text in quotes", v))
		return nil
	}
	return attr.Expr
}

// patternOf parses a text, or a regular expression between slashes.
func patternOf(v cty.Value) (*pattern, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return nil, wrong
	}
	inner, isExpr := strings.CutPrefix(s, "/")
	if isExpr {
		inner, isExpr = strings.CutSuffix(inner, "/")
	}
	if !isExpr {
		return &pattern{text: s}, ""
	}
	expr, err := regexp.Compile(inner)
	if err != nil {
		return nil, complaint(fmt.Sprintf("is no regular expression: %v.", err))
	}
	return &pattern{expr: expr}, ""
}

// texts parses an object whose values are texts.
func texts(v cty.Value) (map[string]string, complaint) {
	v, err := convert.Convert(v, cty.Map(cty.String))
	if err != nil {
		return nil, `must be an object of texts, such as { aarch64 = "tiny" }.`
	}
	result := make(map[string]string)
	for name, value := range v.AsValueMap() {
		if value.IsNull() {
			continue
		}
		result[name] = value.AsString()
	}
	return result, ""
}

// oneOf parses one of some words.
func oneOf(words ...string) form[string] {
	quoted := make([]string, len(words))
	for i, w := range words {
		quoted[i] = fmt.Sprintf("%q", w)
	}
	parse := func(v cty.Value) (string, complaint) {
		s, wrong := text(v)
		if wrong != "" || slices.Contains(words, s) {
			return s, wrong
		}
		wrong = complaint(fmt.Sprintf("must be %s or %s, not %q.", strings.Join(quoted[:len(quoted)-1], ", "), quoted[len(quoted)-1], s))
		if hint := didYouMean(s, words); hint != "" {
			wrong += complaint(" " + hint)
		}
		return "", wrong
	}
	return form[string]{parse, "one of `" + strings.Join(quoted, "`, `") + "`", schema{"enum": words}}
}

// durationOrNone parses a length of time that may be nothing.
func durationOrNone(v cty.Value) (time.Duration, complaint) {
	if s, wrong := text(v); wrong == "" {
		if d, err := parseDuration(s); err == nil && d == 0 {
			return 0, ""
		}
	}
	return duration(v)
}

// day parses a date, which begins at midnight UTC.
func day(v cty.Value) (time.Time, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return time.Time{}, wrong
	}
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return time.Time{}, complaint(fmt.Sprintf(`must be a day such as "2027-01-31", not %q.`, s))
	}
	return t, ""
}

// link parses the URL of a page.
func link(v cty.Value) (string, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return "", wrong
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || strings.ContainsAny(s, "<> \"") {
		return "", complaint(fmt.Sprintf(`must be a URL such as "https://example.org/moving", not %q.`, s))
	}
	return s, ""
}
