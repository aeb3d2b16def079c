package plan

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// lockFile is the name of a module's dependency lock file.
const lockFile = ".terraform.lock.hcl"

// compare finds out what becomes of each pool, and of the settings outside of them.
func (c *computation) compare(w reconcile.World) {
	old := make(map[string]*broker.Pool, len(c.before.Pools))
	for i := range c.before.Pools {
		old[c.before.Pools[i].Name] = &c.before.Pools[i]
	}
	from := make(map[string]string, len(c.after.Moves)) // the old name by the new one
	for _, m := range c.after.Moves {                   // a file keeps them for long
		if old[m.From] != nil && old[m.To] == nil {
			from[m.To] = m.From
		}
	}
	kept := make(map[string]bool)
	for i := range c.after.Pools {
		p := &c.after.Pools[i]
		was := from[p.Name]
		if was == "" {
			was = p.Name
		}
		kept[was] = old[was] != nil
		c.add(side{old[was], p})
	}
	for i := range c.before.Pools {
		if p := &c.before.Pools[i]; !kept[p.Name] {
			c.add(side{p, nil})
		}
	}
	c.plan.Settings = differences(c.before.settings(), c.after.settings())
	if !c.after.legacy() { // that it goes says it all
		c.plan.Settings = slices.DeleteFunc(c.plan.Settings, func(f Field) bool { return strings.HasPrefix(f.Name, "legacy.") })
	}
	c.plan.Settings = append(c.plan.Settings, c.hostFields()...)
	c.compareHosts(w)
}

// settings are those outside of pools.
func (c Config) settings() []leaf {
	all := slices.Concat(leaves("account", reflect.ValueOf(c.Accounts)), leaves("tenant_defaults", reflect.ValueOf(c.TenantDefaults)))
	for _, name := range slices.Sorted(maps.Keys(c.Settings)) {
		var value any // what was stored may be written in another way
		if json.Unmarshal(c.Settings[name], &value) == nil {
			all = append(all, leaf{name, marshal(value), false})
		}
	}
	return all
}

// add compares a pool with what it was.
func (c *computation) add(s side) {
	var p Pool
	switch {
	case s.old == nil:
		p = Pool{Name: s.new.Name, Kind: Added}
	case s.new == nil:
		p = Pool{Name: s.old.Name, Kind: Removed}
	default:
		p = Pool{Name: s.new.Name, Kind: Unchanged}
		p.Generation = c.generation(s)
	}
	p.Fields = c.poolFields(s.old, s.new)
	switch {
	case s.old == nil || s.new == nil:
	case s.old.Name != s.new.Name:
		p.Kind, p.From = Moved, s.old.Name
	case len(p.Fields) > 0 || p.Generation != nil:
		p.Kind = Changed
	}
	p.Headroom.Before, p.Headroom.After = headroom(s.old), headroom(s.new)
	p.Quotas = c.quotas(s)
	if cost := s.cost(c.now); cost != (Cost{}) {
		p.Cost = &cost
	}
	if s.new != nil {
		p.Followed = s.new.FollowedValues()
		for _, change := range schedule.Changes(s.new.Schedule, schedule.Base(*s.new), c.now, scheduleChanges) {
			p.Schedule = append(p.Schedule, ScheduleChange{At: change.At, FillLevel: change.FillLevel, MaxNodes: change.MaxNodes, Window: change.Window})
		}
	}
	c.plan.Pools, c.sides = append(c.plan.Pools, p), append(c.sides, s)
}

// cost is what the full stock of a pool costs a day.
func (s side) cost(now time.Time) (c Cost) {
	if s.old != nil {
		c.Before = s.old.HourlyCost * 24 * averageFill(*s.old, now)
	}
	if s.new != nil {
		c.After = s.new.HourlyCost * 24 * averageFill(*s.new, now)
	}
	return c
}

// averageFill gives the fill level of a pool on average over a week.
func averageFill(p broker.Pool, now time.Time) float64 {
	if len(p.Schedule) == 0 || p.HourlyCost == 0 {
		return float64(p.FillLevel)
	}
	const week = 7 * 24 * time.Hour
	sum := 0.0
	for at, end := now, now.Add(week); at.Before(end); {
		level, next := schedule.At(p.Schedule, schedule.Base(p), at)
		if next.IsZero() || next.After(end) {
			next = end
		}
		sum += float64(level.FillLevel) * next.Sub(at).Hours()
		at = next
	}
	return sum / week.Hours()
}

// fill is the fill level that a pool will have at a time.
func (s side) fill(at time.Time) int {
	if s.new == nil {
		return 0
	}
	p, _ := schedule.Pool(*s.new, at)
	return p.FillLevel
}

// lowestFill is the least of the fill levels that a pool will have soon.
func (s side) lowestFill(p Pool, now time.Time) int {
	lowest := s.fill(now)
	for _, change := range p.Schedule {
		lowest = min(lowest, change.FillLevel)
	}
	return lowest
}

