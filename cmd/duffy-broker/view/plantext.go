package view

import (
	"fmt"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker/plan"
)

// The colours of a terminal.
const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	yellow = "\x1b[33m"
	bold   = "\x1b[1m"
	plain  = "\x1b[0m"
)

// planText writes a plan for a terminal.
func planText(p plan.Plan, color bool) string {
	paint := func(text string, codes ...string) string {
		if !color {
			return text
		}
		return strings.Join(codes, "") + text + plain
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Compared with %s, from %s on.\n", printable(against(p.Against)), clock(p.At))
	if len(p.Settings) > 0 {
		fmt.Fprintf(&b, "\n%s\n", paint("~ settings outside of pools", yellow, bold))
		writeFacts(&b, fieldFacts(p.Settings))
	}
	for _, pool := range p.Pools {
		if pool.Kind == plan.Unchanged {
			continue
		}
		title, code := poolTitle(pool)
		fmt.Fprintf(&b, "\n%s\n", paint(title, code, bold))
		writeFacts(&b, append(fieldFacts(shownFields(pool)), poolFacts(pool, p.At)...))
	}
	if lines := consequences(p); len(lines) > 0 {
		b.WriteByte('\n')
		for _, line := range lines {
			b.WriteString(paint(printable(line), red, bold) + "\n")
		}
	}
	for _, line := range p.Notes {
		fmt.Fprintf(&b, "\nNote: %s\n", printable(line))
	}
	for _, line := range suggestions(p) {
		fmt.Fprintf(&b, "\nHint: %s\n", printable(line))
	}
	if p.Summary.Changes() || len(p.Actions) > 0 {
		fmt.Fprintf(&b, "\nForecast: %s\n", ending(p))
		for _, line := range assumptions(p) {
			fmt.Fprintf(&b, "  %s\n", printable(line))
		}
	}
	text := headline(p)
	if c := p.Summary.CostPerDay; c != nil && p.Summary.Changes() {
		text += "; cost a day " + cost(*c)
	}
	code := green
	if p.Danger() {
		code = red
	}
	fmt.Fprintf(&b, "\n%s %s\n", paint("Plan "+p.ID+":", bold), paint(text+".", code))
	return b.String()
}

// poolTitle says what becomes of a pool, and in which colour.
func poolTitle(p plan.Pool) (title, code string) {
	switch p.Kind {
	case plan.Added:
		return "+ pool " + p.Name + " is added", green
	case plan.Removed:
		return "- pool " + p.Name + " is removed", red
	case plan.Moved:
		return "> pool " + p.From + " becomes " + p.Name, yellow
	case plan.Changed, plan.Unchanged:
	}
	return "~ pool " + p.Name + " changes", yellow
}

// shownFields are the settings to show: none of a pool that goes as a whole.
func shownFields(p plan.Pool) []plan.Field {
	if p.Kind == plan.Removed {
		return nil
	}
	return p.Fields
}

// fieldFacts writes settings as facts.
func fieldFacts(fields []plan.Field) []fact {
	var facts []fact
	for _, f := range fields {
		old, after := fieldSides(f)
		text := old + " -> " + after
		switch {
		case old == "":
			text = after
		case after == "":
			text = old + " -> not set"
		}
		facts = append(facts, fact{f.Name, text})
	}
	return facts
}

func writeFacts(b *strings.Builder, facts []fact) {
	width := 0
	for _, f := range facts {
		width = max(width, min(len(f.label), 40))
	}
	for _, f := range facts {
		fmt.Fprintf(b, "    %-*s  %s\n", width, printable(f.label), printable(f.text))
	}
}
