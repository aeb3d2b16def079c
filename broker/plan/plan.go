// Package plan says what a changed pools.hcl would do to the stock, before it
// does: which settings change, which nodes turn stale and when they are replaced,
// how many nodes are ready meanwhile.
//
// It decides nothing. [reconcile.Rehearse] plays the loop with the very
// [reconcile.Plan] that a running broker uses, and [Compute] compares, counts and
// sorts what comes out. It is pure: no clock, no disk, no network. docs/adr/0005
// has the decisions.
package plan

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

// FormatVersion is the version of a plan's JSON. Fields may be added within a
// major version; none is renamed or removed.
const FormatVersion = "1.0"

// Config is what a broker runs with, or would run with.
type Config struct {
	// Pools have their Source's template and generation. Their modules are relative
	// to the directory of pools.hcl, and sensitive variables are masked: see
	// [broker.MaskVariables].
	Pools          []broker.Pool
	Accounts       []broker.Account
	TenantDefaults broker.TenantDefaults
	// Settings are those of the file that are told by name only, such as those of the
	// legacy block.
	Settings map[string]json.RawMessage
	// Modules are those of the pools, by Source.Template. Where one is missing, what
	// changed in it is not told.
	Modules map[string]broker.Module
	// Moves says which pools have new names. Their nodes go with them.
	Moves []broker.Move
	// Inventories are those of the file.
	Inventories []broker.Inventory
	// Hosts are those that there are with the inventories, and Waiting those that
	// wait for a machine in use: see [Config.Declare]. Of what runs, the world has
	// them.
	Hosts   []broker.Host
	Waiting []string
}

// Options are what else [Compute] needs. The zero value will do.
type Options struct {
	// Against says what the change is compared with, for people.
	Against Against
	// MaskKey is what sensitive variables of both sides are masked with.
	MaskKey []byte
	// Horizon is how far to look ahead; 0: a day.
	Horizon time.Duration
	// Effort bounds the cost of looking ahead: see [reconcile.Script]; 0: the
	// default.
	Effort int
	// Observed are durations seen in the past, by pool; 0 in one of them is not known.
	Observed map[string]reconcile.Durations
	// Policy is what rules say about the change.
	Policy []PolicyResult
	// Tenants are those that have a quota; none where nothing is known of them.
	Tenants []broker.SnapshotTenant
}

// Against is what a change is compared with.
type Against struct {
	Kind string `json:"kind"` // server, data_dir or base
	Name string `json:"name"` // a URL, a directory, a revision
	// AssumedFull: nothing is known of the stock, so that all pools count as full.
	AssumedFull bool `json:"assumed_full,omitempty"`
}

// Plan is what a change would do.
type Plan struct {
	FormatVersion string `json:"format_version"`
	// ID stands for the configuration and for whose stock it destroys. It is the
	// same for the same change, whenever and wherever it is planned.
	ID      string    `json:"id"`
	At      time.Time `json:"at"` // when it begins
	Against Against   `json:"against"`
	Summary Summary   `json:"summary"`
	// Settings are changes outside of pools: accounts, what tenants have by default.
	Settings []Field `json:"settings,omitempty"`
	Pools    []Pool  `json:"pools"` // in the order of the file, then those removed
	// Notes say what is to be known besides, and what the plan does not know.
	Notes   []string       `json:"notes,omitempty"`
	Moves   []Move         `json:"suggested_moves,omitempty"`
	Policy  []PolicyResult `json:"policy,omitempty"`
	Assumed Assumptions    `json:"assumptions"`
	// Actions are what the loop does, in its order, until nothing is left to do or
	// the forecast ends.
	Actions []Action `json:"actions"`
}

