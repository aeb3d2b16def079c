package contract

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Server is where a replay goes.
type Server struct {
	URL string // "http://127.0.0.1:8080"
	// LegacyURL is where the legacy API is; "": there, too.
	LegacyURL string
	Seed      Seed // the tenants that the server has, with their keys
	// Strict is for servers that hold exactly what the recording began with, and do
	// nothing but answer: then fill levels and counts of nodes are compared, too,
	// and times must be written as in the recording.
	Strict bool
	// Transport makes the requests; nil: the usual one.
	Transport http.RoundTripper
}

// Outcome is what came of one exchange.
type Outcome string

// The outcomes.
const (
	Same      Outcome = "same"      // as recorded
	Allowed   Outcome = "allowed"   // as one of the Differences says
	Different Outcome = "DIFFERENT" // neither
	Skipped   Outcome = "left out"
)

// Verdict is an outcome, with its reason or with what differs.
type Verdict struct {
	Outcome Outcome
	Reason  string // why it is allowed, or left out
	Depends bool   // the difference depends on the server's settings or speed
	Diff    string // -want +got
	Seen    Exchange
}

// Replayer replays recordings against one server. It remembers which of the
// server's objects stand for which of the recording's. Not safe for concurrent use.
type Replayer struct {
	server       Server
	recorded     Seed
	transport    http.RoundTripper
	canPostNodes bool

	tenants, sessions map[int64]int64
	nodes             map[int64]node
	names             map[string]int64  // of the server's tenants
	hosts             map[string]string // host names of the recording
	ends              map[int64]bool    // recorded sessions whose time was over
	lent              map[int64]int64   // recorded nodes to recorded sessions
}

// node is a node of the server.
type node struct {
	id       float64
	hostname any
}

// NewReplayer looks for the tenants of the seed on the server, and learns their ids.
func NewReplayer(ctx context.Context, s Server) (*Replayer, error) {
	recorded, err := RecordedSeed()
	if err != nil {
		return nil, err
	}
	s.URL = strings.TrimRight(s.URL, "/")
	if s.LegacyURL == "" {
		s.LegacyURL = s.URL
	}
	s.LegacyURL = strings.TrimRight(s.LegacyURL, "/")
	r := &Replayer{
		server: s, recorded: recorded, transport: s.Transport,
		tenants: make(map[int64]int64), sessions: make(map[int64]int64), nodes: make(map[int64]node),
		names: make(map[string]int64), hosts: make(map[string]string), ends: make(map[int64]bool), lent: make(map[int64]int64),
	}
	if r.transport == nil {
		r.transport = http.DefaultTransport
	}
	seen, err := r.Ask(ctx, Exchange{Method: http.MethodGet, Path: "/api/v1/tenants", Auth: "admin"})
	if err != nil {
		return nil, err
	}
	if seen.Status != http.StatusOK {
		return nil, fmt.Errorf("%s lists no tenants (status %d): is the key of admin in the seed right?", s.URL, seen.Status)
	}
	for _, t := range list(decode(seen.Body), "tenants") {
		name, _ := member(t)["name"].(string)
		r.names[name] = number(member(t)["id"])
	}
	for _, t := range recorded.Tenants {
		id, ok := r.names[t.Name]
		if _, given := s.Seed.tenant(t.Name); !ok || !given {
			return nil, fmt.Errorf("tenant %q is not on %s, or not in the seed: see Prepare", t.Name, s.URL)
		}
		r.tenants[t.ID] = id
	}
	// Nothing can come of it: there is no such host.
	seen, err = r.Ask(ctx, Exchange{Method: http.MethodPost, Path: "/api/v1/nodes", Auth: "anonymous"})
	if err != nil {
		return nil, err
	}
	r.canPostNodes = seen.Status != http.StatusMethodNotAllowed
	return r, nil
}

// Do makes a recorded request and judges the answer.
func (r *Replayer) Do(ctx context.Context, e Exchange) Verdict {
	if why := LeftOut(e.Case, r.canPostNodes); why != "" {
		return Verdict{Outcome: Skipped, Reason: why}
	}
	seen, err := r.Ask(ctx, e)
	if err != nil {
		return Verdict{Outcome: Different, Diff: err.Error()}
	}
	r.learn(e, seen)
	diffs := make(map[string]string)
	var best alternative
	for i, a := range alternatives(e) {
		diff := r.compare(a.Exchange, seen)
		if diff == "" {
			v := Verdict{Outcome: Same, Seen: seen}
			if a.reason != "" {
				v.Outcome, v.Reason, v.Depends = Allowed, a.reason, a.depends
			}
			return v
		}
		if i == 0 || !a.depends && diffs[a.reason] == "" {
			best = a
		}
		if diffs[a.reason] == "" {
			diffs[a.reason] = diff
		}
	}
	if why := r.endedMeanwhile(e, seen); why != "" {
		return Verdict{Outcome: Skipped, Reason: why, Seen: seen}
	}
	return Verdict{Outcome: Different, Diff: diffs[best.reason], Seen: seen}
}

