package view

import (
	"cmp"
	"fmt"
	"strings"
)

// tenantImportTable shows what becomes of the tenants of a Duffy v3, and what stays
// there.
func tenantImportTable(v value) string {
	rows := [][]string{{"DUFFY ID", "NAME", "ACTIVE", "ADMIN", "QUOTA", "LIFETIME", "LONGEST", "ACTION", "NOTE"}}
	ownLifetime := func(v value) string {
		if v.kind == isNull {
			return "default"
		}
		return lifetime(v)
	}
	for _, t := range v.get("tenants").items {
		rows = append(rows, []string{
			t.get("duffy_id").text, t.get("name").text, yesNo(t.get("active")), yesNo(t.get("is_admin")), cmp.Or(t.get("node_quota").text, "default"),
			ownLifetime(t.get("session_lifetime")), ownLifetime(t.get("session_lifetime_max")), t.get("action").text, cmp.Or(t.get("note").text, "-"),
		})
	}
	var b strings.Builder
	b.WriteString(columns(rows...))
	fmt.Fprintf(&b, "\nto import: %s, there already: %s, refused: %s. ", v.get("to_import").text, v.get("exist").text, v.get("refused").text)
	switch {
	case v.get("dry_run").yes:
		b.WriteString("Nothing was written: this was a dry run.\n")
	case v.get("written").yes:
		b.WriteString("All that were to be imported are.\n")
	default:
		b.WriteString("Nothing was written.\n")
	}
	left := v.get("left_in_duffy")
	fmt.Fprintf(&b, "Left in Duffy, and not imported: active sessions: %s, nodes: %s", left.get("active_sessions").text, left.get("nodes").text)
	states := make([]string, 0, len(left.get("nodes_by_state").members))
	for _, m := range left.get("nodes_by_state").members {
		states = append(states, fmt.Sprintf("%s %s", printable(m.name), m.value.text))
	}
	if len(states) > 0 {
		fmt.Fprintf(&b, " (%s)", strings.Join(states, ", "))
	}
	b.WriteString(".\n")
	if left.get("active_sessions").text == "0" {
		b.WriteString("Nobody has a session there: its nodes can be retired, and Duffy switched off.\n")
	} else {
		b.WriteString("Duffy must run until its sessions have ended.\n")
	}
	return b.String()
}

// flatTenantImport writes a line for each tenant, and one with the figures.
func flatTenantImport(v value) []string {
	var lines []string
	for _, t := range v.get("tenants").items {
		lines = append(lines, assignments(
			"duffy_id", t.get("duffy_id"), "tenant_id", t.get("id"), "tenant", t.get("name"), "active", t.get("active"), "is_admin", t.get("is_admin"),
			"node_quota", t.get("node_quota"), "session_lifetime", t.get("session_lifetime"), "session_lifetime_max", t.get("session_lifetime_max"),
			"action", t.get("action"), "note", t.get("note"),
		))
	}
	left := v.get("left_in_duffy")
	return append(lines, assignments(
		"dry_run", v.get("dry_run"), "written", v.get("written"), "to_import", v.get("to_import"), "exist", v.get("exist"), "refused", v.get("refused"),
		"left_active_sessions", left.get("active_sessions"), "left_nodes", left.get("nodes"),
	))
}
