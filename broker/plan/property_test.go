package plan_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// change is a generated pair of configurations, and a world.
type change struct {
	before, after plan.Config
	world         reconcile.World // without pools
	durations     map[string]reconcile.Durations
}

// forecastOf plans a change.
func (c change) plan(now time.Time) plan.Plan {
	return plan.Compute(now, c.before, c.after, c.world, plan.Options{Observed: c.durations, Effort: 1 << 40, Horizon: horizon})
}

// drawChange makes up pools before and after, and a stock that the pools before
// could have come to. Times count from start.
func drawChange(t *rapid.T, start time.Time) change {
	c := change{durations: make(map[string]reconcile.Durations)}
	c.world.Runs = rapid.IntRange(1, 8).Draw(t, "runs")
	c.world.Health = make(map[string]broker.PoolHealth)
	c.world.Rollouts = make(map[string]broker.Rollout)
	accounts := []broker.Account{{Name: "x", Rate: 0.2, Burst: 2, DestroyShare: 0.5}}
	c.before.Accounts, c.after.Accounts = accounts, accounts
	for _, name := range []string{"a", "b", "c"} {
		seconds := func(label string) time.Duration {
			return time.Duration(rapid.IntRange(1, 200).Draw(t, label)) * time.Second
		}
		c.durations[name] = reconcile.Durations{Create: seconds("create"), Check: seconds("check"), Revoke: seconds("revoke"), Destroy: seconds("destroy")}
		seen := drawFollowed(t, start, name)
		if rapid.IntRange(0, 5).Draw(t, "before") > 0 {
			c.before.Pools = append(c.before.Pools, drawPool(t, name, seen))
		}
		if rapid.IntRange(0, 5).Draw(t, "after") > 0 {
			c.after.Pools = append(c.after.Pools, drawPool(t, name, seen))
		}
	}
	if rapid.IntRange(0, 3).Draw(t, "renamed") == 0 {
		i := slices.IndexFunc(c.after.Pools, func(p broker.Pool) bool { return p.Name == "a" })
		if i >= 0 && len(c.before.Pools) > 0 && c.before.Pools[0].Name == "a" {
			c.after.Pools[i].Name, c.after.Moves = "d", []broker.Move{{From: "a", To: "d"}}
		}
	}
	c.durations["d"] = c.durations["a"]
	for i := range rapid.IntRange(0, 3).Draw(t, "sessions") {
		state := rapid.SampledFrom([]broker.SessionState{broker.SessionActive, broker.SessionActive, broker.SessionPreparing}).Draw(t, "session state")
		c.world.Sessions = append(c.world.Sessions, broker.Session{
			ID: int64(i + 1), TenantID: 1, State: state, CreatedAt: start, Request: fmt.Sprintf("r%d", i),
			ExpiresAt: start.Add(time.Duration(rapid.IntRange(-5, 300).Draw(t, "expires")) * time.Minute),
		})
	}
	c.before.Inventories = drawInventories(t, nil)
	c.drawHosts(t, start)
	for _, p := range c.before.Pools {
		for range rapid.IntRange(0, p.MaxNodes).Draw(t, "nodes") {
			c.drawNode(t, start, p, int64(len(c.world.Hosts)+len(c.world.Nodes)+1))
		}
		if rapid.IntRange(0, 3).Draw(t, "rolling out") == 0 {
			c.world.Rollouts[p.Name] = broker.Rollout{
				Pool: p.Name, Generation: rapid.SampledFrom([]string{"g0", p.Generation()}).Draw(t, "rollout to"),
				State: rapid.SampledFrom([]broker.RolloutState{broker.RolloutRunning, broker.RolloutPaused, broker.RolloutAborted, broker.RolloutDone}).Draw(t, "rollout state"),
				Now:   rapid.IntRange(0, 3).Draw(t, "hurried") == 0,
			}
		}
		if rapid.IntRange(0, 3).Draw(t, "failing") == 0 {
			if i := slices.IndexFunc(c.after.Pools, func(after broker.Pool) bool { return after.Name == broker.MovedName(c.after.Moves, p.Name) }); i >= 0 {
				p = c.after.Pools[i]
			}
			c.world.Health[p.Name] = broker.PoolHealth{
				Pool: p.Name, Generation: rapid.SampledFrom([]string{"g0", p.Generation()}).Draw(t, "failed generation"),
				Failures: rapid.IntRange(0, 6).Draw(t, "failures"), LastFailure: start.Add(-time.Duration(rapid.IntRange(0, 600).Draw(t, "ago")) * time.Second),
				Variants: drawFailures(t, start, p),
			}
		}
	}
	if err := c.after.Declare(start, c.world, drawInventories(t, c.before.Inventories)); err != nil {
		t.Fatal(err)
	}
	return c
}

