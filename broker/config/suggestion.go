package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/agext/levenshtein"
)

// suggest gives the name that was probably meant, or "".
func suggest(given string, names []string) string {
	// Two letters swapped are two edits; in a very short name that is all of it.
	best, least := "", 3
	if len(given) < 4 {
		least = 2
	}
	for _, name := range names {
		if d := levenshtein.Distance(given, name, nil); d < least {
			best, least = name, d
		}
	}
	return best
}

// didYouMean asks for the name that was probably meant, or is "".
func didYouMean(given string, names []string) string {
	if name := suggest(given, names); name != "" {
		return fmt.Sprintf("Did you mean %q?", name)
	}
	return ""
}

// list writes names for the middle of a sentence, sorted.
func list(names []string) string {
	names = slices.Sorted(slices.Values(names))
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

// capital makes a sentence of s.
func capital(s string) string {
	return strings.ToUpper(s[:1]) + s[1:]
}