// Summary counts.
type Summary struct {
	Added     int `json:"added"`
	Changed   int `json:"changed"`
	Removed   int `json:"removed"`
	Moved     int `json:"moved"`
	Unchanged int `json:"unchanged"`
	Settings  int `json:"settings"` // changed ones outside of pools
	// StockDestroyed are the nodes in stock, or nearly, that this change takes away.
	StockDestroyed int `json:"stock_destroyed"`
	// Created are the nodes that are made within the forecast, for whatever reason.
	Created int `json:"created"`
	// SessionsOnRemoved hold nodes of pools that are removed.
	SessionsOnRemoved int `json:"sessions_on_removed"`
	// Denied: a policy forbids the change.
	Denied bool `json:"denied"`
	// CostPerDay is what full stock costs, of pools that say what a node costs; nil
	// where none does.
	CostPerDay *Cost `json:"cost_per_day,omitempty"`
	// End is when the last action's work ends; Complete is false if the forecast
	// ended before.
	End      time.Time `json:"end"`
	Complete bool      `json:"complete"`
}

// Changes tells whether anything is other than before.
func (s Summary) Changes() bool { return s.Added+s.Changed+s.Removed+s.Moved+s.Settings > 0 }

// The exit codes of `duffy-broker plan`.
const (
	ExitNone    = 0 // no change
	ExitChanges = 2 // changes
	ExitDanger  = 3 // changes that a policy denies, or that destroy stock
)

// ExitCode gives the exit code that stands for the plan.
func (p Plan) ExitCode() int {
	switch {
	case !p.Summary.Changes():
		return ExitNone
	case p.Danger():
		return ExitDanger
	}
	return ExitChanges
}

// Danger tells whether the change is one to look at twice: a policy denies it, or
// it destroys stock.
func (p Plan) Danger() bool {
	return p.Summary.Changes() && (p.Summary.Denied || p.Summary.StockDestroyed > 0)
}

// Kind says what becomes of a pool.
type Kind string

// The kinds.
const (
	Added     Kind = "added"
	Changed   Kind = "changed"
	Removed   Kind = "removed"
	Moved     Kind = "moved" // it has a new name; it may have other settings, too
	Unchanged Kind = "unchanged"
)

// Field is a setting that is other than before.
type Field struct {
	Name string          `json:"name"`          // as in "ready.timeout" or "variables.size"
	Old  json.RawMessage `json:"old,omitempty"` // absent: not set before
	New  json.RawMessage `json:"new,omitempty"` // absent: not set any more
	// Sensitive: Old and New are left out, since nobody is to see them.
	Sensitive bool `json:"sensitive,omitempty"`
}

// Pool is what becomes of one pool.
type Pool struct {
	Name       string            `json:"name"`
	From       string            `json:"from,omitempty"` // its name before, if it is moved
	Kind       Kind              `json:"kind"`
	Fields     []Field           `json:"fields,omitempty"`
	Generation *GenerationChange `json:"generation,omitempty"`
	Stock      Stock             `json:"stock"`
	// Hosts are those that it draws from, nil where it draws from no inventory.
	Hosts *Hosts `json:"hosts,omitempty"`
	// Rollout is how stale stock is replaced, nil where none is stale.
	Rollout *Rollout `json:"rollout,omitempty"`
	// Drain is how a pool is emptied that is removed.
	Drain *Drain `json:"drain,omitempty"`
	// Lent are the nodes in sessions, which are left alone.
	Lent     []Lent   `json:"lent,omitempty"`
	Ready    Ready    `json:"ready"`
	Headroom Headroom `json:"headroom"`
	// Quotas are those of its tenants, nil where nothing is known of tenants.
	Quotas *Quotas `json:"quotas,omitempty"`
	Cost   *Cost   `json:"cost_per_day,omitempty"`
	// Followed are the values of outputs that it follows after the change, as they
	// were seen last.
	Followed []broker.FollowedValue `json:"followed,omitempty"`
	Schedule []ScheduleChange       `json:"schedule,omitempty"` // the next ones, at most [scheduleChanges]
	// Sample is what Terraform would make for one node, where it was asked.
	Sample *Sample `json:"sample,omitempty"`
}

