package schedule_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/schedule"
)

// base is what holds where no window is open.
var base = schedule.Effective{FillLevel: 2, MaxNodes: 4}

func window(name, cron string, duration time.Duration, zone string) broker.Window {
	return broker.Window{Name: name, Cron: cron, Duration: duration, Timezone: zone, FillLevel: 20, MaxNodes: 40}
}

// changes gives the changes after a time as lines, on the clocks of a zone.
func changes(t *testing.T, zone, after string, n int, windows ...broker.Window) []string {
	t.Helper()
	loc, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	from, err := time.ParseInLocation("2006-01-02 15:04", after, loc)
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range windows {
		if err := schedule.Check(w); err != nil {
			t.Fatalf("window %+v: %v", w, err)
		}
	}
	var lines []string
	for _, c := range schedule.Changes(windows, base, from, n) {
		name := c.Window
		if name == "" {
			name = "base"
		}
		lines = append(lines, fmt.Sprintf("%s %s %d/%d", c.At.In(loc).Format("Mon 2006-01-02 15:04 MST"), name, c.FillLevel, c.MaxNodes))
	}
	return lines
}

func TestChanges(t *testing.T) {
	work := window("work", "0 8 * * 1-5", 10*time.Hour, "Europe/Prague")
	late := window("late", "0 16 * * 3", 4*time.Hour, "Europe/Prague")
	late.FillLevel = 5
	off := window("holidays", "0 0 24 12 *", 72*time.Hour, "Europe/Prague")
	off.FillLevel, off.MaxNodes = 0, 4
	asBase := window("as base", "0 12 * * *", time.Hour, "Europe/Prague")
	asBase.FillLevel, asBase.MaxNodes, asBase.Name = base.FillLevel, base.MaxNodes, ""
	tests := []struct {
		name        string
		zone, after string
		windows     []broker.Window
		want        []string
	}{
		{
			name: "working hours", zone: "Europe/Prague", after: "2026-11-26 09:30", windows: []broker.Window{work},
			want: []string{
				"Thu 2026-11-26 18:00 CET base 2/4", "Fri 2026-11-27 08:00 CET work 20/40", "Fri 2026-11-27 18:00 CET base 2/4",
				"Mon 2026-11-30 08:00 CET work 20/40", "Mon 2026-11-30 18:00 CET base 2/4",
			},
		},
		{
			name: "a change at this very moment has been", zone: "Europe/Prague", after: "2026-11-26 18:00", windows: []broker.Window{work},
			want: []string{"Fri 2026-11-27 08:00 CET work 20/40"},
		},
		{
			name: "the later block counts, and then the earlier one again", zone: "Europe/Prague", after: "2026-11-25 00:00", windows: []broker.Window{work, late},
			want: []string{
				"Wed 2026-11-25 08:00 CET work 20/40", "Wed 2026-11-25 16:00 CET late 5/40", "Wed 2026-11-25 20:00 CET base 2/4",
			},
		},
		{
			name: "the earlier block is hidden", zone: "Europe/Prague", after: "2026-11-25 00:00", windows: []broker.Window{late, work},
			want: []string{
				"Wed 2026-11-25 08:00 CET work 20/40", "Wed 2026-11-25 18:00 CET late 5/40", "Wed 2026-11-25 20:00 CET base 2/4",
			},
		},
		{
			name: "an exception over days", zone: "Europe/Prague", after: "2026-12-23 12:00", windows: []broker.Window{work, off},
			want: []string{
				"Wed 2026-12-23 18:00 CET base 2/4", "Thu 2026-12-24 00:00 CET holidays 0/4", "Sun 2026-12-27 00:00 CET base 2/4",
			},
		},
		{
			name: "windows that adjoin are one", zone: "UTC", after: "2026-11-27 00:00", windows: []broker.Window{window("days", "0 8 * * 1-5", 24*time.Hour, "")},
			want: []string{"Sat 2026-11-28 08:00 UTC base 2/4", "Mon 2026-11-30 08:00 UTC days 20/40", "Sat 2026-12-05 08:00 UTC base 2/4"},
		},
		{
			name: "a window that changes nothing is no change", zone: "Europe/Prague", after: "2026-11-26 00:00", windows: []broker.Window{asBase},
			want: nil,
		},
		{
			name: "another zone than that of the reader", zone: "America/New_York", after: "2026-11-26 00:00", windows: []broker.Window{work},
			want: []string{"Thu 2026-11-26 02:00 EST work 20/40", "Thu 2026-11-26 12:00 EST base 2/4"},
		},
		{
			name: "a day of the week or of the month, as in cron", zone: "UTC", after: "2026-11-11 00:00", windows: []broker.Window{window("either", "0 6 13 * 5", time.Hour, "UTC")},
			want: []string{"Fri 2026-11-13 06:00 UTC either 20/40", "Fri 2026-11-13 07:00 UTC base 2/4", "Fri 2026-11-20 06:00 UTC either 20/40"},
		},

		// Clocks that are set forward.
		{
			name: "robfig/cron#541: a time that the clocks skip still opens that day", zone: "America/New_York", after: "2026-03-07 12:00",
			windows: []broker.Window{window("early", "30 2 * * *", 10*time.Minute, "America/New_York")},
			want: []string{
				"Sun 2026-03-08 03:00 EDT early 20/40", "Sun 2026-03-08 03:10 EDT base 2/4",
				"Mon 2026-03-09 02:30 EDT early 20/40", "Mon 2026-03-09 02:40 EDT base 2/4",
			},
		},
		{
			name: "it closes at a time that the clocks skip", zone: "America/New_York", after: "2026-03-07 12:00",
			windows: []broker.Window{window("night", "30 22 * * *", 4*time.Hour, "America/New_York")},
			want:    []string{"Sat 2026-03-07 22:30 EST night 20/40", "Sun 2026-03-08 03:00 EDT base 2/4", "Sun 2026-03-08 22:30 EDT night 20/40"},
		},
		{
			name: "a night ends when its clocks say so", zone: "Europe/Prague", after: "2026-03-28 12:00",
			windows: []broker.Window{window("night", "0 20 * * *", 12*time.Hour, "Europe/Prague")},
			want: []string{
				"Sat 2026-03-28 20:00 CET night 20/40", "Sun 2026-03-29 08:00 CEST base 2/4", "Sun 2026-03-29 20:00 CEST night 20/40",
			},
		},
		{
			name: "midnight does not exist", zone: "Africa/Cairo", after: "2026-04-23 12:00",
			windows: []broker.Window{window("day", "0 0 * * 5", 24*time.Hour, "Africa/Cairo")},
			want:    []string{"Fri 2026-04-24 01:00 EEST day 20/40", "Sat 2026-04-25 01:00 EEST base 2/4", "Fri 2026-05-01 00:00 EEST day 20/40"},
		},
		{
			name: "a whole day does not exist", zone: "Pacific/Apia", after: "2011-12-29 12:00",
			windows: []broker.Window{window("noon", "0 12 30,31 * *", time.Hour, "Pacific/Apia")},
			want:    []string{"Sat 2011-12-31 00:00 +14 noon 20/40", "Sat 2011-12-31 01:00 +14 base 2/4", "Sat 2011-12-31 12:00 +14 noon 20/40"},
		},

		// Clocks that are set back.
		{
			name: "it opens the first time, and closes the second", zone: "America/New_York", after: "2026-10-31 12:00",
			windows: []broker.Window{window("early", "30 1 * * *", 15*time.Minute, "America/New_York")},
			want:    []string{"Sun 2026-11-01 01:30 EDT early 20/40", "Sun 2026-11-01 01:45 EST base 2/4", "Mon 2026-11-02 01:30 EST early 20/40"},
		},
		{
			name: "it closes at a time that comes twice", zone: "Europe/Prague", after: "2026-10-24 12:00",
			windows: []broker.Window{window("night", "0 20 * * *", 6*time.Hour+30*time.Minute, "Europe/Prague")},
			want:    []string{"Sat 2026-10-24 20:00 CEST night 20/40", "Sun 2026-10-25 02:30 CET base 2/4", "Sun 2026-10-25 20:00 CET night 20/40"},
		},
		{
			name: "every half hour, through the hour that comes twice", zone: "Europe/Prague", after: "2026-10-25 01:45",
			windows: []broker.Window{window("often", "*/30 * * * *", 10*time.Minute, "Europe/Prague")},
			want: []string{
				"Sun 2026-10-25 02:00 CEST often 20/40", "Sun 2026-10-25 02:40 CET base 2/4", "Sun 2026-10-25 03:00 CET often 20/40",
			},
		},
		{
			name: "clocks that are set back by half an hour", zone: "Australia/Lord_Howe", after: "2026-04-04 12:00",
			windows: []broker.Window{window("early", "45 1 * * *", time.Hour, "Australia/Lord_Howe")},
			want:    []string{"Sun 2026-04-05 01:45 +11 early 20/40", "Sun 2026-04-05 02:45 +1030 base 2/4", "Mon 2026-04-06 01:45 +1030 early 20/40"},
		},

		// Other calendars' oddities.
		{
			name: "a zone with half an hour", zone: "UTC", after: "2026-11-26 00:00",
			windows: []broker.Window{window("india", "0 9 * * *", time.Hour, "Asia/Kolkata")},
			want:    []string{"Thu 2026-11-26 03:30 UTC india 20/40", "Thu 2026-11-26 04:30 UTC base 2/4"},
		},
		{
			name: "February 29", zone: "UTC", after: "2026-11-26 00:00", windows: []broker.Window{window("leap", "0 0 29 2 *", 24*time.Hour, "UTC")},
			want: []string{"Tue 2028-02-29 00:00 UTC leap 20/40", "Wed 2028-03-01 00:00 UTC base 2/4", "Sun 2032-02-29 00:00 UTC leap 20/40"},
		},
		{
			name: "February 29, where none is for eight years", zone: "UTC", after: "2096-03-01 12:00", windows: []broker.Window{window("leap", "0 0 29 2 *", 24*time.Hour, "UTC")},
			want: []string{"Fri 2104-02-29 00:00 UTC leap 20/40"},
		},
		{
			name: "a window of most of a year", zone: "UTC", after: "2026-11-26 00:00", windows: []broker.Window{window("year", "0 0 10 1 *", 300*24*time.Hour, "UTC")},
			want: []string{"Sun 2027-01-10 00:00 UTC year 20/40", "Sat 2027-11-06 00:00 UTC base 2/4"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n := max(2, len(test.want))
			got := changes(t, test.zone, test.after, n, test.windows...)
			if diff := cmp.Diff(test.want, got[:min(len(got), len(test.want))]); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

// What is open on end is one opening.
func TestAtTellsTheEnd(t *testing.T) {
	days := window("days", "0 8 * * 1-5", 24*time.Hour, "Europe/Prague")
	tuesday := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	got, next := schedule.At([]broker.Window{days}, base, tuesday)
	if want := time.Date(2026, 11, 28, 7, 0, 0, 0, time.UTC); got.Window != "days" || !next.Equal(want) {
		t.Errorf("got %+v until %v, want it open until %v", got, next, want)
	}
}

func TestPool(t *testing.T) {
	p := broker.Pool{Name: "a", FillLevel: 2, MaxNodes: 4, Schedule: []broker.Window{window("work", "0 8 * * *", time.Hour, "")}}
	at := time.Date(2026, 11, 26, 8, 30, 0, 0, time.UTC)
	got, next := schedule.Pool(p, at)
	want := broker.Pool{Name: "a", FillLevel: 20, MaxNodes: 40}
	if diff := cmp.Diff(want, got); diff != "" || !next.Equal(at.Add(30*time.Minute)) {
		t.Errorf("until %v (-want +got):\n%s", next, diff)
	}
	p.Schedule = nil
	if got, next := schedule.Pool(p, at); got.FillLevel != 2 || !next.IsZero() {
		t.Errorf("a pool without windows keeps %d until %v", got.FillLevel, next)
	}
}

func TestCheckCron(t *testing.T) {
	for _, good := range []string{"* * * * *", "0 8 * * 1-5", "*/15 0,12 1-7 JAN-mar Mon", "0 0 29 2 *", " 30\t2 * * ? "} {
		if err := schedule.CheckCron(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"":                           "has 0 fields",
		"0 8 * *":                    "has 4 fields",
		"0 0 8 * * 1-5":              "has 6 fields",
		"60 8 * * *":                 `"60" is no minute: that is 0 to 59`,
		"0 24 * * *":                 `"24" is no hour`,
		"0 8 0 * *":                  `"0" is no day of month`,
		"0 8 * 13 *":                 `"13" is no month`,
		"0 8 * * 7":                  "Sunday is 0",
		"0 8 * * 5-1":                `"5-1" is no day of week`,
		"0 */0 * * *":                `"*/0" is no hour`,
		"0 8 * * Montag":             `"Montag" is no day of week`,
		"0 0 31 2 *":                 "never comes",
		"0 0 31 4,6,9,11 *":          "never comes",
		"@daily":                     "five fields",
		"@every 5m":                  "five fields",
		"TZ=0":                       "names a time zone",
		"CRON_TZ=UTC":                "names a time zone",
		"CRON_TZ=Asia/Tokyo 0 8 * *": "names a time zone",
	} {
		if err := schedule.CheckCron(bad); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want ... %s ...", bad, err, want)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, bad := range map[string]broker.Window{
		"unknown zone":    window("", "0 8 * * *", time.Hour, "Europe/Praha"),
		"this machine's":  window("", "0 8 * * *", time.Hour, "Local"),
		"a path":          window("", "0 8 * * *", time.Hour, "../Europe/Prague"),
		"no duration":     window("", "0 8 * * *", 0, "UTC"),
		"always open":     window("", "* * * * *", time.Minute, "UTC"),
		"days on end":     window("", "0 8 * * *", 24*time.Hour, "UTC"),
		"months on end":   window("", "0 0 1 * *", 31*24*time.Hour, "UTC"),
		"bad cron":        window("", "0 8 * *", time.Hour, "UTC"),
		"right/ has leap": window("", "0 8 * * *", time.Hour, "right/Europe/Prague"),
	} {
		if schedule.Check(bad) == nil {
			t.Errorf("%s: accepted", name)
		}
		if got, next := schedule.At([]broker.Window{bad}, base, time.Now()); got != base || !next.IsZero() {
			t.Errorf("%s: counts as %+v until %v", name, got, next)
		}
	}
}

// choice is a random window whose times are known without a reader of cron
// expressions.
type choice struct {
	broker.Window
	minutes, hours, weekdays map[int]bool
}

func drawWindow(t *rapid.T, name string) choice {
	set := func(label string, below int) (map[int]bool, string) {
		if rapid.IntRange(0, 3).Draw(t, label+" any") == 0 {
			all := make(map[int]bool)
			for i := range below {
				all[i] = true
			}
			return all, "*"
		}
		some, text := make(map[int]bool), ""
		for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, below-1), 1, 3, rapid.ID[int]).Draw(t, label) {
			some[i] = true
			text += fmt.Sprintf(",%d", i)
		}
		return some, text[1:]
	}
	var c choice
	var cron [3]string
	c.minutes, cron[0] = set("minute", 60)
	c.hours, cron[1] = set("hour", 24)
	c.weekdays, cron[2] = set("weekday", 7)
	c.Window = broker.Window{
		Name: name, Cron: fmt.Sprintf("%s %s * * %s", cron[0], cron[1], cron[2]),
		Duration: time.Duration(rapid.IntRange(1, 30*60).Draw(t, "duration")) * time.Minute,
		Timezone: rapid.SampledFrom([]string{
			"UTC", "Europe/Prague", "America/New_York", "Australia/Lord_Howe", "Africa/Cairo", "Asia/Kolkata",
			"Pacific/Chatham", "America/St_Johns", "Africa/Casablanca", "Pacific/Apia",
		}).Draw(t, "zone"),
		FillLevel: rapid.IntRange(0, 3).Draw(t, "fill"), MaxNodes: 4,
	}
	return c
}

// openMinutes tells for each minute from a time on whether the window is open. It
// knows the definition only: a window opens at the first moment at which the
// clocks show its time or a later one, and closes at the first one from which on
// they never show less than its end.
func (c choice) openMinutes(from time.Time, n int) []bool {
	loc, err := time.LoadLocation(c.Timezone)
	if err != nil {
		panic(err)
	}
	margin := 3 * 24 * 60 // minutes that are looked at before and after
	from = from.Add(-time.Duration(margin) * time.Minute)
	shown := make([]time.Time, n+2*margin)
	for i := range shown {
		t := from.Add(time.Duration(i) * time.Minute).In(loc)
		shown[i] = time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), 0, 0, time.UTC)
	}
	most, least := make([]time.Time, len(shown)), make([]time.Time, len(shown))
	for i := range shown {
		most[i] = shown[i]
		if i > 0 && most[i-1].After(most[i]) {
			most[i] = most[i-1]
		}
	}
	for i := len(shown) - 1; i >= 0; i-- {
		least[i] = shown[i]
		if i+1 < len(shown) && least[i+1].Before(least[i]) {
			least[i] = least[i+1]
		}
	}
	first := func(times []time.Time, s time.Time, begin int) int {
		for i := begin; i < len(times); i++ {
			if !times[i].Before(s) {
				return i
			}
		}
		return len(times)
	}
	open := make([]bool, len(shown))
	opens := 0
	for s := shown[0].Add(24 * time.Hour); s.Before(shown[len(shown)-1]); s = s.Add(time.Minute) {
		opens = first(most, s, opens)
		if !c.minutes[s.Minute()] || !c.hours[s.Hour()] || !c.weekdays[int(s.Weekday())] {
			continue
		}
		start := s
		if opens < len(shown) && shown[opens].After(s) { // skipped
			start = shown[opens]
		}
		closes := first(least, start.Add(c.Duration), max(0, opens-120))
		for i := opens; i < closes; i++ {
			open[i] = true
		}
	}
	return open[margin : margin+n]
}

// At knows each minute, next is never late, and Changes tells the same story.
func TestAtProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		choices := []choice{drawWindow(t, "one")}
		if rapid.Bool().Draw(t, "two windows") {
			choices = append(choices, drawWindow(t, "two"))
		}
		var windows []broker.Window
		for _, c := range choices {
			if err := schedule.Check(c.Window); err != nil {
				t.Skip(err)
			}
			windows = append(windows, c.Window)
		}
		from := rapid.SampledFrom([]time.Time{
			time.Date(2026, 3, 28, 12, 0, 0, 0, time.UTC), // Europe springs forward
			time.Date(2026, 10, 24, 12, 0, 0, 0, time.UTC),
			time.Date(2026, 3, 7, 12, 0, 0, 0, time.UTC), // America
			time.Date(2026, 10, 31, 12, 0, 0, 0, time.UTC),
			time.Date(2026, 4, 4, 0, 0, 0, 0, time.UTC), // Australia, New Zealand
			time.Date(2026, 10, 3, 0, 0, 0, 0, time.UTC),
			time.Date(2026, 4, 23, 12, 0, 0, 0, time.UTC), // Egypt, at midnight
			time.Date(2026, 10, 29, 12, 0, 0, 0, time.UTC),
			time.Date(2026, 2, 14, 12, 0, 0, 0, time.UTC), // Morocco, for Ramadan
			time.Date(2011, 12, 29, 12, 0, 0, 0, time.UTC),
			time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC),
			time.Date(2096, 2, 28, 0, 0, 0, 0, time.UTC),
		}).Draw(t, "from")
		const minutes = 2 * 24 * 60
		want := make([]schedule.Effective, minutes)
		for i := range want {
			want[i] = base
		}
		for _, c := range choices {
			for i, open := range c.openMinutes(from, minutes) {
				if open {
					want[i] = schedule.Effective{FillLevel: c.FillLevel, MaxNodes: c.MaxNodes, Window: c.Name}
				}
			}
		}
		var made []schedule.Change
		for i := 1; i < len(want); i++ {
			if want[i] != want[i-1] {
				made = append(made, schedule.Change{At: from.Add(time.Duration(i) * time.Minute), Effective: want[i]})
			}
		}
		for i := range want {
			// Some minutes, and those beside each change.
			if i%61 != 0 && want[max(0, i-1)] == want[i] && want[min(i+1, minutes-1)] == want[i] {
				continue
			}
			at := from.Add(time.Duration(i) * time.Minute)
			got, next := schedule.At(windows, base, at)
			if got != want[i] {
				t.Fatalf("%s: got %+v, want %+v: %+v", at, got, want[i], windows)
			}
			if !next.After(at) {
				t.Fatalf("%s: next is %s: %+v", at, next, windows)
			}
			for _, c := range made {
				if c.At.After(at) && c.At.Before(next) {
					t.Fatalf("%s: next is %s, and what holds changes at %s: %+v", at, next, c.At, windows)
				}
			}
			if late, _ := schedule.At(windows, base, at.Add(time.Minute-time.Nanosecond)); late != got {
				t.Fatalf("%s: changes within the minute: %+v", at, windows)
			}
		}
		var told []schedule.Change
		for _, c := range schedule.Changes(windows, base, from, len(made)+1) {
			if c.At.Before(from.Add(minutes * time.Minute)) {
				told = append(told, schedule.Change{At: c.At.UTC(), Effective: c.Effective})
			}
		}
		if len(made) > 500 { // more than is looked for
			made, told = made[:500], told[:min(500, len(told))]
		}
		if diff := cmp.Diff(made, told); diff != "" {
			t.Fatalf("changes (-want +got) of %+v:\n%s", windows, diff)
		}
	})
}

