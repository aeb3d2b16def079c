package api

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a domain that does what its switches say.
type fake struct {
	err        error          // of every call but Authenticate and AbandonedByClient
	panics     bool           // Sessions panics
	session    broker.Session // what there is
	node       broker.Node
	pool       broker.Pool
	levels     broker.PoolLevels
	tenants    map[int64]broker.Tenant
	nodes      map[int64]broker.Node
	waiting    chan struct{} // RequestSession closes it, and waits for the client to go
	patience   time.Duration // for how long
	abandoned  chan int64
	abandonErr error

	reloaded broker.Reload
	rollout  broker.RolloutStatus
	status   broker.PoolStatus
	ordered  []string

	lines  []string // of a node's log
	logErr error    // after them
	// logWaits, unless nil, is closed by NodeLog after the lines; it then waits for
	// its context to end.
	logWaits chan struct{}

	logs    broker.NodeLogRequest
	actor   broker.Tenant // of the last call
	request broker.SessionRequest
	update  broker.SessionUpdate

	tenantUpdate  broker.TenantUpdate
	sessionFilter broker.SessionFilter
	nodeFilter    broker.NodeFilter
	host          broker.Host // that was created, or is
	events        []broker.Event
	reason        string // of a hold
	discard       bool   // of a workspace

	bootFile string // that every name leads to
	bootURL  string
	booted   broker.BootReport
	notice   broker.Notice
}

// goodToken has the form of a node's token.
const goodToken = "0123456789abcdef-00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"

func asNode(req *http.Request) { req.Header.Set("Authorization", "Bearer "+goodToken) }

const goodKey = "ae6c10d0-0b13-554c-b976-a05d8a18f0cc"

func (f *fake) Authenticate(_ context.Context, name, key string) (broker.Tenant, error) {
	switch {
	case name == "broken":
		return broker.Tenant{}, errors.New("disk on fire at /secret/path")
	case key != goodKey:
		return broker.Tenant{}, broker.Errorf(broker.CodeUnauthorized, "tenant name and API key don't fit")
	case name == "retired":
		return broker.Tenant{}, broker.Errorf(broker.CodeForbidden, "tenant 'retired' is retired")
	}
	return broker.Tenant{ID: 2, Name: name}, nil
}

func (f *fake) RequestSession(ctx context.Context, actor broker.Tenant, req broker.SessionRequest) (broker.Session, error) {
	f.actor, f.request = actor, req
	if f.waiting != nil {
		close(f.waiting)
		select {
		case <-ctx.Done():
		case <-time.After(f.patience):
		}
	}
	return f.session, f.err
}

func (f *fake) Session(_ context.Context, actor broker.Tenant, _ int64) (broker.Session, error) {
	f.actor = actor
	return f.session, f.err
}

func (f *fake) Sessions(_ context.Context, actor broker.Tenant) ([]broker.Session, error) {
	f.actor = actor
	if f.panics {
		panic("secret in a panic")
	}
	return []broker.Session{f.session}, f.err
}

func (f *fake) UpdateSession(_ context.Context, actor broker.Tenant, _ int64, u broker.SessionUpdate) (broker.Session, error) {
	f.actor, f.update = actor, u
	return f.session, f.err
}

func (f *fake) AbandonedByClient(_ context.Context, id int64) error {
	f.abandoned <- id
	return f.abandonErr
}

func (f *fake) NodeOfToken(_ context.Context, token string) (broker.Node, error) {
	if token != goodToken {
		return broker.Node{}, broker.Errorf(broker.CodeUnauthorized, "this is not the token of a node")
	}
	return f.node, nil
}

func (f *fake) Notify(_ context.Context, _ broker.Node, notice broker.Notice) (bool, error) {
	f.notice = notice
	return true, f.err
}

func (f *fake) OpenBootFile(_ context.Context, _ broker.Node, name, _ string) (broker.BootFile, error) {
	if f.err != nil {
		return nil, f.err
	}
	f.reason = name
	return os.Open(f.bootFile)
}

func (f *fake) ReportBoot(_ context.Context, _ broker.Node, r broker.BootReport) error {
	f.booted = r
	return f.err
}

func (f *fake) BootByMAC(_ context.Context, mac, _ string) (string, error) {
	f.reason = mac
	return f.bootURL, f.err
}

func (f *fake) Healthy(context.Context) error { return f.err }

func (f *fake) Pools(context.Context) ([]broker.Pool, error) { return []broker.Pool{f.pool}, f.err }

func (f *fake) Pool(context.Context, string) (broker.Pool, broker.PoolLevels, error) {
	return f.pool, f.levels, f.err
}

func (f *fake) Node(_ context.Context, actor broker.Tenant, _ int64) (broker.Node, error) {
	f.actor = actor
	return f.node, f.err
}

func (f *fake) Nodes(_ context.Context, actor broker.Tenant) ([]broker.Node, error) {
	f.actor = actor
	return []broker.Node{f.node}, f.err
}

func (f *fake) NodesByID(context.Context, ...int64) (map[int64]broker.Node, error) {
	return f.nodes, nil
}

func (f *fake) TenantsByID(context.Context, ...int64) (map[int64]broker.Tenant, error) {
	return f.tenants, nil
}