// drawInventories makes up hosts of a file: some of those that stand in it before,
// others, and machines under other names.
func drawInventories(t *rapid.T, before []broker.Inventory) (all []broker.Inventory) {
	if before != nil && rapid.IntRange(0, 2).Draw(t, "inventories stay") == 0 {
		return before
	}
	for _, inventory := range []string{"rack", "lab"} {
		i := broker.Inventory{Name: inventory}
		for n := range rapid.IntRange(0, 4).Draw(t, "hosts") {
			prefix := rapid.SampledFrom([]string{"n", "n", "n", "m"}).Draw(t, "name")
			arch := rapid.SampledFrom([]string{"arm", "x86", "x86"}).Draw(t, "arch")
			i.Hosts = append(i.Hosts, broker.Host{
				Name: fmt.Sprint(prefix, n), Hostname: fmt.Sprint(prefix, n, ".", inventory), Reusable: true,
				Address: fmt.Sprintf("192.0.%d.%d", len(inventory), n+1), Data: json.RawMessage(fmt.Sprintf(`{"arch":%q}`, arch)),
			})
		}
		all = append(all, i)
	}
	return all
}

// drawHosts stores the hosts of the file before. Some have failed.
func (c *change) drawHosts(t *rapid.T, start time.Time) {
	hosts, _, err := broker.Declared(nil, c.before.Inventories, 0, start.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		h := &hosts[i]
		h.Uses = rapid.IntRange(0, 3).Draw(t, "uses")
		if rapid.IntRange(0, 3).Draw(t, "host failed") == 0 {
			h.Failures, h.FailedPools = rapid.IntRange(1, 3).Draw(t, "host failures"), []string{rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "failed pool")}
			h.RetryAt = start.Add(time.Duration(rapid.IntRange(-600, 7200).Draw(t, "retry")) * time.Second)
			if rapid.IntRange(0, 2).Draw(t, "broken") == 0 {
				h.BrokenAt = start.Add(-time.Minute)
			}
		}
	}
	c.world.Hosts = hosts
}

// drawFailures gives some of the variants of a pool no capacity, at some time.
func drawFailures(t *rapid.T, start time.Time, p broker.Pool) map[string]broker.VariantHealth {
	all := make(map[string]broker.VariantHealth)
	for _, v := range p.Variants {
		if rapid.Bool().Draw(t, "no capacity") {
			all[v.Name] = broker.VariantHealth{
				FailedAt: start.Add(-time.Duration(rapid.IntRange(0, 1200).Draw(t, "failed")) * time.Second), Class: broker.FailureNoCapacity,
			}
		}
	}
	return all
}

// drawFollowed makes up what a broker remembers of an output of a pool's module:
// of some generations another value than at first.
func drawFollowed(t *rapid.T, start time.Time, pool string) broker.Followed {
	f, bases := broker.Followed{Pool: pool}, []string{"g0", "g1", "g2"}
	for _, base := range bases {
		value := rapid.SampledFrom([]string{"", `"1"`, `"2"`, `"2"`}).Draw(t, "followed value")
		if value == "" {
			continue // it was never looked up
		}
		first := f.See(base, map[string]string{"image": `"1"`}, start.Add(-2*time.Hour))
		f = f.With(first.See(base, map[string]string{"image": value}, start.Add(-time.Hour)), bases)
	}
	return f
}

