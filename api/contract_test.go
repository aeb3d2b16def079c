package api

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// exchange is one recorded request and the answer that we owe to it: Duffy's,
// or, where Differs says why, our own. testdata/duffy/README.md tells more.
type exchange struct {
	N       int               `json:"n"`
	Case    string            `json:"case"`
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Auth    string            `json:"auth"`
	Sent    map[string]string `json:"request_headers"`
	Body    json.RawMessage   `json:"request_body"`
	Raw     string            `json:"request_raw"`
	Status  int               `json:"status"`
	Headers map[string]string `json:"headers"`
	Want    json.RawMessage   `json:"body"`
	Text    *string           `json:"body_text"`
	Differs string            `json:"differs"`
}

func readExchanges(t *testing.T) []exchange {
	t.Helper()
	b, err := os.ReadFile("testdata/duffy/v1.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	var list []exchange
	for line := range bytes.Lines(b) {
		var e exchange
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		list = append(list, e)
	}
	return list
}

type plainKeys struct{}

func (plainKeys) HashAPIKey(key string) []byte  { h := sha256.Sum256([]byte(key)); return h[:] }
func (plainKeys) CurrentAPIKeyHash([]byte) bool { return true }
func (k plainKeys) EqualAPIKey(key string, hash []byte) bool {
	return bytes.Equal(hash, k.HashAPIKey(key))
}

// recordedKeys are the keys of the tenants in the recording, by name. Their
// order is that of the ids.
var recordedKeys = []struct{ name, key string }{
	{"admin", "ae6c10d0-0b13-554c-b976-a05d8a18f0cc"},
	{"tenant", "a8b9899d-b128-59a1-aa86-754920b7f5ed"},
	{"other", "3ffa3ad3-369c-52e0-ac06-8ca10a7cd909"},
	{"retired", "75aaede1-b573-50c4-a587-177a08c95aa5"},
	{"bench", "eea5c633-aea3-5fb5-bbad-7ad68586e050"},
	{"legacy", "4140e563-278f-5432-bc48-55c08191fbac"},
}

// recordedQuotas are the quotas of those that have one of their own.
var recordedQuotas = map[string]int{"other": 2, "bench": 1000000, "legacy": 50}

// recordedPools are the pools of the recording, with their fill levels and with
// the stock at its start. Its two pools for measuring have stock that nobody took.
var recordedPools = []struct {
	name        string
	fill, ready int
}{
	{"virtual-centos9stream-x86_64-small", 5, 40},
	{"virtual-centos9stream-x86_64-large", 1, 5},
	{"physical-centos7-x86_64", 2, 20},
	{"physical-centos8stream-x86_64", 2, 20},
	{"empty-pool", 1, 0},
	{"refill-pool", 3, 3},
	{"bench", 1, 0},
	{"bench-ansible", 1, 0},
}

// newRecordedBroker is a real broker in the state in which the recording begins.
// goodReload is a reload without mistakes.
type goodReload struct{}

func (goodReload) Reload(_ context.Context, by string) (broker.Reload, error) {
	return broker.Reload{By: by}, nil
}
func (goodReload) LastReload() broker.Reload { return broker.Reload{} }

func newRecordedBroker(t *testing.T) *broker.Broker {
	t.Helper()
	now := time.Date(2026, 11, 23, 17, 32, 29, 383593000, time.UTC)
	store, cloud := memory.New(), new(brokertest.Cloud)
	var pools []broker.Pool
	for _, p := range recordedPools {
		pools = append(pools, broker.Pool{Name: p.name, FillLevel: p.fill, MaxNodes: 100, Contextualize: broker.ContextualizeSSH})
	}
	set := new(broker.PoolSet)
	set.Set(pools)
	var mu sync.Mutex
	clock := func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(time.Second + 7*time.Microsecond)
		return now
	}
	b := broker.New(broker.Config{
		Store: store, Contextualizer: cloud, Keys: plainKeys{}, Pools: set, Log: slog.New(slog.DiscardHandler),
		Now: clock, Wake: func() {}, Reloader: goodReload{},
	})
	ctx := context.Background()
	for _, r := range recordedKeys {
		tenant := broker.Tenant{Name: r.name, IsAdmin: r.name == "admin", SSHKey: "ssh-ed25519 AAAA" + r.name}
		if quota, ok := recordedQuotas[r.name]; ok {
			tenant.NodeQuota = &quota
		}
		if r.name == "retired" {
			tenant.RetiredAt = now
		}
		if err := b.CreateTenants(ctx, broker.NewTenant{Tenant: tenant, APIKey: r.key}); err != nil {
			t.Fatal(err)
		}
	}
	err := store.Update(ctx, func(tx broker.Tx) error {
		serial := 0
		for i, p := range recordedPools {
			for range p.ready {
				serial++
				n := broker.NewNode(pools[i], now)
				n.State = broker.NodeReady
				n.Hostname = fmt.Sprintf("n%d.%s.example.net", serial, p.name)
				n.Address = fmt.Sprintf("127.10.0.%d", serial+1)
				n.Data = fmt.Appendf(nil, `{"serial": %d}`, serial)
				if err := tx.CreateNode(&n); err != nil {
					return err
				}
				if _, err := cloud.Apply(ctx, n); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func recordedAuth(t *testing.T, role string) func(*http.Request) {
	t.Helper()
	basic := func(plain string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(plain)))
		}
	}
	for _, r := range recordedKeys {
		if r.name == role {
			return basic(r.name + ":" + r.key)
		}
	}
	switch role {
	case "anonymous":
		return func(*http.Request) {}
	case "scheme 'basic' in lower case":
		return func(r *http.Request) {
			r.Header.Set("Authorization", "basic "+base64.StdEncoding.EncodeToString([]byte("tenant:"+recordedKeys[1].key)))
		}
	case "t1", "t1 with the key just set", "t1, retired":
		return basic("t1:11111111-1111-4111-8111-111111111111")
	case "wrong key for tenant":
		return basic("tenant:" + broker.NewUUID())
	case "right key in upper case":
		return basic("tenant:" + strings.ToUpper(recordedKeys[1].key))
	case "retired tenant, wrong key":
		return basic("retired:" + broker.NewUUID())
	case "no colon":
		return basic("tenant")
	case "non-ASCII credentials":
		return basic("tenänt:key")
	case "bad base64":
		return func(r *http.Request) { r.Header.Set("Authorization", "Basic ###") }
	case "Bearer scheme":
		return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+recordedKeys[1].key) }
	}
	t.Fatalf("unknown role %q", role)
	return nil
}