func (f *fake) NodeLog(ctx context.Context, actor broker.Tenant, req broker.NodeLogRequest, write func([]byte) error) error {
	f.actor, f.logs = actor, req
	if f.err != nil {
		return f.err
	}
	for _, line := range f.lines {
		if err := write([]byte(line)); err != nil {
			return err
		}
	}
	if f.logWaits != nil {
		close(f.logWaits)
		<-ctx.Done()
		return ctx.Err()
	}
	return f.logErr
}

func (f *fake) AuthenticateLegacy(context.Context, string, broker.LegacyCall) (broker.Tenant, error) {
	return broker.Tenant{ID: 2, Name: "demo"}, f.err
}

func (f *fake) KeepSession(_ context.Context, actor broker.Tenant, _ int64, _ time.Duration, _ int) (broker.Session, error) {
	f.actor = actor
	return f.session, f.err
}

func (f *fake) AddLegacyKey(_ context.Context, actor broker.Tenant, _ int64, key, note string) (broker.LegacyKey, string, error) {
	f.actor = actor
	return broker.LegacyKey{ID: 1, Note: note}, key, f.err
}

func (f *fake) RemoveLegacyKey(_ context.Context, actor broker.Tenant, _, _ int64) error {
	f.actor = actor
	return f.err
}

func (f *fake) LegacyReport(_ context.Context, actor broker.Tenant) ([]broker.Tenant, error) {
	f.actor = actor
	return nil, f.err
}

func (f *fake) Tenant(context.Context, broker.Tenant, int64) (broker.Tenant, error) {
	return f.tenants[2], f.err
}

func (f *fake) VisibleTenants(context.Context, broker.Tenant) ([]broker.Tenant, error) {
	return []broker.Tenant{f.tenants[2]}, f.err
}

func (f *fake) CreateTenant(_ context.Context, _, t broker.Tenant) (broker.Tenant, string, error) {
	return t, goodKey, f.err
}

func (f *fake) UpdateTenant(_ context.Context, _ broker.Tenant, _ int64, u broker.TenantUpdate) (broker.Tenant, string, error) {
	f.tenantUpdate = u
	return f.tenants[2], goodKey, f.err
}

func (f *fake) FindSessions(ctx context.Context, actor broker.Tenant, filter broker.SessionFilter) ([]broker.Session, error) {
	f.sessionFilter = filter
	return f.Sessions(ctx, actor)
}

func (f *fake) FindNodes(ctx context.Context, actor broker.Tenant, filter broker.NodeFilter) ([]broker.Node, error) {
	f.nodeFilter = filter
	return f.Nodes(ctx, actor)
}

func (f *fake) SessionEvents(context.Context, broker.Tenant, int64, int64, int) ([]broker.Event, error) {
	return f.events, f.err
}

func (f *fake) Events(context.Context, broker.Tenant, int64) ([]broker.Event, int64, error) {
	return nil, 0, f.err
}

func (f *fake) LastEvent(context.Context) (int64, error) { return 0, f.err }

func (f *fake) Stats(context.Context, broker.Tenant) ([]broker.Handouts, error) {
	return []broker.Handouts{{TenantID: 2, Pool: "small", Nodes: 7}}, f.err
}

func (f *fake) Snapshot(_ context.Context, actor broker.Tenant) (broker.Snapshot, error) {
	f.actor = actor
	return broker.Snapshot{FormatVersion: broker.SnapshotVersion, Running: broker.Running{Pools: []broker.Pool{f.pool}, Runs: 8}}, f.err
}

func (f *fake) TenantDefaults() broker.TenantDefaults { return broker.TenantDefaults{} }

func (f *fake) CreateHost(_ context.Context, actor broker.Tenant, h broker.Host) (broker.Host, error) {
	f.actor, f.host = actor, h
	h.Inventory, h.ID = broker.APIInventory, 5
	return h, f.err
}

func (f *fake) RetireHost(_ context.Context, actor broker.Tenant, id int64) (broker.HostStatus, error) {
	f.actor = actor
	return broker.HostStatus{Host: broker.Host{ID: id, RetiredAt: time.Unix(1, 0)}}, f.err
}

func (f *fake) RepairHost(_ context.Context, actor broker.Tenant, id int64) (broker.HostStatus, error) {
	f.actor = actor
	return broker.HostStatus{Host: broker.Host{ID: id, Name: "n1"}}, f.err
}

func (f *fake) Host(_ context.Context, actor broker.Tenant, _ int64) (broker.HostStatus, error) {
	f.actor = actor
	return broker.HostStatus{Host: f.host}, f.err
}

func (f *fake) FindHosts(_ context.Context, _ broker.Tenant, filter broker.NodeFilter) ([]broker.HostStatus, error) {
	f.nodeFilter = filter
	return nil, f.err
}

func (f *fake) HoldNode(_ context.Context, actor broker.Tenant, _ int64, reason string) (broker.Node, error) {
	f.actor, f.reason = actor, reason
	return f.node, f.err
}

func (f *fake) ReleaseHold(_ context.Context, actor broker.Tenant, _ int64) (broker.Node, error) {
	f.actor = actor
	return f.node, f.err
}

func (f *fake) OpenWorkspace(_ context.Context, actor broker.Tenant, _ int64, reason string) (broker.Node, string, error) {
	f.actor, f.reason = actor, reason
	return f.node, "/data/workspaces/1", f.err
}

