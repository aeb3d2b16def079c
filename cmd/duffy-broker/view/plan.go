package view

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

// The formats of a plan.
const (
	Text     = "text"
	Markdown = "markdown"
)

// PlanFormats lists the formats of a plan.
func PlanFormats() []string { return []string{Text, JSON, Markdown} }

// PlanOptions say how a plan is written.
type PlanOptions struct {
	Format string
	Color  bool // of text
	// MaxSize is the most bytes of markdown: what is too much is left out from the
	// start. 0: any number.
	MaxSize int
}

// CheckPlan gives [broker.CodeInvalid] if a plan can't be written so.
func CheckPlan(o PlanOptions) error {
	if !slices.Contains(PlanFormats(), o.Format) {
		return broker.Errorf(broker.CodeInvalid, "there is no format %q", o.Format).
			WithHint("choose one of %s", strings.Join(PlanFormats(), ", "))
	}
	if o.MaxSize != 0 && o.MaxSize < minMarkdown {
		return broker.Errorf(broker.CodeInvalid, "%d bytes are not enough for a plan", o.MaxSize).WithHint("allow %d at least", minMarkdown)
	}
	return nil
}

// Plan writes a plan. All formats but JSON are for people and may change.
func Plan(w io.Writer, p plan.Plan, o PlanOptions) error {
	if err := CheckPlan(o); err != nil {
		return err
	}
	var text string
	switch o.Format {
	case JSON:
		raw, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			return err
		}
		text = string(raw) + "\n"
	case Markdown:
		text = planMarkdown(p, o.MaxSize)
	default:
		text = planText(p, o.Color)
	}
	_, err := io.WriteString(w, text)
	return err
}

// fact is one thing to say about a pool. Text and markdown say the same.
type fact struct{ label, text string }

// poolFacts says what becomes of a pool, but its settings.
func poolFacts(p plan.Pool, at time.Time) []fact {
	var facts []fact
	add := func(label, format string, args ...any) {
		if text := fmt.Sprintf(format, args...); text != "" {
			facts = append(facts, fact{label, text})
		}
	}
	if g := p.Generation; g != nil {
		add("made from", "%s", madeFrom(g.Inputs))
	}
	for i, v := range p.Followed {
		label := ""
		if i == 0 {
			label = "follows"
		}
		add(label, "%s", followed(v))
	}
	add("stock", "%s", stock(p))
	if p.Hosts != nil {
		add("hosts", "%s", hosts(*p.Hosts))
	}
	if r := p.Rollout; r != nil {
		add("rollout", "%s", rollout(*r, at))
	}
	if p.Drain != nil {
		add("drained", "%s", drained(*p.Drain, at))
	}
	if len(p.Lent) > 0 {
		add("lent", "%s", lent(p, at))
	}
	add("ready", "%s", ready(p, at))
	for i, change := range p.Schedule {
		label := ""
		if i == 0 {
			label = "schedule"
		}
		window := "no window"
		if change.Window != "" {
			window = "window " + change.Window
		}
		add(label, "from %s fill_level %d, max_nodes %d (%s)", clock(change.At), change.FillLevel, change.MaxNodes, window)
	}
	add("headroom", "%s", headroom(p.Headroom))
	add("quotas", "%s", quotas(p.Quotas))
	if s := p.Sample; s != nil && s.Problem != "" {
		add("sample", "FAILED (%s): %s", s.Class, strings.Join(strings.Fields(s.Problem), " "))
	} else if s != nil {
		add("sample", "a node is made of %s: %s", count(len(s.Resources), "resource"), few(s.Resources))
	}
	if c := p.Cost; c != nil {
		add("cost a day", "%s", cost(*c))
	}
	return facts
}

