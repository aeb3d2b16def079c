package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// Keys of the recording.
const (
	legacyKey        = "4140e563-278f-5432-bc48-55c08191fbac"
	legacyOtherKey   = "a8b9899d-b128-59a1-aa86-754920b7f5ed"
	legacyRetiredKey = "75aaede1-b573-50c4-a587-177a08c95aa5"
)

// legacyWorld is a broker as the recording of the legacy API found it.
type legacyWorld struct {
	*broker.Broker
	store   broker.Store
	now     time.Time
	tenants map[string]broker.Tenant
}

func newLegacyWorld(t *testing.T) *legacyWorld {
	t.Helper()
	w := &legacyWorld{
		store: memory.New(), now: time.Date(2026, 11, 23, 17, 32, 29, 0, time.UTC),
		tenants: make(map[string]broker.Tenant),
	}
	var pools []broker.Pool
	for _, p := range recordedPools {
		pools = append(pools, broker.Pool{Name: p.name, FillLevel: p.fill, MaxNodes: 50, Contextualize: broker.ContextualizeSSH})
	}
	pools = append(pools, broker.Pool{Name: "metal", MaxNodes: 5, NoLegacy: true, Contextualize: broker.ContextualizeNone})
	set, cloud := new(broker.PoolSet), new(brokertest.Cloud)
	set.Set(pools)
	w.Broker = broker.New(broker.Config{
		Store: w.store, Contextualizer: cloud, Keys: plainKeys{}, Pools: set, Log: slog.New(slog.DiscardHandler),
		Now: func() time.Time { w.now = w.now.Add(time.Second); return w.now }, Wake: func() {},
	})
	ctx, admin := t.Context(), broker.Tenant{Name: "admin", IsAdmin: true}
	quota := 50
	for _, tenant := range []broker.Tenant{
		{Name: "legacy", SSHKey: "ssh-ed25519 AAAAlegacy", NodeQuota: &quota},
		{Name: "tenant", SSHKey: "ssh-ed25519 AAAAtenant"},
		{Name: "retired", SSHKey: "ssh-ed25519 AAAAretired", RetiredAt: w.now},
	} {
		if err := w.CreateTenants(ctx, broker.NewTenant{Tenant: tenant, APIKey: broker.NewUUID()}); err != nil {
			t.Fatal(err)
		}
	}
	all, err := w.Tenants(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, tenant := range all {
		w.tenants[tenant.Name] = tenant
		key := map[string]string{"legacy": legacyKey, "tenant": legacyOtherKey, "retired": legacyRetiredKey}[tenant.Name]
		if _, _, err := w.AddLegacyKey(ctx, admin, tenant.ID, key, ""); err != nil {
			t.Fatal(err)
		}
	}
	err = w.store.Update(ctx, func(tx broker.Tx) error {
		serial := 0
		for i, p := range recordedPools {
			for range p.ready {
				serial++
				n := broker.NewNode(pools[i], w.now)
				n.State = broker.NodeReady
				if p.name == "virtual-centos9stream-x86_64-small" && serial < 25 {
					n.State = broker.NodeFailed // used up before this recording
				}
				n.Hostname, n.Address = fmt.Sprintf("n%d.%s.example.net", serial, p.name), fmt.Sprintf("127.10.0.%d", serial+1)
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
	return w
}

// recordedLegacy are settings with which we answer as Duffy v3 did.
func recordedLegacy() *Legacy {
	return &Legacy{
		Pool: func(ver, arch, flavor string) (string, bool) {
			ver = strings.ReplaceAll(ver, "-", "")
			switch {
			case arch == "aarch64" || arch == "ppc64" || arch == "ppc64le":
				return fmt.Sprintf("virtual-centos%s-%s-%s", ver, arch, flavor), true
			case arch == "x86_64" && (flavor == "small" || flavor == "large"):
				return fmt.Sprintf("virtual-centos%s-%s-%s", ver, arch, flavor), true
			case arch == "x86_64":
				return fmt.Sprintf("physical-centos%s-%s", ver, arch), true
			}
			return "", false
		},
		Hostname: func(n broker.LentNode) string { return n.Hostname },
		Version:  "7", Arch: "x86_64", MainPort: true, KeepFor: 6 * time.Hour, Rows: "auto", AnonymousInventory: true,
	}
}

func (w *legacyWorld) start(t *testing.T, l *Legacy) string {
	t.Helper()
	return start(t, Config{Broker: w.Broker, Legacy: func() *Legacy { return l }})
}

// legacyCall makes one call as an old client does.
func legacyGet(t *testing.T, url, agent string) answerSeen {
	t.Helper()
	return send(t, http.MethodGet, url, "", func(r *http.Request) {
		r.Header.Set("User-Agent", agent)
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Accept", "application/json")
	})
}

func decodeLegacy[T any](t *testing.T, a answerSeen) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(a.body), &v); err != nil || a.status != http.StatusOK {
		t.Fatalf("status %d, body %s: %v", a.status, a.body, err)
	}
	return v
}

type legacyAnswer struct {
	SSID  int64    `json:"ssid"`
	Hosts []string `json:"hosts"`
}

// TestLegacy_cico makes the calls of python-cicoclient, in its order, and reads
// the answers as it does.
func TestLegacy_cico(t *testing.T) {
	const agent = "python-cicoclient-wrapper"
	w := newLegacyWorld(t)
	l := recordedLegacy()
	l.PlainWhenEmpty = true
	base := w.start(t, l)

	// node get --retry-count: again while the body is no JSON, or empty.
	short := legacyGet(t, base+"/Node/get?key="+legacyKey+"&arch=x86_64&ver=7&count=21", agent)
	if short.body != "Insufficient Nodes in READY State" || json.Valid([]byte(short.body)) || short.status != http.StatusOK {
		t.Errorf("too few nodes: status %d, body %q: cico would not try again", short.status, short.body)
	}
	got := decodeLegacy[legacyAnswer](t, legacyGet(t, base+"/Node/get?key="+legacyKey+"&arch=x86_64&ver=7&count=2", agent))
	if len(got.Hosts) != 2 || got.SSID == 0 {
		t.Fatalf("got %+v", got)
	}
	// It looks for its hosts in the whole inventory: by containment of names, at index 1.
	all := decodeLegacy[[][]any](t, legacyGet(t, base+"/Inventory", agent))
	for _, host := range got.Hosts {
		found := 0
		for _, row := range all {
			if strings.Contains(row[1].(string), host) {
				found++
			}
		}
		if found != 1 {
			t.Errorf("host %s is %d times in the inventory", host, found)
		}
	}
	// node done: both inventories, and the session's text at index 6.
	own := decodeLegacy[[][]any](t, legacyGet(t, base+"/Inventory?key="+legacyKey, agent))
	if len(own) != 2 || len(own[0]) != 14 || own[0][6] != fmt.Sprint(got.SSID) {
		t.Fatalf("own inventory: %v", own)
	}
	// It looks for each in the whole inventory by the first column or, the newest
	// version, by the second.
	for _, row := range own {
		for _, column := range []int{0, 1} {
			if !slices.ContainsFunc(all, func(other []any) bool { return other[1] == row[column] }) {
				t.Errorf("column %d of %v is no host of the inventory", column, row)
			}
		}
	}
	if done := legacyGet(t, fmt.Sprintf("%s/Node/done?key=%s&ssid=%d", base, legacyKey, got.SSID), agent); done.body != `"Done"` {
		t.Errorf("done: %s", done.body)
	}
	if own := legacyGet(t, base+"/Inventory?key="+legacyKey, agent); own.body != "[]" {
		t.Errorf("own inventory afterwards: %s", own.body)
	}
}

func TestLegacy_settings(t *testing.T) {
	get := func(query string) string { return "/Node/get?key=" + legacyKey + query }
	for _, test := range []struct {
		name   string
		change func(*Legacy)
		calls  []string
		want   string // the last answer: status and body
	}{
		{"a default version", func(l *Legacy) { l.Version = "8-stream" }, []string{get("")}, `200 {"hosts":["n66.physical-centos8stream-x86_64.example.net"],"ssid":1}`},
		{"a default flavor of an arch", func(l *Legacy) {
			l.Flavors = map[string]string{"x86_64": "small"}
		}, []string{get("&ver=9-stream")}, `200 {"hosts":["n25.virtual-centos9stream-x86_64-small.example.net"],"ssid":1}`},
		{"a given flavor counts more", func(l *Legacy) {
			l.Flavors = map[string]string{"x86_64": "large"}
		}, []string{get("&ver=9-stream&flavor=small")}, `200 {"hosts":["n25.virtual-centos9stream-x86_64-small.example.net"],"ssid":1}`},
		{"host names are changed", func(l *Legacy) {
			l.Hostname = func(n broker.LentNode) string { s, _, _ := strings.Cut(n.Hostname, "."); return s }
		}, []string{get("")}, `200 {"hosts":["n46"],"ssid":1}`},
		{"a pool that is not for this API", func(l *Legacy) {
			l.Pool = func(string, string, string) (string, bool) { return "metal", true }
		}, []string{get("")}, `200 "Failed to allocate nodes"`},
		{"an empty pool, as v3", func(*Legacy) {}, []string{get("&count=21")}, `200 "Failed to allocate nodes"`},
		{"an empty pool, as v2", func(l *Legacy) { l.PlainWhenEmpty = true }, []string{get("&count=21")}, `200 Insufficient Nodes in READY State`},
		{"no such pool, as v2", func(l *Legacy) { l.PlainWhenEmpty = true }, []string{get("&ver=5")}, `200 "Failed to allocate nodes"`},
		{"over the quota, as v2", func(l *Legacy) { l.PlainWhenEmpty = true }, []string{get("&count=51")}, `200 "Failed to allocate nodes"`},
		{"more sessions than allowed", func(l *Legacy) {
			l.SessionLimit, l.SessionWindow = 2, 5*time.Minute
		}, []string{get(""), get(""), get("")}, `429 "Too many sessions: at most 2 in 5m0s"`},
		{"as many sessions as allowed", func(l *Legacy) {
			l.SessionLimit, l.SessionWindow = 2, 5*time.Minute
		}, []string{get(""), get("")}, `200 {"hosts":["n47.physical-centos7-x86_64.example.net"],"ssid":2}`},
		{"more kept nodes than allowed", func(l *Legacy) { l.KeptNodes = 2 }, []string{
			get("&count=2"), get("&count=1"), "/Node/fail?key=" + legacyKey + "&ssid=1", "/Node/fail?key=" + legacyKey + "&ssid=2",
		}, `403 {"msg":"Exceeded maximum allowed fail nodes limit, 2 nodes can be kept at once: give some back first"}`},
		{"as many kept nodes as allowed", func(l *Legacy) { l.KeptNodes = 2 }, []string{
			get("&count=2"), "/Node/fail?key=" + legacyKey + "&ssid=1", "/Node/fail?key=" + legacyKey + "&ssid=1",
		}, `200 "Done"`},
		{"pairs", func(*Legacy) {}, []string{get(""), "/Inventory?key=" + legacyKey}, `200 [["n46.physical-centos7-x86_64.example.net",1]]`},
		{
			"rows for all", func(l *Legacy) { l.Rows = "rows" },
			[]string{get(""), "/Inventory?key=" + legacyKey},
			`200 [[46,"n46.physical-centos7-x86_64.example.net","127.10.0.47",null,0,"deployed","1",null,null,null,null,"physical-centos7-x86_64",null,null]]`,
		},
		{"no inventory for strangers", func(l *Legacy) { l.AnonymousInventory = false }, []string{"/Inventory"}, `403 {"detail":"Not authenticated","code":"unauthorized","hint":"put ?key=KEY into the URL"}`},
		{"an unknown key's inventory", func(*Legacy) {}, []string{"/Inventory?key=" + broker.NewUUID()}, `403 {"msg":"Invalid duffy key"}`},
		{"off", nil, []string{get("")}, `404 {"detail":"Not Found","code":"not_found"}`},
		{"off on this port", func(l *Legacy) { l.MainPort = false }, []string{get("")}, `404 {"detail":"Not Found","code":"not_found"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			w := newLegacyWorld(t)
			var l *Legacy
			if test.change != nil {
				l = recordedLegacy()
				test.change(l)
			}
			base := w.start(t, l)
			var a answerSeen
			for _, path := range test.calls {
				a = legacyGet(t, base+path, "curl/7")
			}
			if got := fmt.Sprintf("%d %s", a.status, a.body); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

// A request that waits gets the nodes that come meanwhile.
func TestLegacy_wait(t *testing.T) {
	w := newLegacyWorld(t)
	l := recordedLegacy()
	l.MaxWait = time.Minute
	base := w.start(t, l)
	first := decodeLegacy[legacyAnswer](t, legacyGet(t, base+"/Node/get?key="+legacyKey+"&count=20", "curl/7"))
	waited := make(chan answerSeen)
	go func() { waited <- legacyGet(t, base+"/Node/get?key="+legacyKey+"&count=1", "curl/7") }()
	err := w.store.Update(t.Context(), func(tx broker.Tx) error {
		n, err := tx.Node(46)
		if err != nil {
			return err
		}
		s, err := tx.Session(first.SSID)
		if err != nil {
			return err
		}
		s.Nodes = s.Nodes[1:]
		n.State, n.SessionID, n.Touched = broker.NodeReady, 0, false
		if err := tx.UpdateSession(broker.SessionActive, s); err != nil {
			return err
		}
		return tx.UpdateNode(broker.NodeDeployed, n)
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := decodeLegacy[legacyAnswer](t, <-waited); len(got.Hosts) != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestLegacy_deprecated(t *testing.T) {
	w := newLegacyWorld(t)
	l := recordedLegacy()
	l.Deprecated, l.Sunset = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2030, 7, 1, 0, 0, 0, 0, time.UTC)
	l.Link = "https://example.org/moving"
	base := w.start(t, l)
	header := legacyGet(t, base+"/Inventory", "curl/7").header
	got := []string{header.Get("Deprecation"), header.Get("Sunset"), header.Get("Link")}
	want := []string{"@1767225600", "Mon, 01 Jul 2030 00:00:00 GMT", `<https://example.org/moving>; rel="deprecation"; type="text/html"`}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	l.Deprecated = time.Now().Add(time.Hour)
	if got := legacyGet(t, base+"/Inventory", "curl/7").header.Get("Deprecation"); got != "" {
		t.Errorf("before its day: Deprecation %q", got)
	}
}

// The port of its own has the legacy API and nothing else.
func TestLegacy_ownPort(t *testing.T) {
	w := newLegacyWorld(t)
	l := recordedLegacy()
	l.MainPort = false
	srv := httptest.NewServer(NewLegacy(Config{Broker: w.Broker, Legacy: func() *Legacy { return l }, Log: slog.New(slog.DiscardHandler)}))
	defer srv.Close()
	if a := legacyGet(t, srv.URL+"/Inventory", "curl/7"); a.status != http.StatusOK || a.body != "[]" {
		t.Errorf("inventory: %d %s", a.status, a.body)
	}
	if a := legacyGet(t, srv.URL+"/api/v1/pools", "curl/7"); a.status != http.StatusNotFound {
		t.Errorf("the other API: %d %s", a.status, a.body)
	}
}

// Keys travel in the query string, which no log may hold.
func TestLegacy_keysAreNotLogged(t *testing.T) {
	w := newLegacyWorld(t)
	var log bytes.Buffer
	srv := httptest.NewServer(New(Config{
		Broker: w.Broker, Legacy: recordedLegacy, Log: slog.New(slog.NewJSONHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}))
	unknown := broker.NewUUID()
	for _, path := range []string{"/Node/get?key=" + legacyKey, "/Node/done/?key=" + legacyKey, "/Node/fail?key=" + unknown + "&ssid=1", "/Inventory?key=" + legacyRetiredKey} {
		legacyGet(t, srv.URL+path, "curl/7")
	}
	srv.Close()
	if !strings.Contains(log.String(), "/Node/get") {
		t.Fatalf("the log has no requests: %s", log.String())
	}
	for _, key := range []string{legacyKey, unknown, legacyRetiredKey} {
		if strings.Contains(log.String(), key) {
			t.Errorf("the log holds a key: %s", log.String())
		}
	}
}

// TestLegacyKeys takes a key through its life, over the API.
func TestLegacyKeys(t *testing.T) {
	w := newLegacyWorld(t)
	key := broker.NewUUID()
	admin := broker.NewTenant{Tenant: broker.Tenant{Name: "boss", IsAdmin: true}, APIKey: key}
	if err := w.CreateTenants(context.Background(), admin); err != nil {
		t.Fatal(err)
	}
	base := w.start(t, recordedLegacy())
	asBoss := func(r *http.Request) { r.SetBasicAuth("boss", key); r.Header.Set("Content-Type", "application/json") }
	keys := fmt.Sprintf("%s/api/v1/tenants/%d/legacy-keys", base, w.tenants["legacy"].ID)

	made := send(t, http.MethodPost, keys, `{"note": "jenkins"}`, asBoss)
	var answer struct {
		LegacyKey struct {
			ID        int64            `json:"id"`
			Key       string           `json:"key"`
			Tenant    string           `json:"tenant"`
			Note      string           `json:"note"`
			Calls     map[string]int64 `json:"calls"`
			LastAgent string           `json:"last_agent"`
		} `json:"legacy_key"`
		LegacyKeys []struct {
			ID        int64            `json:"id"`
			Key       string           `json:"key"`
			Calls     map[string]int64 `json:"calls"`
			LastAgent string           `json:"last_agent"`
		} `json:"legacy_keys"`
	}
	if err := json.Unmarshal([]byte(made.body), &answer); err != nil || made.status != http.StatusCreated || answer.LegacyKey.Key == "" || answer.LegacyKey.ID != 2 {
		t.Fatalf("made: %d %s", made.status, made.body)
	}
	decodeLegacy[legacyAnswer](t, legacyGet(t, base+"/Node/get?key="+answer.LegacyKey.Key, "curl/7"))
	decodeLegacy[[][]any](t, legacyGet(t, base+"/Inventory?key="+answer.LegacyKey.Key, "curl/8"))

	listed := send(t, http.MethodGet, base+"/api/v1/legacy-keys", "", asBoss)
	if err := json.Unmarshal([]byte(listed.body), &answer); err != nil || len(answer.LegacyKeys) != 4 || strings.Contains(listed.body, answer.LegacyKey.Key) {
		t.Fatalf("listed: %d %s", listed.status, listed.body)
	}
	used := answer.LegacyKeys[1]
	if diff := cmp.Diff(map[string]int64{"/Node/get": 1, "/Inventory": 1}, used.Calls); diff != "" || used.LastAgent != "curl/8" {
		t.Errorf("use of the key: %+v", used)
	}

	for _, test := range []struct {
		method, path, body string
		status             int
	}{
		{http.MethodPost, keys, `{"key": "` + answer.LegacyKey.Key + `"}`, http.StatusConflict},
		{http.MethodPost, keys, `{"key": "short"}`, http.StatusUnprocessableEntity},
		{http.MethodPost, keys, `{"key": "with space in it, and long"}`, http.StatusUnprocessableEntity},
		{http.MethodPost, base + "/api/v1/tenants/99/legacy-keys", `{}`, http.StatusNotFound},
		{http.MethodDelete, keys + "/9", "", http.StatusNotFound},
		{http.MethodDelete, keys + "/2", "", http.StatusNoContent},
		{http.MethodDelete, keys + "/2", "", http.StatusNotFound},
	} {
		if a := send(t, test.method, test.path, test.body, asBoss); a.status != test.status {
			t.Errorf("%s %s %s: %d, want %d: %s", test.method, test.path, test.body, a.status, test.status, a.body)
		}
	}
	if a := legacyGet(t, base+"/Node/get?key="+answer.LegacyKey.Key, "curl/7"); a.status != http.StatusForbidden {
		t.Errorf("a removed key: %d %s", a.status, a.body)
	}
}
