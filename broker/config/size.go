package config

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/zclconf/go-cty/cty"
)

// defaultMemoryPerRun is what one run in flight needs beyond what all runs
// share, with room to spare: 16 to 55 MiB were measured, by the size of the
// provider.
const defaultMemoryPerRun = 64 << 20

// size parses an amount of memory above zero, and gives it in bytes.
func size(v cty.Value) (int64, complaint) {
	s, wrong := text(v)
	if wrong != "" {
		return 0, wrong
	}
	parts := regexp.MustCompile(`^(\d{1,6}) ?(MiB|GiB|MB|GB)$`).FindStringSubmatch(s)
	if parts == nil {
		wrong = complaint(fmt.Sprintf(`must be an amount of memory such as "64MiB" or "1GiB", not %q.`, s))
		if _, err := strconv.ParseUint(s, 10, 20); err == nil {
			wrong += complaint(fmt.Sprintf(" Did you mean %q?", s+"MiB"))
		}
		return 0, wrong
	}
	number, _ := strconv.ParseInt(parts[1], 10, 64) // digits
	bytes := number * map[string]int64{"MiB": 1 << 20, "GiB": 1 << 30, "MB": 1e6, "GB": 1e9}[parts[2]]
	if bytes == 0 {
		return 0, complaint(fmt.Sprintf("must be more than nothing, not %q.", s))
	}
	return bytes, ""
}
