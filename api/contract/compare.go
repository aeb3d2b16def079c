package contract

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
)

// What may stand for a text, or for a number that is not negative, in an answer
// of a [Difference].
const (
	anyText   = "any text"
	anyNumber = "any number"
)

var (
	newKey      = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	duffyTime   = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{6})?\+00:00$`)
	laterTime   = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?(\+00:00|Z)$`) // of Duffy 3.4
	nodeWord    = regexp.MustCompile(`\bnode (\d+)\b`)
	sessionWord = regexp.MustCompile(`\bsession (\d+)\b`)
	tenantWord  = regexp.MustCompile(`(\(id=|\btenant )(\d+)\b`)
)

// compare says how an answer differs from the wanted one; "": it does not.
func (r *Replayer) compare(want, seen Exchange) string {
	var wrong []string
	add := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }
	if seen.Status != want.Status {
		return fmt.Sprintf("status %d, want %d: %s", seen.Status, want.Status, answerText(seen))
	}
	if want.HasRequestID && !seen.HasRequestID {
		add("no X-Request-Id")
	}
	for _, name := range []string{"content-type", "www-authenticate", "allow", "location", "retry-after"} {
		got, wanted := seen.Headers[name], want.Headers[name]
		switch {
		case name == "allow":
			got, wanted = sortedWords(got), sortedWords(wanted)
		case name == "location":
			wanted = r.path(wanted)
		case wanted == anyText && got != "":
			continue
		case name == "retry-after" && want.Status != http.StatusServiceUnavailable:
			continue
		}
		if got != wanted {
			add("header %s is %q, want %q", name, got, wanted)
		}
	}
	switch {
	case want.Text != nil && *want.Text != answerText(seen):
		add("body %q, want %q", answerText(seen), *want.Text)
	case want.Body != nil && seen.Body == nil:
		add("body %q, want JSON", answerText(seen))
	case want.Body != nil:
		wanted, got := decode(want.Body), decode(seen.Body)
		if !r.server.Strict {
			wanted, got = r.inBoth(wanted, got)
		}
		r.translate(wanted, got)
		// Before the form is looked at: what is ours alone has no recorded form.
		got = restricted(marked(got, wanted), wanted)
		if diff := cmp.Diff(normal(wanted, normalizer{true, r.server.Strict}), normal(got, normalizer{false, r.server.Strict})); diff != "" {
			add("(-want +got):\n%s", diff)
		}
	}
	return strings.Join(wrong, "\n")
}

func answerText(e Exchange) string {
	if e.Text != nil {
		return *e.Text
	}
	return string(e.Body)
}

func sortedWords(s string) string {
	words := strings.Split(s, ", ")
	slices.Sort(words)
	return strings.Join(words, ", ")
}

// translate puts the server's ids and names for the recorded ones.
func (r *Replayer) translate(want, got any) {
	switch want := want.(type) {
	case []any:
		if isRows(want) {
			r.translateRows(want)
			return
		}
		for _, item := range want {
			r.translate(item, nil)
		}
	case map[string]any:
		r.translateList(want, got)
		if id, ok := want["ssid"].(float64); ok {
			want["ssid"] = r.sessionID(id)
		}
		for i, host := range list(want, "hosts") {
			list(want, "hosts")[i] = r.host(host)
		}
		for _, name := range []string{"detail", "hint"} {
			if text, ok := want[name].(string); ok {
				want[name] = r.translateText(text)
			}
		}
		if id, ok := want["id"].(float64); ok {
			r.translateObject(want, int64(id))
		}
		for _, member := range want {
			r.translate(member, nil)
		}
	}
}

// translateObject does it for a session, a tenant, or a node.
func (r *Replayer) translateObject(want map[string]any, id int64) {
	switch {
	case want["expires_at"] != nil:
		want["id"] = r.sessionID(float64(id))
	case want["is_admin"] != nil:
		if ours, ok := r.tenants[id]; ok {
			want["id"] = float64(ours)
		}
	case want["hostname"] != nil:
		n, ok := r.nodes[id]
		if !ok {
			return
		}
		want["id"], want["hostname"] = n.id, n.hostname
		if provision := member(want, "data", "provision"); provision["hostname"] != nil {
			provision["hostname"] = n.hostname
		}
	}
}

// translateList gives nodes of a list that nobody has met before the ids of nodes
// that are like them.
func (r *Replayer) translateList(want, got any) {
	known := make(map[float64]bool)
	for _, n := range r.nodes {
		known[n.id] = true
	}
	if member(want)["action"] == nil {
		return
	}
	for _, n := range list(want, "nodes") {
		n := member(n)
		if _, ok := r.nodes[number(n["id"])]; ok {
			continue
		}
		for _, ours := range list(got, "nodes") {
			ours := member(ours)
			id, _ := ours["id"].(float64)
			if !known[id] && ours["pool"] == n["pool"] && ours["state"] == n["state"] {
				known[id] = true
				n["id"], n["hostname"] = id, ours["hostname"]
				if provision := member(n, "data", "provision"); provision["hostname"] != nil {
					provision["hostname"] = ours["hostname"]
				}
				break
			}
		}
	}
}