func drawPool(t *rapid.T, name string, seen broker.Followed) broker.Pool {
	fill := rapid.IntRange(0, 4).Draw(t, "fill")
	var windows []broker.Window
	for i := range max(0, rapid.IntRange(-2, 2).Draw(t, "windows")) {
		level := rapid.IntRange(0, 4).Draw(t, "fill in the window")
		windows = append(windows, broker.Window{
			Name: fmt.Sprint("w", i), Cron: fmt.Sprintf("%d */%d * * *", rapid.IntRange(0, 59).Draw(t, "minute"), rapid.IntRange(3, 12).Draw(t, "hours")),
			Duration: time.Duration(rapid.IntRange(5, 150).Draw(t, "minutes open")) * time.Minute, FillLevel: level, MaxNodes: max(1, level+rapid.IntRange(0, 3).Draw(t, "room")),
		})
	}
	p := broker.Pool{
		// Nodes of this plan don't get so old within it: when these go is by chance.
		Schedule: windows, MaxAge: rapid.SampledFrom([]time.Duration{0, 0, 100 * time.Hour}).Draw(t, "max age"),
		Rollout: broker.RolloutSettings{
			MaxSurge: rapid.IntRange(0, 3).Draw(t, "surge"), MaxUnavailable: max(0, rapid.IntRange(-2, 2).Draw(t, "unavailable")),
			PauseAfter: rapid.IntRange(1, 4).Draw(t, "pause after"), NoStale: rapid.IntRange(0, 4).Draw(t, "serve stale") == 0,
		},
		Name: name, FillLevel: fill, MaxNodes: max(1, fill+rapid.IntRange(0, 3).Draw(t, "room")),
		Concurrency: rapid.IntRange(1, 4).Draw(t, "concurrency"), Account: rapid.SampledFrom([]string{"", "x"}).Draw(t, "account"),
		Ready: broker.ReadyCheck{SSH: true, Timeout: time.Hour}, Contextualize: broker.ContextualizeSSH,
		Inventory: rapid.SampledFrom([]broker.HostSelector{
			{}, {}, {Name: "rack"}, {Name: "rack", Where: map[string]string{"arch": "x86"}}, {Name: "lab"},
		}).Draw(t, "inventory"),
		Source: broker.Source{Template: "t", Generation: rapid.SampledFrom([]string{"g0", "g1", "g1"}).Draw(t, "generation")},
	}
	p.Followed = seen
	if rapid.IntRange(0, 2).Draw(t, "follows") == 0 {
		p.Follow = broker.Follow{Outputs: []string{"image"}, Every: time.Hour}
	}
	base := p.Source.Generation
	p.Source.Generation = p.GenerationOver(base)
	for i := range max(0, rapid.IntRange(-3, 2).Draw(t, "variants")) {
		v := broker.Variant{Name: []string{"near", "far"}[i], Cooldown: time.Duration(rapid.IntRange(1, 20).Draw(t, "cooldown")) * time.Minute, Source: p.Source}
		v.Source.Generation = p.GenerationOver([]string{base, "g2"}[i])
		p.Variants = append(p.Variants, v)
	}
	return p
}

