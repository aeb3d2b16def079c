package view

import (
	"cmp"
	"slices"
	"strings"
)

// nodeList shows nodes by themselves.
func nodeList(nodes []value) string {
	rows := [][]string{{"ID", "POOL", "HOSTNAME", "IPADDR", "USER", "PORT", "STATE", "CONDITION"}}
	for _, n := range nodes {
		row := make([]string, 0, len(rows[0]))
		for _, field := range []string{"id", "pool", "hostname", "ipaddr", "ssh_user", "ssh_port", "state", "condition"} {
			row = append(row, cmp.Or(n.get(field).text, "-"))
		}
		rows = append(rows, row)
	}
	return columns(rows...)
}

// nodeTable shows all that is known of one node, a line each.
func nodeTable(node value) string {
	var rows [][]string
	for _, m := range nodeFields(node) {
		text := m.value.text
		switch m.value.kind {
		case isBool:
			text = map[bool]string{true: "yes", false: "no"}[m.value.yes]
		case isList, isObject:
			text = pythonJSON(m.value)
		case isNull, isNumber, isString:
		}
		for line := range strings.Lines(text) {
			rows = append(rows, []string{m.name, strings.TrimSuffix(line, "\n")})
			m.name = ""
		}
	}
	return columns(rows...)
}

func flatNode(node value) string {
	pairs := []any{"node_id", node.get("id")}
	for _, m := range nodeFields(node) {
		if m.name != "id" && m.value.kind != isList && m.value.kind != isObject {
			pairs = append(pairs, m.name, m.value)
		}
	}
	return assignments(pairs...)
}

// nodeFields lists what is known of a node, what matters most first.
func nodeFields(node value) []member {
	var fields []member
	for _, m := range node.members {
		if m.name == "hold" {
			for _, h := range m.value.members {
				fields = append(fields, member{"hold_" + h.name, h.value})
			}
			continue
		}
		fields = append(fields, m)
	}
	first := []string{"id", "pool", "state", "condition", "since"}
	rank := func(m member) int {
		if i := slices.Index(first, m.name); i >= 0 {
			return i
		}
		return len(first)
	}
	slices.SortStableFunc(fields, func(a, b member) int { return cmp.Compare(rank(a), rank(b)) })
	return fields
}