func (r *Replayer) sessionID(recorded float64) float64 {
	if ours, ok := r.sessions[int64(recorded)]; ok {
		return float64(ours)
	}
	return recorded
}

func (r *Replayer) host(recorded any) any {
	if ours, ok := r.hosts[fmt.Sprint(recorded)]; ok {
		return ours
	}
	return recorded
}

func (r *Replayer) translateText(text string) string {
	text = sessionWord.ReplaceAllStringFunc(text, func(s string) string {
		return fmt.Sprintf("session %.0f", r.sessionID(float64(integer(strings.TrimPrefix(s, "session ")))))
	})
	text = nodeWord.ReplaceAllStringFunc(text, func(s string) string {
		if n, ok := r.nodes[integer(strings.TrimPrefix(s, "node "))]; ok {
			return fmt.Sprintf("node %.0f", n.id)
		}
		return s
	})
	return tenantWord.ReplaceAllStringFunc(text, func(s string) string {
		m := tenantWord.FindStringSubmatch(s)
		if ours, ok := r.tenants[integer(m[2])]; ok {
			return fmt.Sprint(m[1], ours)
		}
		return s
	})
}

// inBoth takes out of lists what a server may have that is not the recording's,
// and what it has no longer: tenants, and rows of sessions that have ended.
func (r *Replayer) inBoth(want, got any) (wanted, seen any) {
	if tenants := list(want, "tenants"); tenants != nil {
		known := make(map[int64]bool)
		for _, t := range tenants {
			known[r.tenants[number(member(t)["id"])]] = true
		}
		member(got)["tenants"] = slices.DeleteFunc(list(got, "tenants"), func(t any) bool { return !known[number(member(t)["id"])] })
	}
	rows, ours := []any(nil), []any(nil)
	if isRows(want) && isRows(got) {
		rows, _ = want.([]any)
		ours, _ = got.([]any)
	}
	there := make(map[int64]bool)
	for _, row := range ours {
		there[rowSession(row)] = true
	}
	known := make(map[int64]bool)
	rows = slices.DeleteFunc(rows, func(row any) bool {
		id := rowSession(row)
		known[r.sessions[id]] = true
		return r.ends[id] && !there[r.sessions[id]]
	})
	ours = slices.DeleteFunc(ours, func(row any) bool { return !known[rowSession(row)] })
	if rows == nil {
		return want, got
	}
	return rows, ours
}

// rowSession gives the session of a row of the inventory.
func rowSession(row any) int64 {
	switch row := row.([]any); len(row) {
	case 2:
		return number(row[1])
	case 14:
		text, _ := row[6].(string)
		return integer(text)
	}
	return 0
}

// isRows tells the rows of the legacy API's inventory: pairs of host name and
// session, or 14 columns.
func isRows(v any) bool {
	rows, ok := v.([]any)
	if !ok || len(rows) == 0 {
		return false
	}
	row, ok := rows[0].([]any)
	return ok && (len(row) == 2 || len(row) == 14)
}

func (r *Replayer) translateRows(rows []any) {
	for _, row := range rows {
		switch row := row.([]any); len(row) {
		case 2:
			id, _ := row[1].(float64)
			row[0], row[1] = r.host(row[0]), r.sessionID(id)
		case 14:
			if n, ok := r.nodes[number(row[0])]; ok {
				row[0] = n.id
			}
			id, _ := row[6].(string)
			row[1], row[6] = r.host(row[1]), fmt.Sprintf("%.0f", r.sessionID(float64(integer(id))))
		}
	}
}

// marked puts anyText and anyNumber into an answer where such a one is wanted.
func marked(got, want any) any {
	switch want := want.(type) {
	case map[string]any:
		if object, ok := got.(map[string]any); ok {
			for name, v := range object {
				object[name] = marked(v, want[name])
			}
		}
	case string:
		text, _ := got.(string)
		count, isNumber := got.(float64)
		if want == anyText && text != "" || want == anyNumber && isNumber && count >= 0 {
			return want
		}
	}
	return got
}

