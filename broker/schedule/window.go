package schedule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// MinDuration is the grain of cron expressions.
	MinDuration = time.Minute
	// MaxDuration is a year: what opens each year closes before that.
	MaxDuration = 366 * 24 * time.Hour
	// maxReopened is how often a window may open again before it has closed. More
	// is one that hardly ever closes, and takes long to compute.
	maxReopened = 5000
)

// window is a [broker.Window], understood.
type window struct {
	opens    cron.Schedule
	duration time.Duration
	loc      *time.Location
}

// known are the windows that were understood before, by what they were made of:
// the planner asks about the same ones at each pass.
//
//nolint:gochecknoglobals // a memo: the same text has the same meaning for ever
var known sync.Map

type key struct {
	cron, zone string
	duration   time.Duration
}

// parse understands a window. One without a zone is in UTC.
func parse(w broker.Window) (*window, error) {
	k := key{w.Cron, w.Timezone, w.Duration}
	if found, ok := known.Load(k); ok {
		return found.(*window), nil
	}
	opens, err := parseCron(w.Cron)
	if err != nil {
		return nil, err
	}
	if err := CheckZone(w.Timezone); err != nil {
		return nil, err
	}
	loc, err := time.LoadLocation(w.Timezone)
	if err != nil {
		return nil, err
	}
	if w.Duration < MinDuration || w.Duration > MaxDuration {
		return nil, fmt.Errorf("duration %s is not between %s and %s", w.Duration, MinDuration, MaxDuration)
	}
	parsed := &window{opens: opens, duration: w.Duration, loc: loc}
	if !parsed.everCloses() {
		return nil, errors.New("it opens again before it closes, again and again")
	}
	known.Store(k, parsed)
	return parsed, nil
}

// Check tells what is wrong with a window: its cron expression or zone, as
// [CheckCron] and [CheckZone] do, or that it hardly ever closes.
func Check(w broker.Window) error {
	_, err := parse(w)
	return err
}

// CheckZone gives an error for what is not the name of a time zone. "" is UTC.
func CheckZone(name string) error {
	if _, found := slices.BinarySearch(Zones(), name); !found && name != "" {
		return fmt.Errorf("there is no time zone %q", name)
	}
	return nil
}

// CheckCron says what is wrong with a cron expression.
func CheckCron(text string) error {
	_, err := parseCron(text)
	return err
}

// fields are what a cron expression consists of.
//
//nolint:gochecknoglobals // a table: nothing writes it
var fields = []struct{ name, takes string }{
	{"minute", "0 to 59"},
	{"hour", "0 to 23"},
	{"day of month", "1 to 31"},
	{"month", "1 to 12 or JAN to DEC"},
	{"day of week", "0 to 6 or SUN to SAT (Sunday is 0)"},
}

func parseCron(text string) (cron.Schedule, error) {
	parts := strings.Fields(text)
	switch {
	case strings.Contains(text, "TZ="):
		return nil, fmt.Errorf("%q names a time zone; that is what timezone is for", text)
	case strings.Contains(text, "@"):
		return nil, fmt.Errorf("%q is a word of cron, which is not known here; write the five fields out: minute, hour, day of month, month and day of week", text)
	case len(parts) != len(fields):
		return nil, fmt.Errorf(`%q has %d fields and needs five: minute, hour, day of month, month and day of week, such as "0 8 * * 1-5"`, text, len(parts))
	}
	for i, part := range parts {
		one := []string{"*", "*", "*", "*", "*"}
		one[i] = part
		if _, err := standard(strings.Join(one, " ")); err != nil {
			return nil, fmt.Errorf("%q is no %s: that is %s, * for all of them, or several of these as 1,3 or 1-5 or */2", part, fields[i].name, fields[i].takes)
		}
	}
	opens, err := standard(strings.Join(parts, " "))
	if err != nil {
		return nil, err
	}
	if next(opens, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return nil, fmt.Errorf("%q never comes: no such month has that day", text)
	}
	return opens, nil
}

// standard parses the five fields. The library panics on some texts.
func standard(text string) (s cron.Schedule, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%q is no cron expression: %v", text, p)
		}
	}()
	return cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow).Parse(text)
}

// next gives the first time after another, both as [clock] has them, that fits an
// expression; zero for never. The library gives up after five years, and between
// 2096 and 2104 is no February 29.
func next(s cron.Schedule, after time.Time) time.Time {
	for range 2 {
		if found := s.Next(after); !found.IsZero() {
			return found
		}
		after = time.Date(after.Year()+6, 1, 1, 0, 0, 0, 0, time.UTC).Add(-time.Second)
	}
	return time.Time{}
}

// everCloses tells whether the first opening of a century comes to an end.
func (w *window) everCloses() bool {
	plain := &window{opens: w.opens, duration: w.duration, loc: time.UTC}
	first := next(w.opens, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
	closes := plain.closes(first)
	for range maxReopened {
		later, open := plain.openAt(closes)
		if !open {
			return true
		}
		closes = later
	}
	return false
}

// span gives when the window opens and closes that is to open when the clocks
// show a time. Both are the later, the later that is.
func (w *window) span(shown time.Time) (opens, closes time.Time) {
	opens, _, skipped := moments(shown, w.loc)
	if skipped {
		shown = clock(opens, w.loc)
	}
	return opens, w.closes(shown)
}

func (w *window) closes(opened time.Time) time.Time {
	_, closes, _ := moments(opened.Add(w.duration), w.loc)
	return closes
}

// openAt tells whether the window is open at t, and when that closes which opened
// last.
func (w *window) openAt(t time.Time) (closes time.Time, open bool) {
	// Near a change of the clocks, order is another one on them: look further.
	around := shift(t.Add(-w.duration-2*maxOffset), t.Add(2*maxOffset), w.loc)
	shown := clock(t, w.loc)
	from := shown.Add(-w.duration - 2*around - time.Second)
	for to := shown.Add(around); ; {
		last, found := w.last(from, to)
		if !found {
			return time.Time{}, false
		}
		opens, closes := w.span(last)
		if !opens.After(t) {
			return closes, closes.After(t)
		}
		to = last.Add(-time.Second)
	}
}

// last gives the last time that fits the expression after one and not after
// another.
func (w *window) last(after, to time.Time) (last time.Time, found bool) {
	for back := time.Minute; ; back *= 2 {
		begin := to.Add(-back)
		if begin.Before(after) {
			begin = after
		}
		for t := next(w.opens, begin); !t.IsZero() && !t.After(to); t = next(w.opens, t) {
			last, found = t, true
		}
		if found || begin.Equal(after) {
			return last, found
		}
	}
}

// state tells whether the window is open at t, and until when it stays so; zero
// for ever.
func (w *window) state(t time.Time) (open bool, until time.Time) {
	until, open = w.openAt(t)
	if !open {
		for shown := next(w.opens, clock(t, w.loc)); !shown.IsZero(); shown = next(w.opens, shown) {
			if opens, _ := w.span(shown); opens.After(t) {
				return false, opens
			}
		}
		return false, time.Time{}
	}
	for range maxReopened {
		later, again := w.openAt(until)
		if !again {
			break
		}
		until = later
	}
	return true, until
}