func (f *fake) ReturnWorkspace(_ context.Context, actor broker.Tenant, _ int64, discard bool) (broker.Node, error) {
	f.actor, f.discard = actor, discard
	return f.node, f.err
}

func (f *fake) Reload(_ context.Context, actor broker.Tenant, confirm string) (broker.Reload, error) {
	f.actor, f.reason = actor, confirm
	return f.reloaded, f.err
}

func (f *fake) PoolStatus(_ context.Context, actor broker.Tenant, name string) (broker.PoolStatus, error) {
	f.actor, f.status.Pool.Name = actor, name
	return f.status, f.err
}

func (f *fake) Rollouts(_ context.Context, actor broker.Tenant) ([]broker.RolloutStatus, error) {
	f.actor = actor
	return []broker.RolloutStatus{f.rollout}, f.err
}

func (f *fake) OrderRollout(_ context.Context, actor broker.Tenant, pool string, order broker.RolloutOrder, reason string) (broker.RolloutStatus, error) {
	f.actor, f.ordered = actor, []string{pool, string(order), reason}
	return f.rollout, f.err
}

func (f *fake) LastReload(_ context.Context, actor broker.Tenant) (broker.Reload, error) {
	f.actor = actor
	return f.reloaded, f.err
}

func newFake() *fake {
	created := time.Date(2026, 11, 23, 17, 32, 29, 383593123, time.UTC)
	quota, lifetime := 4, 90*time.Minute+500*time.Millisecond
	outputs := broker.Outputs{
		Address: "127.10.0.2", Hostname: "node-00000000000000aa", SSHUser: "root", SSHPort: 2222,
		HostKeys: []string{"ssh-ed25519 AAAAhost"}, Data: json.RawMessage(`{"serial": 1, "text": "<&>", "arch": "aarch64"}`),
	}
	spec := broker.NodesSpec{Pool: "small", Quantity: 2}
	return &fake{
		session: broker.Session{
			ID: 7, TenantID: 2, State: broker.SessionActive, Specs: []broker.NodesSpec{spec},
			CreatedAt: created, ExpiresAt: created.Truncate(time.Second).Add(6 * time.Hour),
			Nodes: []broker.LentNode{
				{ID: 1, Pool: "small", Spec: spec, Outputs: outputs},
				{ID: 2, Pool: "small", Spec: spec, Outputs: broker.Outputs{Address: "127.10.0.3", Hostname: "node-00000000000000ab"}},
			},
		},
		node: broker.Node{
			ID: 1, Pool: "small", State: broker.NodeDeployed, CreatedAt: created, SessionID: 7, Outputs: outputs,
			Failure: "secret of operators",
		},
		pool:    broker.Pool{Name: "small", FillLevel: 5, Description: "not for Duffy's client", Module: "/secret/path"},
		levels:  broker.PoolLevels{Provisioning: 1, Ready: 2, Contextualizing: 3, Deployed: 4, Deprovisioning: 5},
		tenants: map[int64]broker.Tenant{2: {ID: 2, Name: "demo", SSHKey: "ssh-ed25519 AAAAtenant", KeyHash: []byte("secret"), CreatedAt: created, NodeQuota: &quota, SessionLifetime: &lifetime}},
		events: []broker.Event{
			{Seq: 3, At: created, Kind: broker.EventNode, Pool: "small", NodeID: 1, SessionID: 7, From: "ready", To: "reserved"},
			{Seq: 4, At: created, Kind: broker.EventSession, SessionID: 7, TenantID: 2, From: "preparing", To: "active", Message: "<text>"},
		},
		// Node 2 is gone from the store.
		nodes:     map[int64]broker.Node{1: {ID: 1, SessionID: 7, State: broker.NodeDeployed}},
		abandoned: make(chan int64, 1),
	}
}

// start serves the API and gives its URL.
func start(t *testing.T, cfg Config) string {
	t.Helper()
	return startWithin(t, cfg, readTimeout)
}

// startWithin is start with a time limit for requests to arrive.
func startWithin(t *testing.T, cfg Config, limit time.Duration) string {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	srv := httptest.NewUnstartedServer(nil)
	srv.Config = NewServer(New(cfg))
	if srv.Config.ReadTimeout != readTimeout {
		t.Errorf("requests may take %s to arrive", srv.Config.ReadTimeout)
	}
	srv.Config.ReadTimeout = limit
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL
}

type answerSeen struct {
	status int
	header http.Header
	body   string
}

func send(t *testing.T, method, url, body string, change func(*http.Request)) answerSeen {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(req)
	}
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	resp, err := transport.RoundTrip(req) // follows no redirect
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	a := answerSeen{resp.StatusCode, resp.Header, string(b)}
	checkAnswer(t, method, req.URL.Path, a)
	return a
}

func asDemo(req *http.Request) { req.SetBasicAuth("demo", goodKey) }

func wireError(t *testing.T, a answerSeen) v1.Error {
	t.Helper()
	var e v1.Error
	if err := json.Unmarshal([]byte(a.body), &e); err != nil {
		t.Fatalf("%q is no error: %v", a.body, err)
	}
	if got := a.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type %q", got)
	}
	return e
}