// restricted takes out of an answer the fields that the wanted one has not. Pools
// may have none: they stay whole. Of a long list of nodes, and of the inventory,
// the recording has but a part.
func restricted(got, want any) any {
	switch want := want.(type) {
	case map[string]any:
		object, ok := got.(map[string]any)
		if !ok {
			return got
		}
		kept := make(map[string]any)
		for name, v := range object {
			expected, known := want[name]
			nodes, isList := v.([]any)
			wanted, _ := expected.([]any)
			switch {
			case name == "pool" || name == "pools":
				kept[name] = v
			case name == "nodes" && want["action"] != nil && isList:
				kept[name] = restricted(sameNodes(nodes, wanted), expected)
			case known:
				kept[name] = restricted(v, expected)
			}
		}
		return kept
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) || isRows(want) {
			return got
		}
		list, want = inOrder(list), inOrder(want)
		kept := make([]any, len(list))
		for i := range list {
			kept[i] = restricted(list[i], want[i])
		}
		return kept
	}
	return got
}

func sameNodes(got, want []any) []any {
	return slices.DeleteFunc(slices.Clone(got), func(node any) bool {
		return !slices.ContainsFunc(want, func(w any) bool { return identity(w) == identity(node) })
	})
}

// inOrder sorts objects that have an id or a name: their order is free.
func inOrder(list []any) []any {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b any) int { return strings.Compare(identity(a), identity(b)) })
	return list
}

func identity(v any) string {
	switch v := v.(type) {
	case map[string]any:
		if v["id"] != nil {
			return fmt.Sprint(v["id"])
		}
		return fmt.Sprint(v["name"])
	case []any:
		if isRows([]any{v}) {
			return fmt.Sprint(v[len(v)/14]) // the host name
		}
	}
	return ""
}

// normalizer takes out of an answer what differs from run to run.
type normalizer struct{ recorded, strict bool }

func normal(v any, n normalizer) any { return n.value("", v) }

func (n normalizer) value(name string, v any) any {
	switch v := v.(type) {
	case []any:
		list := make([]any, len(v))
		for i, item := range inOrder(v) {
			list[i] = n.value("", item)
		}
		if len(list) > 0 && isRows(v) {
			n.rows(list)
		}
		return list
	case map[string]any:
		return n.object(name, v)
	}
	return v
}

func (n normalizer) object(name string, v map[string]any) map[string]any {
	kept := make(map[string]any)
	for member, value := range v {
		kept[member] = n.value(member, value)
		switch {
		case value == nil:
		case strings.HasSuffix(member, "_at") || member == "last_used":
			kept[member] = n.time(value)
		case member == "api_key" && newKey.MatchString(fmt.Sprint(value)):
			kept[member] = "a new key"
		case member == "ipaddr" && v["data"] != nil:
			kept[member] = fmt.Sprintf("%T", value)
		case name == "levels" || member == "fill-level":
			kept[member] = n.count(value)
		case name == "provision" && member != "hostname":
			delete(kept, member) // the module's own
		}
	}
	if v["expires_at"] != nil {
		kept["expires_at"] = n.end(v)
	}
	return kept
}

// count is a number of nodes, which is compared in strict replays only.
func (n normalizer) count(v any) any {
	number, ok := v.(float64)
	switch {
	case v == anyNumber || ok && number >= 0 && !n.strict:
		return anyNumber
	}
	return v
}

// time leaves of a time that it is one, in the form of the recording.
func (n normalizer) time(v any) any {
	form := laterTime
	if n.strict || n.recorded {
		form = duffyTime
	}
	text, _ := v.(string)
	if _, err := time.Parse(time.RFC3339Nano, text); err != nil || !form.MatchString(text) {
		return fmt.Sprintf("%v, which is no time as Duffy writes it", v)
	}
	return "a time"
}

// end leaves of a session's end its distance from the beginning, or the time if
// somebody has named it.
func (n normalizer) end(session map[string]any) any {
	if form := n.time(session["expires_at"]); form != "a time" {
		return form
	}
	expires, lifetime := lifetime(session)
	switch {
	case lifetime > 0 && !lasts(session): // its tenant was retired
		return "soon after its beginning"
	case expires.Year() < 2080:
		return "its beginning and " + lifetime.Round(100*time.Millisecond).String()
	}
	return expires.UTC().String()
}

// lifetime gives a session's end, and how long after its beginning that is.
func lifetime(session map[string]any) (expires time.Time, after time.Duration) {
	parse := func(name string) time.Time {
		text, _ := session[name].(string)
		at, _ := time.Parse(time.RFC3339Nano, text)
		return at
	}
	expires = parse("expires_at")
	return expires, expires.Sub(parse("created_at"))
}

// lasts tells whether a session has time, and not an end at once.
func lasts(session map[string]any) bool {
	_, after := lifetime(session)
	return after >= time.Minute
}

// rows leaves of numbers and addresses in the inventory that they are there.
func (n normalizer) rows(rows []any) {
	for i, row := range rows {
		if row, ok := row.([]any); ok && len(row) == 14 {
			row = slices.Clone(row)
			row[0], row[2] = fmt.Sprintf("%T", row[0]), fmt.Sprintf("%T", row[2])
			rows[i] = row
		}
	}
}
