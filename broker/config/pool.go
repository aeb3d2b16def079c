package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"

	"github.com/duffy-broker/duffy-broker/broker"
)

// The built-in settings. Those that depend on others stand in [loader.pool].
const (
	defaultConcurrency    = 4
	defaultCreateTimeout  = 15 * time.Minute
	defaultDestroyTimeout = 15 * time.Minute
	defaultReadyTimeout   = 5 * time.Minute
	defaultSweepInterval  = 10 * time.Minute
	defaultSweepDestroys  = 5
	// defaultPauseAfter is below the failures at which a pool rests by itself: a
	// rollout is in no hurry.
	defaultPauseAfter = 2
	// minSweepInterval keeps sweeps from costing more than they save.
	minSweepInterval = 10 * time.Second
)

// layer is a block that holds settings: defaults, a template or a pool.
type layer struct {
	name    string
	nameAt  hcl.Range
	header  hcl.Range // the line that opens the block
	at      hcl.Range // the whole block
	extends setting[string]
	each    *instance // nil unless made by for_each
	settings
}

// title names a layer in a message that is the same for all instances of a block.
func (x *layer) title() string {
	if x.each != nil && len(x.each.block.Labels) > 0 {
		return x.each.block.Labels[0]
	}
	return x.name
}

// contains tells whether a value stands in the layer itself.
func (x *layer) contains(at hcl.Range) bool {
	return x.at.Filename == at.Filename && x.at.ContainsPos(at.Start)
}

// lineage is what a pool is made from: itself, its templates, the defaults.
type lineage struct {
	layers []*layer
	// complete is false when something is missing, for a reason that has been
	// reported. Then nobody knows what the pool would have inherited.
	complete bool
}

// family knows who extends whom.
type family struct {
	defaults  *layer
	templates map[string]*layer
	dead      map[*layer]bool // templates that extend each other in a circle
	complete  bool            // no block was lost to a mistake
}

// newFamily links pools and templates, and reports links that lead nowhere.
func newFamily(l *loader, defaults *layer, templates, pools []*layer, complete bool) *family {
	f := &family{defaults: defaults, templates: make(map[string]*layer), dead: make(map[*layer]bool), complete: complete}
	var names []string
	for _, t := range templates {
		if t.name != "" && f.templates[t.name] == nil {
			f.templates[t.name] = t
			names = append(names, t.name)
		}
	}
	poolAt := make(map[string]hcl.Range)
	for _, p := range pools {
		poolAt[p.name] = p.nameAt
		if t := f.templates[p.name]; t != nil {
			l.within(p.each, func() {
				l.report(p.nameAt, "Name used twice", "Pool %q has the name of the template at %s. Give one of them another name.", p.name, place(t.nameAt))
			})
		}
	}
	for _, x := range append(slices.Clip(templates), pools...) {
		if !x.extends.set || x.extends.bad || f.templates[x.extends.value] != nil || !complete {
			continue
		}
		name, hint := x.extends.value, didYouMean(x.extends.value, names)
		if at, ok := poolAt[name]; ok {
			hint = fmt.Sprintf("The pool at %s can't be extended: move what both need into a template.", place(at))
		} else if hint == "" {
			hint = "Write template " + fmt.Sprintf("%q", name) + " { ... }, or remove this line."
			switch len(names) {
			case 0:
			case 1:
				hint = "The only template is " + names[0] + "."
			default:
				hint = "The templates are " + list(names) + "."
			}
		}
		l.within(x.each, func() {
			l.report(x.extends.at, "Unknown template", "There is no template %q. %s", name, hint)
		})
	}
	for _, t := range templates {
		f.reportCircle(l, t)
	}
	return f
}

// reportCircle reports the circle that a template is part of, if any, once.
func (f *family) reportCircle(l *loader, start *layer) {
	circle := []*layer{start}
	seen := map[*layer]bool{start: true}
	for next := f.parent(start); next != start; next = f.parent(next) {
		if next == nil || seen[next] || f.dead[next] {
			return
		}
		seen[next] = true
		circle = append(circle, next)
	}
	for _, t := range circle {
		f.dead[t] = true
	}
	if len(circle) == 1 {
		l.report(start.extends.at, "Circle of templates", "%q extends itself. Remove this line.", start.name)
		return
	}
	var path strings.Builder
	for _, t := range circle[1:] {
		fmt.Fprintf(&path, "%q (%s), which extends ", t.name, place(t.nameAt))
	}
	l.report(start.extends.at, "Circle of templates", "%q extends %s%q again. Remove one of these extends.", start.name, path.String(), start.name)
}

// parent gives the template that a layer extends, or nil.
func (f *family) parent(x *layer) *layer {
	if x.extends.bad {
		return nil
	}
	return f.templates[x.extends.value]
}

// chain gives the lineage of a pool, nearest first.
func (f *family) chain(pool *layer) lineage {
	c := lineage{complete: f.complete}
	for x := pool; x != nil; x = f.parent(x) {
		if f.dead[x] {
			c.complete = false
			break
		}
		if x.extends.set && f.parent(x) == nil {
			c.complete = false
		}
		c.layers = append(c.layers, x)
	}
	c.layers = append(c.layers, f.defaults)
	return c
}

