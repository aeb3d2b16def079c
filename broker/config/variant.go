package config

import (
	"bytes"
	"fmt"
	"maps"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	defaultCooldown = 10 * time.Minute
	// minCooldown keeps a variant without capacity from being asked all the time.
	minCooldown = 10 * time.Second
)

// variant is a variant block. What its variables do not say comes from the pool,
// which may be another one than that in which the block stands.
type variant struct {
	name      string
	at        hcl.Range
	variables setting[variables]
	cooldown  time.Duration
}

// readVariants reads the variant blocks of a pool, a template or the defaults.
func readVariants(b *block) setting[[]variant] {
	blocks := b.blocks("variant", "A way to make the pool's nodes, such as a zone or an instance type: see [variants.md](variants.md). "+
		"They are tried in this order: while one has no capacity, nodes are made from the next. A pool with variant blocks of its own inherits none.")
	var s setting[[]variant]
	first := make(map[string]hcl.Range)
	for _, block := range blocks {
		r := b.l.open(block.Body, "a variant block")
		r.describe("variables", "an object, `{ NAME = VALUE, ... }`", schema{"type": "object"},
			"Inputs of the module that are others than the pool's. Those that are not named stay the pool's.", nil)
		v := variant{at: block.DefRange(), variables: readExpression(r, "variables", b.l.variables)}
		cooldown := read(r, "cooldown", form[time.Duration]{cooldownOf, "a length of time, 10s or more", schema{"type": "string"}},
			"For how long no node is made from it after a create that failed for want of capacity, or for a quota.", defaultCooldown)
		mistakes := len(b.l.diags)
		r.finish()
		v.cooldown = cooldown.or(defaultCooldown)
		s.bad = s.bad || len(b.l.diags) > mistakes || v.variables.bad || cooldown.bad || b.l.broken(block.Range())

		b.l.checkName(block)
		if len(block.Labels) > 0 {
			v.name = block.Labels[0]
			if at, taken := first[v.name]; taken {
				b.l.report(block.LabelRanges[0], "Duplicate variant", "There is a variant %q already, at %s. Give this one another name.", v.name, place(at))
				s.bad = true
			}
			first[v.name] = block.LabelRanges[0]
		}
		s.set, s.at = true, block.DefRange()
		s.value = append(s.value, v)
	}
	return s
}

// variants completes the variants of a pool with its own variables.
func (l *loader) variants(s settings) (list []broker.Variant) {
	for _, v := range s.variants.or(nil) {
		whole := make(variables)
		maps.Copy(whole, s.variables.value)
		maps.Copy(whole, v.variables.value)
		one := broker.Variant{Name: v.name, Variables: whole.encode(), Cooldown: v.cooldown}
		for i, other := range list {
			if bytes.Equal(one.Variables, other.Variables) && !s.variables.bad {
				l.report(v.at, "Variants that are alike",
					"Variants %q (see %s) and %q have the same variables, so that one has no capacity when the other has none. Give them other variables, or remove one of them.",
					other.Name, place(s.variants.value[i].at), v.name)
				break
			}
		}
		list = append(list, one)
	}
	return list
}

// cooldownOf parses the time that a variant is left alone.
func cooldownOf(v cty.Value) (time.Duration, complaint) {
	d, wrong := duration(v)
	if wrong == "" && d < minCooldown {
		wrong = complaint(fmt.Sprintf("must be %s or more, not %s.", minCooldown, describe(v)))
	}
	return d, wrong
}