func TestAnswers(t *testing.T) {
	tests := map[string]struct{ method, path, body string }{
		"session-create": {http.MethodPost, "/api/v1/sessions", `{"nodes_specs": [{"pool": "small", "quantity": 2}]}`},
		"session-show":   {http.MethodGet, "/api/v1/sessions/7", ""},
		"session-update": {http.MethodPut, "/api/v1/sessions/7", `{"active": false}`},
		"sessions":       {http.MethodGet, "/api/v1/sessions", ""},
		"pool":           {http.MethodGet, "/api/v1/pools/small", ""},
		"pools":          {http.MethodGet, "/api/v1/pools", ""},
		"node":           {http.MethodGet, "/api/v1/nodes/1", ""},
		"nodes":          {http.MethodGet, "/api/v1/nodes", ""},
		"node-create": {
			http.MethodPost, "/api/v1/nodes",
			`{"hostname": "n1.example.net", "ipaddr": "192.0.2.1", "comment": "c", "pool": "p", "reusable": "no", "data": {"text": "<&>", "arch": "aarch64", "n": 1.50}}`,
		},
		"node-update":    {http.MethodPut, "/api/v1/nodes/5", `{"active": false}`},
		"tenant":         {http.MethodGet, "/api/v1/tenants/2", ""},
		"tenants":        {http.MethodGet, "/api/v1/tenants", ""},
		"tenant-update":  {http.MethodPut, "/api/v1/tenants/2", `{"api_key": "reset", "previous_api_key": "keep"}`},
		"tenant-create":  {http.MethodPost, "/api/v1/tenants", `{"name": "ci", "ssh_key": "ssh-ed25519 AAAA", "node_quota": 3, "session_lifetime": "1d"}`},
		"whoami":         {http.MethodGet, "/api/v1/whoami", ""},
		"stats":          {http.MethodGet, "/api/v1/stats", ""},
		"session-events": {http.MethodGet, "/api/v1/sessions/7/events", ""},
		"health":         {http.MethodGet, "/health", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			url := start(t, Config{Broker: newFake(), Version: "1.2.3"})
			a := send(t, test.method, url+test.path, test.body, asDemo)
			got := fmt.Sprintf("%d\n%s\n", a.status, a.body)
			golden := filepath.Join("testdata", "answers", name+".golden")
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("differs from %s (-want +got):\n%s", golden, diff)
			}
			if strings.Contains(a.body, "secret") {
				t.Errorf("a secret is out: %s", a.body)
			}
		})
	}
}

func TestAuthentication(t *testing.T) {
	header := func(value string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Authorization", value) }
	}
	basic := func(name, key string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(name, key) }
	}
	const lower = "basic ZGVtbzphZTZjMTBkMC0wYjEzLTU1NGMtYjk3Ni1hMDVkOGExOGYwY2M="
	tests := map[string]struct {
		change    func(*http.Request)
		status    int
		detail    string
		challenge bool
	}{
		"nothing":           {nil, 401, "Not authenticated", true},
		"other scheme":      {header("Bearer abc"), 401, "Not authenticated", true},
		"no parameter":      {header("Basic"), 401, "Invalid authentication credentials", true},
		"bad base64":        {header("Basic !!!"), 401, "Invalid authentication credentials", true},
		"no colon":          {header("Basic ZGVtbw=="), 401, "Invalid authentication credentials", true},
		"not ASCII":         {basic("dém", goodKey), 401, "Invalid authentication credentials", true},
		"wrong key":         {basic("demo", "x"), 401, "Unauthorized", false},
		"upper case":        {basic("demo", strings.ToUpper(goodKey)), 401, "Unauthorized", false},
		"retired":           {basic("retired", goodKey), 403, "Forbidden", false},
		"retired wrong key": {basic("retired", "x"), 401, "Unauthorized", false},
		"store broken":      {basic("broken", goodKey), 500, "internal error", false},
		"right":             {asDemo, 200, "", false},
		"scheme in lower":   {header(lower), 200, "", false},
	}
	url := start(t, Config{Broker: newFake()})
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			for _, path := range []string{"/api/v1/sessions", "/api/v1/sessions/7", "/api/v1/pools"} {
				a := send(t, http.MethodGet, url+path, "", test.change)
				if a.status != test.status {
					t.Fatalf("%s: status %d, want %d: %s", path, a.status, test.status, a.body)
				}
				if test.status != 200 {
					if got := wireError(t, a).Detail; got != test.detail {
						t.Errorf("%s: detail %q, want %q", path, got, test.detail)
					}
				}
				want := ""
				if test.challenge {
					want = `Basic realm="duffy"`
				}
				if got := a.header.Get("WWW-Authenticate"); got != want {
					t.Errorf("%s: WWW-Authenticate %q, want %q", path, got, want)
				}
			}
		})
	}
}

func TestRoutes_needAuthentication(t *testing.T) {
	h := New(Config{Broker: newFake(), Log: slog.New(slog.DiscardHandler)})
	routes := h.(*gin.Engine).Routes()
	if len(routes) < 16 {
		t.Fatalf("only %d routes", len(routes))
	}
	for _, route := range routes {
		path := strings.NewReplacer(":id", "7", ":name", "small", ":mac", "52:54:00:00:00:01").Replace(route.Path)
		rec := httptest.NewRecorder()
		// A body that is not even JSON: authentication comes first.
		h.ServeHTTP(rec, httptest.NewRequest(route.Method, path, strings.NewReader("{")))
		want := http.StatusUnauthorized
		switch {
		case strings.HasPrefix(route.Path, "/health"), strings.HasPrefix(route.Path, "/boot/mac/"), route.Path == "/readyz", route.Path == "/openapi.json", route.Path == "/docs":
			want = http.StatusOK
		case strings.HasPrefix(route.Path, "/Node/"), route.Path == "/Inventory", strings.HasSuffix(route.Path, "/webhook"):
			want = http.StatusNotFound // there is no legacy API without its settings, no webhook without its secret
		}
		if rec.Code != want {
			t.Errorf("%s %s without credentials: %d, want %d", route.Method, route.Path, rec.Code, want)
		}
	}
}

