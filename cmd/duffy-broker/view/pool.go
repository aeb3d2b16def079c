package view

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// poolStatusesTable lists how pools do, a line each.
func poolStatusesTable(statuses []value) string {
	rows := [][]string{{"NAME", "READY", "PROVISIONING", "LENT", "LEAVING", "MAX", "WINDOW", "STATE"}}
	for _, s := range statuses {
		levels := s.get("levels")
		rows = append(rows, []string{
			s.get("name").text, levels.get("ready").text + "/" + s.get("fill_level").text, levels.get("provisioning").text,
			sum(levels.get("contextualizing"), levels.get("deployed")), levels.get("deprovisioning").text,
			cmp.Or(s.get("max_nodes").text, "-"), cmp.Or(s.get("window").text, "-"), poolState(s),
		})
	}
	return columns(rows...)
}

func sum(a, b value) string {
	x, _ := strconv.Atoi(a.text)
	y, _ := strconv.Atoi(b.text)
	return strconv.Itoa(x + y)
}

// poolState says in a word whether somebody should look at a pool.
func poolState(s value) string {
	switch {
	case !s.has("max_nodes"):
		return "-" // not told
	case s.get("next_try").text != "":
		return "resting"
	case s.get("failures").text != "0":
		return "failing"
	case s.get("stale").text != "0":
		return "stale"
	}
	return "ok"
}

// poolStatusTable shows all that is known of one pool, a line each.
func poolStatusTable(s value, now time.Time) string {
	levels := s.get("levels")
	rows := [][]string{
		{"name", s.get("name").text},
		{"description", cmp.Or(s.get("description").text, "-")},
		{"arch", cmp.Or(s.get("arch").text, "-")},
		{"fill level", s.get("fill_level").text},
	}
	admin := s.has("max_nodes")
	if admin {
		base := s.get("base")
		rows = append(rows, []string{"max nodes", s.get("max_nodes").text})
		if window := s.get("window").text; window != "" {
			rows = append(rows, []string{"window", fmt.Sprintf("%s (else: %s ready, %s at most)", window, base.get("fill_level").text, base.get("max_nodes").text)})
		}
	}
	for _, name := range []string{"ready", "provisioning", "contextualizing", "deployed", "deprovisioning"} {
		rows = append(rows, []string{name, levels.get(name).text})
	}
	if !admin {
		return columns(rows...)
	}
	for _, name := range []string{"failed", "held", "stale", "expired", "unmet"} {
		rows = append(rows, []string{name, s.get(name).text})
	}
	if s.has("hosts") {
		h := s.get("hosts")
		rows = append(rows, []string{"hosts", fmt.Sprintf("%s free, %s in use, %s in quarantine, %s broken",
			h.get("free").text, h.get("in_use").text, h.get("quarantined").text, h.get("broken").text)})
	}
	rows = append(
		rows,
		[]string{"runs", fmt.Sprintf("%s creates, %s destroys", s.get("creates").text, s.get("destroys").text)},
		[]string{"oldest ready", ago(s.get("oldest_ready"), now)},
	)
	if s.get("max_age").text != "0" {
		rows = append(rows, []string{"max age", lifetime(s.get("max_age"))})
	}
	rows = append(
		rows,
		[]string{"generation", s.get("generation").text},
		[]string{"rollout", s.get("rollout").text},
		[]string{"failures", s.get("failures").text},
	)
	if s.get("failures").text != "0" {
		rows = append(rows, []string{"last failure", ago(s.get("last_failure"), now) + ", " + cmp.Or(s.get("failure_class").text, "other")})
		name := ""
		for line := range strings.Lines(s.get("failure").text) {
			rows = append(rows, []string{name, strings.TrimSuffix(line, "\n")})
		}
	}
	if next := s.get("next_try").text; next != "" {
		rows = append(rows, []string{"next try", next})
	}
	rows = append(rows, variantRows(s.get("variants").items, now)...)
	rows = append(rows, followedRows(s.get("followed").items)...)
	name := "changes"
	for _, change := range s.get("changes").items {
		rows = append(rows, []string{name, fmt.Sprintf("%s  %s ready, %s at most  %s", change.get("at").text,
			change.get("fill_level").text, change.get("max_nodes").text, cmp.Or(change.get("window").text, "-"))})
		name = ""
	}
	return columns(rows...)
}

// variantRows shows the variants of a pool, a line each.
func variantRows(variants []value, now time.Time) (rows [][]string) {
	name := "variants"
	for _, v := range variants {
		text := fmt.Sprintf("%s  %s nodes, %s ready", v.get("name").text, v.get("nodes").text, v.get("ready").text)
		if class := v.get("failure_class").text; class != "" {
			text += fmt.Sprintf("; %s %s", class, ago(v.get("last_failure"), now))
		}
		if until := v.get("cools_until").text; until != "" {
			text += ", cools down until " + until
		}
		rows = append(rows, []string{name, text})
		name = ""
	}
	return rows
}

// followedRows shows the outputs that a pool follows, a line each.
func followedRows(values []value) (rows [][]string) {
	name := "follows"
	for _, v := range values {
		text := v.get("output").text
		if variant := v.get("variant").text; variant != "" {
			text = variant + "." + text
		}
		text += " = " + pythonJSON(v.get("value")) + "  seen " + v.get("at").text
		rows = append(rows, []string{name, text})
		name = ""
	}
	return rows
}

// ago says how long ago something was, "-" for never.
func ago(at value, now time.Time) string {
	t, err := time.Parse(time.RFC3339Nano, at.text)
	if err != nil {
		return "-"
	}
	return now.Sub(t).Round(time.Second).String() + " ago"
}

func flatPoolStatus(s value) string {
	pairs := []any{"pool_name", s.get("name"), "fill_level", s.get("fill_level")}
	for _, m := range s.get("levels").members {
		pairs = append(pairs, "levels_"+m.name, m.value)
	}
	for _, m := range s.members {
		if m.name != "name" && m.name != "fill_level" && m.value.kind != isList && m.value.kind != isObject {
			pairs = append(pairs, m.name, m.value)
		}
	}
	return assignments(pairs...)
}
