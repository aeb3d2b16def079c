package schedule

import (
	_ "embed"
	"strings"
	"time"
	_ "time/tzdata" // a container may have no time zones of its own
)

// zones are the names that Go's own time zone database has. The test of this file
// writes the list.
//
//go:embed zones.txt
var zones string

// Zones lists the time zones by their IANA names, sorted. No other is accepted,
// so that a file means the same everywhere, whatever a machine knows.
func Zones() []string { return strings.Fields(zones) }

// maxOffset is more than any clock differs from UTC.
const maxOffset = 16 * time.Hour

// clock gives what the clocks of a zone show at t, as if it were UTC: a time in a
// calendar that never changes its clocks.
func clock(t time.Time, loc *time.Location) time.Time {
	_, offset := t.In(loc).Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// moments gives the first and the last moment at which the clocks of a zone show
// a time. Where they skip it, that is the moment of the change, and skipped.
func moments(shown time.Time, loc *time.Location) (first, last time.Time, skipped bool) {
	at := shown.Add(-maxOffset)
	for began := (time.Time{}); ; {
		_, offset := at.In(loc).Zone()
		_, end := at.In(loc).ZoneBounds()
		moment := shown.Add(-time.Duration(offset) * time.Second)
		switch ends := !end.IsZero() && !moment.Before(end); {
		case ends: // shown later, if at all
		case !moment.Before(began):
			if first.IsZero() {
				first = moment
			}
			last = moment
		case first.IsZero():
			return began, began, true
		}
		if end.IsZero() || end.After(shown.Add(maxOffset)) {
			return first, last, false
		}
		at, began = end, end
	}
}

// shift gives by how much the clocks of a zone are changed between two moments,
// at most.
func shift(from, to time.Time, loc *time.Location) time.Duration {
	_, least := from.In(loc).Zone()
	most := least
	for {
		_, from = from.In(loc).ZoneBounds()
		if from.IsZero() || from.After(to) {
			return time.Duration(most-least) * time.Second
		}
		_, offset := from.In(loc).Zone()
		least, most = min(least, offset), max(most, offset)
	}
}
