package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// send makes one request with any credentials and headers, and reads the answer
// into what, unless that is nil.
func (s *server) send(name, key, method, path string, header map[string]string, body, what any) int {
	s.t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		s.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.url+"/api/v1"+path, bytes.NewReader(text))
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth(name, key)
	req.Header.Set("Content-Type", "application/json")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if what != nil {
		if err := json.NewDecoder(resp.Body).Decode(what); err != nil {
			s.t.Fatal(err)
		}
	}
	return resp.StatusCode
}

// A tenant's life on the real program: it is made, asks for the same session
// twice with a restart between, watches events until the broker stops, and loses
// its session when it is retired.
func TestTenants(t *testing.T) {
	t.Parallel()
	pools := plainPool(t, 3)
	s := newServer(t, pools+"\ntenant_defaults {\n  session_lifetime = \"1h\"\n}\n")
	s.start()
	s.full(2 * time.Minute)
	type tenantAnswer struct {
		Tenant struct {
			ID       int64   `json:"id"`
			APIKey   string  `json:"api_key"`
			Lifetime float64 `json:"effective_session_lifetime"`
			LastUsed string  `json:"last_used"`
		} `json:"tenant"`
	}
	admin := s.profile.Tenants["admin"].APIKey
	var made tenantAnswer
	if got := s.send("admin", admin, "POST", "/tenants", nil, map[string]any{"name": "ci", "ssh_key": "ssh-ed25519 AAAA"}, &made); got != 201 {
		t.Fatalf("create: %d", got)
	}
	key, path := made.Tenant.APIKey, fmt.Sprintf("/tenants/%d", made.Tenant.ID)
	if made.Tenant.Lifetime != 3600 {
		t.Errorf("lifetime %v, want the default of the file", made.Tenant.Lifetime)
	}

	// Asked again after a restart, the same request gives the same session.
	once := map[string]string{"Idempotency-Key": "job-1"}
	order := map[string]any{"nodes_specs": []map[string]any{{"pool": "plain", "quantity": 1}}}
	var first, again apiAnswer
	if got := s.send("ci", key, "POST", "/sessions", once, order, &first); got != 201 {
		t.Fatalf("request: %d %s", got, first.Detail)
	}

	// A stream does not hold up the stop. It is closed, not cut.
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/v1/events?after=0", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth("ci", key)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && !strings.Contains(lines.Text(), `"to":"active"`) {
	}
	s.writePools(pools + "\ntenant_defaults {\n  session_lifetime = \"2h\"\n}\n")
	s.reload()
	s.logs("pools reloaded")
	s.stop()
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Errorf("the stream ended with %v", err)
	}
	if strings.Contains(s.log.String(), "requests cut short") {
		t.Error("the stream held the stop up")
	}

	s.start()
	if got := s.send("ci", key, "POST", "/sessions", once, order, &again); got != 201 || again.Session.ID != first.Session.ID {
		t.Errorf("asked again after a restart: %d, session %d, want %d", got, again.Session.ID, first.Session.ID)
	}
	var shown tenantAnswer
	if got := s.send("admin", admin, "GET", path, nil, nil, &shown); got != 200 || shown.Tenant.LastUsed == "" || shown.Tenant.Lifetime != 7200 {
		t.Errorf("%d %+v: want when it was used, and the new default", got, shown)
	}

	// Retired, it loses its session and its way in.
	if got := s.send("admin", admin, "PUT", path, nil, map[string]any{"active": false}, nil); got != 200 {
		t.Fatalf("retire: %d", got)
	}
	s.eventually("the session of the retired tenant has ended", time.Minute, func() error {
		answer := s.must(200, "admin", "GET", fmt.Sprintf("/sessions/%d", first.Session.ID), nil)
		if answer.Session.Active {
			return fmt.Errorf("it is active")
		}
		return nil
	})
	if got := s.send("ci", key, "GET", "/whoami", nil, nil, nil); got != 403 {
		t.Errorf("a retired tenant gets %d, want 403", got)
	}
	s.full(2 * time.Minute)
	s.stop()
}
