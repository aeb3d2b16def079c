package config

import (
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	defaultFollowInterval = 6 * time.Hour
	// minFollowInterval keeps lookups, each of which is a Terraform run, from taking
	// the room of nodes.
	minFollowInterval = time.Minute
)

// readFollow reads the follow block of a pool, a template or the defaults.
func readFollow(b *block) (s setting[broker.Follow]) {
	blocks := b.blocks("follow", "Outputs of the module that come from data sources, such as the id of the newest image, and make stock stale when they change: "+
		"see [rollout.md](rollout.md). A pool with a block of its own inherits nothing of another.")
	b.l.once(blocks)
	for i, block := range blocks {
		r := b.l.open(block.Body, "a follow block")
		outputs := read(r, "outputs", form[[]string]{outputNames, "a list of names", schema{"type": "array", "items": schema{"type": "string"}}},
			"Outputs of the module, known before a node is made and not sensitive; `[]` for none.", needed{})
		every := read(r, "every", form[time.Duration]{followInterval, "a length of time, 1m or more", schema{"type": "string"}},
			"The time between two lookups.", defaultFollowInterval)
		mistakes := len(b.l.diags)
		r.finish()
		good := len(b.l.diags) == mistakes && !b.l.broken(block.Range())
		if !outputs.set && good {
			b.l.report(block.DefRange(), "Missing outputs", `A follow block needs outputs: the names of what it follows, such as outputs = ["image_id"].`)
		}
		if i > 0 {
			continue
		}
		s = setting[broker.Follow]{at: block.DefRange(), set: true, bad: !outputs.set || outputs.bad || every.bad}
		if names := outputs.or(nil); len(names) > 0 {
			s.value = broker.Follow{Outputs: names, Every: every.or(defaultFollowInterval)}
		}
	}
	return s
}

// outputNames parses a list of names of outputs, and sorts it.
func outputNames(v cty.Value) ([]string, complaint) {
	v, err := convert.Convert(v, cty.List(cty.String))
	if err != nil {
		return nil, `must be a list of names, such as ["image_id"].`
	}
	var names []string
	for _, element := range v.AsValueSlice() {
		if element.IsNull() {
			return nil, "has null in it, where a name is needed."
		}
		name := element.AsString()
		if !hclsyntax.ValidIdentifier(name) {
			return nil, complaint(fmt.Sprintf("has %q, which can't be the name of a Terraform output. Names are made of letters, digits, '_' and '-', and begin with a letter.", name))
		}
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), ""
}

// followInterval parses the time between two lookups.
func followInterval(v cty.Value) (time.Duration, complaint) {
	d, wrong := duration(v)
	if wrong == "" && d < minFollowInterval {
		wrong = complaint(fmt.Sprintf("must be %s or more, not %s: each lookup is a run of Terraform.", shortDuration(minFollowInterval), describe(v)))
	}
	return d, wrong
}
