package view

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
)

// table writes columns for people.
func table(v value, now time.Time) (string, error) {
	var b strings.Builder
	switch {
	case v.has("error"):
		e := v.get("error")
		fmt.Fprintf(&b, "error: %s\n", printable(e.get("detail").text))
		if hint := e.get("hint").text; hint != "" {
			fmt.Fprintf(&b, "hint: %s\n", printable(hint))
		}
		return b.String(), nil
	case v.has("session"):
		session := v.get("session")
		fmt.Fprintf(&b, "session %s of %s, %s\n\n", session.get("id").text, printable(session.get("tenant").get("name").text), standing(session, now))
		return b.String() + nodesTable(session), nil
	case v.has("sessions"):
		return sessionsTable(v.get("sessions").items, now), nil
	case v.has("nodes"):
		return nodeList(sortedNodes(v)), nil
	case v.has("node"):
		return nodeTable(v.get("node")), nil
	case v.has("pool_status"):
		return poolStatusTable(v.get("pool_status"), now), nil
	case v.has("pool_statuses"):
		return poolStatusesTable(v.get("pool_statuses").items), nil
	case v.has("pool"):
		return poolsTable([]value{v.get("pool")}), nil
	case v.has("pools"):
		return poolsTable(v.get("pools").items), nil
	case v.has("rollout"):
		return rolloutTable(v.get("rollout")), nil
	case v.has("rollouts"):
		return rolloutsTable(v.get("rollouts").items, now), nil
	case v.has("reload"):
		return reloadTable(v.get("reload")), nil
	case v.has("tenant"):
		return tenantTable(v.get("tenant")), nil
	case v.has("tenants"):
		return tenantsTable(v.get("tenants").items), nil
	case v.has("events"):
		return eventsTable(v.get("events").items), nil
	case v.has("legacy_key"):
		k := v.get("legacy_key")
		return fmt.Sprintf("key %s of %s: %s\nIt is shown this once.\n", k.get("id").text, printable(k.get("tenant").text), printable(k.get("key").text)), nil
	case v.has("imported_nodes"):
		return importTable(v.get("imported_nodes").items), nil
	case v.has("import"):
		return tenantImportTable(v.get("import")), nil
	case v.has("legacy_keys"):
		return legacyKeysTable(v.get("legacy_keys").items), nil
	case v.has("root_keys"):
		return rootKeysTable(v), nil
	case v.has("root_key"):
		return newRootKey(v.get("root_key")), nil
	case v.has("validation"):
		return validationTable(v.get("validation")), nil
	case v.has("modules"):
		return modulesTable(v.get("modules").items), nil
	case v.has("module"):
		return moduleTable(v.get("module")), nil
	case v.has("locks"):
		return locksTable(v.get("locks").items), nil
	case v.has("version"):
		return "duffy-broker " + printable(v.get("version").text) + "\n", nil
	}
	return "", errNoView(Table)
}

func columns(rows ...[]string) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	for _, row := range rows {
		for i := range row {
			row[i] = printable(row[i])
		}
		_, _ = io.WriteString(w, strings.Join(row, "\t")+"\n")
	}
	_ = w.Flush() // a strings.Builder takes everything
	return b.String()
}

// printable drops what could move the cursor of a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return unicode.ReplacementChar
		}
		return r
	}, s)
}

func sessionsTable(sessions []value, now time.Time) string {
	rows := [][]string{{"ID", "ACTIVE", "TENANT", "EXPIRES IN", "NODES"}}
	for _, s := range sessions {
		active := "no"
		if s.get("active").yes {
			active = "yes"
		}
		rows = append(rows, []string{s.get("id").text, active, s.get("tenant").get("name").text, expiresIn(s, now), poolCounts(s)})
	}
	return columns(rows...)
}

// poolCounts says how many nodes of which pools a session has.
func poolCounts(session value) string {
	counts := make(map[string]int)
	var pools []string
	for _, node := range sortedNodes(session) {
		pool := node.get("pool").text
		if counts[pool] == 0 {
			pools = append(pools, pool)
		}
		counts[pool]++
	}
	words := make([]string, 0, len(pools))
	for _, pool := range pools {
		words = append(words, fmt.Sprintf("%d %s", counts[pool], pool))
	}
	return strings.Join(words, ", ")
}

func standing(session value, now time.Time) string {
	if !session.get("active").yes {
		return "retired"
	}
	if left := expiresIn(session, now); left != "now" {
		return "expires in " + left
	}
	return "expires now"
}

// expiresIn gives the time that is left, "" for a session that has ended.
func expiresIn(session value, now time.Time) string {
	at, err := time.Parse(time.RFC3339Nano, session.get("expires_at").text)
	if err != nil || !session.get("active").yes {
		return ""
	}
	left := at.Sub(now)
	switch {
	case left <= 0:
		return "now"
	case left < time.Minute:
		return fmt.Sprintf("%ds", int(left.Seconds()))
	case left < time.Hour:
		return fmt.Sprintf("%dm", int(left.Minutes()))
	case left < 48*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(left.Hours()), int(left.Minutes())%60)
	}
	return fmt.Sprintf("%dd", int(left.Hours())/24)
}

// nodesTable shows the nodes of a session.
func nodesTable(session value) string {
	rows := [][]string{{"POOL", "HOSTNAME", "IPADDR", "USER", "PORT", "STATE"}}
	for _, n := range sortedNodes(session) {
		row := make([]string, 0, len(rows[0]))
		for _, field := range []string{"pool", "hostname", "ipaddr", "ssh_user", "ssh_port", "state"} {
			row = append(row, cmp.Or(n.get(field).text, "-"))
		}
		rows = append(rows, row)
	}
	return columns(rows...)
}

func poolsTable(pools []value) string {
	levels := []string{"ready", "provisioning", "contextualizing", "deployed", "deprovisioning"}
	withLevels := slices.ContainsFunc(pools, func(p value) bool { return p.has("levels") })
	header := []string{"NAME", "FILL"}
	if withLevels {
		for _, level := range levels {
			header = append(header, strings.ToUpper(level))
		}
	}
	rows := [][]string{header}
	for _, p := range pools {
		row := []string{p.get("name").text, p.get("fill-level").text}
		if withLevels {
			for _, level := range levels {
				row = append(row, p.get("levels").get(level).text)
			}
		}
		rows = append(rows, row)
	}
	return columns(rows...)
}

// legacyKeysTable lists keys of the legacy API, those used last first.
func legacyKeysTable(keys []value) string {
	rows := [][]string{{"TENANT", "TENANT ID", "KEY ID", "LAST USED", "CALLS", "LAST AGENT", "NOTE"}}
	keys = slices.Clone(keys)
	slices.SortStableFunc(keys, func(a, b value) int { return cmp.Compare(b.get("last_used").text, a.get("last_used").text) })
	for _, k := range keys {
		var calls []string
		for _, m := range k.get("calls").members {
			calls = append(calls, m.name+" "+m.value.text)
		}
		rows = append(rows, []string{
			k.get("tenant").text, k.get("tenant_id").text, k.get("id").text, cmp.Or(k.get("last_used").text, "never"),
			strings.Join(calls, ", "), k.get("last_agent").text, k.get("note").text,
		})
	}
	return columns(rows...)
}