func TestAnonymousRead(t *testing.T) {
	f := newFake()
	url := start(t, Config{Broker: f, AnonymousRead: true})
	wrong := func(r *http.Request) { r.SetBasicAuth("demo", "x") }
	bearer := func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }
	tests := []struct {
		method, path string
		change       func(*http.Request)
		status       int
		actor        broker.Tenant
	}{
		{"GET", "/api/v1/sessions", nil, 200, everybody()},
		{"GET", "/api/v1/sessions", bearer, 200, everybody()},
		{"GET", "/api/v1/nodes", nil, 200, everybody()},
		{"GET", "/api/v1/sessions", wrong, 401, broker.Tenant{}},
		{"GET", "/api/v1/sessions", asDemo, 200, broker.Tenant{ID: 2, Name: "demo"}},
		{"GET", "/api/v1/pools", wrong, 200, broker.Tenant{}},
		{"GET", "/api/v1/pools/small", nil, 200, broker.Tenant{}},
		{"GET", "/api/v1/sessions/7", nil, 401, broker.Tenant{}},
		{"GET", "/api/v1/nodes/7", nil, 401, broker.Tenant{}},
		{"PUT", "/api/v1/sessions/7", nil, 401, broker.Tenant{}},
		{"POST", "/api/v1/sessions", nil, 401, broker.Tenant{}},
	}
	for _, test := range tests {
		f.actor = broker.Tenant{}
		a := send(t, test.method, url+test.path, "", test.change)
		if a.status != test.status {
			t.Errorf("%s %s: status %d, want %d", test.method, test.path, a.status, test.status)
		}
		if diff := cmp.Diff(test.actor, f.actor); diff != "" {
			t.Errorf("%s %s: actor (-want +got):\n%s", test.method, test.path, diff)
		}
	}
}

