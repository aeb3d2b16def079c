package plan

import (
	"fmt"
	"slices"
	"strings"
)

// legacyNotes say what a change is to the jobs that use the legacy API.
func (c *computation) legacyNotes() (notes []string) {
	switch {
	case c.before.Legacy != nil && c.after.Legacy == nil:
		return []string{"Jobs that use the legacy API find none any more: its block is removed."}
	case c.after.Legacy == nil:
		return nil
	case c.before.Legacy == nil:
		notes = append(notes, "Jobs with a legacy key find the legacy API: its block is new.")
	case slices.ContainsFunc(c.plan.Settings, func(f Field) bool {
		return strings.HasPrefix(f.Name, "legacy.map[") || strings.HasPrefix(f.Name, "legacy.default_")
	}):
		notes = append(notes, "Jobs that use the legacy API may get nodes of other pools, or none: its rules have changed.")
	}
	var hidden, gone []string
	for i, p := range c.plan.Pools {
		s := c.sides[i]
		switch {
		case s.old == nil || s.old.NoLegacy || c.before.Legacy == nil:
		case s.new == nil:
			gone = append(gone, p.Name)
		case s.new.NoLegacy:
			hidden = append(hidden, p.Name)
		}
	}
	if len(hidden) > 0 {
		notes = append(notes, fmt.Sprintf("Jobs that use the legacy API get no nodes of %s any more.", strings.Join(hidden, ", ")))
	}
	if len(gone) > 0 {
		notes = append(notes, fmt.Sprintf("Jobs that use the legacy API may have got nodes of %s, which %s removed.", strings.Join(gone, ", "), map[bool]string{true: "is", false: "are"}[len(gone) == 1]))
	}
	return notes
}
