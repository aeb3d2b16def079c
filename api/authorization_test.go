package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Who may call: the columns of the table below. The objects belong to "tenant",
// and so "other" is another tenant.
var callers = []string{"anonymous", "wrong key for tenant", "retired", "other", "tenant", "admin"}

// statuses are the answers to the callers, in their order.
type statuses [6]int

// Rows that many routes share.
var (
	everyTenant = statuses{401, 401, 403, 200, 200, 200}
	ownOnly     = statuses{401, 401, 403, 403, 200, 200}
	adminOnly   = statuses{401, 401, 403, 403, 403, 200}
	public      = statuses{200, 200, 200, 200, 200, 200}
	strangers   = statuses{401, 401, 401, 401, 401, 401}
	nothing     = statuses{404, 404, 404, 404, 404, 404}
)

// authorization says of every route what it answers to whom. HEAD is as GET.
var authorization = map[string]struct {
	body string
	want statuses
}{
	"POST /api/v1/sessions":                       {`{"nodes_specs": [{"pool": "physical-centos7-x86_64", "quantity": 1}]}`, statuses{401, 401, 403, 201, 201, 201}},
	"GET /api/v1/sessions":                        {"", everyTenant},
	"GET /api/v1/sessions/:id":                    {"", ownOnly},
	"PUT /api/v1/sessions/:id":                    {`{"expires_at": "+1m"}`, ownOnly},
	"GET /api/v1/sessions/:id/events":             {"", ownOnly},
	"GET /api/v1/pools":                           {"", everyTenant},
	"GET /api/v1/pools/:name":                     {"", everyTenant},
	"GET /api/v1/pools/:name/status":              {"", everyTenant},
	"GET /api/v1/nodes":                           {"", everyTenant},
	"POST /api/v1/nodes":                          {`{"hostname": "h", "ipaddr": "192.0.2.1"}`, statuses{401, 401, 403, 403, 403, 201}},
	"GET /api/v1/nodes/:id":                       {"", ownOnly},
	"PUT /api/v1/nodes/:id":                       {`{"active": false}`, statuses{401, 401, 403, 403, 403, 422}}, // Terraform made it
	"GET /api/v1/nodes/:id/logs":                  {"", adminOnly},
	"POST /api/v1/nodes/:id/hold":                 {`{}`, statuses{401, 401, 403, 403, 403, 409}}, // it is lent
	"DELETE /api/v1/nodes/:id/hold":               {"", statuses{401, 401, 403, 403, 403, 409}},   // and not held
	"POST /api/v1/nodes/:id/workspace":            {`{}`, statuses{401, 401, 403, 403, 403, 409}},
	"DELETE /api/v1/nodes/:id/workspace":          {"", statuses{401, 401, 403, 403, 403, 409}},
	"POST /api/v1/tenants":                        {`{"name": "new", "ssh_key": "k"}`, statuses{401, 401, 403, 403, 403, 201}},
	"GET /api/v1/tenants":                         {"", everyTenant},
	"GET /api/v1/tenants/:id":                     {"", ownOnly},
	"PUT /api/v1/tenants/:id":                     {`{"ssh_key": "k"}`, adminOnly}, // as in Duffy: not even its own
	"GET /api/v1/whoami":                          {"", everyTenant},
	"GET /api/v1/events":                          {"", everyTenant},
	"GET /api/v1/stats":                           {"", everyTenant},
	"GET /api/v1/snapshot":                        {"", adminOnly},
	"GET /api/v1/legacy-keys":                     {"", adminOnly},
	"GET /api/v1/rollouts":                        {"", adminOnly},
	"POST /api/v1/rollouts/:name":                 {`{"order": "pause"}`, statuses{401, 401, 403, 403, 403, 409}}, // nothing is stale
	"GET /api/v1/reload":                          {"", adminOnly},
	"POST /api/v1/reload":                         {"", adminOnly},
	"POST /api/v1/reload/webhook":                 {"", nothing},   // it knows no callers, but a secret: see TestWebhook
	"GET /boot/:token/*path":                      {"", strangers}, // nodes have tokens: see TestBoot
	"POST /api/v1/notices":                        {`{"kind": "interruption"}`, strangers},
	"POST /boot/:token/done":                      {`{}`, strangers},
	"GET /boot/mac/:mac":                          {"", public},
	"POST /api/v1/tenants/:id/legacy-keys":        {`{}`, statuses{401, 401, 403, 403, 403, 201}},
	"DELETE /api/v1/tenants/:id/legacy-keys/:key": {"", statuses{401, 401, 403, 403, 403, 204}},
	"GET /health":                                 {"", public},
	"GET /healthz":                                {"", public},
	"GET /readyz":                                 {"", public},
	"GET /metrics":                                {"", adminOnly},
	"GET /openapi.json":                           {"", public},
	"GET /docs":                                   {"", public},
	"GET /Node/get":                               {"", nothing}, // the legacy API knows other keys, and has tests of its own
	"GET /Node/done":                              {"", nothing},
	"GET /Node/fail":                              {"", nothing},
	"GET /Inventory":                              {"", nothing},
}

