package plan

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/duffy-broker/duffy-broker/broker"
)

// variableChange is a variable of a pool, or of one of its variants, that has
// another value. Where both are secret they are masked.
type variableChange struct {
	name       string // with that of the variant in front of it, "near.zone"
	variant    string // "" for the pool itself
	old, after json.RawMessage
	secret     bool
}

// variableChanges compares the variables of a pool and of its variants, key by key.
// A change of the pool's that a variant has as well is not told again. What one
// side masks is masked on the other, too.
func (c *computation) variableChanges(old, after *broker.Pool) []variableChange {
	all := c.changedVariables("", variables(old), variables(after))
	base := make(map[string]variableChange, len(all))
	for _, v := range all {
		base[v.name] = v
	}
	was, is := variants(old), variants(after)
	for _, name := range slices.Sorted(maps.Keys(is)) {
		before, known := was[name]
		if !known {
			before = variables(old) // what is new in a pool that has its first variants
		}
		for _, v := range c.changedVariables(name, before, is[name]) {
			if b, told := base[v.name[len(name)+1:]]; !told || !equalJSON(b.old, v.old) || !equalJSON(b.after, v.after) {
				all = append(all, v)
			}
		}
	}
	return all
}

// variants gives the variables of a pool's variants, by name.
func variants(p *broker.Pool) map[string]map[string]json.RawMessage {
	all := make(map[string]map[string]json.RawMessage)
	if p == nil {
		return all
	}
	for _, v := range p.Variants {
		all[v.Name] = variables(&broker.Pool{Variables: v.Variables})
	}
	return all
}

func (c *computation) changedVariables(variant string, old, after map[string]json.RawMessage) (changes []variableChange) {
	for _, name := range slices.Sorted(maps.Keys(union(old, after))) {
		v := variableChange{name: name, variant: variant, old: old[name], after: after[name]}
		if variant != "" {
			v.name = variant + "." + name
		}
		if v.secret = broker.IsMasked(v.old) || broker.IsMasked(v.after); v.secret {
			v.old, v.after = c.mask(v.old), c.mask(v.after)
		}
		if !equalJSON(v.old, v.after) {
			changes = append(changes, v)
		}
	}
	return changes
}
