package duffyv3

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Tenant is a tenant of Duffy.
type Tenant struct {
	ID        int64
	Name      string
	IsAdmin   bool
	SSHKey    string // public keys, a line each, as they came
	KeyHash   string // the bcrypt hash of its API key, as it came
	CreatedAt time.Time
	RetiredAt time.Time // zero: active

	// nil: Duffy's configuration decides.
	NodeQuota          *int
	SessionLifetime    *time.Duration
	SessionLifetimeMax *time.Duration

	// Problem says which columns can't be read, "" if all can. Other fields are
	// right.
	Problem string
}

// readTenant reads a row of the table of tenants.
func readTenant(r row) Tenant {
	t := Tenant{Name: r.get("name"), SSHKey: r.get("ssh_key"), KeyHash: r.get("api_key")}
	var problems []string
	note := func(column string, err error) {
		if err != nil {
			problems = append(problems, column+": "+err.Error())
		}
	}
	var err error
	t.ID, err = strconv.ParseInt(r.get("id"), 10, 64)
	note("id", numberError(r.get("id"), err))
	for _, column := range []string{"name", "ssh_key"} {
		if !utf8.ValidString(r.get(column)) {
			note(column, errors.New("is not UTF-8"))
		}
	}
	t.IsAdmin, err = parseBool(r.get("is_admin"))
	note("is_admin", err)
	t.CreatedAt, err = parseTime(r.get("created_at"))
	note("created_at", err)
	t.RetiredAt, err = parseTime(r.get("retired_at"))
	note("retired_at", err)
	t.NodeQuota, err = optional(r["node_quota"], parseQuota)
	note("node_quota", err)
	t.SessionLifetime, err = optional(r["session_lifetime"], parseLifetime)
	note("session_lifetime", err)
	t.SessionLifetimeMax, err = optional(r["session_lifetime_max"], parseLifetime)
	note("session_lifetime_max", err)
	t.Problem = strings.Join(problems, "; ")
	return t
}

func byID(a, b Tenant) int { return cmp.Compare(a.ID, b.ID) }

func optional[T any](text *string, parse func(string) (T, error)) (*T, error) {
	if text == nil {
		return nil, nil //nolint:nilnil // null is a value
	}
	v, err := parse(*text)
	if err != nil {
		return nil, err
	}
	return &v, nil
}

func numberError(text string, err error) error {
	if err != nil {
		return fmt.Errorf("%q is no whole number", text)
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch text {
	case "t", "true":
		return true, nil
	case "f", "false", "":
		return false, nil
	}
	return false, fmt.Errorf("%q is neither true nor false", text)
}

func parseQuota(text string) (int, error) {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0, numberError(text, err)
	}
	if n < 0 {
		return 0, fmt.Errorf("%d is negative", n)
	}
	return int(n), nil
}

// parseTime reads a timestamp in ISO form, which is in UTC if it has no zone. ""
// is the zero time.
func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"2006-01-02 15:04:05", "2006-01-02 15:04:05-07", "2006-01-02 15:04:05-07:00"} {
		if t, err := time.Parse(layout, text); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time", text)
}

func parseLifetime(text string) (time.Duration, error) {
	d, err := parseInterval(text)
	if err == nil && d <= 0 {
		err = fmt.Errorf("%q is not more than nothing", text)
	}
	return d, err
}

// parseInterval reads an interval as PostgreSQL writes it in the style
// "postgres": 1 year 2 mons -3 days +04:05:06.7. A year has 365 days and a month
// 30, as Python's drivers have it for Duffy.
func parseInterval(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no length of time", text)
	seconds := 0.0
	words := strings.Fields(text)
	for len(words) >= 2 {
		unit, ok := map[string]float64{"year": 365 * 86400, "mon": 30 * 86400, "day": 86400}[strings.TrimSuffix(words[1], "s")]
		n, err := strconv.Atoi(words[0])
		if !ok || err != nil {
			return 0, bad
		}
		seconds += float64(n) * unit
		words = words[2:]
	}
	if len(words) == 1 {
		clock, err := parseClock(words[0])
		if err != nil {
			return 0, bad
		}
		seconds += clock
	}
	if text == "" || math.Abs(seconds) >= math.MaxInt64/float64(time.Second) {
		return 0, bad
	}
	return time.Duration(math.Round(seconds*1e6)) * time.Microsecond, nil // its precision
}

// parseClock reads hours, minutes and seconds, with a sign or without.
func parseClock(text string) (seconds float64, err error) {
	number, negative := strings.CutPrefix(text, "-")
	parts := strings.Split(strings.TrimPrefix(number, "+"), ":")
	if len(parts) != 3 {
		return 0, errors.New("is no time of the form 00:00:00")
	}
	for _, part := range parts {
		n, err := strconv.ParseFloat(part, 64)
		if err != nil {
			return 0, err
		}
		seconds = seconds*60 + n
	}
	if negative {
		seconds = -seconds
	}
	return seconds, nil
}
