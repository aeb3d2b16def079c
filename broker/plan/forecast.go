package plan

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// look looks ahead: it rehearses what the loop does, and says it of each pool.
func (c *computation) look(w reconcile.World) {
	c.world = c.renamed(w)
	c.world.Hosts = c.after.Hosts
	rehearsed := c.rehearse(c.world, c.after)
	s := &c.plan.Summary
	s.End, s.Complete = rehearsed.End, rehearsed.Complete
	if s.End.IsZero() {
		s.End = c.now
	}
	c.plan.Assumed.Window = Seconds(rehearsed.Window)

	last := int64(0)
	for _, n := range w.Nodes {
		last = max(last, n.ID)
	}
	for _, h := range c.world.Hosts {
		last = max(last, h.ID)
	}
	c.plan.Actions = make([]Action, 0, len(rehearsed.Steps))
	for _, step := range rehearsed.Steps {
		a := Action{At: step.At, Kind: step.Kind, Pool: step.Pool, NodeID: step.NodeID, SessionID: step.SessionID, Reason: step.Reason}
		if id := cmp.Or(step.NodeID, step.Created); id > last {
			a.NodeID, a.NewNode = 0, id-last
		}
		c.plan.Actions = append(c.plan.Actions, a)
	}
	anyway := c.releasedAnyway(w, rehearsed)
	byName := make(map[string]int, len(c.plan.Pools))
	for i, p := range c.plan.Pools {
		byName[p.Name] = i
	}
	c.takeStock(byName)
	c.followStock(byName, rehearsed, anyway)
	c.followLevels(byName, rehearsed)
}

// rehearse plays the loop with a configuration.
func (c *computation) rehearse(w reconcile.World, with Config) reconcile.Rehearsal {
	w.Pools = with.Pools
	return reconcile.Rehearse(c.now, w, reconcile.Script{
		Accounts: with.Accounts, Horizon: c.options.Horizon, Effort: c.options.Effort, Durations: c.durations,
		Unknown: c.unknownHosts(),
	})
}

// durations gives those of a pool: observed ones, and where there are none, the
// defaults.
func (c *computation) durations(pool string) reconcile.Durations {
	d, o := DefaultDurations(), c.options.Observed[pool]
	if was := c.oldName(pool); o == (reconcile.Durations{}) && was != "" {
		o = c.options.Observed[was]
	}
	return reconcile.Durations{
		Create: cmp.Or(o.Create, d.Create), Check: cmp.Or(o.Check, d.Check),
		Revoke: cmp.Or(o.Revoke, d.Revoke), Destroy: cmp.Or(o.Destroy, d.Destroy),
	}
}

func (c *computation) oldName(pool string) string {
	for _, m := range c.after.Moves {
		if m.To == pool {
			return m.From
		}
	}
	return ""
}

// renamed gives the world with the pools' new names.
func (c *computation) renamed(w reconcile.World) reconcile.World {
	if len(c.after.Moves) == 0 {
		return w
	}
	now := func(name string) string { return broker.MovedName(c.after.Moves, name) }
	w.Nodes = slices.Clone(w.Nodes)
	for i := range w.Nodes {
		n := &w.Nodes[i]
		n.Pool = now(n.Pool)
	}
	health := make(map[string]broker.PoolHealth, len(w.Health))
	for name, h := range w.Health {
		health[now(name)] = h
	}
	rollouts := make(map[string]broker.Rollout, len(w.Rollouts))
	for name, r := range w.Rollouts {
		r.Pool = now(name)
		rollouts[r.Pool] = r
	}
	// Turns stay as they are: the loop knows none of a name that is new, either.
	w.Health, w.Rollouts = health, rollouts
	return w
}

// releasedAnyway gives the nodes that leave the stock without the change, too.
func (c *computation) releasedAnyway(w reconcile.World, changed reconcile.Rehearsal) map[int64]bool {
	anyway := make(map[int64]bool)
	if !slices.ContainsFunc(changed.Steps, releasesStock) {
		return anyway
	}
	for _, step := range c.rehearse(w, c.before).Steps {
		if releasesStock(step) {
			anyway[step.NodeID] = true
		}
	}
	return anyway
}