// endedMeanwhile tells of a session whose time was over in the recording already,
// and of its node: Duffy looks now and then for such ones, others at once.
func (r *Replayer) endedMeanwhile(e, seen Exchange) string {
	m := objectPath.FindStringSubmatch(e.Path)
	if m == nil || r.server.Strict {
		return ""
	}
	id := integer(m[2])
	if m[1] == "nodes" {
		id = r.lent[id]
	}
	body := decode(seen.Body)
	detail, _ := member(body)["detail"].(string)
	switch {
	case !r.ends[id]:
		return ""
	case m[1] == "sessions" && seen.Status == http.StatusUnprocessableEntity && strings.HasSuffix(detail, "is retired"),
		m[1] == "sessions" && member(body, "session")["active"] == false,
		m[1] == "nodes" && member(body, "node")["state"] != "deployed":
		return "the session has ended already: its time was over"
	}
	return ""
}

var (
	objectPath = regexp.MustCompile(`^/api/v1/(sessions|nodes|tenants)/(\d+)`)
	ssidQuery  = regexp.MustCompile(`\bssid=(\d+)`)
	keyQuery   = regexp.MustCompile(`\bkey=([^&]+)`)
)

// Ask makes a recorded request, with the server's own ids and keys, and gives
// what came of it as a recording has it: the keys in the path are the recorded ones.
func (r *Replayer) Ask(ctx context.Context, e Exchange) (Exchange, error) {
	seen := e
	seen.Body, seen.Text, seen.Headers, seen.HasRequestID = nil, nil, make(map[string]string), false
	seen.Path, seen.RequestBody = r.path(e.Path), r.requestBody(e.RequestBody)
	base := r.server.URL
	if !strings.HasPrefix(e.Path, "/api/") && !strings.HasPrefix(e.Path, "/health") {
		base = r.server.LegacyURL
	}
	body := seen.RequestRaw
	if body == "" {
		body = string(seen.RequestBody)
	}
	url := base + keyQuery.ReplaceAllStringFunc(seen.Path, func(q string) string { return "key=" + r.key(strings.TrimPrefix(q, "key=")) })
	req, err := http.NewRequestWithContext(ctx, e.Method, url, strings.NewReader(body))
	if err != nil {
		return seen, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, value := range e.Sent {
		req.Header.Set(name, value)
	}
	if err := r.authenticate(req, e.Auth); err != nil {
		return seen, err
	}
	resp, err := r.transport.RoundTrip(req) // follows no redirect
	if err != nil {
		return seen, errors.New(r.withoutKeys(err.Error()))
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return seen, err
	}
	seen.Status, seen.HasRequestID = resp.StatusCode, resp.Header.Get("X-Request-Id") != ""
	for _, name := range []string{"content-type", "www-authenticate", "allow", "location", "retry-after"} {
		if value := resp.Header.Get(name); value != "" {
			seen.Headers[name] = r.withoutKeys(strings.ReplaceAll(value, base, "{base}"))
		}
	}
	if json.Valid(answer) {
		seen.Body = bytes.TrimSpace(answer)
	} else {
		text := string(answer)
		seen.Text = &text
	}
	return seen, nil
}

// path puts the server's ids for the recorded ones.
func (r *Replayer) path(path string) string {
	if m := objectPath.FindStringSubmatchIndex(path); m != nil {
		kind, id := path[m[2]:m[3]], integer(path[m[4]:m[5]])
		ours, ok := r.ours(kind, id)
		if ok {
			path = path[:m[4]] + strconv.FormatInt(ours, 10) + path[m[5]:]
		}
	}
	return ssidQuery.ReplaceAllStringFunc(path, func(q string) string {
		if ours, ok := r.sessions[integer(strings.TrimPrefix(q, "ssid="))]; ok {
			return fmt.Sprintf("ssid=%d", ours)
		}
		return q
	})
}

func (r *Replayer) ours(kind string, id int64) (int64, bool) {
	switch kind {
	case "sessions":
		ours, ok := r.sessions[id]
		return ours, ok
	case "tenants":
		ours, ok := r.tenants[id]
		return ours, ok
	}
	n, ok := r.nodes[id]
	return int64(n.id), ok
}

// requestBody puts the server's ids for the recorded ones.
func (r *Replayer) requestBody(body json.RawMessage) json.RawMessage {
	object, _ := decode(body).(map[string]any)
	id, ok := object["tenant_id"].(float64)
	ours, known := r.tenants[int64(id)]
	if !ok || !known || int64(id) == ours {
		return body // as it is, byte for byte
	}
	object["tenant_id"] = ours
	return encode(object)
}

// key gives the server's key for a recorded one.
func (r *Replayer) key(recorded string) string {
	for _, t := range r.recorded.Tenants {
		if t.APIKey == recorded {
			ours, _ := r.server.Seed.tenant(t.Name)
			return ours.APIKey
		}
	}
	return recorded
}

// withoutKeys puts the recorded keys for the server's.
func (r *Replayer) withoutKeys(text string) string {
	for _, t := range r.server.Seed.Tenants {
		if recorded, ok := r.recorded.tenant(t.Name); ok && t.APIKey != "" {
			text = strings.ReplaceAll(text, t.APIKey, recorded.APIKey)
		}
	}
	return text
}

// otherKey is a key that no tenant has.
const otherKey = "0ca6d2f4-6b0f-4f0e-9a44-3f7a3f0b6c55"

// authenticate puts into a request what its role has.
func (r *Replayer) authenticate(req *http.Request, role string) error {
	tenant, _ := r.server.Seed.tenant("tenant")
	value := ""
	switch role {
	case "", "anonymous":
	case "scheme 'basic' in lower case":
		value = "basic " + base64.StdEncoding.EncodeToString([]byte("tenant:"+tenant.APIKey))
	case "t1", "t1 with the key just set", "t1, retired":
		value = basic("t1", "11111111-1111-4111-8111-111111111111") // the case tenants.update.api_key_set sets it
	case "wrong key for tenant":
		value = basic("tenant", otherKey)
	case "right key in upper case":
		value = basic("tenant", strings.ToUpper(tenant.APIKey))
	case "retired tenant, wrong key":
		value = basic("retired", otherKey)
	case "no colon":
		value = "Basic " + base64.StdEncoding.EncodeToString([]byte("tenant"))
	case "non-ASCII credentials":
		value = basic("tenänt", "key")
	case "bad base64":
		value = "Basic ###"
	case "Bearer scheme":
		value = "Bearer " + tenant.APIKey
	default:
		t, ok := r.server.Seed.tenant(role)
		if !ok {
			return fmt.Errorf("the seed has no tenant %q", role)
		}
		value = basic(t.Name, t.APIKey)
	}
	if value != "" {
		req.Header.Set("Authorization", value)
	}
	return nil
}

func basic(name, key string) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(name+":"+key))
}