// Sample is what Terraform says of one node of a pool. [Compute] leaves it to its
// caller to ask.
type Sample struct {
	Resources []string            `json:"resources"`         // addresses of what it would make
	Problem   string              `json:"problem,omitempty"` // "": it could be planned
	Class     broker.FailureClass `json:"class,omitempty"`   // of the problem
}

// GenerationChange says why nodes of a pool are made from something else.
type GenerationChange struct {
	Old    string  `json:"old"`
	New    string  `json:"new"`
	Inputs []Input `json:"inputs"` // what is other than before
}

// InputKind is a kind of what decides what a node is.
type InputKind string

// The kinds of inputs.
const (
	InputModule      InputKind = "module"      // the module, and nobody knows which file
	InputFile        InputKind = "file"        // a file of the module
	InputLock        InputKind = "lock"        // the module's lock file
	InputVariable    InputKind = "variable"    // a variable of the module
	InputVariant     InputKind = "variant"     // a variant of the pool
	InputEnvironment InputKind = "environment" // a variable of the environment
	InputFollowed    InputKind = "followed"    // an output that is followed, with another value than at first
	InputHash        InputKind = "hash"        // nothing but how the hash is made
)

// Input is one of what decides what a node is.
type Input struct {
	Kind InputKind `json:"kind"`
	Name string    `json:"name,omitempty"` // of the file, the variable, the module
	How  string    `json:"how"`            // added, changed, removed
}

// Stock are a pool's nodes as they are now, and what this change takes away.
type Stock struct {
	Live         int `json:"live"`         // all that exist, lent ones included
	Ready        int `json:"ready"`        // in stock
	Provisioning int `json:"provisioning"` // on their way there
	Lent         int `json:"lent"`
	Stale        int `json:"stale"` // ready or provisioning ones of another generation than the new one
	// TurnStale are those that are stale by this change, by id.
	TurnStale []int64 `json:"turn_stale,omitempty"`
	// Destroyed are those that this change takes away, in order.
	Destroyed []int64 `json:"destroyed,omitempty"`
}

// Hosts are those of an inventory that a pool draws from. They bound how many nodes
// it has, as its maximum does.
type Hosts struct {
	Inventory string `json:"inventory"`
	// Unknown: nothing is known of them; it counts as if there were enough.
	Unknown bool `json:"unknown,omitempty"`
	// Added and Removed are the names of those that it draws from by this change, or
	// not any more.
	Added   []string `json:"added,omitempty"`
	Removed []string `json:"removed,omitempty"`
	// What those are doing that it draws from after the change.
	Free        int `json:"free"`
	InUse       int `json:"in_use"`
	Quarantined int `json:"quarantined"`
	Broken      int `json:"broken"`
	// Short is by how many hosts that do or may work it misses its fill level, by its
	// schedule now.
	Short int `json:"short,omitempty"`
	// Replaced are the nodes in stock, or nearly, that are stale since they run on
	// none of these, by id.
	Replaced []int64 `json:"replaced,omitempty"`
}

// Usable are the hosts that nodes run on, or will.
func (h Hosts) Usable() int { return h.Free + h.InUse + h.Quarantined }

// Rollout is the order and the pace in which stale stock is replaced.
type Rollout struct {
	// MadeFirst: a new node is ready before a stale one goes. Else the pool has no
	// room for that, or its settings allow less, and the stock dips.
	MadeFirst bool        `json:"made_first"`
	Nodes     []Departure `json:"nodes"` // in order
	// Waits: it is paused or aborted, and goes on only when an admin says so.
	Waits bool `json:"waits,omitempty"`
	// Left are stale nodes that are still there when the forecast ends.
	Left int `json:"left"`
}

// Departure is a node that is taken out of stock.
type Departure struct {
	NodeID int64     `json:"node_id"`
	At     time.Time `json:"at"`
}