func releasesStock(s reconcile.Step) bool {
	return s.Kind == reconcile.ReleaseNode && (s.Of == broker.NodeReady || s.Of == broker.NodeChecking)
}

// takeStock counts what there is now.
func (c *computation) takeStock(byName map[string]int) {
	sessions := make(map[int64]broker.Session, len(c.world.Sessions))
	onRemoved := make(map[int64]bool)
	for _, s := range c.world.Sessions {
		sessions[s.ID] = s
	}
	for _, n := range c.world.Nodes {
		i, known := byName[n.Pool]
		if !known || n.State == broker.NodeGone {
			continue
		}
		p, s := &c.plan.Pools[i], c.sides[i]
		p.Stock.Live++
		switch n.State {
		case broker.NodeReady:
			p.Stock.Ready++
		case broker.NodePlanned, broker.NodeApplying, broker.NodeChecking:
			p.Stock.Provisioning++
		case broker.NodeReserved, broker.NodeContextualizing, broker.NodeDeployed, broker.NodeLost:
			p.Stock.Lent++
			if session := sessions[n.SessionID]; session.State == broker.SessionActive {
				p.Lent = append(p.Lent, Lent{NodeID: n.ID, SessionID: n.SessionID, Until: session.ExpiresAt})
				onRemoved[n.SessionID] = onRemoved[n.SessionID] || p.Kind == Removed
			}
			continue
		case broker.NodeReleasing, broker.NodeFailed, broker.NodeDestroying, broker.NodeHeld, broker.NodeGone:
			continue
		}
		if s.new != nil && c.stale(s.new, n) {
			p.Stock.Stale++
			if p.Hosts != nil && c.misplaced(*s.new, n) {
				p.Hosts.Replaced = append(p.Hosts.Replaced, n.ID)
			}
			if s.old != nil && !c.wasStale(s.old, n) {
				p.Stock.TurnStale = append(p.Stock.TurnStale, n.ID)
			}
		}
	}
	for _, hit := range onRemoved {
		if hit {
			c.plan.Summary.SessionsOnRemoved++
		}
	}
	for i := range c.plan.Pools {
		if p := &c.plan.Pools[i]; p.Headroom.After != nil {
			now, _ := schedule.Pool(*c.sides[i].new, c.now)
			p.Headroom.Over = max(0, p.Stock.Live-now.MaxNodes)
		}
	}
}

// followStock says when nodes leave the stock.
func (c *computation) followStock(byName map[string]int, r reconcile.Rehearsal, anyway map[int64]bool) {
	known := make(map[int64]*broker.Node, len(c.world.Nodes)) // not those that are made meanwhile
	for i := range c.world.Nodes {
		known[c.world.Nodes[i].ID] = &c.world.Nodes[i]
	}
	surplus := make(map[string]int) // stock above the fill level, stale one first
	for i, p := range c.plan.Pools {
		surplus[p.Name] = p.Stock.Ready - c.fill(i)
	}
	for _, step := range r.Steps {
		i, ok := byName[step.Pool]
		if !ok || known[step.NodeID] == nil || !releasesStock(step) {
			continue
		}
		p, s := &c.plan.Pools[i], c.sides[i]
		if !anyway[step.NodeID] {
			p.Stock.Destroyed = append(p.Stock.Destroyed, step.NodeID)
		}
		if s.new == nil || !c.stale(s.new, *known[step.NodeID]) {
			continue
		}
		if surplus[p.Name] > 0 { // it goes, and nothing takes its place
			surplus[p.Name]--
			continue
		}
		if p.Rollout == nil {
			p.Rollout = new(Rollout)
		}
		p.Rollout.Nodes = append(p.Rollout.Nodes, Departure{step.NodeID, step.At})
	}
	left := make(map[string]int) // stale stock at the end
	existing := make(map[string]bool)
	for _, n := range r.World.Nodes {
		existing[n.Pool] = true
		i, known := byName[n.Pool]
		if known && c.sides[i].new != nil && n.State == broker.NodeReady && c.stale(c.sides[i].new, n) {
			left[n.Pool]++
		}
	}
	for i := range c.plan.Pools {
		p := &c.plan.Pools[i]
		if p.Rollout == nil && left[p.Name] > 0 {
			p.Rollout = new(Rollout)
		}
		if p.Rollout != nil {
			p.Rollout.Left = left[p.Name]
			state := r.World.Rollouts[p.Name].State
			p.Rollout.Waits = state == broker.RolloutPaused || state == broker.RolloutAborted
		}
		if p.Kind == Removed {
			p.Drain = c.drain(*p, existing[p.Name])
		}
	}
}

