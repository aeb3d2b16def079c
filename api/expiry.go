package api

import (
	"encoding/json"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// millisecondWatershed: unix times beyond it count milliseconds, as Duffy's
// parser has it. In seconds it is the year 2603.
const millisecondWatershed = 2e10

// The forms of an expiry as text.
var (
	numberForm = regexp.MustCompile(`^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$`)
	// timeForm is ISO 8601 as people write it: a T or a space, seconds optional,
	// and an offset, a Z or nothing.
	timeForm = regexp.MustCompile(`^(\d{4})-(\d{1,2})-(\d{1,2})[Tt ](\d{1,2}):(\d{1,2})(?::(\d{1,2})(?:\.(\d{1,6})\d*)?)?` +
		`\s*([Zz]|([-+])(\d{2})(?::?(\d{2}))?)?$`)
	// shiftForm is a sign and numbers with units, the larger units first.
	shiftForm = regexp.MustCompile(`^([-+])(?:\s*(\d+)w)?(?:\s*(\d+)d)?(?:\s*(\d+)h)?(?:\s*(\d+)m)?(?:\s*(\d+)s)?(?:\s*(\d+)ms)?$`)
)

// parseExpiry reads a new end of a session in all forms that Duffy takes: a time
// with or without offset (without: UTC), a unix time as number or string, or a
// signed shift of the present end ("+1h 30m").
func parseExpiry(v any) (broker.Expiry, error) {
	switch v := v.(type) {
	case bool: // a number in Python
		if v {
			return unixTime(1), nil
		}
		return unixTime(0), nil
	case json.Number:
		if f, err := v.Float64(); err == nil {
			return unixTime(f), nil
		}
	case string:
		return parseExpiryText(strings.TrimSpace(v))
	}
	return broker.Expiry{}, expiryError(
		v1.FieldError{Msg: "invalid type", Type: "type_error"},
	)
}

func parseExpiryText(s string) (broker.Expiry, error) {
	if numberForm.MatchString(s) {
		if f, err := strconv.ParseFloat(s, 64); err == nil {
			return unixTime(f), nil
		}
	}
	if at, ok := parseTime(s); ok {
		return absolute(at), nil
	}
	delta, ok, inRange := parseShift(strings.ToLower(s))
	switch {
	case !ok:
		return broker.Expiry{}, expiryError(
			v1.FieldError{Msg: "invalid datetime format", Type: "value_error.datetime"},
			v1.FieldError{Msg: "invalid timedelta format", Type: "value_error"},
		)
	case !inRange:
		return broker.Expiry{}, expiryError(v1.FieldError{Msg: "time is out of range", Type: "value_error"})
	}
	return broker.Expiry{Delta: delta}, nil
}

func expiryError(fields ...v1.FieldError) error {
	for i := range fields {
		fields[i].Loc = []any{"body", "expires_at"}
	}
	return bodyError{fields: fields, hint: "use a shift like +1h, -30m or +1d12h, or a time like 2026-01-31T12:00:00Z"}
}

// absolute gives the expiry at a time. The zero time means "relative" to the
// domain, so its one namesake is moved by a hair.
func absolute(at time.Time) broker.Expiry {
	if at.IsZero() {
		at = at.Add(time.Nanosecond)
	}
	return broker.Expiry{At: at.UTC()}
}

func unixTime(seconds float64) broker.Expiry {
	for math.Abs(seconds) > millisecondWatershed {
		seconds /= 1000
	}
	whole, fraction := math.Modf(seconds)
	at := time.Unix(int64(whole), int64(math.Round(fraction*1e6))*1000)
	return absolute(at)
}

func parseTime(s string) (time.Time, bool) {
	m := timeForm.FindStringSubmatch(s)
	if m == nil {
		return time.Time{}, false
	}
	number := func(i int) int {
		n, _ := strconv.Atoi(m[i]) // digits only, or "" for 0
		return n
	}
	year, month, day := number(1), number(2), number(3)
	hour, minute, second := number(4), number(5), number(6)
	offset := time.Duration(number(10))*time.Hour + time.Duration(number(11))*time.Minute
	micros, _ := strconv.Atoi((m[7] + "000000")[:6])
	at := time.Date(year, time.Month(month), day, hour, minute, second, micros*1000, time.UTC)
	// time.Date carries what is too large over: such dates are none.
	if year < 1 || int(at.Month()) != month || at.Day() != day || hour > 23 || minute > 59 || second > 59 ||
		number(10) > 23 || number(11) > 59 {
		return time.Time{}, false
	}
	if m[9] == "-" {
		offset = -offset
	}
	return at.Add(-offset), true
}

// parseShift reads a signed length of time. Out of range means that it is one,
// but too long to count with.
func parseShift(s string) (delta time.Duration, ok, inRange bool) {
	m := shiftForm.FindStringSubmatch(s)
	if m == nil || len(s) == 1 {
		return 0, false, false
	}
	units := []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second, time.Millisecond}
	for i, unit := range units {
		if m[i+2] == "" {
			continue
		}
		n, err := strconv.ParseInt(m[i+2], 10, 64)
		if err != nil || n > int64(math.MaxInt64-delta)/int64(unit) {
			return 0, true, false
		}
		delta += time.Duration(n) * unit
	}
	if m[1] == "-" {
		delta = -delta
	}
	return delta, true, true
}
