package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// fuzzed is a broker that is asked strange things. It is made anew now and then,
// since what was asked stays.
type fuzzed struct {
	handler http.Handler
	log     *bytes.Buffer // its errors: 5xx to clients that were there, and panics
	left    int           // requests until the next one
}

// ask makes a request and checks what must hold of every answer: it is no 5xx,
// nor a panic, and as the document says.
func (f *fuzzed) ask(t *testing.T, method, path, query, role, body string, header map[string]string) answerSeen {
	t.Helper()
	if f.left--; f.left < 0 {
		b := newRecordedBroker(t)
		admin := broker.Tenant{Name: "admin", IsAdmin: true}
		for i, r := range recordedKeys {
			if _, _, err := b.AddLegacyKey(t.Context(), admin, int64(i+1), r.key, ""); err != nil {
				t.Fatal(err)
			}
		}
		for _, pool := range []string{"virtual-centos9stream-x86_64-small", "physical-centos7-x86_64"} {
			if _, err := b.RequestSession(t.Context(), broker.Tenant{ID: 2, Name: "tenant"}, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: pool, Quantity: 1}}}); err != nil {
				t.Fatal(err)
			}
		}
		stopping := make(chan struct{})
		close(stopping) // so that streams end
		log := new(bytes.Buffer)
		errors := slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelError}))
		*f = fuzzed{New(Config{Broker: b, Log: errors, Stopping: stopping, Legacy: recordedLegacy}), log, 300}
	}
	// A hold waits for work on the node to end, and here nobody works.
	limit := 10 * time.Second
	if strings.HasSuffix(path, "/hold") || strings.HasSuffix(path, "/workspace") {
		limit = 20 * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	req := httptest.NewRequestWithContext(ctx, method, "/", strings.NewReader(body))
	req.URL = &url.URL{Path: path, RawQuery: query}
	req.Header.Set("Content-Type", "application/json")
	for name, value := range header {
		req.Header.Set(name, value)
	}
	recordedAuth(t, role)(req)
	recorder := httptest.NewRecorder()
	f.handler.ServeHTTP(recorder, req)
	a := answerSeen{recorder.Code, recorder.Header(), recorder.Body.String()}
	if f.log.Len() > 0 {
		t.Errorf("%s %s?%s as %s with %q: %d %s\n%s", method, path, query, role, body, a.status, a.body, f.log)
		f.log.Reset()
	}
	checkAnswer(t, method, path, a)
	if a.status == http.StatusUnauthorized && role != "anonymous" {
		f.left = 0 // its key was changed: no more can be learnt
	}
	return a
}

// desks are workspaces without directories, by the uid of their node.
type desks map[string]bool

func (d desks) Checkout(n broker.Node, _ []byte) (string, error) {
	d[n.UID] = true
	return "/data/workspaces/" + n.UID, nil
}

func (d desks) Return(broker.Node, []byte) (broker.WorkspaceState, error) {
	return broker.WorkspaceState{Resources: 1}, nil
}
func (d desks) HasWorkspace(n broker.Node) bool        { return d[n.UID] }
func (d desks) DiscardWorkspace(n broker.Node) error   { delete(d, n.UID); return nil }
func (d desks) Workspaces() (uids []string, err error) { return slices.Sorted(maps.Keys(d)), nil }

// fuzzedRoutes is the routes with some methods, with {} for what stands for an
// object in their paths.
func fuzzedRoutes(methods ...string) (list []operation) {
	for _, o := range operations() {
		for _, method := range methods {
			// The broker of these tests is stopping, so that no stream goes on: it is not ready.
			if o.method == method && o.path != "/readyz" {
				o.path = strings.NewReplacer(":id", "{}", ":name", "{}", ":key", "{}").Replace(o.path)
				list = append(list, o)
			}
		}
	}
	return list
}

