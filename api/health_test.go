package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// plainText answers everything with itself.
type plainText string

func (p plainText) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = io.WriteString(w, string(p))
}

// /healthz is fine as long as the process answers; /readyz also wants that the
// broker can work and is not about to stop. Neither tells why it can't to a
// stranger, beyond what it is told to say.
func TestReady(t *testing.T) {
	stopping := make(chan struct{})
	close(stopping)
	sick := broker.Wrap(broker.CodeUnavailable, errors.New("no space left on /secret/path"), "the store takes no changes")
	for _, test := range []struct {
		name     string
		err      error
		stopping <-chan struct{}
		status   int
		detail   string
	}{
		{"well", nil, nil, http.StatusOK, ""},
		{"can't work", sick, nil, http.StatusServiceUnavailable, "the store takes no changes"},
		{"stops", nil, stopping, http.StatusServiceUnavailable, "the broker is stopping"},
	} {
		t.Run(test.name, func(t *testing.T) {
			url := start(t, Config{
				Broker: &fake{err: errors.New("nobody asks the store itself")}, Version: "1.2.3",
				Stopping: test.stopping, Ready: func(context.Context) error { return test.err },
			})
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				if a := send(t, method, url+"/healthz", "", nil); a.status != http.StatusOK || method == http.MethodGet && a.body != `{"status":"ok"}` {
					t.Errorf("%s /healthz: %d %s", method, a.status, a.body)
				}
				a := send(t, method, url+"/readyz", "", nil)
				if a.status != test.status || strings.Contains(a.body, "/secret/path") {
					t.Errorf("%s /readyz: %d %s", method, a.status, a.body)
				}
				if method == http.MethodHead {
					continue
				}
				if a.status == http.StatusOK && a.body != `{"status":"ok"}` {
					t.Errorf("/readyz: %s", a.body)
				}
				if a.status != http.StatusOK && wireError(t, a).Detail != test.detail {
					t.Errorf("/readyz says %s, want %s", a.body, test.detail)
				}
			}
		})
	}
}

// Metrics are for admins, also where lists are open to all, and there are none on
// a broker that has none.
func TestMetricsRoute(t *testing.T) {
	b := newRecordedBroker(t)
	for _, anonymous := range []bool{false, true} {
		url := start(t, Config{Broker: b, AnonymousRead: anonymous, Metrics: plainText("up 1\n")}) + "/metrics"
		for caller, want := range map[string]int{"anonymous": 401, "tenant": 403, "admin": 200} {
			a := send(t, http.MethodGet, url, "", recordedAuth(t, caller))
			if a.status != want || (a.body == "up 1\n") != (want == 200) {
				t.Errorf("as %s: %d %s", caller, a.status, a.body)
			}
		}
	}
	url := start(t, Config{Broker: b}) + "/metrics"
	if a := send(t, http.MethodGet, url, "", recordedAuth(t, "admin")); a.status != http.StatusNotFound {
		t.Errorf("without metrics: %d", a.status)
	}
}

// observed passes on what a Config.Observe is told.
type observed chan Seen

func (o observed) observe(s Seen) { o <- s }

// next waits for what is told next, and leaves out what differs each time.
func (o observed) next() Seen {
	s := <-o
	s.Took = 0
	return s
}

// Each request is told of once, by its route and not by its path.
func TestObserve(t *testing.T) {
	o := make(observed, 10)
	f := newFake()
	url := start(t, Config{Broker: f, Observe: o.observe})
	try := func(method, path, body string, change func(*http.Request), want Seen) {
		t.Helper()
		send(t, method, url+path, body, change)
		if diff := cmp.Diff(want, o.next()); diff != "" {
			t.Errorf("%s %s (-want +got):\n%s", method, path, diff)
		}
	}
	try("GET", "/api/v1/pools/small", "", asDemo, Seen{Method: "GET", Route: "/api/v1/pools/:name", Status: 200, Tenant: "demo", Result: "ok"})
	try("GET", "/api/v1/pools/small", "", nil, Seen{Method: "GET", Route: "/api/v1/pools/:name", Status: 401, Result: "unauthorized"})
	try("GET", "/secret", "", nil, Seen{Method: "GET", Status: 404, Result: "not_found"})
	try("POST", "/api/v1/sessions", "{}", asDemo, Seen{Method: "POST", Route: "/api/v1/sessions", Status: 422, Tenant: "demo", Result: "invalid"})
	try("GET", "/Node/get", "", nil, Seen{Method: "GET", Route: "/Node/get", Status: 404, Result: "not_found"}) // switched off
	f.panics = true
	try("GET", "/api/v1/sessions", "", asDemo, Seen{Method: "GET", Route: "/api/v1/sessions", Status: 500, Tenant: "demo", Result: "internal"})
	if len(o) > 0 {
		t.Errorf("told of %+v, too", <-o)
	}
}

// Calls of the legacy API have results, though most are answered with 200.
func TestObserve_legacy(t *testing.T) {
	o := make(observed, 10)
	w := newLegacyWorld(t)
	l := recordedLegacy()
	l.SessionLimit, l.SessionWindow = 1, 24*time.Hour
	cfg := Config{Broker: w.Broker, Legacy: func() *Legacy { return l }, Observe: o.observe}
	url := start(t, cfg)
	for _, test := range []struct {
		query, tenant, result string
		status                int
	}{
		{"/Node/get?key=" + legacyKey + "&arch=x86_64&ver=7&count=21", "legacy", "capacity", 200},
		{"/Node/get?key=" + legacyKey + "&arch=sparc", "legacy", "not_found", 200},
		{"/Node/get?key=" + legacyKey + "&count=x", "legacy", "invalid", 422},
		{"/Node/get?key=" + legacyKey + "&arch=x86_64&ver=7", "legacy", "ok", 200},
		{"/Node/get?key=" + legacyKey + "&arch=x86_64&ver=7", "legacy", "limited", 429},
		{"/Node/get?key=12345678-1234-1234-1234-123456789abc", "", "forbidden", 403},
		{"/Node/get", "", "unauthorized", 403},
		{"/Node/done?key=" + legacyKey, "legacy", "invalid", 200},
		{"/Node/done?key=" + legacyKey + "&ssid=999", "legacy", "not_found", 200},
		{"/Node/fail?key=" + legacyRetiredKey + "&ssid=1", "retired", "forbidden", 403},
		{"/Inventory?key=" + legacyKey, "legacy", "ok", 200},
		{"/Inventory", "", "ok", 200},
		{"/Inventory?key=12345678-1234-1234-1234-123456789abc", "", "refused", 403},
	} {
		legacyGet(t, url+test.query, "curl")
		route, _, _ := strings.Cut(test.query, "?")
		want := Seen{Method: "GET", Route: route, Status: test.status, Tenant: test.tenant, Legacy: true, Result: test.result}
		if diff := cmp.Diff(want, o.next()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", test.query, diff)
		}
	}
	// The same key in a path or a header is no label.
	send(t, http.MethodGet, url+"/Node/"+legacyKey, "", func(*http.Request) {})
	if got := fmt.Sprint(o.next()); strings.Contains(got, legacyKey) {
		t.Errorf("a key is told of: %s", got)
	}
}