// TestAuthorization asks every route as every caller, each on a broker of its
// own. A route that is not in the table fails.
func TestAuthorization(t *testing.T) {
	routes := New(Config{Broker: newFake(), Log: slog.New(slog.DiscardHandler)}).(*gin.Engine).Routes()
	seen := make(map[string]bool)
	for _, route := range routes {
		row := strings.Replace(route.Method, http.MethodHead, http.MethodGet, 1) + " " + route.Path
		test, ok := authorization[row]
		if !ok {
			t.Errorf("%s %s has no row in the table: who may use it?", route.Method, route.Path)
			continue
		}
		seen[row] = true
		for i, caller := range callers {
			if got := callAs(t, caller, route, test.body); got != test.want[i] {
				t.Errorf("%s %s as %s: %d, want %d", route.Method, route.Path, caller, got, test.want[i])
			}
		}
	}
	for row := range authorization {
		if !seen[row] {
			t.Errorf("there is no route %s", row)
		}
	}
}

// callAs makes a call about what belongs to "tenant", and gives the status.
func callAs(t *testing.T, caller string, route gin.RouteInfo, body string) int {
	t.Helper()
	b := newRecordedBroker(t)
	session, err := b.RequestSession(t.Context(), broker.Tenant{ID: 2, Name: "tenant"}, broker.SessionRequest{
		Specs: []broker.NodesSpec{{Pool: "physical-centos7-x86_64", Quantity: 1}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.AddLegacyKey(t.Context(), broker.Tenant{IsAdmin: true}, 2, "", ""); err != nil {
		t.Fatal(err)
	}
	id := int64(2) // of the tenant
	switch {
	case strings.Contains(route.Path, "/sessions/"):
		id = session.ID
	case strings.Contains(route.Path, "/nodes/"):
		id = session.Nodes[0].ID
	}
	path := strings.NewReplacer(":id", fmt.Sprint(id), ":name", "physical-centos7-x86_64", ":key", "1", ":mac", "52:54:00:00:00:01").Replace(route.Path)
	stopping := make(chan struct{})
	if strings.HasSuffix(route.Path, "/events") {
		close(stopping) // so that the stream ends
	}
	h := New(Config{Broker: b, Log: slog.New(slog.DiscardHandler), Stopping: stopping, Metrics: plainText("metrics")})
	req := httptest.NewRequest(route.Method, path, strings.NewReader(body))
	recordedAuth(t, caller)(req)
	answer := httptest.NewRecorder()
	h.ServeHTTP(answer, req)
	checkAnswer(t, route.Method, path, answerSeen{answer.Code, answer.Header(), answer.Body.String()})
	if answer.Code == http.StatusForbidden && strings.Contains(answer.Body.String(), "AAAA") {
		t.Errorf("a refusal shows a key: %s", answer.Body)
	}
	return answer.Code
}

// TestListsShowOwn: what a list shows depends on who asks.
func TestListsShowOwn(t *testing.T) {
	b := newRecordedBroker(t)
	url := start(t, Config{Broker: b})
	for _, id := range []int64{2, 3} {
		request(t, b, id, 1)
	}
	for _, test := range []struct {
		path, list    string
		tenant, admin int
	}{
		{"/sessions", "sessions", 1, 2},
		{"/nodes", "nodes", 1, 88},
		{"/tenants", "tenants", 1, 6},
		{"/stats", "handouts", 1, 2},
		{"/sessions?tenant=other", "sessions", 0, 1},
		{"/nodes?state=ready", "nodes", 0, 86},
	} {
		for role, want := range map[string]int{"tenant": test.tenant, "admin": test.admin} {
			a := send(t, http.MethodGet, url+"/api/v1"+test.path, "", recordedAuth(t, role))
			list, ok := decoded(t, []byte(a.body))[test.list].([]any)
			if !ok || len(list) != want {
				t.Errorf("%s as %s: %d, want %d", test.path, role, len(list), want)
			}
		}
	}
}
