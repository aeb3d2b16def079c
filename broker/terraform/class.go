package terraform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/duffy-broker/duffy-broker/broker"
)

// moduleFile is what a module tells the broker about itself, in its root. It is
// no .tf file, since Terraform refuses blocks there that it does not know.
const moduleFile = "duffy.hcl"

// errorRule gives a class to the errors that an expression fits.
type errorRule struct {
	class broker.FailureClass
	expr  *regexp.Regexp
}

// genericRules know no provider: only the words that HTTP, networks and clouds
// have in common. The first that fits counts, so the special come before the
// general: a quota may well be answered with 403.
//
//nolint:gochecknoglobals // a table: nothing writes it
var genericRules = []errorRule{
	{broker.FailureThrottled, regexp.MustCompile(`(?i)\b(http|status|code)\W{0,3}(code\W{0,3})?429\b|too many requests|throttl|rate ?exceeded|rate limit|slow ?down`)},
	{broker.FailureNoCapacity, regexp.MustCompile(`(?i)insufficient[ _]?(\w+[ _]?)?capacity|(no|not enough|out of) (more )?(capacity|hosts? available|resources available)|capacity (is )?not available`)},
	{broker.FailureQuota, regexp.MustCompile(`(?i)quota|limit ?exceeded|exceeds? (the|your) .{0,40}limit`)},
	{broker.FailureAuth, regexp.MustCompile(`(?i)\b(http|status|code)\W{0,3}(code\W{0,3})?40[13]\b|unauthori[sz]ed|not authori[sz]ed|forbidden|access ?denied|permission denied|` +
		`auth(entication)? ?fail|(no|not|in)[ -]?valid.{0,20}credential|credentials?.{0,40}(not valid|invalid|expired|missing|not found)|expired.{0,10}token|token.{0,20}expired`)},
	{broker.FailureUnreachable, regexp.MustCompile(`(?i)connection refused|connection reset|no such host|no route to host|network is unreachable|tls handshake|\bdial (tcp|unix)\b|` +
		`server misbehaving|\bEOF\b|\b(http|status|code)\W{0,3}(code\W{0,3})?50[23]\b|bad gateway|service unavailable`)},
	{broker.FailureTimeout, regexp.MustCompile(`(?i)timeout|timed out|deadline exceeded`)},
	// The provider's process has died, or Terraform was told to stop.
	{broker.FailureInterrupted, regexp.MustCompile(`Plugin did not respond|[Pp]lugin (process )?(exited|crashed)|[Oo]peration canceled|execution halted`)},
	{broker.FailureConfiguration, regexp.MustCompile(`^(Unsupported|Missing required|Invalid|Incorrect|Reference to undeclared|No value for|Resource (pre|post)condition|Check block assertion)`)},
}

// classify gives the class of a run's errors: by the module's rules, then by the
// generic ones.
func classify(own []errorRule, errors []diagnostic) broker.FailureClass {
	if class, ok := match(own, errors); ok {
		return class
	}
	// What has a place in the module but belongs to no resource was found by
	// Terraform itself when it read the module: its words are those of the module,
	// where "timeout" is the name of an argument.
	var foreign []diagnostic
	for _, d := range errors {
		if d.Range == nil || d.Address != "" {
			foreign = append(foreign, d)
		}
	}
	if class, ok := match(genericRules, foreign); ok {
		return class
	}
	if len(foreign) < len(errors) {
		return broker.FailureConfiguration
	}
	return broker.FailureOther
}

// match gives the class of the first rule that fits one of the errors.
func match(rules []errorRule, errors []diagnostic) (broker.FailureClass, bool) {
	for _, rule := range rules {
		for _, d := range errors {
			if rule.expr.MatchString(d.Summary + ": " + d.Detail) {
				return rule.class, true
			}
		}
	}
	return "", false
}

// keptModule is what is to be known of a kept module at every run.
type keptModule struct {
	rules     []errorRule
	sensitive []string // variables
	searches  bool     // see [Engine.search]
}

