package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// Settings gives what the legacy, terraform, reload, policy and environment blocks say, in JSON, by
// name, as in "legacy.max_wait": so that two files can be compared. Those of the
// legacy block are all told, with "legacy" itself; the rules in it have their places,
// as in "legacy.map[0].pool". Of the others those are told that are not the default.
// Of an expression that is evaluated later it is the text, and the values of `local` in it.
func (f *File) Settings() map[string]json.RawMessage {
	all := make(map[string]json.RawMessage)
	if t := f.Terraform; t.Runs != 0 {
		set(all, "terraform.runs", t.Runs)
	}
	if t := f.Terraform; t.MemoryPerRun != defaultMemoryPerRun {
		set(all, "terraform.memory_per_run", t.MemoryPerRun)
	}
	if t := f.Terraform; len(t.RequiredVersion) > 0 {
		set(all, "terraform.required_version", t.RequiredVersion.String())
	}
	if r := f.Reload; r.ConfirmAbove != defaultConfirmAbove {
		set(all, "reload.confirm_above", r.ConfirmAbove)
	}
	if r := f.Reload; r.ConfirmFrom != defaultConfirmFrom {
		set(all, "reload.confirm_from", r.ConfirmFrom)
	}
	if len(f.allowed) > 0 {
		set(all, "environment.allow", slices.Sorted(slices.Values(f.allowed)))
	}
	for _, rule := range f.Policy {
		name := map[bool]string{true: "policy.deny.", false: "policy.warn."}[rule.Deny] + rule.Name
		f.describeExpression(all, name+".condition", rule.condition, rule.context)
		f.describeExpression(all, name+".message", rule.message, rule.context)
	}
	if f.Legacy != nil {
		f.legacySettings(all)
	}
	return all
}

func set(all map[string]json.RawMessage, name string, v any) {
	all[name], _ = json.Marshal(v) // texts, lists of them, numbers and booleans
}

func (f *File) legacySettings(all map[string]json.RawMessage) {
	l := f.Legacy
	set := func(name string, v any) { set(all, "legacy."+name, v) }
	all["legacy"] = json.RawMessage("true")
	set("main_port", l.MainPort)
	set("default_ver", l.Version)
	set("default_arch", l.Arch)
	for arch, flavor := range l.Flavors {
		set("default_flavor."+arch, flavor)
	}
	set("when_empty", map[bool]string{true: "v2", false: "v3"}[l.PlainWhenEmpty])
	set("max_wait", shortDuration(l.MaxWait))
	set("session_limit", l.SessionLimit)
	set("session_window", shortDuration(l.SessionWindow))
	set("keep_for", shortDuration(l.KeepFor))
	set("kept_nodes", l.KeptNodes)
	set("inventory", l.Inventory)
	set("anonymous_inventory", l.AnonymousInventory)
	for name, day := range map[string]time.Time{"deprecated": l.Deprecated, "sunset": l.Sunset} {
		if !day.IsZero() {
			set(name, day.Format(time.DateOnly))
		}
	}
	if l.Link != "" {
		set("link", l.Link)
	}
	f.describeExpression(all, "legacy.hostname", l.hostname, l.context)
	for i, rule := range l.rules {
		at := fmt.Sprintf("map[%d].", i)
		for name, p := range map[string]*pattern{"ver": rule.version, "arch": rule.arch, "flavor": rule.flavor} {
			switch {
			case p == nil:
			case p.expr != nil:
				set(at+name, "/"+p.expr.String()+"/")
			default:
				set(at+name, p.text)
			}
		}
		f.describeExpression(all, "legacy."+at+"pool", rule.pool, l.context)
	}
}

// describeExpression gives an expression as it stands in the file, and the values
// that it takes from there.
func (f *File) describeExpression(all map[string]json.RawMessage, name string, e hcl.Expression, context *hcl.EvalContext) {
	if e == nil {
		return
	}
	r := e.Range()
	if file := f.files[r.Filename]; file != nil && r.CanSliceBytes(file.Bytes) {
		text := string(r.SliceBytes(file.Bytes))
		if _, template := e.(*hclsyntax.TemplateExpr); template {
			text = strings.TrimSuffix(strings.TrimPrefix(text, `"`), `"`)
		}
		all[name], _ = json.Marshal(text)
	}
	for _, t := range e.Variables() {
		if t.RootName() != "local" { // paths are others in each checkout
			continue
		}
		v, diags := t.TraverseAbs(context)
		if diags.HasErrors() || !v.IsWhollyKnown() {
			continue
		}
		v, _ = v.UnmarkDeep()
		if raw, err := ctyjson.Marshal(v, v.Type()); err == nil {
			all[name+"."+traversalText(t)] = raw
		}
	}
}

// traversalText writes a reference as it stands in the file: local.names.x.
func traversalText(t hcl.Traversal) string {
	var b strings.Builder
	for _, step := range t {
		switch step := step.(type) {
		case hcl.TraverseRoot:
			b.WriteString(step.Name)
		case hcl.TraverseAttr:
			b.WriteString("." + step.Name)
		case hcl.TraverseIndex:
			if step.Key.Type() == cty.String {
				fmt.Fprintf(&b, "[%q]", step.Key.AsString())
			} else {
				fmt.Fprintf(&b, "[%s]", step.Key.AsBigFloat().String())
			}
		}
	}
	return b.String()
}
