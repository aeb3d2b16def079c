package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strconv"
	"time"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/duffy-broker/duffy-broker/broker"
)

// settings are what defaults, templates and pools may say alike.
type settings struct {
	description    setting[string]
	module         setting[string]
	variables      setting[variables]
	fillLevel      setting[int]
	maxNodes       setting[int]
	concurrency    setting[int]
	createTimeout  setting[time.Duration]
	destroyTimeout setting[time.Duration]
	contextualize  setting[broker.ContextualizeMode]
	account        setting[string]
	inventory      setting[broker.HostSelector]
	readySSH       setting[bool]
	readyCommand   setting[string]
	readyTimeout   setting[time.Duration]
	legacy         setting[bool]
	sweepInterval  setting[time.Duration]
	sweepDestroys  setting[int]

	providerSharing setting[bool]
	schedule        setting[[]window]
	maxAge          setting[time.Duration]
	variants        setting[[]variant]

	tenants     setting[[]string]
	environment setting[map[string]string]
	credentials setting[map[string]string]

	maxSurge       setting[int]
	maxUnavailable setting[int]
	pauseAfter     setting[int]
	serveStale     setting[bool]

	hourlyCost setting[float64]
	labels     setting[map[string]string]

	follow setting[broker.Follow]
}

// variables are the inputs of a module, each as canonical JSON.
type variables map[string]json.RawMessage

