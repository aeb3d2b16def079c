package view

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/duffy-broker/duffy-broker/broker/plan"
)

const (
	// PlanMarker is the first line of the markdown. A program that posts it finds
	// by it the comment to update.
	PlanMarker = "<!-- duffy-broker plan -->"
	// minMarkdown is enough for what is never left out.
	minMarkdown = 2000
	// mostRows is how many settings of one pool are shown.
	mostRows = 100
)

// planMarkdown writes a plan for a comment on a pull request. It is of maxSize
// bytes at most: pools at the start are left out, then whatever is before the
// summary.
func planMarkdown(p plan.Plan, maxSize int) string {
	title := "changes"
	switch {
	case !p.Summary.Changes():
		title = "no changes"
	case p.Summary.Denied:
		title = "denied"
	case p.Danger():
		title = "destroys stock"
	case p.Summary.SessionsOnRemoved > 0:
		title = "removes pools with sessions"
	}
	var head strings.Builder
	fmt.Fprintf(&head, "%s\n### duffy-broker plan: %s\n\n", PlanMarker, title)
	if lines := consequences(p); len(lines) > 0 {
		head.WriteString("> [!CAUTION]\n")
		for _, line := range lines {
			fmt.Fprintf(&head, "> %s<br>\n", escape(line))
		}
		head.WriteByte('\n')
	}
	fmt.Fprintf(&head, "Compared with %s, from %s on.\n\n", escape(against(p.Against)), clock(p.At))
	for _, line := range p.Notes {
		fmt.Fprintf(&head, "**Note:** %s\n\n", escape(line))
	}
	for _, line := range suggestions(p) {
		fmt.Fprintf(&head, "**Hint:** %s\n\n", escape(line))
	}

	var sections []string
	if len(p.Settings) > 0 {
		sections = append(sections, section("~ settings outside of pools", "", p.Settings, nil))
	}
	for _, pool := range p.Pools {
		if pool.Kind != plan.Unchanged {
			title, _ := poolTitle(pool)
			sections = append(sections, section(title, danger(pool), shownFields(pool), poolFacts(pool, p.At)))
		}
	}

	var tail strings.Builder
	if len(p.Actions) > 0 {
		fmt.Fprintf(&tail, "<details><summary>Forecast: %s</summary>\n\n", escape(ending(p)))
		for _, line := range assumptions(p) {
			fmt.Fprintf(&tail, "- %s\n", escape(line))
		}
		tail.WriteString("\n</details>\n\n")
	}
	fmt.Fprintf(&tail, "**Plan `%s`: %s.**\n", p.ID, escape(headline(p)))
	if c := p.Summary.CostPerDay; c != nil && p.Summary.Changes() {
		fmt.Fprintf(&tail, "Cost a day: %s.\n", escape(cost(*c)))
	}
	return fit(head.String(), sections, tail.String(), maxSize)
}

// danger says in a few words why a pool is one to look at.
func danger(p plan.Pool) string {
	var words []string
	if n := len(p.Stock.Destroyed); n > 0 {
		words = append(words, fmt.Sprintf("%s of stock destroyed", count(n, "node")))
	}
	if p.Kind == plan.Removed && len(p.Lent) > 0 {
		words = append(words, fmt.Sprintf("%s lent", count(len(p.Lent), "node")))
	}
	return strings.Join(words, ", ")
}

// section folds what is to be said of a pool.
func section(title, danger string, fields []plan.Field, facts []fact) string {
	var b strings.Builder
	fmt.Fprintf(&b, "<details><summary><b>%s</b>", escape(title))
	if danger != "" {
		fmt.Fprintf(&b, ": <b>DANGER</b>, %s", escape(danger))
	}
	b.WriteString("</summary>\n\n")
	if len(fields) > 0 {
		b.WriteString("| setting | before | after |\n|---|---|---|\n")
		for i, f := range fields {
			if i == mostRows {
				fmt.Fprintf(&b, "| and %d more | | |\n", len(fields)-mostRows)
				break
			}
			old, after := fieldSides(f)
			fmt.Fprintf(&b, "| %s | %s | %s |\n", escape(f.Name), code(old), code(after))
		}
		b.WriteByte('\n')
	}
	for _, f := range facts {
		if f.label == "" {
			fmt.Fprintf(&b, "  - %s\n", escape(f.text))
			continue
		}
		fmt.Fprintf(&b, "- **%s**: %s\n", escape(f.label), escape(f.text))
	}
	b.WriteString("\n</details>\n\n")
	return b.String()
}

// fit joins the parts in at most maxSize bytes.
func fit(head string, sections []string, tail string, maxSize int) string {
	size := len(head) + len(tail)
	for _, s := range sections {
		size += len(s)
	}
	if maxSize == 0 || size <= maxSize {
		return head + strings.Join(sections, "") + tail
	}
	const room = 200 // for the note
	left := 0
	for left < len(sections) && size > maxSize-room {
		size -= len(sections[left])
		left++
	}
	note := fmt.Sprintf("*%s at the start %s left out: there is no room for more.*\n\n", count(left, "section"), verb(left, "is", "are"))
	if size <= maxSize-room {
		return head + note + strings.Join(sections[left:], "") + tail
	}
	// Not even that: marker and end are what a program, and a person, need.
	short := PlanMarker + "\n" + note
	cut := max(0, len(head)+len(tail)-(maxSize-len(short)))
	rest := head + tail
	for cut < len(rest) && !utf8.RuneStart(rest[cut]) {
		cut++
	}
	return short + rest[cut:]
}

// code writes a value as code, "" as nothing.
func code(text string) string {
	if text == "" {
		return ""
	}
	const most = 500
	if len(text) > most {
		cut := most
		for !utf8.RuneStart(text[cut]) {
			cut--
		}
		text = text[:cut] + "..."
	}
	return "<code>" + escape(text) + "</code>"
}

// escape keeps a text from being taken for markdown, for HTML, for the name of a
// person or for a link.
func escape(text string) string {
	var b strings.Builder
	for _, r := range printable(text) {
		if strings.ContainsRune("\\`*_[]<>&|~@#!:", r) && r != ':' || r == ':' && strings.Contains(text, "://") {
			fmt.Fprintf(&b, "&#%d;", r)
			continue
		}
		b.WriteRune(r)
	}
	return b.String()
}