// learn notes which objects of the server stand for which of the recording.
func (r *Replayer) learn(e, seen Exchange) {
	if e.Status != seen.Status {
		return
	}
	want, ok := decode(e.Body).(map[string]any)
	if !ok {
		return
	}
	ours := decode(seen.Body)
	r.learnTenants(want)
	if e.Method == http.MethodPost && e.Status == http.StatusCreated {
		r.learnNew(want, ours)
	}
	if session := member(want, "session"); session["expires_at"] != nil && !lasts(session) {
		r.ends[number(session["id"])] = true
	}
	if want["ssid"] == nil {
		return
	}
	r.sessions[number(want["ssid"])] = number(member(ours)["ssid"])
	hosts := list(ours, "hosts")
	for i, host := range list(want, "hosts") {
		if i < len(hosts) {
			r.hosts[fmt.Sprint(host)] = fmt.Sprint(hosts[i])
		}
	}
}

// learnTenants notes the ids that tenants have in the recording, since another
// recording may have others than the seed.
func (r *Replayer) learnTenants(want any) {
	switch want := want.(type) {
	case map[string]any:
		name, _ := want["name"].(string)
		if id, ours := number(want["id"]), r.names[name]; want["is_admin"] != nil && id != 0 && ours != 0 {
			r.tenants[id] = ours
		}
		for _, v := range want {
			r.learnTenants(v)
		}
	case []any:
		for _, v := range want {
			r.learnTenants(v)
		}
	}
}

// learnNew notes what was created.
func (r *Replayer) learnNew(want, got any) {
	if id := number(member(want, "tenant")["id"]); id != 0 {
		r.tenants[id] = number(member(got, "tenant")["id"])
	}
	if id := number(member(want, "node")["id"]); id != 0 {
		r.learnNode(member(want, "node"), member(got, "node"))
	}
	session := member(want, "session")
	if id := number(session["id"]); id != 0 {
		r.sessions[id] = number(member(got, "session")["id"])
	}
	// Which node is which is free within a pool.
	taken := make(map[int]bool)
	for _, n := range list(session, "nodes") {
		for i, ours := range list(member(got, "session"), "nodes") {
			if !taken[i] && member(n)["pool"] == member(ours)["pool"] {
				taken[i] = true
				r.learnNode(member(n), member(ours))
				r.lent[number(member(n)["id"])] = number(session["id"])
				break
			}
		}
	}
}

func (r *Replayer) learnNode(want, got map[string]any) {
	id, ok := got["id"].(float64)
	hostname, text := got["hostname"].(string)
	if !ok || !text {
		return
	}
	r.nodes[number(want["id"])] = node{id, hostname}
	r.hosts[fmt.Sprint(want["hostname"])] = hostname
}

// decode gives JSON as values; nil if it is none.
func decode(text json.RawMessage) (v any) {
	if !utf8.Valid(text) || json.Unmarshal(text, &v) != nil {
		return nil
	}
	return v
}

func number(v any) int64 {
	f, _ := v.(float64)
	return int64(f)
}

func integer(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}