// readSettings reads the settings of a block, and checks each for itself.
func readSettings(b *block) settings {
	s := settings{
		description: read(b, "description", textForm, "What the pool is for, for people."),
		module: read(b, "module", form[string]{b.l.module, "the path of a directory, relative to the file, or a source: see [modules.md](modules.md)", schema{"type": "string"}},
			"The Terraform module that makes one node: see [the module contract](../modules/README.md). `\"builtin:NAME\"` is one of those shipped with the broker; what Terraform takes from elsewhere must be pinned. A pool must have or inherit one."),
		variables: readVariables(b),
		fillLevel: read(b, "fill_level", atLeast(0), "Ready nodes to keep in stock.", 0),
		maxNodes: read(b, "max_nodes", atLeast(1), "Nodes at most, in any state in which they may hold resources; lent ones included. At least `fill_level`.",
			"the larger of 2 x `fill_level` and `fill_level` + 2"),
		concurrency:    read(b, "concurrency", atLeast(1), "Terraform runs at once in one pool.", defaultConcurrency),
		createTimeout:  read(b, "create_timeout", durationForm, "A create that takes longer is stopped and counts as failed.", defaultCreateTimeout),
		destroyTimeout: read(b, "destroy_timeout", durationForm, "A destroy that takes longer is stopped and tried again.", defaultDestroyTimeout),
		contextualize: read(b, "contextualize", form[broker.ContextualizeMode]{
			contextualizeMode, "`\"ssh\"` or `\"none\"`",
			schema{"enum": []string{string(broker.ContextualizeSSH), string(broker.ContextualizeNone)}},
		}, "`\"ssh\"` writes the tenant's key to a node when it is lent; `\"none\"` does not.", "`\"ssh\"`"),
		legacy: read(b, "legacy", booleanForm, "Whether the legacy API may lend the pool's nodes.", "`true`, but `false` for a pool with an inventory"),

		providerSharing: read(b, "provider_sharing", booleanForm,
			"Let the Terraform runs of a configuration use the same provider processes. [The module contract](../modules/README.md) says what it asks of the module.", false),
		tenants: read(b, "tenants", form[[]string]{tenantNames, "a list of names", schema{"type": "array", "items": schema{"type": "string"}}},
			"The tenants that may request the pool's nodes; `[\"*\"]` for all. Admins always may.", "all"),
		environment: read(b, "environment", form[map[string]string]{environmentOf, "an object of texts", schema{"type": "object", "additionalProperties": schema{"type": "string"}}},
			"Variables of the environment for the pool's Terraform runs, besides the broker's own. A change makes nodes stale. No place for secrets."),
		credentials: read(b, "credentials", form[map[string]string]{credentialsOf, "an object of references, `\"file:PATH\"` or `\"env:NAME\"`", schema{"type": "object", "additionalProperties": schema{"type": "string", "pattern": "^(file:/|env:)"}}},
			"Variables of the environment whose values are secrets: the text of a file, or a variable of the broker's own environment. They are read anew for each run, kept nowhere, and masked in logs. "+
				"A node is destroyed with the references that it was made with: leave the old ones in place until its nodes have gone."),
		account: read(b, "account", textForm, "The account whose rate the pool's Terraform runs share; `\"\"` for none."),
		inventory: read(b, "inventory", form[broker.HostSelector]{hostSelector, "a name, or `{ name = NAME, where = { ATTRIBUTE = VALUE } }`", schema{
			"anyOf": []schema{{"type": "string"}, {"type": "object", "properties": schema{"name": schema{"type": "string"}, "where": schema{"type": "object"}}, "required": []string{"name"}, "additionalProperties": false}},
		}}, "The inventory on whose hosts the pool's nodes run, one on each, and what the hosts must have: see [inventory.md](inventory.md). `\"api\"` are the hosts that were posted to the API; `\"\"` is none."),
		maxAge: read(b, "max_age", durationOrNoneForm,
			"The age from which a node is not lent any more, counted from when the broker began to make it: see [schedule.md](schedule.md). Nodes in stock are replaced before they reach it; `\"0s\"` for no limit.", "`\"0s\"`"),
		schedule: readSchedule(b),
		variants: readVariants(b),
		hourlyCost: read(b, "hourly_cost", form[float64]{cost, "a number, 0 or more", schema{"type": "number", "minimum": 0}},
			"What one node costs an hour, in the currency of your choice: [plan](plan.md) tells what a change costs."),
		labels: read(b, "labels", form[map[string]string]{
			labelMap, "an object of texts, such as `{ team = \"ci\" }`",
			schema{"type": "object", "additionalProperties": schema{"type": "string"}},
		}, "For people and programs that read them; the broker does not."),
	}
	blocks := b.blocks("ready", "When a new node counts as ready: once all of this passes.")
	b.l.once(blocks)
	for i, ready := range blocks {
		r := b.l.open(ready.Body, "a ready block")
		ssh := read(r, "ssh", booleanForm, "The node must answer, and the broker must be able to log in.", "`true`, and `false` with `contextualize = \"none\"`")
		command := read(r, "command", textForm, "A command on the node that must exit with 0.")
		timeout := read(r, "timeout", durationForm, "The check is tried again until then.", defaultReadyTimeout)
		r.finish()
		if i == 0 {
			s.readySSH, s.readyCommand, s.readyTimeout = ssh, command, timeout
		}
	}
	blocks = b.blocks("rollout", "How stock is replaced after a change of the module or its variables. Lent nodes are left alone.")
	b.l.once(blocks)
	for i, rollout := range blocks {
		r := b.l.open(rollout.Body, "a rollout block")
		surge := read(r, "max_surge", atLeast(0), "Nodes above `fill_level`, within `max_nodes`, that are made before stale ones go.", "1, and 0 with `max_unavailable`")
		unavailable := read(r, "max_unavailable", atLeast(0), "By how many nodes stock may fall below `fill_level`: so many stale ones go first.", 0)
		pause := read(r, "pause_after", atLeast(1), "Creates that fail in a row before the rollout waits for an admin. One that is certain to fail again is enough.", defaultPauseAfter)
		serve := read(r, "serve_stale", booleanForm, "Whether stale nodes are lent until they are replaced. Without it they go at once.", true)
		r.finish()
		if i == 0 {
			s.maxSurge, s.maxUnavailable, s.pauseAfter, s.serveStale = surge, unavailable, pause, serve
		}
	}
	s.follow = readFollow(b)
	blocks = b.blocks("sweep", "How what exists is compared with the records, where the module can list it: see [sweep.md](sweep.md).")
	b.l.once(blocks)
	for i, sweep := range blocks {
		r := b.l.open(sweep.Body, "a sweep block")
		interval := read(r, "interval", form[time.Duration]{sweepInterval, "a length of time, 10s or more, or `\"0s\"` for never", schema{"type": "string"}},
			"The time between two sweeps.", defaultSweepInterval)
		destroys := read(r, "max_destroys", atLeast(1), "Nodes that one sweep may destroy.", defaultSweepDestroys)
		r.finish()
		if i == 0 {
			s.sweepInterval, s.sweepDestroys = interval, destroys
		}
	}
	return s
}