// FuzzQuery: whatever stands in the path for an object, in the query, and in the
// headers that are read, is answered: filters and paging, and the legacy API.
func FuzzQuery(f *testing.F) {
	routes := fuzzedRoutes(http.MethodGet)
	for i, o := range routes {
		for _, query := range []string{"", "active=false&tenant=a%20b&limit=5&after=7", "pool=physical-centos7-x86_64&state=deployed,failed&limit=99999999999999999999", "after=-1&limit=0", "limit=%zz&&;=&active"} {
			f.Add(uint8(i), "1", query, "3")
		}
		if o.tag == "legacy" {
			for _, query := range []string{"&ver=8-stream&arch=x86_64&count=2", "&count=", "&count=99999999999999999999", "&ssid=1", "&ssid=%00&arch=ppc64le&flavor=%ff"} {
				f.Add(uint8(i), "1", "key="+recordedKeys[1].key+query, "x")
			}
		}
	}
	var server fuzzed
	f.Fuzz(func(t *testing.T, route uint8, id, query, last string) {
		o := routes[int(route)%len(routes)]
		header := map[string]string{"Last-Event-ID": last, "User-Agent": last}
		for _, role := range []string{"admin", "tenant"} {
			server.ask(t, o.method, strings.ReplaceAll(o.path, "{}", id), query, role, "", header)
		}
	})
}

// FuzzBody: whatever is sent to whatever changes something is answered.
func FuzzBody(f *testing.F) {
	routes := fuzzedRoutes(http.MethodPost, http.MethodPut, http.MethodDelete)
	for i, o := range routes {
		for _, body := range []string{
			o.example, "", "{}", "null", "[]", `{"active": false}`, `{"active": "yes", "expires_at": "+1h"}`, `{"expires_at": 1e300}`, `{"tenant_id": 2, "nodes_specs": [{"pool": "physical-centos7-x86_64", "quantity": "2"}]}`,
			`{"name": "x", "ssh_key": "ssh-ed25519 AAAA", "node_quota": 1, "session_lifetime": "1d 2h", "session_lifetime_max": 3600}`, `{"api_key": "11111111-1111-4111-8111-111111111111", "previous_api_key": "keep"}`,
			`{"key": "0123456789abcdef", "note": "\u0000"}`, `{"reason": 1e999}`, "{\"name\": \"\xff\"",
		} {
			f.Add(uint8(i), "1", body, "application/json", "key")
		}
	}
	var server fuzzed
	f.Fuzz(func(t *testing.T, route uint8, id, body, contentType, key string) {
		o := routes[int(route)%len(routes)]
		header := map[string]string{"Content-Type": contentType, "Idempotency-Key": key}
		for _, role := range []string{"admin", "tenant"} {
			server.ask(t, o.method, strings.ReplaceAll(o.path, "{}", id), "", role, body, header)
		}
	})
}

// FuzzDuration: a length of time is above nothing, and the same as its seconds.
// What is refused is refused for its form or its size.
func FuzzDuration(f *testing.F) {
	for _, seed := range []string{`"4h"`, `"1d 2h"`, `"1w2d"`, `"+3h"`, `3600`, `"7200"`, `1.5`, `"10ms"`, `"-1h"`, `1e30`, `"99999999999w"`, `"nan"`, `true`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		v, err := decode(text)
		if err != nil {
			return
		}
		d, err := parseDuration(v)
		if err != nil {
			if !errors.Is(err, errDuration) && !errors.Is(err, errDurationRange) {
				t.Fatal(err)
			}
			return
		}
		if d < 0 || d > math.MaxInt64/2*2 {
			t.Fatalf("%s is %s", text, d)
		}
		seconds, err := json.Marshal(d.Seconds())
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseDuration(json.Number(seconds))
		if d > 0 && (err != nil || (again-d).Abs() > d/1e12+time.Microsecond) {
			t.Fatalf("%s is %s, and as %s seconds %s, %v", text, d, seconds, again, err)
		}
	})
}