// TestDuffy replays the recording against the real domain on a store in memory.
func TestDuffy(t *testing.T) {
	base := start(t, Config{Broker: newRecordedBroker(t), AnonymousRead: true})
	r := replay{sessions: make(map[int64]int64), nodes: make(map[int64]int64)}
	exchanges := readExchanges(t)
	for _, e := range exchanges {
		t.Run(fmt.Sprintf("%03d_%s", e.N, e.Case), func(t *testing.T) { r.do(t, base, e) })
	}
	if len(r.nodes) != 4 {
		t.Errorf("%d nodes were made, want 4", len(r.nodes))
	}
	if len(exchanges) < 100 {
		t.Errorf("only %d requests", len(exchanges))
	}
}

// replay remembers which of our sessions, and of the nodes that were posted,
// stands for which of Duffy's.
type replay struct{ sessions, nodes map[int64]int64 }

var (
	sessionPath = regexp.MustCompile(`^/api/v1/sessions/(\d+)$`)
	wireKey     = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)
	wireTime    = regexp.MustCompile(`^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{6})?\+00:00$`)
	sessionWord = regexp.MustCompile(`\bsession (\d+)\b`)
	nodeWord    = regexp.MustCompile(`\bnode (\d+)\b`)
)

func (r *replay) do(t *testing.T, base string, e exchange) {
	path := e.Path
	if m := sessionPath.FindStringSubmatch(path); m != nil {
		if ours, ok := r.sessions[atoi(m[1])]; ok {
			path = fmt.Sprintf("/api/v1/sessions/%d", ours)
		}
	}
	body := e.Raw
	if body == "" {
		body = string(e.Body)
	}
	auth := recordedAuth(t, e.Auth)
	a := send(t, e.Method, base+path, body, func(req *http.Request) {
		auth(req)
		if body != "" {
			req.Header.Set("Content-Type", "application/json")
		}
		for name, v := range e.Sent {
			req.Header.Set(name, v)
		}
	})
	if a.status != e.Status {
		t.Fatalf("status %d, want %d: %s", a.status, e.Status, a.body)
	}
	if a.header.Get("X-Request-Id") == "" {
		t.Error("no X-Request-Id")
	}
	for _, name := range []string{"content-type", "www-authenticate", "allow", "location"} {
		got, want := a.header.Get(name), strings.ReplaceAll(e.Headers[name], "{base}", base)
		if name == "allow" {
			got = sortedWords(got)
		}
		if got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
	if e.Text != nil && a.body != *e.Text {
		t.Errorf("body %q, want %q", a.body, *e.Text)
	}
	if e.Want == nil {
		return
	}
	want, got := decoded(t, e.Want), decoded(t, []byte(a.body))
	if e.Status == http.StatusCreated {
		r.sessions[idOf(want, "session")] = idOf(got, "session")
		if id := idOf(want, "node"); id != 0 {
			r.nodes[id] = idOf(got, "node")
		}
	}
	want = r.translate(want)
	want, got = normalized(t, want, false), normalized(t, got, true)
	if diff := cmp.Diff(want, restricted(got, want)); diff != "" {
		t.Errorf("(-want +got):\n%s\n%s", diff, a.body)
	}
}

func atoi(s string) int64 {
	n, _ := strconv.ParseInt(s, 10, 64)
	return n
}

func decoded(t *testing.T, b []byte) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal(b, &v); err != nil {
		t.Fatalf("%s: %v", b, err)
	}
	return v
}

