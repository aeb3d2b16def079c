package view

import (
	"cmp"
	"regexp"
	"slices"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

// flat writes shell assignments, a line for each node or pool, as Duffy's client
// does.
func flat(v value) (string, error) {
	var lines []string
	switch {
	case v.has("error"):
		lines = append(lines, assignments("error", v.get("error").get("detail")))
	case v.has("pool_status"):
		lines = append(lines, flatPoolStatus(v.get("pool_status")))
	case v.has("pool_statuses"):
		for _, s := range v.get("pool_statuses").items {
			lines = append(lines, flatPoolStatus(s))
		}
	case v.has("pool"):
		lines = append(lines, flatPool(v.get("pool")))
	case v.has("pools"):
		for _, pool := range v.get("pools").items {
			lines = append(lines, flatPool(pool))
		}
	case v.has("nodes"): // Duffy's client has no such command: in its manner
		for _, node := range sortedNodes(v) {
			lines = append(lines, assignments(
				"node_id", node.get("id"), "state", node.get("state"),
				"pool", node.get("pool"), "hostname", node.get("hostname"), "ipaddr", node.get("ipaddr"),
			))
		}
	case v.has("node"):
		lines = append(lines, flatNode(v.get("node")))
	case v.has("tenant"):
		lines = append(lines, flatTenant(v.get("tenant")))
	case v.has("tenants"):
		for _, t := range v.get("tenants").items {
			lines = append(lines, flatTenant(t))
		}
	case v.has("events"):
		for _, e := range v.get("events").items {
			lines = append(lines, flatEvent(e))
		}
	case v.has("rollout"):
		lines = append(lines, flatRollout(v.get("rollout")))
	case v.has("rollouts"):
		for _, r := range v.get("rollouts").items {
			lines = append(lines, flatRollout(r))
		}
	case v.has("reload"):
		lines = append(lines, flatReload(v.get("reload")))
	case v.has("imported_nodes"):
		for _, n := range v.get("imported_nodes").items {
			lines = append(lines, flatImport(n))
		}
	case v.has("legacy_key"):
		lines = append(lines, flatLegacyKey(v.get("legacy_key")))
	case v.has("legacy_keys"):
		for _, k := range v.get("legacy_keys").items {
			lines = append(lines, flatLegacyKey(k))
		}
	case v.has("import"):
		lines = flatTenantImport(v.get("import"))
	case v.has("root_keys"):
		lines = flatRootKeys(v)
	case v.has("root_key"):
		lines = append(lines, flatRootKey(v.get("root_key")))
	case v.has("validation"):
		lines = flatValidation(v.get("validation"))
	case v.has("modules"):
		for _, m := range v.get("modules").items {
			lines = append(lines, flatModule(m))
		}
	case v.has("module"):
		lines = flatModuleParts(v.get("module"))
	case v.has("locks"):
		for _, l := range v.get("locks").items {
			lines = append(lines, flatLock(l)...)
		}
	case v.has("version"):
		lines = append(lines, assignments("version", v.get("version")))
	case v.has("session"):
		lines = flatSession(v.get("session"))
	case v.has("sessions"):
		for _, session := range v.get("sessions").items {
			lines = append(lines, flatSession(session)...)
		}
		if len(lines) == 0 {
			return "", nil // here alone Duffy prints no empty line
		}
	default:
		return "", errNoView(Flat)
	}
	return strings.Join(lines, "\n") + "\n", nil
}

func errNoView(format string) error {
	return broker.Errorf(broker.CodeInvalid, "this answer can't be shown as %s", format).WithHint("json and yaml show every answer")
}

func flatLegacyKey(k value) string {
	pairs := []any{
		"tenant", k.get("tenant"), "tenant_id", k.get("tenant_id"), "key_id", k.get("id"),
		"last_used", k.get("last_used"), "last_agent", k.get("last_agent"), "note", k.get("note"),
	}
	if k.has("key") {
		pairs = append(pairs, "key", k.get("key"))
	}
	return assignments(pairs...)
}

func flatPool(pool value) string {
	pairs := []any{"pool_name", pool.get("name"), "fill_level", pool.get("fill-level")}
	if levels := pool.get("levels"); levels.kind == isObject {
		for _, level := range []string{"provisioning", "ready", "contextualizing", "deployed", "deprovisioning"} {
			pairs = append(pairs, "levels_"+level, levels.get(level))
		}
	}
	return assignments(pairs...)
}

func flatSession(session value) []string {
	var lines []string
	for _, node := range sortedNodes(session) {
		lines = append(lines, assignments(
			"session_id", session.get("id"),
			"active", session.get("active"),
			"created_at", pythonTime(session.get("created_at")),
			"retired_at", pythonTime(session.get("retired_at")),
			"pool", node.get("pool"),
			"hostname", node.get("hostname"),
			"ipaddr", node.get("ipaddr"),
		))
	}
	return lines
}

func sortedNodes(session value) []value {
	nodes := slices.Clone(session.get("nodes").items)
	slices.SortStableFunc(nodes, func(a, b value) int {
		return cmp.Or(
			cmp.Compare(a.get("pool").text, b.get("pool").text),
			cmp.Compare(a.get("hostname").text, b.get("hostname").text),
			cmp.Compare(a.get("ipaddr").text, b.get("ipaddr").text),
		)
	})
	return nodes
}

// isoTime is a time as the API writes it.
var isoTime = regexp.MustCompile(`^(\d{4}-\d{2}-\d{2})T(\d{2}:\d{2}:\d{2}(?:\.\d+)?)(Z|[-+]\d{2}:\d{2})$`)

// pythonTime writes a time as Python's str does, which is with a blank.
func pythonTime(v value) value {
	if m := isoTime.FindStringSubmatch(v.text); m != nil {
		v.text = m[1] + " " + m[2] + strings.ReplaceAll(m[3], "Z", "+00:00")
	}
	return v
}

// assignments writes pairs of name (a string) and value as name=value.
func assignments(pairs ...any) string {
	words := make([]string, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		v, _ := pairs[i+1].(value)
		words = append(words, name+"="+shellWord(v))
	}
	return strings.Join(words, " ")
}

// shellWord writes a value for a shell: strings always in single quotes.
func shellWord(v value) string {
	switch v.kind {
	case isNull:
		return ""
	case isBool:
		if v.yes {
			return "TRUE"
		}
		return "FALSE"
	case isNumber:
		return v.text
	case isString:
		return shellQuote(v.text)
	case isList, isObject:
		return shellQuote(pythonJSON(v))
	}
	return ""
}

func shellQuote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'"'"'`) + "'" }
