package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// window is a schedule block. What it does not set comes from the pool, which may
// be another one than that in which the block stands.
type window struct {
	broker.Window // without FillLevel and MaxNodes
	fillLevel     setting[int]
	maxNodes      setting[int]
}

// readSchedule reads the schedule blocks of a pool, a template or the defaults.
//
// A window has a duration, and not a second cron expression for its end: two
// expressions can miss each other (an end that never comes, or comes before the
// beginning), and would be read again and again to see which one was last.
func readSchedule(b *block) setting[[]window] {
	blocks := b.blocks("schedule", "A time that comes again and again, in which the pool has another fill level: see [schedule.md](schedule.md). "+
		"Of those that are open at once the last one counts. A pool with schedule blocks of its own inherits none.")
	var s setting[[]window]
	first := make(map[string]hcl.Range)
	for _, block := range blocks {
		w := window{}
		r := b.l.open(block.Body, "a schedule block")
		cron := read(r, "cron", form[string]{cronExpression, "a cron expression of five fields: minute, hour, day of month, month, day of week", schema{"type": "string"}},
			"When the window opens, on the clocks of `timezone`.", needed{})
		length := read(r, "duration", form[time.Duration]{windowDuration, durationForm.kind, durationForm.schema},
			"How long it stays open, on the same clocks.", needed{})
		zone := read(r, "timezone", form[string]{timezone, "the name of a time zone, such as `\"Europe/Prague\"`", schema{"type": "string"}},
			"Whose clocks count.", "`\"UTC\"`")
		w.fillLevel = read(r, "fill_level", atLeast(0), "Ready nodes to keep in stock while it is open.", "the pool's")
		w.maxNodes = read(r, "max_nodes", atLeast(1), "Nodes at most while it is open. More are kept as long as they are lent.", "the pool's; where that has none either, what goes with the fill level")
		mistakes := len(b.l.diags)
		r.finish()
		w.Cron, w.Duration, w.Timezone = cron.value, length.value, zone.or("UTC")

		// What is missing may be what is misspelt.
		good := len(b.l.diags) == mistakes && !b.l.broken(block.Range())
		missing := func(is bool, summary, says string) {
			if is && good {
				b.l.report(block.DefRange(), summary, "%s", says)
			}
		}
		missing(!cron.set, "Missing cron", `A schedule block needs a cron expression: when it opens, such as cron = "0 8 * * 1-5".`)
		missing(!length.set, "Missing duration", `A schedule block needs a duration: how long it stays open, such as duration = "10h".`)
		missing(!w.fillLevel.set && !w.maxNodes.set, "Missing fill_level", "A schedule block that sets neither fill_level nor max_nodes changes nothing. Set one of them, or remove the block.")
		if good = good && cron.set && !cron.bad && length.set && !length.bad && !zone.bad; good && schedule.Check(w.Window) != nil {
			b.l.report(length.at, "Window without an end", "The window opens again before it closes, again and again. "+
				"Make duration shorter than the time between two openings, or set fill_level outside the schedule block.")
			good = false
		}
		s.bad = s.bad || !good || w.fillLevel.bad || w.maxNodes.bad

		b.l.checkName(block)
		if len(block.Labels) > 0 {
			w.Name = block.Labels[0]
			if at, taken := first[w.Name]; taken {
				b.l.report(block.LabelRanges[0], "Duplicate schedule", "There is a schedule %q already, at %s. Give this one another name.", w.Name, place(at))
			}
			first[w.Name] = block.LabelRanges[0]
		}
		s.set, s.at = true, block.DefRange()
		s.value = append(s.value, w)
	}
	return s
}

// windows completes the windows of a pool with its own numbers of nodes, and
// checks them.
func (l *loader) windows(s settings, base broker.Pool) []broker.Window {
	var windows []broker.Window
	for _, w := range s.schedule.or(nil) {
		w.FillLevel = w.fillLevel.or(base.FillLevel)
		w.MaxNodes = w.maxNodes.or(max(base.MaxNodes, maxNodesFor(w.FillLevel)))
		if s.maxNodes.set && !w.maxNodes.set {
			w.MaxNodes = base.MaxNodes
		}
		if w.MaxNodes < w.FillLevel && !s.fillLevel.bad && !s.maxNodes.bad {
			at, other := w.maxNodes.at, w.fillLevel.at
			switch {
			case !w.maxNodes.set:
				at, other = w.fillLevel.at, s.maxNodes.at
			case !w.fillLevel.set:
				other = s.fillLevel.at
			}
			l.report(at, "Too few nodes", "In schedule %q max_nodes is %d and fill_level is %d (see %s): so many can never be ready. "+
				"Set both in the schedule block, with max_nodes at least %d.", w.Name, w.MaxNodes, w.FillLevel, place(other), w.FillLevel)
		}
		windows = append(windows, w.Window)
	}
	return windows
}

// maxNodesFor gives the maximum of a pool that sets none.
func maxNodesFor(fill int) int { return max(2*fill, fill+2) }

// cronExpression parses the time when a window opens.
func cronExpression(v cty.Value) (string, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return "", wrong
	}
	if err := schedule.CheckCron(s); err != nil {
		return "", complaint(fmt.Sprintf("has a mistake: %v.", err))
	}
	return s, ""
}

func windowDuration(v cty.Value) (time.Duration, complaint) {
	d, wrong := duration(v)
	if wrong == "" && (d < schedule.MinDuration || d > schedule.MaxDuration) {
		wrong = complaint(fmt.Sprintf("must be between a minute and a year, not %s.", describe(v)))
	}
	return d, wrong
}

// timezone parses the name of a time zone.
func timezone(v cty.Value) (string, complaint) {
	name, wrong := text(v)
	if wrong != "" {
		return "", wrong
	}
	if name == "" || schedule.CheckZone(name) != nil {
		wrong = complaint(fmt.Sprintf(`must be the name of a time zone such as "UTC" or "Europe/Prague", not %q.`, name))
		if near := nearZone(name); near != "" {
			wrong += complaint(fmt.Sprintf(" Did you mean %q?", near))
		}
		return "", wrong
	}
	return name, ""
}

// nearZone gives the time zone that was probably meant, or "".
func nearZone(name string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer(" ", "", "_", "", "-", "").Replace(s))
	}
	city := func(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }
	zones := schedule.Zones()
	for _, same := range []func(string) string{plain, func(s string) string { return plain(city(s)) }} {
		for _, zone := range zones {
			if name != "" && same(zone) == same(name) {
				return zone
			}
		}
	}
	if len(name) < 5 { // an abbreviation, which are all alike
		return ""
	}
	return suggest(name, zones)
}

// checkMaxAge reports a greatest age that nodes reach while they are made, or soon
// after.
func (l *loader) checkMaxAge(s settings, from lineage, p broker.Pool) {
	making := p.CreateTimeout
	if p.Ready.SSH {
		making += p.Ready.Timeout
	}
	if p.MaxAge == 0 || p.MaxAge >= 2*making || s.createTimeout.bad || s.readyTimeout.bad {
		return
	}
	at := s.maxAge.at
	for _, other := range []setting[time.Duration]{s.createTimeout, s.readyTimeout} {
		if other.set {
			at, _ = from.nearest(at, other.at)
		}
	}
	l.report(at, "Too short an age", "max_age is %s, and to make a node may take %s (create_timeout and the timeout of its ready check): "+
		"it could be too old before it is lent. Raise max_age to at least %s, or lower create_timeout.",
		shortDuration(p.MaxAge), shortDuration(making), shortDuration(2*making))
}