func TestErrors(t *testing.T) {
	tests := map[string]struct {
		err    error
		status int
		want   v1.Error
	}{
		"invalid":      {broker.Errorf(broker.CodeInvalid, "bad"), 422, v1.Error{Detail: "bad", Code: "invalid"}},
		"not found":    {broker.Errorf(broker.CodeNotFound, "there is no session 7"), 404, v1.Error{Detail: "Not Found", Code: "not_found", Hint: "there is no session 7"}},
		"conflict":     {broker.Errorf(broker.CodeConflict, "tenant 'x' exists already"), 409, v1.Error{Detail: "tenant 'x' exists already", Code: "conflict"}},
		"transition":   {&broker.TransitionError{Object: "node 1"}, 409, v1.Error{Detail: "the object has changed meanwhile; try again", Code: "conflict", Hint: "look at it as it is now: its state has changed meanwhile, or does not allow that"}},
		"forbidden":    {broker.Errorf(broker.CodeForbidden, "not yours: 100%%s"), 403, v1.Error{Detail: "Forbidden", Code: "forbidden", Hint: "not yours: 100%s"}},
		"unauthorized": {broker.Errorf(broker.CodeUnauthorized, "who?"), 401, v1.Error{Detail: "Unauthorized", Code: "unauthorized", Hint: "who?"}},
		"quota":        {broker.Errorf(broker.CodeQuota, "quota exceeded"), 403, v1.Error{Detail: "quota exceeded", Code: "quota"}},
		"capacity":     {broker.Errorf(broker.CodeCapacity, "too few").WithHint("wait"), 422, v1.Error{Detail: "too few", Code: "capacity", Hint: "wait"}},
		"unavailable":  {broker.Errorf(broker.CodeUnavailable, "later"), 503, v1.Error{Detail: "later", Code: "unavailable"}},
		"internal":     {broker.Errorf(broker.CodeInternal, "secret"), 500, v1.Error{Detail: "internal error", Code: "internal"}},
		"unknown":      {errors.New("secret"), 500, v1.Error{Detail: "internal error", Code: "internal"}},
		"cause":        {broker.Wrap(broker.CodeUnavailable, errors.New("secret"), "later"), 503, v1.Error{Detail: "later", Code: "unavailable"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.err = test.err
			url := start(t, Config{Broker: f})
			a := send(t, http.MethodPut, url+"/api/v1/sessions/7", "{}", asDemo)
			if a.status != test.status {
				t.Errorf("status %d, want %d", a.status, test.status)
			}
			if diff := cmp.Diff(test.want, wireError(t, a)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got, want := a.header.Get("Retry-After") != "", test.status == 503; got != want {
				t.Errorf("Retry-After is there: %t, want %t", got, want)
			}
			if a.header.Get("X-Request-Id") == "" {
				t.Error("no X-Request-Id")
			}
		})
	}
	t.Run("forbidden request keeps its words", func(t *testing.T) {
		f := newFake()
		f.err = broker.Errorf(broker.CodeForbidden, "can't create session for other tenant")
		url := start(t, Config{Broker: f})
		a := send(t, http.MethodPost, url+"/api/v1/sessions", `{"nodes_specs": []}`, asDemo)
		if got := wireError(t, a); a.status != 403 || got.Detail != "can't create session for other tenant" {
			t.Errorf("%d %+v", a.status, got)
		}
	})
}

func TestHTTP(t *testing.T) {
	url := start(t, Config{Broker: newFake()})

	t.Run("HEAD works like GET", func(t *testing.T) {
		for _, path := range []string{"/api/v1/sessions", "/api/v1/sessions/7", "/api/v1/pools", "/api/v1/pools/small", "/api/v1/nodes", "/api/v1/nodes/1", "/health"} {
			get, head := send(t, http.MethodGet, url+path, "", asDemo), send(t, http.MethodHead, url+path, "", asDemo)
			if head.status != http.StatusOK || head.body != "" {
				t.Errorf("%s: %d %q", path, head.status, head.body)
			}
			if got, want := head.header.Get("Content-Length"), fmt.Sprint(len(get.body)); got != want {
				t.Errorf("%s: length %s, want %s", path, got, want)
			}
		}
	})

	t.Run("405 says what is allowed", func(t *testing.T) {
		for path, allow := range map[string]string{
			"/api/v1/sessions": "GET, HEAD, POST", "/api/v1/sessions/7": "GET, HEAD, PUT", "/api/v1/pools": "GET, HEAD", "/health": "GET, HEAD",
		} {
			a := send(t, http.MethodDelete, url+path, "", asDemo)
			if got := wireError(t, a); a.status != 405 || got.Detail != "Method Not Allowed" {
				t.Errorf("%s: %d %+v", path, a.status, got)
			}
			if got := sortedWords(a.header.Get("Allow")); got != allow {
				t.Errorf("%s: Allow %q, want %q", path, got, allow)
			}
		}
	})

	t.Run("trailing slash", func(t *testing.T) {
		for path, want := range map[string]string{
			"/api/v1/sessions/": "/api/v1/sessions", "/api/v1/pools//?a=b": "/api/v1/pools?a=b", "/api/v1/pools/small/": "/api/v1/pools/small", "/health/": "/health",
		} {
			a := send(t, http.MethodGet, url+path, "", asDemo)
			if a.status != http.StatusTemporaryRedirect || a.header.Get("Location") != url+want || a.body != "" {
				t.Errorf("%s: %d to %q", path, a.status, a.header.Get("Location"))
			}
		}
		a := send(t, http.MethodPost, url+"/api/v1/sessions/", "{}", func(r *http.Request) { r.Header.Set("X-Forwarded-Proto", "https") })
		if got, want := a.header.Get("Location"), "https"+strings.TrimPrefix(url, "http")+"/api/v1/sessions"; got != want {
			t.Errorf("behind TLS: %q, want %q", got, want)
		}
	})

	t.Run("404", func(t *testing.T) {
		for _, path := range []string{"/", "/nothing", "/nothing/", "/api/v1", "/api/v1/sessions/7/more", "//evil.example.net/", "/api/v1//sessions"} {
			a := send(t, http.MethodGet, url+path, "", asDemo)
			if got := wireError(t, a); a.status != 404 || got.Detail != "Not Found" {
				t.Errorf("%s: %d %+v", path, a.status, got)
			}
		}
	})

	t.Run("X-Request-Id", func(t *testing.T) {
		for sent, kept := range map[string]bool{
			"": false, "abc-123": true, "018f3f5e-1b1c-7000-8000-000000000000": true, "a b": false, "<script>": false, strings.Repeat("a", 129): false, strings.Repeat("a", 128): true,
		} {
			a := send(t, http.MethodGet, url+"/health", "", func(r *http.Request) { r.Header.Set("X-Request-Id", sent) })
			got := a.header.Get("X-Request-Id")
			if kept && got != sent || !kept && len(got) != 36 {
				t.Errorf("sent %q, got %q", sent, got)
			}
		}
		for _, path := range []string{"/nothing", "/health/"} {
			if a := send(t, http.MethodGet, url+path, "", nil); a.header.Get("X-Request-Id") == "" {
				t.Errorf("%s: none", path)
			}
		}
	})

	t.Run("body limit", func(t *testing.T) {
		large := `{"x": "` + strings.Repeat("a", maxBodyBytes) + `"}`
		a := send(t, http.MethodPost, url+"/api/v1/sessions", large, asDemo)
		if got := wireError(t, a); a.status != http.StatusRequestEntityTooLarge || got.Code != "invalid" {
			t.Errorf("%d %+v", a.status, got)
		}
		if a := send(t, http.MethodPost, url+"/api/v1/sessions", large, nil); a.status != http.StatusUnauthorized {
			t.Errorf("of a stranger: %d, want 401", a.status)
		}
	})
}

// TestSlowBody: a client that promises a body and never sends it gets an answer
// and loses its connection, authenticated or not.
func TestSlowBody(t *testing.T) {
	url := startWithin(t, Config{Broker: newFake()}, 20*time.Millisecond)
	key := base64.StdEncoding.EncodeToString([]byte("demo:" + goodKey))
	for authorization, status := range map[string]string{"Basic " + key: "422", "none": "401"} {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = fmt.Fprintf(conn, "POST /api/v1/sessions HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\nAuthorization: %s\r\n\r\n{", authorization)
		answer, err := io.ReadAll(conn) // until the server closes
		if err := errors.Join(err, conn.Close()); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 "+status) {
			t.Errorf("%s: %q, %v; want status %s", authorization, answer, err, status)
		}
	}
}