// drain says how a pool gets empty.
func (c *computation) drain(p Pool, left bool) *Drain {
	lent := make(map[int64]bool, len(p.Lent))
	var d Drain
	for _, l := range p.Lent {
		lent[l.NodeID] = true
		if l.Until.After(d.LastSession) {
			d.LastSession = l.Until
		}
	}
	takes := c.durations(p.Name).Destroy
	for _, a := range c.plan.Actions {
		if a.Pool != p.Name || a.Kind != reconcile.DestroyNode {
			continue
		}
		end := a.At.Add(takes)
		if !lent[a.NodeID] && end.After(d.StockGone) {
			d.StockGone = end
		}
		if !left && end.After(d.Empty) {
			d.Empty = end
		}
	}
	return &d
}

// followLevels says how many nodes are ready over time.
func (c *computation) followLevels(byName map[string]int, r reconcile.Rehearsal) {
	points := make(map[string][]Point, len(byName))
	for _, l := range r.Levels {
		all := points[l.Pool]
		if last := len(all) - 1; last >= 0 && all[last].At.Equal(l.At) {
			all[last].Ready = l.Ready
			if last > 0 && all[last-1].Ready == l.Ready {
				all = all[:last]
			}
			points[l.Pool] = all
			continue
		}
		points[l.Pool] = append(all, Point{l.At, l.Ready})
	}
	for name, all := range points {
		i, known := byName[name]
		if !known {
			continue
		}
		p := &c.plan.Pools[i]
		// What is committed at once, before any work, is how it begins, too; but the
		// number of nodes that are ready now is what people see.
		ready := Ready{Now: p.Stock.Ready, Lowest: p.Stock.Ready, End: all[len(all)-1].Ready}
		for _, point := range all {
			if point.Ready < ready.Lowest {
				ready.Lowest, ready.LowestAt = point.Ready, point.At
			}
		}
		fill := c.fill(i)
		for k := len(all) - 1; k >= 0 && all[k].Ready >= fill && fill > 0 && len(p.Schedule) == 0; k-- {
			ready.Full = all[k].At
			if k == 0 {
				ready.Full = time.Time{} // it is all the time
			}
		}
		if len(all) > 1 {
			ready.Points = thin(all)
		}
		p.Ready = ready
		if p.Rollout != nil {
			p.Rollout.MadeFirst = ready.Lowest >= min(ready.Now, c.fill(i), c.sides[i].lowestFill(*p, c.now))
		}
	}
}

// thin leaves out points, but never the first, the last or the lowest.
func thin(points []Point) []Point {
	if len(points) <= maxPoints {
		return points
	}
	lowest := slices.MinFunc(points, func(a, b Point) int { return cmp.Compare(a.Ready, b.Ready) })
	keep := make(map[time.Time]Point, maxPoints)
	for i := range maxPoints - 2 {
		p := points[i*(len(points)-1)/(maxPoints-3)]
		keep[p.At] = p
	}
	keep[lowest.At] = lowest
	return slices.SortedFunc(maps.Values(keep), func(a, b Point) int { return a.At.Compare(b.At) })
}
