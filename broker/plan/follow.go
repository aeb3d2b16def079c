package plan

import (
	"fmt"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

// followNotes say of a plan without a broker that the values of followed outputs are
// not known: a new one makes another generation, and with it another id.
func (c *computation) followNotes() []string {
	if !c.options.Against.AssumedFull {
		return nil
	}
	var names []string
	for i, p := range c.plan.Pools {
		follows := func(p *broker.Pool) bool { return p != nil && len(p.Follow.Outputs) > 0 }
		if s := c.sides[i]; follows(s.old) || follows(s.new) {
			names = append(names, p.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("Nothing is known here of the outputs that pools follow (%s): they count as unchanged. If the broker has seen a new value, "+
		"this plan has another id there, and a reload can't be confirmed with this one: to confirm a plan, make it with --server or --data-dir.", strings.Join(names, ", "))}
}