// settings gives what the pool says and inherits.
func (c lineage) settings() settings {
	var s settings
	for _, x := range c.layers {
		s = s.over(x.settings)
	}
	return s
}

// nearest puts the place first that stands nearer to the pool: what was said
// there is what clashes with the rest.
func (c lineage) nearest(a, b hcl.Range) (near, far hcl.Range) {
	for _, x := range c.layers {
		switch {
		case x.contains(a):
			return a, b
		case x.contains(b):
			return b, a
		}
	}
	return a, b
}

// pool completes a pool and checks what takes more than one value. These
// messages don't name the pool: where the values come from a template, they are
// the same for all of its pools, and only one remains.
func (l *loader) pool(x *layer, from lineage) broker.Pool {
	s := from.settings()
	if !s.module.set && from.complete && !l.broken(x.at) {
		l.report(x.header, "Missing module",
			"Pool %q has no module, and inherits none. Write module = \"DIRECTORY\", the directory of a Terraform module.", x.title())
	}
	fill := s.fillLevel.or(0)
	most := s.maxNodes.or(maxNodesFor(fill))
	if most < fill && !s.fillLevel.bad {
		at, other := from.nearest(s.maxNodes.at, s.fillLevel.at)
		l.report(at, "Too few nodes",
			"max_nodes is %d and fill_level is %d (see %s): so many can never be ready. Raise max_nodes to at least %d, or lower fill_level.", most, fill, place(other), fill)
	}
	mode := s.contextualize.or(broker.ContextualizeSSH)
	// A node that no key is written to need not speak SSH at all.
	ssh := s.readySSH.or(mode == broker.ContextualizeSSH)
	command := s.readyCommand.or("")
	if command != "" && !ssh && !s.readySSH.bad && !s.contextualize.bad {
		cause, why := s.readySSH.at, "ssh = false"
		if !s.readySSH.set {
			cause, why = s.contextualize.at, `contextualize = "none" without ssh = true`
		}
		at, other := from.nearest(s.readyCommand.at, cause)
		l.report(at, "Ready command without SSH",
			"%s leaves no SSH for the ready command to run over (see %s). Write ssh = true in the ready block, or remove command.", why, place(other))
	}
	unavailable := s.maxUnavailable.or(0)
	surge := s.maxSurge.or(max(0, 1-unavailable))
	if surge == 0 && unavailable == 0 && !s.maxUnavailable.bad {
		at, _ := from.nearest(s.maxSurge.at, s.maxUnavailable.at)
		l.report(at, "Rollout that stands still",
			"With max_surge = 0 and max_unavailable = 0 no stale node can ever be replaced. Write 1 or more for one of them.")
	}
	p := broker.Pool{
		Name:           x.name,
		Description:    s.description.or(""),
		Module:         s.module.or(""),
		Variables:      s.variables.value.encode(),
		FillLevel:      fill,
		MaxNodes:       most,
		Concurrency:    s.concurrency.or(defaultConcurrency),
		CreateTimeout:  s.createTimeout.or(defaultCreateTimeout),
		DestroyTimeout: s.destroyTimeout.or(defaultDestroyTimeout),
		Ready: broker.ReadyCheck{
			SSH:     ssh,
			Command: command,
			Timeout: s.readyTimeout.or(defaultReadyTimeout),
		},
		Contextualize: mode,
		NoLegacy:      !s.legacy.or(!s.inventory.or(broker.HostSelector{}).Draws()),
		Sweep: broker.Sweep{
			Interval:    s.sweepInterval.or(defaultSweepInterval),
			MaxDestroys: s.sweepDestroys.or(defaultSweepDestroys),
		},

		Tenants:     s.tenants.or(nil),
		Environment: broker.Environment{Environ: s.environment.or(nil), Credentials: s.credentials.or(nil)},
		Rollout: broker.RolloutSettings{
			MaxSurge: surge, MaxUnavailable: unavailable, PauseAfter: s.pauseAfter.or(defaultPauseAfter), NoStale: !s.serveStale.or(true),
		},

		ProviderSharing: s.providerSharing.or(false),
		Account:         s.account.or(""),
		Inventory:       s.inventory.or(broker.HostSelector{}),
		MaxAge:          s.maxAge.or(0),
		HourlyCost:      s.hourlyCost.or(0),
		Labels:          s.labels.or(nil),

		Follow: s.follow.or(broker.Follow{}),
	}
	p.Schedule = l.windows(s, p)
	p.Variants = l.variants(s)
	l.checkMaxAge(s, from, p)
	return p
}

// encode gives the variables as one JSON object, with sorted keys and no spaces:
// the same variables are the same bytes.
func (v variables) encode() json.RawMessage {
	if len(v) == 0 {
		return json.RawMessage("{}")
	}
	src, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("variables are not the JSON that they were made of: %v", err))
	}
	return src
}