// TestSlowHandler: the time limit for a request to arrive must not end the work on it.
func TestSlowHandler(t *testing.T) {
	f := newFake()
	f.waiting = make(chan struct{})
	f.patience = 100 * time.Millisecond
	url := startWithin(t, Config{Broker: f}, 20*time.Millisecond)
	if a := send(t, http.MethodPost, url+"/api/v1/sessions", sessionBody, asDemo); a.status != http.StatusCreated {
		t.Errorf("%d %s", a.status, a.body)
	}
}

func sortedWords(list string) string {
	words := strings.Split(list, ", ")
	for i := range words {
		for j := i + 1; j < len(words); j++ {
			if words[j] < words[i] {
				words[i], words[j] = words[j], words[i]
			}
		}
	}
	return strings.Join(words, ", ")
}

func TestPanic(t *testing.T) {
	f := newFake()
	f.panics = true
	var log bytes.Buffer
	h := New(Config{Broker: f, Log: slog.New(slog.NewTextHandler(&log, nil))})
	req := httptest.NewRequest(http.MethodGet, "/api/v1/sessions", nil)
	asDemo(req)
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	a := answerSeen{rec.Code, rec.Header(), rec.Body.String()}
	if diff := cmp.Diff(v1.Error{Detail: "internal error", Code: "internal"}, wireError(t, a)); diff != "" || a.status != 500 {
		t.Errorf("status %d (-want +got):\n%s", a.status, diff)
	}
	for _, want := range []string{"handler panicked", "secret in a panic", "api_test.go", "status=500"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log.String())
		}
	}
}

