package view

import (
	"cmp"
	"strings"
)

// reloadTable says how the last reading of the pools went.
func reloadTable(r value) string {
	result, mistakes := "the pools are the new ones", ""
	if problem := r.get("problem").text; problem != "" {
		result = "the pools are left as they were"
		for line := range strings.Lines("\n" + problem) {
			mistakes += printable(strings.TrimRight(line, "\n")) + "\n"
		}
	}
	return columns(
		[]string{"read", r.get("at").text},
		[]string{"asked for by", printable(r.get("by").text)},
		[]string{"result", result},
		[]string{"source", printable(r.get("source").text)},
		[]string{"commit", cmp.Or(r.get("revision").text, "-")},
		[]string{"pools", r.get("pools").text},
		[]string{"running since", r.get("since").text},
	) + mistakes
}

func flatReload(r value) string {
	var pairs []any
	for _, name := range []string{"at", "by", "problem", "since", "pools", "source", "revision"} {
		pairs = append(pairs, name, r.get(name))
	}
	return assignments(pairs...)
}