// module reads a kept module, once. One that was accepted has no mistakes; of one
// that is lost nothing is known.
func (e *Engine) module(template string) keptModule {
	e.mu.Lock()
	defer e.mu.Unlock()
	kept, ok := e.modules[template]
	if ok || template == "" {
		return kept
	}
	root := filepath.Join(e.templatesDir(), template)
	kept.rules, _ = readErrorRules(root)
	kept.searches = searchesFirst(root)
	m, _ := readModule(root, root)
	for name, v := range m.variables {
		if v.sensitive {
			kept.sensitive = append(kept.sensitive, name)
		}
	}
	if e.modules == nil {
		e.modules = make(map[string]keptModule)
	}
	e.modules[template] = kept
	return kept
}

// readErrorRules reads the errors block of a module's own file:
//
//	errors {
//	  throttled   = ["RequestLimitExceeded"]
//	  no_capacity = ["InsufficientInstanceCapacity", "no host .* room"]
//	}
func readErrorRules(root string) ([]errorRule, []Problem) {
	path := filepath.Join(root, moduleFile)
	src, err := os.ReadFile(path) //nolint:gosec // a file of the module
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, []Problem{mistake("Unreadable module", hcl.Range{}, "%s can't be read", moduleFile).with(broker.CodeInvalid, err)}
	}
	file, diags := hclsyntax.ParseConfig(src, path, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, syntaxProblems(root, diags)
	}
	var rules []errorRule
	var problems []Problem
	report := func(at hcl.Range, hint, format string, args ...any) {
		problems = append(problems, mistake("Invalid errors block", inModule(root, at), format, args...).hint("%s", hint))
	}
	body := file.Body.(*hclsyntax.Body) //nolint:forcetypeassert // what hclsyntax parses to
	for _, attr := range body.Attributes {
		report(attr.NameRange, "it takes one block: errors { ... }", "%s has no argument %q", moduleFile, attr.Name)
	}
	for _, block := range body.Blocks {
		if block.Type == sweepDir && len(block.Labels) == 0 {
			_, wrong := readSearchRule(root, block)
			problems = append(problems, wrong...)
			continue
		}
		if block.Type != "errors" || len(block.Labels) > 0 {
			report(block.DefRange(), "it takes one block: errors { ... }", "%s has no such block", moduleFile)
			continue
		}
		for _, inner := range block.Body.Blocks {
			report(inner.DefRange(), "write CLASS = [\"EXPRESSION\", ...]", "an errors block has no blocks in it")
		}
		for _, attr := range inOrder(block.Body.Attributes) {
			class := broker.FailureClass(attr.Name)
			if !slices.Contains(broker.FailureClasses(), class) {
				report(attr.NameRange, classHint(attr.Name), "there is no class of errors %q", attr.Name)
				continue
			}
			for _, text := range patterns(attr, report) {
				expr, err := regexp.Compile(text)
				if err != nil {
					report(attr.Expr.Range(), "", "%q is no regular expression: %v", text, err)
					continue
				}
				rules = append(rules, errorRule{class, expr})
			}
		}
	}
	return rules, problems
}

func classHint(name string) string {
	var names []string
	for _, c := range broker.FailureClasses() {
		names = append(names, string(c))
	}
	if near := nearest(name, names); near != "" {
		return fmt.Sprintf("did you mean %q?", near)
	}
	return "the classes are " + strings.Join(names, ", ")
}

// patterns gives the texts of a list.
func patterns(attr *hclsyntax.Attribute, report func(hcl.Range, string, string, ...any)) []string {
	v, diags := attr.Expr.Value(nil)
	if !diags.HasErrors() {
		if list, err := convert.Convert(v, cty.List(cty.String)); err == nil && list.IsWhollyKnown() && !list.IsNull() {
			var texts []string
			for _, text := range list.AsValueSlice() {
				if text.IsNull() {
					continue
				}
				texts = append(texts, text.AsString())
			}
			return texts
		}
	}
	report(attr.Expr.Range(), `write `+attr.Name+` = ["EXPRESSION", ...]; a backslash is doubled`, "%s is not a list of texts", attr.Name)
	return nil
}

// inOrder gives attributes in the order of the file: the first rule that fits
// counts.
func inOrder(all hclsyntax.Attributes) []*hclsyntax.Attribute {
	var list []*hclsyntax.Attribute
	for _, attr := range all {
		list = append(list, attr)
	}
	slices.SortFunc(list, func(a, b *hclsyntax.Attribute) int { return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte })
	return list
}
