package view

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// tenantsTable lists tenants. What is in force counts, not where it comes from.
func tenantsTable(tenants []value) string {
	rows := [][]string{{"ID", "NAME", "ACTIVE", "ADMIN", "QUOTA", "LIFETIME", "LONGEST", "LAST USED"}}
	for _, t := range tenants {
		rows = append(rows, []string{
			t.get("id").text, t.get("name").text, yesNo(t.get("active")), yesNo(t.get("is_admin")), t.get("effective_node_quota").text,
			lifetime(t.get("effective_session_lifetime")), lifetime(t.get("effective_session_lifetime_max")), cmp.Or(t.get("last_used").text, "never"),
		})
	}
	return columns(rows...)
}

// tenantTable shows all that is known of one tenant, and a new key.
func tenantTable(t value) string {
	rows := [][]string{
		{"id", t.get("id").text},
		{"name", t.get("name").text},
		{"active", yesNo(t.get("active"))},
		{"admin", yesNo(t.get("is_admin"))},
		{"node quota", ownOrDefault(t, "node_quota", func(v value) string { return v.text })},
		{"session lifetime", ownOrDefault(t, "session_lifetime", lifetime)},
		{"longest session lifetime", ownOrDefault(t, "session_lifetime_max", lifetime)},
		{"created", t.get("created_at").text},
		{"retired", cmp.Or(t.get("retired_at").text, "-")},
		{"key last used", cmp.Or(t.get("last_used").text, "never")},
		{"previous key valid", yesNo(t.get("previous_api_key_valid"))},
	}
	text := columns(rows...)
	if key := t.get("api_key").text; newKey(t) {
		text += fmt.Sprintf("\nAPI key: %s\nIt is shown this once.\n", printable(key))
	}
	return text
}

// newKey tells whether the answer shows an API key, and not asterisks in its place.
func newKey(t value) bool {
	return strings.Trim(t.get("api_key").text, "*") != ""
}

func ownOrDefault(t value, name string, write func(value) string) string {
	text := write(t.get("effective_" + name))
	if t.get(name).kind == isNull {
		text += " (default)"
	}
	return text
}

func yesNo(v value) string {
	if v.yes {
		return "yes"
	}
	return "no"
}

// lifetime writes a number of seconds for people.
func lifetime(v value) string {
	d, err := time.ParseDuration(v.text + "s")
	if err != nil {
		return v.text
	}
	text := d.String() // 1h0m0s
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

func flatTenant(t value) string {
	pairs := []any{
		"tenant_id", t.get("id"), "tenant", t.get("name"), "active", t.get("active"), "is_admin", t.get("is_admin"),
		"node_quota", t.get("effective_node_quota"), "session_lifetime", t.get("effective_session_lifetime"),
		"session_lifetime_max", t.get("effective_session_lifetime_max"), "last_used", t.get("last_used"),
		"previous_api_key_valid", t.get("previous_api_key_valid"),
	}
	if newKey(t) {
		pairs = append(pairs, "api_key", t.get("api_key"))
	}
	return assignments(pairs...)
}