// over gives s, completed with what it inherits.
func (s settings) over(base settings) settings {
	return settings{
		description:    s.description.over(base.description),
		module:         s.module.over(base.module),
		variables:      mergeVariables(s.variables, base.variables),
		fillLevel:      s.fillLevel.over(base.fillLevel),
		maxNodes:       s.maxNodes.over(base.maxNodes),
		concurrency:    s.concurrency.over(base.concurrency),
		createTimeout:  s.createTimeout.over(base.createTimeout),
		destroyTimeout: s.destroyTimeout.over(base.destroyTimeout),
		contextualize:  s.contextualize.over(base.contextualize),
		account:        s.account.over(base.account),
		inventory:      s.inventory.over(base.inventory),
		readySSH:       s.readySSH.over(base.readySSH),
		readyCommand:   s.readyCommand.over(base.readyCommand),
		readyTimeout:   s.readyTimeout.over(base.readyTimeout),
		legacy:         s.legacy.over(base.legacy),
		sweepInterval:  s.sweepInterval.over(base.sweepInterval),
		sweepDestroys:  s.sweepDestroys.over(base.sweepDestroys),

		providerSharing: s.providerSharing.over(base.providerSharing),
		schedule:        s.schedule.over(base.schedule),
		maxAge:          s.maxAge.over(base.maxAge),
		variants:        s.variants.over(base.variants),

		tenants:     s.tenants.over(base.tenants),
		environment: s.environment.over(base.environment),
		credentials: s.credentials.over(base.credentials),

		maxSurge:       s.maxSurge.over(base.maxSurge),
		maxUnavailable: s.maxUnavailable.over(base.maxUnavailable),
		pauseAfter:     s.pauseAfter.over(base.pauseAfter),
		serveStale:     s.serveStale.over(base.serveStale),

		hourlyCost: s.hourlyCost.over(base.hourlyCost),
		labels:     s.labels.over(base.labels),

		follow: s.follow.over(base.follow),
	}
}

func mergeVariables(s, base setting[variables]) setting[variables] {
	merged := s.over(base)
	merged.value = make(variables)
	maps.Copy(merged.value, base.value)
	maps.Copy(merged.value, s.value)
	return merged
}

// text parses a string.
func text(v cty.Value) (string, complaint) {
	s, err := convert.Convert(v, cty.String)
	if err != nil {
		return "", mustBe("text in quotes", v)
	}
	return s.AsString(), ""
}

// sweepInterval parses the time between two sweeps: 0 is never.
func sweepInterval(v cty.Value) (time.Duration, complaint) {
	if s, wrong := text(v); wrong == "" {
		if d, err := parseDuration(s); err == nil && d == 0 {
			return 0, ""
		}
	}
	d, wrong := duration(v)
	if wrong == "" && d < minSweepInterval {
		wrong = complaint(fmt.Sprintf(`must be %s or more, or "0s" for no sweeps, not %s.`, minSweepInterval, describe(v)))
	}
	return d, wrong
}

// boolean parses true or false.
func boolean(v cty.Value) (bool, complaint) {
	b, err := convert.Convert(v, cty.Bool)
	if err != nil {
		return false, mustBe("true or false", v)
	}
	return b.True(), ""
}

// atLeast parses a whole number that is not below least.
func atLeast(least int) form[int] {
	parse := func(v cty.Value) (int, complaint) {
		number, err := convert.Convert(v, cty.Number)
		if err != nil {
			return 0, mustBe("a number", v)
		}
		f := number.AsBigFloat()
		if !f.IsInt() {
			return 0, mustBe("a whole number", number)
		}
		n, _ := f.Int64() // what is too large for it comes as the largest
		switch {
		case n < int64(least):
			return 0, mustBe(fmt.Sprintf("%d or more", least), number)
		case n > math.MaxInt32:
			return 0, mustBe(fmt.Sprintf("%d at most", math.MaxInt32), number)
		}
		return int(n), ""
	}
	return form[int]{parse, fmt.Sprintf("a whole number, %d or more", least), schema{"type": "integer", "minimum": least, "maximum": math.MaxInt32}}
}

