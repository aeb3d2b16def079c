package plan

import (
	"fmt"
	"slices"
	"strings"
)

// legacy tells whether there is a legacy API.
func (c Config) legacy() bool { return c.Settings["legacy"] != nil }

// terraformNotes say of what a reload leaves as it is.
func (c *computation) terraformNotes() []string {
	if !slices.ContainsFunc(c.plan.Settings, func(f Field) bool { return strings.HasPrefix(f.Name, "terraform.") }) {
		return nil
	}
	return []string{"The terraform block is read at a start of the broker only: its settings, and times that follow from them, hold after that."}
}

// legacyNotes say what a change is to the jobs that use the legacy API.
func (c *computation) legacyNotes() (notes []string) {
	switch {
	case c.before.legacy() && !c.after.legacy():
		return []string{"Jobs that use the legacy API find none any more: its block is removed."}
	case !c.after.legacy():
		return nil
	case !c.before.legacy():
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
		case s.old == nil || s.old.NoLegacy || !c.before.legacy():
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
