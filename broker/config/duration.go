package config

import (
	"fmt"
	"regexp"
	"strconv"
	"time"

	"github.com/zclconf/go-cty/cty"
)

// duration parses a length of time above zero: Go's units ("90s", "1h30m"), and
// before them the weeks and days that Duffy knows ("1d", "1w2d").
func duration(v cty.Value) (time.Duration, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return 0, wrong
	}
	d, err := parseDuration(s)
	switch {
	case err == nil && d > 0:
		return d, ""
	case err == nil:
		return 0, complaint(fmt.Sprintf("must be longer than nothing, not %q.", s))
	}
	wrong = complaint(fmt.Sprintf(`must be a length of time such as "90s", "10m", "1h30m" or "1d", not %q.`, s))
	if _, err := strconv.Atoi(s); err == nil {
		wrong += complaint(fmt.Sprintf(" Did you mean %q?", s+"s"))
	}
	return 0, wrong
}

func parseDuration(s string) (time.Duration, error) {
	parts := regexp.MustCompile(`^(?:(\d{1,9})w)?(?:(\d{1,9})d)?(.*)$`).FindStringSubmatch(s)
	if parts == nil || parts[1]+parts[2] == "" {
		return time.ParseDuration(s)
	}
	weeks, _ := strconv.Atoi("0" + parts[1]) // digits, or nothing
	days, _ := strconv.Atoi("0" + parts[2])
	return time.ParseDuration(fmt.Sprintf("%dh%s", 24*(7*weeks+days), parts[3]))
}