func (c *change) drawNode(t *rapid.T, start time.Time, p broker.Pool, id int64) {
	n := broker.Node{
		ID: id, UID: fmt.Sprintf("%016x", id), Pool: p.Name, Since: start, CreatedAt: start, Source: p.Source,
		Ready: p.Ready, Contextualize: p.Contextualize, Account: p.Account,
	}
	if p.Inventory.Draws() { // it may be on one that does not fit any more
		i := slices.IndexFunc(c.world.Hosts, func(h broker.Host) bool { return h.Inventory == p.Inventory.Name && h.NodeID == 0 })
		if i < 0 {
			return
		}
		h := &c.world.Hosts[i]
		h.NodeID, n.Host = id, &broker.NodeHost{ID: h.ID, Inventory: h.Inventory, Name: h.Name}
	}
	n.CreatedAt = start.Add(-time.Duration(rapid.IntRange(0, 105).Draw(t, "hours old")) * time.Hour)
	n.State = rapid.SampledFrom([]broker.NodeState{
		broker.NodeReady, broker.NodeReady, broker.NodeReady, broker.NodeReady, broker.NodeDeployed, broker.NodeDeployed,
		broker.NodePlanned, broker.NodeApplying, broker.NodeChecking, broker.NodeReleasing, broker.NodeFailed, broker.NodeDestroying,
		broker.NodeHeld,
	}).Draw(t, "state")
	if len(p.Variants) > 0 {
		v := rapid.SampledFrom(p.Variants).Draw(t, "variant")
		n.Source, n.Variant = v.Source, v.Name
	}
	if rapid.IntRange(0, 3).Draw(t, "older") == 0 {
		n.Source.Generation = "g0"
	}
	switch n.State {
	case broker.NodeDeployed:
		n.Touched = true
		if len(c.world.Sessions) > 0 {
			s := &c.world.Sessions[rapid.IntRange(0, len(c.world.Sessions)-1).Draw(t, "session")]
			n.SessionID = s.ID
			s.Nodes = append(s.Nodes, broker.LentNode{ID: id, Pool: p.Name})
			if s.State == broker.SessionPreparing {
				n.State = broker.NodeContextualizing
			}
		}
	case broker.NodeReleasing:
		n.Touched = rapid.Bool().Draw(t, "touched")
	case broker.NodeHeld:
		n.Hold = &broker.Hold{By: "admin", Since: start, From: broker.NodeReady}
	case broker.NodeReady, broker.NodeChecking, broker.NodeFailed:
		if rapid.IntRange(0, 9).Draw(t, "asked for") == 0 && n.State != broker.NodeReady {
			n.Hold = &broker.Hold{By: "admin", Since: start, From: n.State}
		}
	}
	c.world.Nodes = append(c.world.Nodes, n)
}

// bubble is when time begins in every bubble.
func bubble() time.Time { return time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) }

// paced is a cloud whose work takes as long as the pool's durations say.
type paced struct {
	*brokertest.Cloud
	durations map[string]reconcile.Durations
}

func (p paced) Apply(ctx context.Context, n broker.Node) (broker.Result, error) {
	time.Sleep(p.durations[n.Pool].Create)
	return p.Cloud.Apply(ctx, n)
}

func (p paced) Destroy(ctx context.Context, n broker.Node, sealed []byte) (broker.Result, error) {
	time.Sleep(p.durations[n.Pool].Destroy)
	return p.Cloud.Destroy(ctx, n, sealed)
}

// Check and Decontextualize know nothing of pools that have left the file, and
// need not: a node carries its pool's name.
func (p paced) Check(ctx context.Context, n broker.Node) ([]string, error) {
	time.Sleep(p.durations[n.Pool].Check)
	return p.Cloud.Check(ctx, n)
}

func (p paced) Decontextualize(ctx context.Context, n broker.Node) error {
	if n.State == broker.NodeReleasing { // else it is part of the check
		time.Sleep(p.durations[n.Pool].Revoke)
	}
	return p.Cloud.Decontextualize(ctx, n)
}

// settled is the clock of a loop. It lets everything come to rest that happens at
// one moment before a pass begins. Else it would be chance which of the workers
// that end at once a pass sees.
func settled(loop *string) func() time.Time {
	return func() time.Time {
		if goroutine() == *loop {
			synctest.Wait()
		}
		return time.Now()
	}
}

// goroutine gives the name of the calling goroutine.
func goroutine() string {
	text := make([]byte, 64)
	name, _, _ := bytes.Cut(text[:runtime.Stack(text, false)], []byte("["))
	return string(name)
}

