package config

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
)

// LegacySettings gives what the legacy block says, in JSON, by the names of the
// settings, defaults included: so that two files can be compared. The rules have
// their places, as in "map[0].pool". Of an expression that is evaluated at each
// request, it is the text, and the values of `local` in it. nil without a block.
func (f *File) LegacySettings() map[string]json.RawMessage {
	l := f.Legacy
	if l == nil {
		return nil
	}
	all := make(map[string]json.RawMessage)
	set := func(name string, v any) {
		all[name], _ = json.Marshal(v) // texts, numbers and booleans
	}
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
	f.describeExpression(all, "hostname", l.hostname)
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
		f.describeExpression(all, at+"pool", rule.pool)
	}
	return all
}

// describeExpression gives an expression as it stands in the file, and the values
// that it takes from there.
func (f *File) describeExpression(all map[string]json.RawMessage, name string, e hcl.Expression) {
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
		v, diags := t.TraverseAbs(f.Legacy.context)
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