func headroom(p *broker.Pool) *int {
	if p == nil {
		return nil
	}
	room := p.MaxNodes - p.FillLevel
	return &room
}

// generation says why a pool's generation is another one; nil: it is not.
func (c *computation) generation(s side) *GenerationChange {
	if s.old.Generation() == s.new.Generation() {
		return nil
	}
	change := &GenerationChange{Old: s.old.Generation(), New: s.new.Generation()}
	if s.old.Source.Template != s.new.Source.Template {
		change.Inputs = c.moduleInputs(s)
	}
	for _, v := range c.variableChanges(s.old, s.new) {
		if how := how(v.old, v.after); how != "" {
			change.Inputs = append(change.Inputs, Input{InputVariable, v.name, how})
		}
	}
	before, after := variants(s.old), variants(s.new)
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if after[name] == nil {
			change.Inputs = append(change.Inputs, Input{InputVariant, name, "removed"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if before[name] == nil {
			change.Inputs = append(change.Inputs, Input{InputVariant, name, "added"})
		}
	}
	environment := func(p *broker.Pool) map[string]json.RawMessage {
		all := make(map[string]json.RawMessage, len(p.Environ))
		for name, value := range p.Environ {
			all[name] = marshal(value)
		}
		return all
	}
	was, is := environment(s.old), environment(s.new)
	for _, name := range slices.Sorted(maps.Keys(union(was, is))) {
		if how := how(was[name], is[name]); how != "" {
			change.Inputs = append(change.Inputs, Input{InputEnvironment, name, how})
		}
	}
	if len(change.Inputs) == 0 {
		change.Inputs = followInputs(s)
	}
	if len(change.Inputs) == 0 {
		change.Inputs = []Input{{InputHash, "", "changed"}}
	}
	return change
}

// followInputs are the outputs that only one side follows, and whose value counts
// there.
func followInputs(s side) (inputs []Input) {
	follows := func(p *broker.Pool, name string) bool { return slices.Contains(p.Follow.Outputs, name) }
	f := s.old.Followed
	if f.Base == "" {
		f = s.new.Followed
	}
	for _, v := range f.Variants() {
		for _, name := range slices.Sorted(maps.Keys(v.Values)) {
			if v.First[name] == v.Values[name] || follows(s.old, name) == follows(s.new, name) {
				continue
			}
			how := "removed"
			if follows(s.new, name) {
				how = "added"
			}
			inputs = append(inputs, Input{InputFollowed, join(v.Variant, name), how})
		}
	}
	return inputs
}

// moduleInputs says what is other than before in a pool's module.
func (c *computation) moduleInputs(s side) []Input {
	was, known := c.before.Modules[s.old.Source.Template]
	is, knownToo := c.after.Modules[s.new.Source.Template]
	if !known || !knownToo {
		return []Input{{InputModule, s.new.Module, "changed"}}
	}
	files := maps.Clone(was.Files)
	maps.Copy(files, is.Files)
	var inputs []Input
	for _, name := range slices.Sorted(maps.Keys(files)) {
		kind := InputFile
		if name == lockFile {
			if kind = InputLock; was.LockUnknown || is.LockUnknown {
				continue
			}
		}
		if how := how(raw(was.Files[name]), raw(is.Files[name])); how != "" {
			inputs = append(inputs, Input{kind, name, how})
		}
	}
	if len(inputs) == 0 {
		if was.LockUnknown || is.LockUnknown { // nothing else is left
			return []Input{{InputLock, lockFile, "changed"}}
		}
		return []Input{{InputModule, s.new.Module, "changed"}}
	}
	return inputs
}

// raw gives a digest as a value, none for none.
func raw(digest string) json.RawMessage {
	if digest == "" {
		return nil
	}
	return json.RawMessage(digest)
}

// how says in which way a value differs, "" if it does not.
func how(before, after json.RawMessage) string {
	switch {
	case len(before) == 0 && len(after) == 0:
		return ""
	case len(before) == 0:
		return "added"
	case len(after) == 0:
		return "removed"
	case bytes.Equal(compact(before), compact(after)):
		return ""
	}
	return "changed"
}

// suggestMoves finds pools that seem to have a new name: one that is removed and
// one that is added, the only ones that are made from the same.
func (c *computation) suggestMoves() {
	removed, added := make(map[string][]string), make(map[string][]string) // names by generation
	var order []string
	for i, p := range c.plan.Pools {
		switch s := c.sides[i]; p.Kind {
		case Removed:
			removed[s.old.Generation()] = append(removed[s.old.Generation()], p.Name)
			order = append(order, s.old.Generation())
		case Added:
			added[s.new.Generation()] = append(added[s.new.Generation()], p.Name)
		case Changed, Moved, Unchanged:
		}
	}
	for _, generation := range order {
		if from, to := removed[generation], added[generation]; generation != "" && len(from) == 1 && len(to) == 1 {
			c.plan.Moves = append(c.plan.Moves, Move{from[0], to[0]})
		}
	}
}