// horizon is how far these forecasts go. A window never opens or closes then.
const horizon = 24*time.Hour - 500*time.Millisecond

// perform lets a real loop do what it does after the change, for as long as the
// forecast goes, and gives what it did, from the events of the store.
func perform(t *rapid.T, c change) (did []string, ready map[string]int) {
	store, cloud := memory.New(), &brokertest.Cloud{}
	err := store.Update(context.Background(), func(tx broker.Tx) error {
		for _, h := range c.world.Hosts {
			if err := tx.CreateHost(&h); err != nil {
				return err
			}
		}
		for _, s := range c.world.Sessions {
			if err := tx.CreateSession(&s); err != nil {
				return err
			}
		}
		for _, n := range c.world.Nodes {
			if err := tx.CreateNode(&n); err != nil {
				return err
			}
			if n.State != broker.NodePlanned && n.State != broker.NodeApplying {
				cloud.Appear(n.UID, n.Pool)
			}
		}
		for _, r := range c.world.Rollouts {
			if err := tx.SetRollout(r); err != nil {
				return err
			}
		}
		for _, h := range c.world.Health {
			if err := tx.SetPoolHealth(h); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
		return nil, nil
	}
	pools, work, name := new(broker.PoolSet), paced{cloud, c.durations}, ""
	pools.Set(c.after.Pools, c.after.Accounts...)
	declaring := broker.New(broker.Config{Store: store, Pools: pools, Now: time.Now})
	if err := declaring.MovePools(context.Background(), c.after.Moves); err != nil {
		t.Error(err)
		return nil, nil
	}
	if _, err := declaring.SyncInventories(context.Background(), c.after.Inventories); err != nil {
		t.Error(err)
		return nil, nil
	}
	loop := reconcile.New(reconcile.Config{
		Store: store, Provisioner: work, Contextualizer: work, Pools: pools, Runs: c.world.Runs,
		Serving: func() map[string]bool { return nil }, Log: slog.New(slog.DiscardHandler), Now: settled(&name),
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		name = goroutine()
		loop.Run(ctx)
	})
	time.Sleep(horizon)
	cancel()
	running.Wait()

	last := int64(0)
	for _, n := range c.world.Nodes {
		last = max(last, n.ID)
	}
	for _, h := range c.after.Hosts {
		last = max(last, h.ID)
	}
	ready = make(map[string]int)
	err = store.View(context.Background(), func(tx broker.ReadTx) error {
		events, err := tx.Events(0, 1<<30)
		for _, e := range events {
			if line := eventLine(e, bubble(), last); line != "" {
				did = append(did, line)
			}
		}
		nodes, _ := tx.Nodes(broker.NodeQuery{States: []broker.NodeState{broker.NodeReady}})
		for _, n := range nodes {
			ready[n.Pool]++
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return did, ready
}

// when gives a time without the nanoseconds by which the tokens of an account come
// late, once for each time that they are counted.
func when(start, at time.Time) time.Duration { return at.Sub(start).Round(time.Millisecond) }

// eventLine says which action an event shows, "" for one that is the end of some
// work, or part of another action.
func eventLine(e broker.Event, start time.Time, last int64) string {
	line := func(kind reconcile.Kind, node, session int64) string {
		created := ""
		if node > last {
			created, node = fmt.Sprintf(" new %d", node-last), 0
		}
		return fmt.Sprintf("%v %s %s %d%s session %d", when(start, e.At), kind, e.Pool, node, created, session)
	}
	from, to := broker.NodeState(e.From), broker.NodeState(e.To)
	switch {
	case e.Kind == broker.EventSession && e.To == string(broker.SessionRetired):
		return line(reconcile.ExpireSession, 0, e.SessionID)
	case e.Kind == broker.EventSession && e.To == string(broker.SessionAbandoned):
		return line(reconcile.AbandonSession, 0, e.SessionID)
	case e.Kind == broker.EventRollout:
		return line(map[broker.RolloutState]reconcile.Kind{
			broker.RolloutRunning: reconcile.StartRollout, broker.RolloutPaused: reconcile.PauseRollout, broker.RolloutDone: reconcile.FinishRollout,
		}[broker.RolloutState(e.To)], 0, 0)
	case e.Kind != broker.EventNode:
		return ""
	case to == broker.NodeApplying && e.NodeID > last:
		return line(reconcile.CreateNode, e.NodeID, 0) + " " + e.Message // it names the variant
	case to == broker.NodeApplying:
		return line(reconcile.ApplyNode, e.NodeID, 0)
	case to == broker.NodeDestroying:
		return line(reconcile.DestroyNode, e.NodeID, 0)
	case to == broker.NodeReleasing && (from == broker.NodeReady || from == broker.NodeChecking), to == broker.NodeGone && from == broker.NodePlanned,
		to == broker.NodeReleasing && e.Message == "no session holds it":
		return line(reconcile.ReleaseNode, e.NodeID, 0)
	}
	return ""
}

// announced are the actions of a plan that events of a store show: the others
// begin work that changes no state before it ends.
func announced(c change, start time.Time, p plan.Plan) (lines []string) {
	state := make(map[int64]broker.NodeState)
	for _, n := range c.world.Nodes {
		state[n.ID] = n.State
	}
	for _, a := range p.Actions {
		switch a.Kind {
		case reconcile.CheckNode, reconcile.RevokeNode, reconcile.HoldNode:
			continue
		case reconcile.ApplyNode:
			if state[a.NodeID] != broker.NodePlanned {
				continue // adopted
			}
		case reconcile.DestroyNode:
			if state[a.NodeID] == broker.NodeDestroying {
				continue // goes on
			}
		}
		created := ""
		if a.NewNode > 0 {
			created = fmt.Sprintf(" new %d", a.NewNode)
		}
		l := fmt.Sprintf("%v %s %s %d%s session %d", when(start, a.At), a.Kind, a.Pool, a.NodeID, created, a.SessionID)
		if a.Kind == reconcile.CreateNode {
			l += " " + a.Reason
		}
		lines = append(lines, l)
	}
	return lines
}

// What plan announces is what a real loop does, action by action, in this order
// and at these times, and the forecast of ready nodes comes true.
func TestTheLoopDoesWhatThePlanSays(t *testing.T) {
	// A day of a loop takes rapid longer than the single calls that its default of
	// 100 checks is made for.
	checks := flag.Lookup("rapid.checks")
	if before := checks.Value.String(); before == checks.DefValue {
		_ = checks.Value.Set("40")
		defer func() { _ = checks.Value.Set(before) }()
	}
	rapid.Check(t, func(rt *rapid.T) {
		start := bubble()
		c := drawChange(rt, start)
		p := c.plan(start)
		synctest.Test(t, func(*testing.T) {
			did, ready := perform(rt, c)
			if diff := cmp.Diff(announced(c, start, p), did); diff != "" {
				rt.Errorf("announced and done (-announced +done):\n%s", diff)
			}
			for _, pool := range p.Pools {
				if pool.Ready.End != ready[pool.Name] {
					rt.Errorf("pool %s ends with %d ready nodes, the plan says %d", pool.Name, ready[pool.Name], pool.Ready.End)
				}
			}
		})
	})
}

// After what plan announced there is nothing to change, and nothing to do but what
// sessions leave behind.
func TestPlanningAgainSaysNothing(t *testing.T) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		c := drawChange(rt, start)
		for i := range c.after.Pools {
			if len(c.after.Moves) > 0 && c.after.Pools[i].Name == "d" { // names are a plan's business, not a rehearsal's
				c.after.Pools[i].Name, c.after.Moves = "a", nil
			}
		}
		for i := range c.after.Pools { // else there is something to do for ever
			c.after.Pools[i].Schedule, c.after.Pools[i].MaxAge = nil, 0
		}
		w := c.world
		w.Pools, w.Hosts = c.after.Pools, c.after.Hosts
		done := reconcile.Rehearse(start, w, reconcile.Script{
			Accounts: c.after.Accounts, Horizon: 24 * time.Hour,
			Durations: func(pool string) reconcile.Durations { return c.durations[pool] },
		})
		if !done.Complete {
			rt.Fatalf("not done within a day: %d steps", len(done.Steps))
		}
		running, again := c.after, c.after
		if err := again.Declare(start.Add(24*time.Hour), done.World, c.after.Inventories); err != nil {
			rt.Fatal(err)
		}
		running.Inventories = there(c.after.Inventories, c.after.Hosts)
		came := there(c.after.Inventories, again.Hosts)
		for i := range came { // what still waits is in the file
			for _, h := range c.after.Inventories[i].Hosts {
				waited := !has(running.Inventories[i], h)
				if still := !has(came[i], h); waited && !still {
					came[i].Hosts = slices.DeleteFunc(came[i].Hosts, func(other broker.Host) bool { return other.Name == h.Name }) // it would be a change
				} else if still {
					came[i].Hosts = append(came[i].Hosts, h)
				}
			}
		}
		if err := again.Declare(start.Add(24*time.Hour), done.World, came); err != nil {
			rt.Fatal(err)
		}
		p := plan.Compute(start.Add(24*time.Hour), running, again, done.World, plan.Options{Observed: c.durations})
		if p.Summary.Changes() || p.ExitCode() != plan.ExitNone {
			rt.Errorf("changes: %+v", p.Summary)
		}
		if len(p.Actions) > 0 {
			rt.Errorf("actions: %+v", p.Actions)
		}
	})
}

// there gives the hosts of inventories that are there, without those that wait.
func there(inventories []broker.Inventory, hosts []broker.Host) (all []broker.Inventory) {
	for _, i := range inventories {
		i.Hosts = slices.DeleteFunc(slices.Clone(i.Hosts), func(h broker.Host) bool {
			return !slices.ContainsFunc(hosts, func(stored broker.Host) bool {
				return stored.RetiredAt.IsZero() && stored.Inventory == i.Name && stored.Name == h.Name
			})
		})
		all = append(all, i)
	}
	return all
}

func has(i broker.Inventory, h broker.Host) bool {
	return slices.ContainsFunc(i.Hosts, func(other broker.Host) bool { return other.Name == h.Name })
}

// A plan changes nothing of what it is given, and is the same again; its id is
// that of the change, whatever the stock.
func TestPlanIsAFunction(t *testing.T) {
	start := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	rapid.Check(t, func(rt *rapid.T) {
		c := drawChange(rt, start)
		before := strings.Clone(fmt.Sprintf("%+v", c))
		first := c.plan(start)
		if after := fmt.Sprintf("%+v", c); before != after {
			rt.Errorf("the plan changed its arguments:\n%s", cmp.Diff(before, after))
		}
		if diff := cmp.Diff(first, c.plan(start)); diff != "" {
			rt.Errorf("the same plan is another one:\n%s", diff)
		}
		empty := c
		empty.world = reconcile.World{Runs: 1}
		if err := empty.after.Declare(start, empty.world, c.after.Inventories); err != nil {
			rt.Fatal(err)
		}
		if id := empty.plan(start.Add(time.Hour)).ID; id != first.ID {
			rt.Errorf("without stock, an hour later, the id is %s, not %s", id, first.ID)
		}
		for i := range c.after.Pools {
			other := c
			other.after.Pools = slices.Clone(c.after.Pools)
			other.after.Pools[i].Source.Generation = "another"
			if variants := slices.Clone(c.after.Pools[i].Variants); len(variants) > 0 {
				variants[0].Source.Generation = "another"
				other.after.Pools[i].Variants = variants
			}
			if id := other.plan(start).ID; id == first.ID {
				rt.Errorf("pool %s is made from something else, and the id is the same", c.after.Pools[i].Name)
			}
		}
	})
}
