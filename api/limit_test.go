package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// limited serves a real broker on a clock that stands still until it is moved.
func limited(t *testing.T, cfg Config) (h func(change ...func(*http.Request)) answerSeen, clock *time.Time) {
	t.Helper()
	cfg.Broker = newRecordedBroker(t)
	s := newTestServer(cfg)
	now := time.Now()
	s.now = func() time.Time { return now }
	s.routes()
	s.legacyRoutes()
	return func(change ...func(*http.Request)) answerSeen { return ask(s.engine, "/api/v1/whoami", change...) }, &now
}

func from(address string) func(*http.Request) {
	return func(r *http.Request) { r.RemoteAddr = address }
}

func refused(t *testing.T, a answerSeen, what string) {
	t.Helper()
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	if e := wireError(t, a); a.status != http.StatusTooManyRequests || e.Detail == "" || err != nil || seconds < 1 {
		t.Errorf("%s: %d %s, Retry-After %q; want 429", what, a.status, a.body, a.header.Get("Retry-After"))
	}
}

func TestTenantRate(t *testing.T) {
	call, clock := limited(t, Config{TenantRate: 5})
	tenant, other, admin := recordedAuth(t, "tenant"), recordedAuth(t, "other"), recordedAuth(t, "admin")
	for i := range 20 {
		if a := call(tenant); a.status != http.StatusOK {
			t.Fatalf("request %d: %d", i, a.status)
		}
	}
	refused(t, call(tenant), "one too many")
	if a := call(other); a.status != http.StatusOK {
		t.Errorf("another tenant pays for it: %d", a.status)
	}
	*clock = clock.Add(time.Second)
	for range 5 {
		if a := call(tenant); a.status != http.StatusOK {
			t.Errorf("a second later: %d", a.status)
		}
	}
	refused(t, call(tenant), "after the five of that second")
	for range 30 {
		if a := call(admin); a.status != http.StatusOK {
			t.Errorf("an admin: %d", a.status)
		}
	}
	call, _ = limited(t, Config{})
	for range 300 {
		if a := call(tenant); a.status != http.StatusOK {
			t.Fatalf("without a limit: %d", a.status)
		}
	}
}

func TestFailedLogins(t *testing.T) {
	call, clock := limited(t, Config{})
	right, wrong := recordedAuth(t, "tenant"), recordedAuth(t, "wrong key for tenant")
	here, elsewhere := from("192.0.2.1:1"), from("192.0.2.2:1")
	if a := call(right, here); a.status != http.StatusOK {
		t.Fatal(a.status)
	}
	for i := range failedLogins {
		if a := call(recordedAuth(t, "wrong key for tenant"), here); a.status != http.StatusUnauthorized {
			t.Fatalf("wrong login %d: %d", i, a.status)
		}
	}
	refused(t, call(wrong, here), "one too many")
	refused(t, call(recordedAuth(t, "other"), here), "a right login that may be a guess")
	if a := call(right, here); a.status != http.StatusOK {
		t.Errorf("who had logged in from there before: %d", a.status)
	}
	for _, change := range []func(*http.Request){elsewhere, from("[2001:db8::1]:1")} {
		if a := call(recordedAuth(t, "other"), change); a.status != http.StatusOK {
			t.Errorf("from another address: %d", a.status)
		}
	}
	*clock = clock.Add(failedLoginEvery)
	if a := call(wrong, here); a.status != http.StatusUnauthorized {
		t.Errorf("after a while: %d", a.status)
	}
	refused(t, call(wrong, here), "and once more")
	*clock = clock.Add(failedLoginEvery)
	if a := call(recordedAuth(t, "other"), here); a.status != http.StatusOK {
		t.Errorf("right, after a while: %d", a.status)
	}
}

// The address of the connection counts, unless a proxy that is trusted says
// another.
func TestFailedLoginsBehindProxy(t *testing.T) {
	forwarded := func(address string) func(*http.Request) {
		return func(r *http.Request) {
			r.RemoteAddr = "192.0.2.1:1"
			r.Header.Set("X-Forwarded-For", address)
		}
	}
	for _, trusted := range []bool{false, true} {
		cfg := Config{}
		if trusted {
			cfg.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
		}
		call, _ := limited(t, cfg)
		for i := range failedLogins {
			// A liar's own addresses, before the one that the proxy adds.
			call(recordedAuth(t, "wrong key for tenant"), forwarded(fmt.Sprintf("10.9.9.%d, 10.0.0.1", i)))
		}
		refused(t, call(recordedAuth(t, "tenant"), forwarded("10.0.0.1")), "the same client")
		a := call(recordedAuth(t, "tenant"), forwarded("10.0.0.2"))
		if got := a.status == http.StatusOK; got != trusted {
			t.Errorf("another client behind the proxy, trusted %t: %d", trusted, a.status)
		}
	}
}

func TestFailedLegacyLogins(t *testing.T) {
	settings := func() *Legacy { return &Legacy{MainPort: true, AnonymousInventory: true} }
	cfg := Config{Broker: newRecordedBroker(t), Legacy: settings}
	s := newTestServer(cfg)
	s.legacyRoutes()
	for range failedLogins {
		if a := ask(s.engine, "/Node/done?key=wrong&ssid=1"); a.status != http.StatusForbidden {
			t.Fatal(a.status)
		}
	}
	refused(t, ask(s.engine, "/Node/done?key=wrong&ssid=1"), "one too many")
	if a := ask(s.engine, "/Inventory"); a.status != http.StatusOK {
		t.Errorf("without a key: %d", a.status)
	}
}

func TestLimitersAreBounded(t *testing.T) {
	now := time.Unix(1, 0)
	l := newLimiters[int64](rate.Every(time.Second), 1)
	for i := range int64(3 * maxLimiters) {
		l.take(i, now)
	}
	if got := len(l.entries); got > maxLimiters {
		t.Errorf("%d limiters", got)
	}
	l.take(-1, now.Add(time.Hour))
	if got := len(l.entries); got != 1 {
		t.Errorf("%d limiters are kept that limit nothing", got-1)
	}
	g := newLogins()
	for i := range 2 * maxLimiters {
		g.note(g.attempt("192.0.2.1", fmt.Sprint(i), "k"), true, now)
	}
	if got := len(g.good); got > maxLimiters {
		t.Errorf("%d logins are remembered", got)
	}
}

func TestLoginAddress(t *testing.T) {
	l := newLogins()
	same := func(a, b string) bool { return l.attempt(a, "", "").address == l.attempt(b, "", "").address }
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"2001:db8::1", "2001:db8::2:3", true}, // one host's own network
		{"2001:db8::1", "2001:db8:0:1::1", false},
	} {
		if same(test.a, test.b) != test.same {
			t.Errorf("%s and %s count as one: %t, want %t", test.a, test.b, !test.same, test.same)
		}
	}
	unknown := l.attempt("", "a", "b") // a unix socket
	for range 100 {
		l.note(unknown, false, time.Now())
	}
	if l.wait(unknown, time.Now()) != 0 {
		t.Error("who has no address is limited")
	}
}

func newTestServer(cfg Config) *server {
	cfg.Log = slog.New(slog.DiscardHandler)
	return newServer(cfg)
}

func ask(h http.Handler, path string, change ...func(*http.Request)) answerSeen {
	req := httptest.NewRequest(http.MethodGet, path, nil)
	for _, c := range change {
		c(req)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return answerSeen{rec.Code, rec.Header(), rec.Body.String()}
}
