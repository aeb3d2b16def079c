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
	readySSH       setting[bool]
	readyCommand   setting[string]
	readyTimeout   setting[time.Duration]
	legacy         setting[bool]
	sweepInterval  setting[time.Duration]
	sweepDestroys  setting[int]

	providerSharing setting[bool]
}

// variables are the inputs of a module, each as canonical JSON.
type variables map[string]json.RawMessage

// readSettings reads the settings of a block, and checks each for itself.
func readSettings(b *block) settings {
	s := settings{
		description:    read(b, "description", text),
		module:         read(b, "module", b.l.module),
		variables:      readExpression(b, "variables", b.l.variables),
		fillLevel:      read(b, "fill_level", atLeast(0)),
		maxNodes:       read(b, "max_nodes", atLeast(1)),
		concurrency:    read(b, "concurrency", atLeast(1)),
		createTimeout:  read(b, "create_timeout", duration),
		destroyTimeout: read(b, "destroy_timeout", duration),
		contextualize:  read(b, "contextualize", contextualizeMode),
		legacy:         read(b, "legacy", boolean),

		providerSharing: read(b, "provider_sharing", boolean),
		account:         read(b, "account", text),
	}
	blocks := b.blocks("ready")
	b.l.once(blocks)
	for i, ready := range blocks {
		r := b.l.open(ready.Body, "a ready block")
		ssh, command, timeout := read(r, "ssh", boolean), read(r, "command", text), read(r, "timeout", duration)
		r.finish()
		if i == 0 {
			s.readySSH, s.readyCommand, s.readyTimeout = ssh, command, timeout
		}
	}
	blocks = b.blocks("sweep")
	b.l.once(blocks)
	for i, sweep := range blocks {
		r := b.l.open(sweep.Body, "a sweep block")
		interval, destroys := read(r, "interval", sweepInterval), read(r, "max_destroys", atLeast(1))
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
		readySSH:       s.readySSH.over(base.readySSH),
		readyCommand:   s.readyCommand.over(base.readyCommand),
		readyTimeout:   s.readyTimeout.over(base.readyTimeout),
		legacy:         s.legacy.over(base.legacy),
		sweepInterval:  s.sweepInterval.over(base.sweepInterval),
		sweepDestroys:  s.sweepDestroys.over(base.sweepDestroys),

		providerSharing: s.providerSharing.over(base.providerSharing),
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
func atLeast(least int) func(cty.Value) (int, complaint) {
	return func(v cty.Value) (int, complaint) {
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
	places := make(map[string]hcl.Range)
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
		}
	}
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
