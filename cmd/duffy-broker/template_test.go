package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// templates gives the names of all that is kept of modules.
func (s *server) templates() map[string]bool {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Join(s.data, "templates"))
	if err != nil {
		s.t.Fatal(err)
	}
	names := map[string]bool{}
	for _, entry := range entries {
		names[entry.Name()] = true
	}
	return names
}

// A module copy stays as long as a node is made from it, though its pool has left
// the file, and goes with the last one. What a crash left goes at once.
func TestTemplateGoesWithItsLastNode(t *testing.T) {
	t.Parallel()
	pools := strings.Replace(plainPool(t, 1), "max_nodes     = 1", "max_nodes     = 3", 1)
	s := newServer(t, pools)
	s.start()
	s.full(time.Minute)
	first := s.templates()
	session := s.must(201, "admin", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "plain", "quantity": 1}}}).Session

	s.full(time.Minute)
	ofFirst := s.knownNodes()

	// The module changes, and the node in stock is replaced.
	module := regexp.MustCompile(`module *= "(.*)"`).FindStringSubmatch(pools)[1]
	if err := os.WriteFile(filepath.Join(module, "more.tf"), []byte("locals {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.reload()
	s.logs("pools reloaded")
	s.eventually("the node in stock is replaced", time.Minute, func() error {
		for uid, n := range s.knownNodes() {
			if _, old := ofFirst[uid]; old && n.State != "deployed" {
				return fmt.Errorf("node %d is there", n.ID)
			}
		}
		return nil
	})
	both := s.templates()
	if len(first) != 1 || len(both) != 2 {
		t.Fatalf("kept modules: first %v, then %v; want one, then two", first, both)
	}
	second := maps.Clone(both)
	maps.DeleteFunc(second, func(name string, _ bool) bool { return first[name] })

	s.stop()
	leftover := filepath.Join(s.data, "templates", ".new-123")
	if err := os.MkdirAll(filepath.Join(leftover, ".terraform"), 0o700); err != nil {
		t.Fatal(err)
	}
	s.start() // removes what is not needed
	if diff := cmp.Diff(both, s.templates()); diff != "" {
		t.Errorf("kept modules while a node of the first is lent (-want +got):\n%s", diff)
	}
	s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
	s.eventually("the node has gone", time.Minute, func() error {
		for uid, n := range s.knownNodes() {
			if _, old := ofFirst[uid]; old {
				return fmt.Errorf("node %d is there", n.ID)
			}
		}
		return nil
	})
	s.stop()
	s.start()
	if diff := cmp.Diff(second, s.templates()); diff != "" {
		t.Errorf("kept modules after the last node of the first (-want +got):\n%s", diff)
	}
	s.full(time.Minute)
	s.stop()
}

// A module without a lock file is told of at a start and at each reload, though
// it was initialised long ago.
func TestLockFileWarningIsLogged(t *testing.T) {
	t.Parallel()
	s := newServer(t, "")
	s.wrap = []string{"/usr/bin/env", "TF_CLI_CONFIG_FILE=" + fakecloud.Mirror(t)}
	module := filepath.Join(t.TempDir(), "module")
	if err := os.CopyFS(module, os.DirFS("../../broker/brokertest/fakecloud/testdata/module")); err != nil {
		t.Fatal(err)
	}
	s.writePools(fmt.Sprintf("pool \"cloudy\" {\n  module     = %q\n  fill_level = 0\n  max_nodes  = 1\n  variables  = { endpoint = \"http://127.0.0.1:1\" }\n}\n", module))
	warnings := func() []string {
		lines := slices.Collect(strings.Lines(s.log.String()))
		return slices.DeleteFunc(lines, func(line string) bool {
			return !strings.Contains(line, `"level":"WARN"`) || !strings.Contains(line, `"pool":"cloudy"`) ||
				!strings.Contains(line, ` -chdir=`+module+` providers lock -platform=`)
		})
	}
	for range 2 {
		s.start()
		if got := len(warnings()); got != 1 {
			t.Errorf("%d warnings after a start, want 1:\n%s", got, s.log)
		}
		s.reload()
		s.logs("pools reloaded")
		if got := len(warnings()); got != 2 {
			t.Errorf("%d warnings after a reload, want 2:\n%s", got, s.log)
		}
		s.stop()
	}
}