// Drain is how a pool is emptied.
type Drain struct {
	// StockGone is when all that is not lent has been destroyed.
	StockGone time.Time `json:"stock_gone,omitzero"`
	// LastSession is when the last session ends that holds some, if nobody extends
	// or retires it.
	LastSession time.Time `json:"last_session,omitzero"`
	// Empty is when nothing is left; zero if that is after the forecast ends.
	Empty time.Time `json:"empty,omitzero"`
}

// Lent is a node in a session.
type Lent struct {
	NodeID    int64     `json:"node_id"`
	SessionID int64     `json:"session_id"`
	Until     time.Time `json:"until,omitzero"`
}

// Ready is the number of ready nodes that is expected over time, if nobody asks
// for any.
type Ready struct {
	Now      int       `json:"now"`
	Lowest   int       `json:"lowest"`
	LowestAt time.Time `json:"lowest_at,omitzero"` // zero: now
	End      int       `json:"end"`
	// Full is when the fill level is reached for good; zero: it is now, or will not
	// be within the forecast, or the level changes by a schedule.
	Full time.Time `json:"full,omitzero"`
	// Points are the changes, at most [maxPoints] of them.
	Points []Point `json:"points,omitempty"`
}

// Point is the number of ready nodes from a time on.
type Point struct {
	At    time.Time `json:"at"`
	Ready int       `json:"ready"`
}

// Headroom says how many nodes may be lent.
type Headroom struct {
	// Before and After are the nodes that may be lent while the stock stays full:
	// max_nodes less fill_level. Absent where the pool does not exist.
	Before *int `json:"before,omitempty"`
	After  *int `json:"after,omitempty"`
	// Over is how many nodes there are now above the new maximum.
	Over int `json:"over,omitempty"`
}

// Cost is what full stock costs a day, on average over a week. A pool that does not exist, or does not say
// what a node costs, costs nothing.
type Cost struct {
	Before float64 `json:"before"`
	After  float64 `json:"after"`
}

// ScheduleChange is a change of a pool's size by its schedule.
type ScheduleChange struct {
	At        time.Time `json:"at"`
	FillLevel int       `json:"fill_level"`
	MaxNodes  int       `json:"max_nodes"`
	Window    string    `json:"window,omitempty"` // whose numbers these are; "": the pool's own
}

// Move is a pool that was removed and one that was added, made from the same:
// most likely a pool with a new name.
type Move struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// PolicyResult is what a rule says about the change.
type PolicyResult struct {
	Rule    string `json:"rule"`
	Pool    string `json:"pool,omitempty"`
	Deny    bool   `json:"deny"` // false: a warning
	Message string `json:"message"`
}

// Assumptions are what the forecast takes for granted, besides that nobody asks
// for nodes and that everything succeeds.
type Assumptions struct {
	Default  Times            `json:"default_durations"`
	Observed map[string]Times `json:"observed_durations,omitempty"` // by pool
	Runs     int              `json:"runs"`                         // Terraform runs at once
	Horizon  Seconds          `json:"horizon"`
	// Window is the longest time by which an action may be announced too late, since
	// there is too much to forecast it all in detail.
	Window Seconds `json:"window,omitempty"`
}

// Times are how long work on a node takes; 0: not known.
type Times struct {
	Create  Seconds `json:"create,omitempty"`
	Check   Seconds `json:"check,omitempty"`
	Revoke  Seconds `json:"revoke,omitempty"`
	Destroy Seconds `json:"destroy,omitempty"`
}

func timesOf(d reconcile.Durations) Times {
	return Times{Seconds(d.Create), Seconds(d.Check), Seconds(d.Revoke), Seconds(d.Destroy)}
}

// Seconds is a duration that is a number of seconds in JSON.
type Seconds time.Duration

// MarshalJSON implements [json.Marshaler].
func (s Seconds) MarshalJSON() ([]byte, error) { return json.Marshal(time.Duration(s).Seconds()) }

// UnmarshalJSON implements [json.Unmarshaler].
func (s *Seconds) UnmarshalJSON(raw []byte) error {
	var number float64
	if err := json.Unmarshal(raw, &number); err != nil {
		return err
	}
	*s = Seconds(number * float64(time.Second))
	return nil
}