// madeFrom says what is other than before in what nodes are made from.
func madeFrom(all []plan.Input) string {
	const most = 10
	var words []string
	for _, in := range all[:min(len(all), most)] {
		switch in.Kind {
		case plan.InputModule:
			words = append(words, fmt.Sprintf("module %s %s", in.Name, in.How))
		case plan.InputFile:
			words = append(words, fmt.Sprintf("file %s %s", in.Name, in.How))
		case plan.InputLock:
			words = append(words, fmt.Sprintf("lock file %s", in.How))
		case plan.InputVariable:
			words = append(words, fmt.Sprintf("variable %s %s", in.Name, in.How))
		case plan.InputVariant:
			words = append(words, fmt.Sprintf("variant %s %s", in.Name, in.How))
		case plan.InputEnvironment:
			words = append(words, fmt.Sprintf("environment %s %s", in.Name, in.How))
		case plan.InputFollowed:
			words = append(words, fmt.Sprintf("followed output %s %s", in.Name, in.How))
		case plan.InputHash:
			words = append(words, "the same inputs, hashed in another way")
		}
	}
	if len(all) > most {
		words = append(words, fmt.Sprintf("and %d more", len(all)-most))
	}
	return strings.Join(words, ", ")
}

// followed says what is known of an output that is followed.
func followed(v broker.FollowedValue) string {
	name := v.Output
	if v.Variant != "" {
		name = v.Variant + "." + name
	}
	text := fmt.Sprintf("%s = %s, seen %s", name, string(v.Value), clock(v.At))
	if v.New {
		text += ", another one than at first"
	}
	return text
}

func stock(p plan.Pool) string {
	s := p.Stock
	var words []string
	if s.Live > 0 {
		parts := []string{fmt.Sprintf("%d ready", s.Ready)}
		if s.Provisioning > 0 {
			parts = append(parts, fmt.Sprintf("%d on their way", s.Provisioning))
		}
		words = append(words, strings.Join(parts, ", "))
	}
	if n := len(s.TurnStale); n > 0 {
		words = append(words, fmt.Sprintf("%d %s stale by this change", n, verb(n, "turns", "turn")))
	}
	if already := s.Stale - len(s.TurnStale); already > 0 {
		words = append(words, fmt.Sprintf("%d stale already", already))
	}
	if n := len(s.Destroyed); n > 0 {
		words = append(words, fmt.Sprintf("%s %s destroyed: %s", count(n, "node"), verb(n, "is", "are"), ids(s.Destroyed)))
	}
	return strings.Join(words, "; ")
}

