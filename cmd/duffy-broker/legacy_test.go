package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// old asks the legacy API as an old job does.
func (s *server) old(base, path string) string {
	s.t.Helper()
	resp, err := http.Get(base + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// admin runs a command with the admin's key, and gives what it prints.
func (s *server) admin(args ...string) string {
	s.t.Helper()
	cmd := s.command(s.t.Context(), args...)
	cmd.Env = append(cmd.Env, "DUFFY_BROKER_URL="+s.url+"/api/v1", "DUFFY_BROKER_AUTH_NAME=admin", "DUFFY_BROKER_AUTH_KEY="+s.profile.Tenants["admin"].APIKey)
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

// An old job gets a node over the legacy API, on both ports, and gives it back;
// the report names it, also after a restart, and its key is nowhere on disk.
func TestLegacy(t *testing.T) {
	t.Parallel()
	const key = "4140e563-278f-5432-bc48-55c08191fbac"
	s := newServer(t, plainPool(t, 2)+`
legacy {
  hostname = "old-${split("-", hostname)[1]}"
  max_wait = "0s"
  map {
    ver  = "7"
    pool = "plain"
  }
}
`)
	s.extra = []string{"--legacy-listen", "127.0.0.1:0"}
	s.start()
	s.full(time.Minute)
	var port string
	for line := range strings.Lines(s.log.String()) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "serving the legacy API" {
			port = "http://" + entry.Address
		}
	}
	tenant := s.profile.Tenants["demo"]
	if port == "" || tenant.APIKey == "" {
		t.Fatalf("port %q, profile %+v", port, s.profile)
	}
	s.admin("legacy", "key", "add", "2", "--key", key, "--note", "jenkins")
	for _, base := range []string{s.url, port} {
		var got struct {
			SSID  int64    `json:"ssid"`
			Hosts []string `json:"hosts"`
		}
		answer := s.old(base, "/Node/get?key="+key)
		if err := json.Unmarshal([]byte(answer), &got); err != nil || len(got.Hosts) != 1 || !strings.HasPrefix(got.Hosts[0], "old-") {
			t.Fatalf("get: %s", answer)
		}
		if answer := s.old(base, fmt.Sprintf("/Node/done?key=%s&ssid=%d", key, got.SSID)); answer != `"Done"` {
			t.Errorf("done: %s", answer)
		}
	}
	s.stop()
	s.start()
	report := s.admin("legacy", "report", "--format", "flat")
	if !strings.Contains(report, "tenant='demo' tenant_id=2 key_id=1") || !strings.Contains(report, "note='jenkins'") || strings.Contains(report, "last_used= ") {
		t.Errorf("report: %s", report)
	}
	s.stop()
	s.nowhere(key)
}

// nowhere fails if a secret stands in the data directory or in the log.
func (s *server) nowhere(secret string) {
	s.t.Helper()
	if strings.Contains(s.log.String(), secret) {
		s.t.Errorf("the log holds a secret")
	}
	err := filepath.WalkDir(s.data, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if bytes.Contains(content, []byte(secret)) {
			s.t.Errorf("%s holds a secret", path)
		}
		return err
	})
	if err != nil {
		s.t.Error(err)
	}
}
