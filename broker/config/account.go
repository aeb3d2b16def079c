package config

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/duffy-broker/duffy-broker/broker"
)

const defaultDestroyShare = 0.5

// accounts reads the account blocks, also those whose name is wrong or taken.
func (l *loader) accounts(blocks []*hclsyntax.Block) []broker.Account {
	result := make([]broker.Account, 0, len(blocks))
	first := make(map[string]hcl.Range)
	for _, block := range blocks {
		b := l.open(block.Body, "an account")
		perSecond := read(b, "rate_limit", form[float64]{rate, "a rate, such as `\"2/s\"`, `\"30/m\"` or `\"600/h\"`", schema{"type": "string"}},
			"How many creates and destroys may start in a time.", needed{})
		burst := read(b, "burst", atLeast(1), "How many may start at once, after a quiet time.", "what comes in a second")
		share := read(b, "destroy_share", form[float64]{fraction, "a number, 0.01 to 0.99", schema{"type": "number", "minimum": 0.01, "maximum": 0.99}},
			"The part of the rate that destroys get while creates wait too.", defaultDestroyShare)
		meant := b.finish()
		if !perSecond.set && len(meant) == 0 && !l.broken(block.Range()) {
			l.report(block.DefRange(), "Missing rate_limit", `An account needs a rate_limit: how many Terraform runs may start in a time, such as rate_limit = "30/m".`)
		}
		l.checkName(block)
		if len(block.Labels) == 0 {
			continue
		}
		name, at := block.Labels[0], block.LabelRanges[0]
		if other, taken := first[name]; taken {
			l.report(at, "Duplicate account", "There is an account %q already, at %s. Give this one another name.", name, place(other))
			continue
		}
		first[name] = at
		result = append(result, broker.Account{
			Name: name, Rate: perSecond.value, DestroyShare: share.or(defaultDestroyShare),
			Burst: burst.or(max(1, int(math.Ceil(perSecond.value)))), // what comes in a second
		})
	}
	return result
}

// checkAccounts reports settings that name an account that there is not. ""
// names none on purpose: it undoes what is inherited.
func (l *loader) checkAccounts(accounts []broker.Account, layers []*layer) {
	names := make([]string, 0, len(accounts))
	known := map[string]bool{"": true}
	for _, a := range accounts {
		names, known[a.Name] = append(names, a.Name), true
	}
	for _, x := range layers {
		if name := x.account.or(""); !known[name] {
			hint := didYouMean(name, names)
			switch {
			case hint != "":
			case len(names) == 0:
				hint = fmt.Sprintf("Write account %q { rate_limit = \"30/m\" }, or remove this line.", name)
			case len(names) == 1:
				hint = "The only account is " + names[0] + "."
			default:
				hint = "The accounts are " + list(names) + "."
			}
			l.within(x.each, func() { l.report(x.account.at, "Unknown account", "There is no account %q. %s", name, hint) })
		}
	}
}

// maxRate keeps rates, and what is computed from them, in range: nothing starts
// so many runs a second.
const maxRate = 1000

// rate parses how often something may happen, and gives it per second.
func rate(v cty.Value) (float64, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return 0, wrong
	}
	parts := regexp.MustCompile(`^(\d{1,9}(?:\.\d{1,9})?)/([smh])$`).FindStringSubmatch(s)
	if parts == nil {
		wrong = complaint(fmt.Sprintf(`must be a rate such as "2/s", "30/m" or "600/h", not %q.`, s))
		if _, err := strconv.ParseUint(s, 10, 31); err == nil {
			wrong += complaint(fmt.Sprintf(" Did you mean %q?", s+"/m"))
		}
		return 0, wrong
	}
	number, err := strconv.ParseFloat(parts[1], 64)
	perSecond := number / map[string]float64{"s": 1, "m": 60, "h": 3600}[parts[2]]
	switch {
	case err != nil || perSecond > maxRate:
		return 0, complaint(fmt.Sprintf("must be \"%d/s\" at most, not %q.", maxRate, s))
	case perSecond == 0:
		return 0, complaint(fmt.Sprintf("must be above zero, not %q: nothing would ever start.", s))
	}
	return perSecond, ""
}

// fraction parses a number between 0 and 1.
func fraction(v cty.Value) (float64, complaint) {
	number, err := convert.Convert(v, cty.Number)
	if err != nil {
		return 0, mustBe("a number between 0 and 1", v)
	}
	// As far from both ends as makes a difference: neither side is to wait for ever.
	f, _ := number.AsBigFloat().Float64()
	if f < 0.01 || f > 0.99 {
		return 0, mustBe("between 0.01 and 0.99", number)
	}
	return f, ""
}

// article puts one before a noun.
func article(noun string) string {
	if strings.ContainsRune("aeiou", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}