// Action is one step of the loop.
type Action struct {
	At   time.Time      `json:"at"`
	Kind reconcile.Kind `json:"kind"`
	Pool string         `json:"pool,omitempty"`
	// NodeID is that of a node that exists. One that the plan itself creates has a
	// number instead, in NewNode: the first one created is 1.
	NodeID    int64  `json:"node_id,omitempty"`
	NewNode   int64  `json:"new_node,omitempty"`
	SessionID int64  `json:"session_id,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

const (
	defaultHorizon = 24 * time.Hour
	// defaultEffort is enough for exact times where 10,000 nodes are replaced, which
	// takes a second.
	defaultEffort = 24_000_000
	// scheduleChanges is how many changes of a pool's size by its schedule are told.
	scheduleChanges = 5
	// maxPoints is how many changes of a pool's ready nodes are told.
	maxPoints = 200
)

// DefaultDurations are those of a pool of which nothing is known.
func DefaultDurations() reconcile.Durations {
	return reconcile.Durations{Create: 2 * time.Minute, Check: 20 * time.Second, Revoke: 2 * time.Second, Destroy: time.Minute}
}

// Compute says what a broker that runs with before, and whose world is w, would do
// with after from now on. The pools of w are not looked at; its hosts are those that
// there are before the change. It changes nothing of what it is given.
func Compute(now time.Time, before, after Config, w reconcile.World, o Options) Plan {
	if o.Horizon == 0 {
		o.Horizon = defaultHorizon
	}
	if o.Effort == 0 {
		o.Effort = defaultEffort
	}
	c := computation{now: now, before: before, after: after, options: o, plan: Plan{
		FormatVersion: FormatVersion, At: now, Against: o.Against, Policy: o.Policy,
		Assumed: Assumptions{Default: timesOf(DefaultDurations()), Runs: w.Runs, Horizon: Seconds(o.Horizon)},
	}}
	for pool, d := range o.Observed {
		if c.plan.Assumed.Observed == nil {
			c.plan.Assumed.Observed = make(map[string]Times, len(o.Observed))
		}
		c.plan.Assumed.Observed[pool] = timesOf(d)
	}
	c.compare(w)
	c.suggestMoves()
	c.look(w)
	c.count()
	c.plan.ID = identify(before, after, c.plan)
	return c.plan
}

// computation is a [Plan] that is being made.
type computation struct {
	now           time.Time
	before, after Config
	options       Options
	plan          Plan
	// sides are what the pools of the plan were and will be, in the same order.
	sides []side
	world reconcile.World // with the names of pools that the change gives them
	// hosts are those before and after the change, by id.
	hosts struct{ before, after map[int64]*broker.Host }
}

// side is what a pool was and will be; nil: it is not.
type side struct{ old, new *broker.Pool }

// count adds up.
func (c *computation) count() {
	s := &c.plan.Summary
	var cost Cost
	for i, p := range c.plan.Pools {
		switch p.Kind {
		case Added:
			s.Added++
		case Changed:
			s.Changed++
		case Removed:
			s.Removed++
		case Moved:
			s.Moved++
		case Unchanged:
			s.Unchanged++
		}
		s.StockDestroyed += len(p.Stock.Destroyed)
		own := c.sides[i].cost(c.now)
		cost.Before += own.Before
		cost.After += own.After
	}
	if cost != (Cost{}) {
		s.CostPerDay = &cost
	}
	s.Settings = len(c.plan.Settings)
	c.plan.Notes = slices.Concat(c.terraformNotes(), c.legacyNotes(), c.hostNotes(), c.followNotes())
	for _, a := range c.plan.Actions {
		if a.Kind == reconcile.CreateNode {
			s.Created++
		}
	}
	s.Denied = slices.ContainsFunc(c.plan.Policy, func(r PolicyResult) bool { return r.Deny })
}