func FuzzCron(f *testing.F) {
	for _, seed := range []string{"0 8 * * 1-5", "TZ=0", "CRON_TZ=UTC", "*/0 * * * *", "0 0 31 2 *", "@every 1s", "1-1/2 ? L # W", "99999999999999999999 * * * *", "\x00", "-1 -1 -1 -1 -1"} {
		f.Add(seed, int64(600), "Europe/Prague")
	}
	f.Fuzz(func(t *testing.T, cron string, minutes int64, zone string) {
		w := window("w", cron, time.Duration(minutes)*time.Minute, zone)
		at := time.Date(2026, 11, 1, 5, 30, 0, 0, time.UTC)
		err := schedule.Check(w)
		got, next := schedule.At([]broker.Window{w}, base, at)
		if err != nil && (got != base || !next.IsZero()) {
			t.Errorf("%q is refused (%v), and counts", cron, err)
		}
		if err == nil && !next.After(at) {
			t.Errorf("%q: next is %s", cron, next)
		}
	})
}

func BenchmarkAt(b *testing.B) {
	windows := []broker.Window{
		window("work", "0 8 * * 1-5", 10*time.Hour, "Europe/Prague"), window("night", "0 22 * * *", 8*time.Hour, "America/New_York"),
		window("weekend", "0 0 * * 6", 48*time.Hour, "Asia/Kolkata"),
	}
	at := time.Date(2026, 11, 26, 9, 30, 0, 0, time.UTC)
	for b.Loop() {
		schedule.At(windows, base, at)
	}
}