func TestAccessLog(t *testing.T) {
	var log bytes.Buffer
	f := newFake()
	h := New(Config{Broker: f, Log: slog.New(slog.NewJSONHandler(&log, nil))})
	serve := func(change func(*http.Request)) map[string]any {
		log.Reset()
		req := httptest.NewRequest(http.MethodGet, "/api/v1/sessions/7?key=secret", nil)
		req.Header.Set("X-Request-Id", "id-1")
		change(req)
		h.ServeHTTP(httptest.NewRecorder(), req)
		if strings.Contains(log.String(), "secret") || strings.Contains(log.String(), goodKey) {
			t.Errorf("a secret in the log: %s", log.String())
		}
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines, want 1:\n%s", n, log.String())
		}
		var line map[string]any
		if err := json.Unmarshal(log.Bytes(), &line); err != nil {
			t.Fatal(err)
		}
		delete(line, "time")
		delete(line, "duration")
		return line
	}
	want := map[string]any{
		"level": "INFO", "msg": "request", "method": "GET", "path": "/api/v1/sessions/7", "status": 200.0, "tenant": "demo", "request_id": "id-1",
	}
	if diff := cmp.Diff(want, serve(asDemo)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want["status"], want["tenant"] = 401.0, ""
	if diff := cmp.Diff(want, serve(func(r *http.Request) { r.SetBasicAuth("secret", "secret") })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	f.err = errors.New("disk full")
	want["status"], want["tenant"], want["level"], want["error"] = 500.0, "demo", "ERROR", "disk full"
	if diff := cmp.Diff(want, serve(asDemo)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want["level"] = "INFO" // the client had gone
	if diff := cmp.Diff(want, serve(func(r *http.Request) { asDemo(r); *r = *r.WithContext(ctx) })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const sessionBody = `{"nodes_specs": [{"pool": "small", "quantity": 2}]}`

func TestClientGone_beforeAnswer(t *testing.T) {
	f := newFake()
	f.waiting, f.patience = make(chan struct{}), time.Hour
	url := start(t, Config{Broker: f})
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.waiting
		cancel()
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/v1/sessions", strings.NewReader(sessionBody))
	if err != nil {
		t.Fatal(err)
	}
	asDemo(req)
	if resp, err := new(http.Transport).RoundTrip(req); err == nil {
		_ = resp.Body.Close()
		t.Fatalf("got an answer: %d", resp.StatusCode)
	}
	if id := <-f.abandoned; id != 7 {
		t.Errorf("session %d abandoned, want 7", id)
	}
}

// brokenWriter is a connection that breaks while the answer is written.
type brokenWriter struct {
	*httptest.ResponseRecorder
	write, flush error
}

func (w brokenWriter) Write(b []byte) (int, error) {
	if w.write != nil {
		return 0, w.write
	}
	return w.ResponseRecorder.Write(b)
}

func (w brokenWriter) FlushError() error { return w.flush }

func TestClientGone_withinAnswer(t *testing.T) {
	broken := errors.New("broken pipe")
	tests := map[string]struct {
		write, flush, abandonErr error
		key                      string
		abandoned                bool
	}{
		"it can ask again":            {write: broken, flush: broken, key: "k"},
		"write fails":                 {write: broken, abandoned: true},
		"flush fails":                 {flush: broken, abandoned: true},
		"can't be retired either":     {flush: broken, abandonErr: broken, abandoned: true},
		"everything in order: no one": {},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.abandonErr = test.abandonErr
			h := New(Config{Broker: f, Log: slog.New(slog.DiscardHandler)})
			req := httptest.NewRequest(http.MethodPost, "/api/v1/sessions", strings.NewReader(sessionBody))
			asDemo(req)
			req.Header.Set("Idempotency-Key", test.key)
			h.ServeHTTP(brokenWriter{httptest.NewRecorder(), test.write, test.flush}, req)
			if f.request.IdempotencyKey != test.key {
				t.Errorf("idempotency key %q, want %q", f.request.IdempotencyKey, test.key)
			}
			close(f.abandoned)
			id, abandoned := <-f.abandoned
			if abandoned != test.abandoned || abandoned && id != 7 {
				t.Errorf("abandoned session %d: %t, want %t", id, abandoned, test.abandoned)
			}
		})
	}
}

func TestProvision(t *testing.T) {
	tests := map[string]string{
		``:                                `{"hostname":"n"}`,
		`null`:                            `{"hostname":"n"}`,
		`{"a": 1}`:                        `{"a":1,"hostname":"n"}`,
		`{"hostname": "own", "x": [1.0]}`: `{"hostname":"own","x":[1.0]}`,
		`[1]`:                             `{"data":[1],"hostname":"n"}`,
		`"text"`:                          `{"data":"text","hostname":"n"}`,
		`broken`:                          `{"hostname":"n"}`,
	}
	for data, want := range tests {
		got := provision(broker.Outputs{Hostname: "n", Data: json.RawMessage(data)})
		if string(got) != want {
			t.Errorf("provision(%s) = %s, want %s", data, got, want)
		}
	}
}

// A monitor that asks for /health hears of a store that takes no changes.
func TestHealth(t *testing.T) {
	for _, test := range []struct {
		err    error
		status int
		text   string
	}{
		{nil, http.StatusOK, `"status": "ok"`},
		{errors.New("no space left on /secret/path"), http.StatusServiceUnavailable, "the store takes no changes"},
	} {
		answer := httptest.NewRecorder()
		New(Config{Broker: &fake{err: test.err}, Log: slog.New(slog.DiscardHandler)}).ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/health", nil))
		body := strings.ReplaceAll(answer.Body.String(), `":"`, `": "`)
		if answer.Code != test.status || !strings.Contains(body, test.text) || strings.Contains(body, "/secret/path") {
			t.Errorf("with %v: status %d, %s", test.err, answer.Code, body)
		}
	}
}

func TestNodeLogs(t *testing.T) {
	f := newFake()
	url := start(t, Config{Broker: f}) + "/api/v1/nodes/7/logs"
	f.lines = []string{"{\"a\":1}\n", "{\"b\":2}\n"}
	a := send(t, http.MethodGet, url+"?follow=true&run=3", "", asDemo)
	if a.status != http.StatusOK || a.body != "{\"a\":1}\n{\"b\":2}\n" || a.header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d %v %s", a.status, a.header, a.body)
	}
	if want := (broker.NodeLogRequest{Node: 7, Run: 3, Follow: true}); f.logs != want {
		t.Errorf("asked for %+v, want %+v", f.logs, want)
	}
	f.logErr = broker.Errorf(broker.CodeUnavailable, "the rest is lost")
	if a := send(t, http.MethodGet, url, "", asDemo); a.status != http.StatusOK || !strings.HasSuffix(a.body, `{"@level":"error","@message":"the rest is lost","code":"unavailable","hint":"","type":"error"}`+"\n") {
		t.Errorf("an error in the middle: %d %s", a.status, a.body)
	}
	f.lines = nil
	if a := send(t, http.MethodGet, url, "", asDemo); a.status != http.StatusServiceUnavailable {
		t.Errorf("an error before the first line: %d %s", a.status, a.body)
	}
	f.logErr = nil
	if a := send(t, http.MethodGet, url, "", asDemo); a.status != http.StatusOK || a.body != "" {
		t.Errorf("an empty log: %d %s", a.status, a.body)
	}
	if a := send(t, http.MethodGet, url+"?run=x", "", asDemo); a.status != http.StatusUnprocessableEntity {
		t.Errorf("a bad run: %d %s", a.status, a.body)
	}
}

// A stream ends when the server stops, and says so; without it a follower would
// hold up the end of the process.
func TestNodeLogsEndWhenStopping(t *testing.T) {
	f := newFake()
	stopping := make(chan struct{})
	f.lines, f.logWaits = []string{"{\"a\":1}\n"}, make(chan struct{})
	url := start(t, Config{Broker: f, Stopping: stopping}) + "/api/v1/nodes/7/logs?follow=true"
	go func() {
		<-f.logWaits
		close(stopping)
	}()
	a := send(t, http.MethodGet, url, "", asDemo)
	if a.status != http.StatusOK || !strings.HasPrefix(a.body, "{\"a\":1}\n") || !strings.Contains(a.body, "the broker is stopping") {
		t.Errorf("%d %s", a.status, a.body)
	}
	// HEAD follows nothing.
	f.logWaits = nil
	if a := send(t, http.MethodHead, url, "", asDemo); a.status != http.StatusOK || f.logs.Follow {
		t.Errorf("HEAD: %d, %+v", a.status, f.logs)
	}
}