// contextualizeMode parses one of the modes.
func contextualizeMode(v cty.Value) (broker.ContextualizeMode, complaint) {
	mode, wrong := text(v)
	if wrong != "" {
		return "", wrong
	}
	switch m := broker.ContextualizeMode(mode); m {
	case broker.ContextualizeSSH, broker.ContextualizeNone:
		return m, ""
	}
	modes := []string{string(broker.ContextualizeSSH), string(broker.ContextualizeNone)}
	wrong = complaint(fmt.Sprintf("must be %q or %q, not %q.", modes[0], modes[1], mode))
	if hint := didYouMean(mode, modes); hint != "" {
		wrong += complaint(" " + hint)
	}
	return "", wrong
}

// versionConstraint parses a constraint on Terraform's version.
func versionConstraint(v cty.Value) (version.Constraints, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return nil, wrong
	}
	c, err := version.NewConstraint(s)
	if err != nil {
		return nil, complaint(fmt.Sprintf(`must be a version constraint such as ">= 1.5.0" or "~> 1.11", not %q.`, s))
	}
	return c, ""
}

// readVariables reads the inputs of a module.
func readVariables(b *block) setting[variables] {
	b.describe("variables", "an object, `{ NAME = VALUE, ... }`", schema{"type": "object"},
		"Inputs of the module. They are inherited one by one; a variable that is `null` is left to the module.", nil)
	return readExpression(b, "variables", b.l.variables)
}

// variables parses the inputs of a module.
func (l *loader) variables(v cty.Value, e hclsyntax.Expression) (variables, bool) {
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		l.report(e.Range(), "Invalid variables", "variables %s", mustBe("an object, { NAME = VALUE, ... }", v))
		return nil, false
	}
	good := true
	wrong := func(at hcl.Range, format string, args ...any) {
		l.report(at, "Invalid variables", format, args...)
		good = false
	}
	places, items := make(map[string]hcl.Range), make(map[string]hcl.Range)
	if object, ok := e.(*hclsyntax.ObjectConsExpr); ok {
		for _, item := range object.Items {
			// The value exists, so its keys do too.
			key, _ := item.KeyExpr.Value(l.context)
			name, _ := text(key)
			if first, twice := places[name]; twice {
				wrong(item.KeyExpr.Range(), "Variable %q is set already, at %s. Remove one of the two.", name, place(first))
				continue
			}
			places[name] = item.KeyExpr.Range()
			items[name] = hcl.RangeBetween(item.KeyExpr.Range(), item.ValueExpr.Range())
		}
	}
	l.places.items[itemsKey{e.Range(), l.each}] = items
	vars := make(variables)
	for key, value := range v.AsValueMap() {
		at, ok := places[key]
		if !ok {
			at = e.Range()
		}
		switch {
		case key == "broker":
			wrong(at, "Variable \"broker\" is set by the broker itself, with its id and the node's. Give yours another name.")
			continue
		case !hclsyntax.ValidIdentifier(key):
			wrong(at, "%q can't be the name of a Terraform variable. Names are made of letters, digits, '_' and '-', and begin with a letter.", key)
			continue
		}
		src, err := ctyjson.Marshal(value, value.Type())
		if err != nil {
			wrong(at, "Variable %q can't be written as JSON for Terraform: %s.", key, err)
			continue
		}
		vars[key] = src
	}
	return vars, good
}

// mustBe complains about a value of the wrong kind.
func mustBe(what string, v cty.Value) complaint {
	return complaint(fmt.Sprintf("must be %s, not %s.", what, describe(v)))
}

// describe writes a value for the middle of a sentence.
func describe(v cty.Value) string {
	switch kind := v.Type(); {
	case !v.IsKnown():
		return article(kind.FriendlyName())
	case kind == cty.Number:
		return v.AsBigFloat().Text('g', 10)
	case kind == cty.String && len(v.AsString()) < 80:
		return strconv.Quote(v.AsString())
	case kind == cty.Bool:
		return strconv.FormatBool(v.True())
	case kind.IsTupleType():
		return "a list"
	case kind.IsObjectType():
		return "an object"
	default:
		return "a " + kind.FriendlyName()
	}
}
