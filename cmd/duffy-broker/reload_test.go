package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func (s *server) reload() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) logs(text string) {
	s.t.Helper()
	s.eventually("the log says "+text, time.Minute, func() error {
		if !strings.Contains(s.log.String(), text) {
			return errors.New("no such line")
		}
		return nil
	})
}

// SIGHUP reads pools.hcl again: a bad file disturbs nothing, a good one is
// followed, a pool that left it is drained, and module copies go with their
// last node.
func TestReload(t *testing.T) {
	t.Parallel()
	good := localPools(t)
	s := newServer(t, good)
	s.start()
	s.full(2 * time.Minute)

	s.writePools(strings.Replace(good, "fill_level = 3", "fil_level = 3", 1))
	s.reload()
	s.logs("pools are left as they were")
	s.logs("Did you mean")
	s.full(time.Minute)
	if got := len(s.knownNodes()); got != 5 {
		t.Errorf("%d nodes after a bad file, want the 5 as before", got)
	}

	// Both pools leave the file, and another one comes.
	plain := plainPool(t, 2)
	s.writePools(plain)
	s.reload()
	s.logs("pools reloaded")
	s.full(time.Minute)
	if left := s.processes(); len(left) != 0 {
		t.Errorf("servers of pools that left the file run: %v", left)
	}

	session := s.must(201, "admin", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "plain", "quantity": 1}}}).Session
	s.writePools(good)
	s.reload()
	s.full(2 * time.Minute)
	if got := s.must(200, "admin", "GET", fmt.Sprintf("/sessions/%d", session.ID), nil).Session.Nodes[0].State; got != "deployed" {
		t.Errorf("the lent node of a pool that left the file is %s, want it left alone", got)
	}
	s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
	s.full(time.Minute)
	s.stop()
	s.start() // prunes
	templates, err := os.ReadDir(filepath.Join(s.data, "templates"))
	if err != nil || len(templates) != 1 {
		t.Errorf("module copies %v, %v; want one, since one module is in use", templates, err)
	}
	s.full(time.Minute)
	s.stop()
}

// A tenant's key goes to the broker that it belongs to, and to no other URL.
func TestKeyStaysWithItsBroker(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan string, 10)
	stranger := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, key, _ := r.BasicAuth()
		seen <- key
		_, _ = io.WriteString(w, `{"action": "get", "pools": []}`)
	})}
	go func() { _ = stranger.Serve(listener) }()
	defer func() { _ = stranger.Close() }()
	there := "http://" + listener.Addr().String()

	path, err := profilePath("some-broker")
	if err != nil {
		t.Fatal(err)
	}
	mine := profile{URL: "http://127.0.0.1:1/api/v1", Tenant: "demo", Tenants: map[string]profileTenant{"demo": {APIKey: "secret"}}}
	for _, test := range []struct {
		profileURL string
		args       []string
		key        string
	}{
		{mine.URL, []string{"--url", there}, ""},
		{mine.URL, []string{"--url", there, "--auth-name", "demo"}, ""},
		{mine.URL, []string{"--url", there, "--auth-name", "demo", "--auth-key", "given"}, "given"},
		{there + "/api/v1", []string{"--url", there}, "secret"},
		{there + "/api/v1", nil, "secret"},
	} {
		mine.URL = test.profileURL
		if err := mine.write(path); err != nil {
			t.Fatal(err)
		}
		var out, errOut strings.Builder
		if code := run(t.Context(), append([]string{"client", "list-pools"}, test.args...), strings.NewReader(""), &out, &errOut); code != 0 {
			t.Fatalf("%v: exit %d, %s", test.args, code, errOut.String())
		}
		if got := <-seen; got != test.key {
			t.Errorf("profile of %s, %v: key %q, want %q", test.profileURL, test.args, got, test.key)
		}
		mine.URL = "http://127.0.0.1:1/api/v1"
	}
}