// hosts says on which hosts a pool's nodes run.
func hosts(h plan.Hosts) string {
	if h.Unknown {
		return fmt.Sprintf("of inventory %s, of which nothing is known", h.Inventory)
	}
	var states []string
	for _, part := range []struct {
		n    int
		what string
	}{{h.Free, "free"}, {h.InUse, "in use"}, {h.Quarantined, "in quarantine"}, {h.Broken, "broken"}} {
		if part.n > 0 {
			states = append(states, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	text := fmt.Sprintf("%d of inventory %s", h.Usable()+h.Broken, h.Inventory)
	if len(states) > 0 {
		text += " (" + strings.Join(states, ", ") + ")"
	}
	words := []string{text}
	if len(h.Added) > 0 {
		words = append(words, "new: "+few(h.Added))
	}
	if len(h.Removed) > 0 {
		words = append(words, "no longer: "+few(h.Removed))
	}
	if n := len(h.Replaced); n > 0 {
		words = append(words, fmt.Sprintf("%s %s on none of them, and %s: %s", count(n, "node"), verb(n, "runs", "run"), verb(n, "goes", "go"), ids(h.Replaced)))
	}
	if h.Short > 0 {
		words = append(words, fmt.Sprintf("that is %d too few for fill_level", h.Short))
	}
	return strings.Join(words, "; ")
}

func rollout(r plan.Rollout, at time.Time) string {
	how := "a new node is ready before a stale one goes"
	if !r.MadeFirst {
		how = "stale nodes go before new ones are ready, and the stock dips"
	}
	words := []string{how}
	if n := len(r.Nodes); n > 0 {
		first, last := r.Nodes[0], r.Nodes[n-1]
		order := make([]int64, 0, n)
		for _, d := range r.Nodes {
			order = append(order, d.NodeID)
		}
		words = append(words, "in the order "+sequence(order))
		if n == 1 {
			words = append(words, fmt.Sprintf("it goes %s", in(first.At.Sub(at))))
		} else {
			words = append(words, fmt.Sprintf("the first goes %s, the last %s", in(first.At.Sub(at)), in(last.At.Sub(at))))
		}
	}
	if r.Waits {
		words = append(words, "then it waits for an admin")
	}
	if r.Left > 0 {
		words = append(words, fmt.Sprintf("%d stale %s still there when the forecast ends", r.Left, verb(r.Left, "node is", "nodes are")))
	}
	return strings.Join(words, "; ")
}

func drained(d plan.Drain, at time.Time) string {
	var words []string
	if !d.StockGone.IsZero() {
		words = append(words, "stock is destroyed at once, and gone "+in(d.StockGone.Sub(at)))
	}
	if !d.LastSession.IsZero() {
		words = append(words, fmt.Sprintf("lent nodes stay until their sessions end, the last at %s", clock(d.LastSession)))
	}
	switch {
	case !d.Empty.IsZero():
		words = append(words, "nothing is left "+in(d.Empty.Sub(at)))
	case len(words) > 0:
		words = append(words, "something is left when the forecast ends")
	default:
		words = append(words, "there is nothing to drain")
	}
	return strings.Join(words, "; ")
}

func lent(p plan.Pool, at time.Time) string {
	sessions := make(map[int64]bool)
	var latest time.Time
	for _, l := range p.Lent {
		sessions[l.SessionID] = true
		if l.Until.After(latest) {
			latest = l.Until
		}
	}
	return fmt.Sprintf("%s in %s, left alone until %s (%s) at the latest", count(len(p.Lent), "node"), count(len(sessions), "session"),
		clock(latest), in(latest.Sub(at)))
}

func ready(p plan.Pool, at time.Time) string {
	r := p.Ready
	if p.Kind == plan.Removed {
		return ""
	}
	if r.Now == r.Lowest && r.Now == r.End && len(r.Points) == 0 {
		return fmt.Sprintf("%d, all the time", r.Now)
	}
	text := fmt.Sprintf("%d now", r.Now)
	if r.Lowest < r.Now && r.Lowest < r.End {
		text += fmt.Sprintf(", %d at the lowest (%s)", r.Lowest, in(r.LowestAt.Sub(at)))
	} else if r.Now == r.End {
		text += ", never fewer"
	}
	text += fmt.Sprintf(", %d at the end", r.End)
	if !r.Full.IsZero() {
		text += ", full " + in(r.Full.Sub(at))
	}
	return text
}

func headroom(h plan.Headroom) string {
	var text string
	switch {
	case h.Before == nil && h.After != nil:
		text = fmt.Sprintf("%s above the stock can be lent", count(*h.After, "node"))
	case h.Before != nil && h.After != nil && *h.Before != *h.After:
		text = fmt.Sprintf("%d -> %s above the stock can be lent", *h.Before, count(*h.After, "node"))
	}
	if h.Over > 0 {
		if text != "" {
			text += "; "
		}
		text += fmt.Sprintf("there are %d more nodes now than the maximum: none is made until these have gone", h.Over)
	}
	return text
}

// quotas says what tenants may hold, against what a pool may have.
func quotas(q *plan.Quotas) string {
	if q == nil || q.After == nil || q.Before != nil && *q.Before == *q.After {
		return ""
	}
	was, is := *q.After, *q.After
	if q.Before != nil {
		was = *q.Before
	}
	number := func(was, is int) string {
		if was == is {
			return fmt.Sprint(is)
		}
		return fmt.Sprintf("%d -> %d", was, is)
	}
	return fmt.Sprintf("%s %s may hold %s %s at once, max_nodes is %s", number(was.Tenants, is.Tenants), verb(is.Tenants, "tenant", "tenants"),
		number(was.Nodes, is.Nodes), verb(is.Nodes, "node", "nodes"), number(was.MaxNodes, is.MaxNodes))
}

func cost(c plan.Cost) string {
	if c.Before == c.After {
		return fmt.Sprintf("%.2f for full stock, as before", c.After)
	}
	return fmt.Sprintf("%.2f -> %.2f (%+.2f) for full stock", c.Before, c.After, c.After-c.Before)
}

// fieldSides gives the texts of a setting before and after, "" for none.
func fieldSides(f plan.Field) (old, after string) {
	if f.Sensitive {
		return "(sensitive)", "(sensitive, other than before)"
	}
	return string(f.Old), string(f.New)
}

// assumptions says what the forecast takes for granted.
func assumptions(p plan.Plan) []string {
	a := p.Assumed
	if len(p.Actions) == 0 {
		return nil
	}
	lines := []string{fmt.Sprintf("nobody asks for nodes, everything succeeds, %s at once", count(a.Runs, "Terraform run"))}
	if p.Against.AssumedFull {
		lines = append(lines, "the stock is full, and made from what that revision says")
	}
	lines = append(lines, "durations: "+durations(a.Default)+", unless known better")
	names := slices.Sorted(maps.Keys(a.Observed))
	if len(names) > 0 {
		const most = 5
		var observed []string
		for _, name := range names[:min(most, len(names))] {
			observed = append(observed, name+" "+durations(a.Observed[name]))
		}
		if len(names) > most {
			observed = append(observed, fmt.Sprintf("and %d more", len(names)-most))
		}
		lines = append(lines, "observed: "+strings.Join(observed, "; "))
	}
	if a.Window > 0 {
		lines = append(lines, fmt.Sprintf("there is much to do: times are coarse, and may be late by %s for each step", span(time.Duration(a.Window))))
	}
	return lines
}

func durations(t plan.Times) string {
	var words []string
	for _, part := range []struct {
		name string
		d    plan.Seconds
	}{{"create", t.Create}, {"check", t.Check}, {"revoke", t.Revoke}, {"destroy", t.Destroy}} {
		if part.d > 0 {
			words = append(words, part.name+" "+plan.Duration(time.Duration(part.d)))
		}
	}
	return strings.Join(words, ", ")
}

// headline says in a line what the change comes to.
func headline(p plan.Plan) string {
	s := p.Summary
	if !s.Changes() {
		return "no changes"
	}
	var words []string
	for _, part := range []struct {
		n    int
		what string
	}{{s.Added, "added"}, {s.Changed, "changed"}, {s.Moved, "moved"}, {s.Removed, "removed"}, {s.Unchanged, "unchanged"}} {
		if part.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	text := strings.Join(words, ", ")
	if len(words) > 0 {
		text = "pools: " + text
	}
	if s.Settings > 0 {
		text = strings.TrimPrefix(text+", ", ", ") + fmt.Sprintf("%s outside of pools", count(s.Settings, "setting"))
	}
	return text
}

// consequences say in sentences what is to be known before all else.
func consequences(p plan.Plan) []string {
	s := p.Summary
	var lines []string
	if s.StockDestroyed > 0 && s.Changes() {
		var pools []string
		replaced := 0
		for _, pool := range p.Pools {
			n := len(pool.Stock.Destroyed)
			if n == 0 {
				continue
			}
			pools = append(pools, fmt.Sprintf("%s (%d)", pool.Name, n))
			if pool.Rollout != nil {
				replaced += min(n, len(pool.Rollout.Nodes))
			}
		}
		text := fmt.Sprintf("%s of stock %s destroyed", count(s.StockDestroyed, "node"), verb(s.StockDestroyed, "is", "are"))
		switch replaced {
		case 0:
		case s.StockDestroyed:
			text += " and replaced"
		default:
			text += fmt.Sprintf(", %d of them replaced", replaced)
		}
		lines = append(lines, fmt.Sprintf("%s: %s.", text, few(pools)))
	}
	if s.SessionsOnRemoved > 0 {
		lines = append(lines, fmt.Sprintf("%s %s nodes of pools that are removed: they stay until the sessions end.",
			count(s.SessionsOnRemoved, "session"), verb(s.SessionsOnRemoved, "holds", "hold")))
	}
	for _, r := range p.Policy {
		pool := ""
		if r.Pool != "" {
			pool = " (pool " + r.Pool + ")"
		}
		lines = append(lines, fmt.Sprintf("%s by %s%s: %s", map[bool]string{true: "Denied", false: "Warned"}[r.Deny], r.Rule, pool, r.Message))
	}
	return lines
}

// suggestions say what was probably meant.
func suggestions(p plan.Plan) []string {
	var lines []string
	for _, m := range p.Moves {
		lines = append(lines, fmt.Sprintf("Pool %s goes and pool %s, made from the same, comes. If it is one pool with a new name, keep its stock: "+
			"write a moved block with from = %q and to = %q.", m.From, m.To, m.From, m.To))
	}
	return lines
}

// ending says what the loop does, and until when.
func ending(p plan.Plan) string {
	s := p.Summary
	switch {
	case len(p.Actions) == 0:
		return "Nothing is to be done."
	case !s.Complete:
		return fmt.Sprintf("There is still something to do when the forecast ends, %s; until then: %s.", in(s.End.Sub(p.At)), works(p.Actions))
	}
	return fmt.Sprintf("Done %s: %s.", in(s.End.Sub(p.At)), works(p.Actions))
}

// works counts actions by what they do.
func works(actions []plan.Action) string {
	counts := make(map[reconcile.Kind]int)
	for _, a := range actions {
		counts[a.Kind]++
	}
	var words []string
	for _, kind := range []struct {
		kind reconcile.Kind
		what string
	}{
		{reconcile.CreateNode, "created"}, {reconcile.ReleaseNode, "taken out of stock"}, {reconcile.DestroyNode, "destroyed"},
	} {
		if n := counts[kind.kind]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, kind.what))
		}
	}
	if n := counts[reconcile.ExpireSession]; n > 0 {
		words = append(words, fmt.Sprintf("%s %s", count(n, "session"), verb(n, "ends", "end")))
	}
	if len(words) == 0 {
		return count(len(actions), "action")
	}
	return strings.Join(words, ", ")
}

// few joins names, but not too many.
func few(names []string) string {
	const most = 10
	if len(names) > most {
		names = append(slices.Clone(names[:most]), fmt.Sprintf("and %d more", len(names)-most))
	}
	return strings.Join(names, ", ")
}

// ids writes ids in ascending order, neighbours as ranges.
func ids(list []int64) string { return sequence(slices.Sorted(slices.Values(list))) }

// sequence writes ids in their order, neighbours as ranges.
func sequence(list []int64) string {
	var words []string
	for i := 0; i < len(list); {
		j := i
		for j+1 < len(list) && list[j+1] == list[j]+1 {
			j++
		}
		switch {
		case j > i+1:
			words = append(words, fmt.Sprintf("%d-%d", list[i], list[j]))
		case j == i+1:
			words = append(words, fmt.Sprint(list[i]), fmt.Sprint(list[j]))
		default:
			words = append(words, fmt.Sprint(list[i]))
		}
		i = j + 1
	}
	return few(words)
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

func verb(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// in says when something happens.
func in(d time.Duration) string {
	if d <= 0 {
		return "at once"
	}
	return "after " + span(d)
}

// span writes a duration as exactly as anybody wants to know it.
func span(d time.Duration) string {
	switch {
	case d >= 48*time.Hour:
		return fmt.Sprintf("%dd%dh", int(d.Hours())/24, int(d.Hours())%24)
	case d >= time.Hour:
		return plan.Duration(d.Round(time.Minute))
	}
	return plan.Duration(max(time.Second, d.Round(time.Second)))
}

// clock writes a time for people.
func clock(at time.Time) string { return at.UTC().Format("2006-01-02 15:04 UTC") }

// against says what a change is compared with.
func against(a plan.Against) string {
	what := map[string]string{"server": "the broker at ", "data_dir": "the data directory ", "base": "revision "}[a.Kind]
	return cmp.Or(what+a.Name, "what runs")
}