// idOf gives the id of what an answer is about, 0 if that is something else.
func idOf(answer map[string]any, kind string) int64 {
	object, _ := answer[kind].(map[string]any)
	id, _ := object["id"].(float64)
	return int64(id)
}

// translate puts our ids for Duffy's, which has used some up for nothing.
func (r *replay) translate(want map[string]any) map[string]any {
	sessions, _ := want["sessions"].([]any)
	if one, ok := want["session"]; ok {
		sessions = append(sessions, one)
	}
	for _, s := range sessions {
		session := s.(map[string]any)
		session["id"] = float64(r.sessions[int64(session["id"].(float64))])
	}
	if ours, ok := r.nodes[idOf(want, "node")]; ok {
		want["node"].(map[string]any)["id"] = float64(ours)
	}
	if detail, ok := want["detail"].(string); ok {
		detail = nodeWord.ReplaceAllStringFunc(detail, func(s string) string {
			return fmt.Sprintf("node %d", r.nodes[atoi(strings.TrimPrefix(s, "node "))])
		})
		want["detail"] = sessionWord.ReplaceAllStringFunc(detail, func(s string) string {
			return fmt.Sprintf("session %d", r.sessions[atoi(strings.TrimPrefix(s, "session "))])
		})
	}
	return want
}

// normalized takes out of an answer what differs from run to run: times and new keys. Of
// ours, their form is checked. The end of a session stays, as the distance from
// its start, or as it is when it was given.
func normalized(t *testing.T, answer map[string]any, ours bool) map[string]any {
	t.Helper()
	parse := func(v any) time.Time {
		s, _ := v.(string)
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil || ours && !wireTime.MatchString(s) {
			t.Errorf("%q is no time as Duffy writes it", s)
		}
		return at
	}
	var walk func(any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, item := range v {
				walk(item)
			}
		case map[string]any:
			if v["expires_at"] != nil {
				expires, created := parse(v["expires_at"]), parse(v["created_at"])
				v["expires_at"] = expires.String()
				switch lifetime := expires.Sub(created); {
				case lifetime > 0 && lifetime < time.Minute: // its tenant was retired
					v["expires_at"] = "soon after created"
				case expires.Year() < 2080:
					v["expires_at"] = "created " + lifetime.Round(100*time.Millisecond).String()
				}
			}
			if key, ok := v["api_key"].(string); ok && wireKey.MatchString(key) {
				v["api_key"] = "some key"
			}
			for _, name := range []string{"created_at", "retired_at"} {
				if v[name] != nil {
					parse(v[name])
					v[name] = "some time"
				}
			}
			for _, item := range v {
				walk(item)
			}
		}
	}
	walk(answer)
	for _, name := range []string{"sessions", "nodes", "pools", "tenants"} {
		if list, ok := answer[name].([]any); ok {
			slices.SortFunc(list, func(a, b any) int { return strings.Compare(identity(a), identity(b)) })
		}
	}
	return answer
}

func identity(v any) string {
	object := v.(map[string]any)
	return fmt.Sprint(object["id"], object["name"])
}

// restricted takes out of an answer of ours the fields that Duffy has not. Pools
// may have none: they stay whole. Of the long list of nodes the recording has
// but a few.
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
			switch {
			case name == "pool" || name == "pools":
				kept[name] = v
			case name == "nodes" && want["action"] != nil:
				kept[name] = restricted(sameNodes(v.([]any), expected.([]any)), expected)
			case known:
				kept[name] = restricted(v, expected)
			}
		}
		return kept
	case []any:
		list, ok := got.([]any)
		if !ok || len(list) != len(want) {
			return got
		}
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

// TestDuffy_contextualizationFails is the recorded case that needs dead nodes.
func TestDuffy_contextualizationFails(t *testing.T) {
	f := newFake()
	f.err = broker.Errorf(broker.CodeUnavailable, "contextualization of nodes failed")
	url := start(t, Config{Broker: f})
	a := send(t, http.MethodPost, url+"/api/v1/sessions", sessionBody, asDemo)
	if got := wireError(t, a); a.status != 503 || got.Detail != "contextualization of nodes failed" || a.header.Get("Retry-After") == "" {
		t.Errorf("%d %+v", a.status, got)
	}
}
