package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

const onPyPI = "it is on PyPI only, and in no package of the system. docs/api.md and docs/legacy.md say with which versions it was run"

// outside is a program of others that talks to a broker.
type outside struct {
	t    *testing.T
	path string
	env  []string
	args []string // before those of each call
}

// run gives what it prints to stdout, and to stderr with why it failed.
func (o outside) run(args ...string) (out, failure string) {
	o.t.Helper()
	cmd := exec.CommandContext(o.t.Context(), o.path, append(slices.Clone(o.args), args...)...)
	cmd.Env = append(os.Environ(), o.env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok {
			o.t.Fatalf("%s: %v", o.path, err)
		} else {
			return stdout.String(), fmt.Sprintf("%v\n%s", exit, stderr.String())
		}
	}
	return stdout.String(), ""
}

// must is run for what has to succeed.
func (o outside) must(args ...string) string {
	o.t.Helper()
	out, failure := o.run(args...)
	if failure != "" {
		o.t.Fatalf("%s %v: %s", o.path, args, failure)
	}
	return out
}

// TestDuffyClient runs Duffy's own client against a broker: all its commands, in
// all its formats, and what goes wrong. DUFFY_CLIENT lists several versions.
func TestDuffyClient(t *testing.T) {
	programs := brokertest.OptionalPrograms(t, "duffy", "DUFFY_CLIENT", onPyPI)
	t.Parallel()
	s := newServer(t, plainPool(t, 3))
	s.start()
	s.full(time.Minute)
	// It finds its settings where it always does.
	config := t.TempDir()
	settings := fmt.Sprintf("client:\n  url: %s/api/v1\n  auth:\n    name: demo\n    key: %s\n", s.url, s.profile.Tenants["demo"].APIKey)
	if err := os.Mkdir(filepath.Join(config, "duffy"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(config, "duffy", "client.yaml"), []byte(settings), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range programs {
		for _, format := range []string{"json", "yaml", "flat"} {
			t.Run(filepath.Base(path)+"/"+format, func(t *testing.T) {
				c := duffyClient{outside{t, path, []string{"XDG_CONFIG_HOME=" + config, "HOME=" + config}, []string{"client", "--format", format}}, format == "flat"}
				t.Logf("%s", strings.TrimSpace(outside{t: t, path: path, env: c.env}.must("--version")))
				c.whole(s)
			})
			s.full(time.Minute)
		}
	}
	s.stop()
}

type duffyClient struct {
	outside
	flat bool
}

// whole goes through all commands.
func (c duffyClient) whole(s *server) {
	c.t.Helper()
	if got := c.value(c.must("list-pools"), "pool_name", "pools", "0", "name"); got != "plain" {
		c.t.Errorf("list-pools shows pool %q", got)
	}
	pool := c.must("show-pool", "plain")
	if got := c.value(pool, "levels_ready", "pool", "levels", "ready"); got != "3" {
		c.t.Errorf("show-pool says that %q nodes are ready: %s", got, pool)
	}
	made := c.must("request-session", "pool=plain,quantity=1", "pool=plain,quantity=1")
	id := c.value(made, "session_id", "session", "id")
	if _, err := strconv.Atoi(id); err != nil {
		c.t.Fatalf("request-session printed %s", made)
	}
	nodes := s.session("demo", id).Nodes
	if len(nodes) != 2 {
		c.t.Fatalf("session %s has %d nodes", id, len(nodes))
	}
	before := s.session("demo", id)
	s.must(200, "demo", "PUT", "/sessions/"+id, map[string]any{"expires_at": "+1h"})
	for _, args := range [][]string{{"list-sessions"}, {"show-session", id}} {
		out := c.must(args...)
		for _, n := range nodes {
			if !strings.Contains(out, n.Hostname) || !strings.Contains(out, n.IPAddr) {
				c.t.Errorf("%v does not show node %s: %s", args, n.Hostname, out)
			}
		}
		end := before.ExpiresAt.Add(time.Hour).UTC().Format("2006-01-02T15:04:05")
		if !c.flat && !strings.Contains(out, end) {
			c.t.Errorf("%v does not show that the session ends at %s: %s", args, end, out)
		}
		if got := c.value(out, "active", "session", "active"); args[0] == "show-session" && !strings.EqualFold(got, "true") {
			c.t.Errorf("%v says active %q", args, got)
		}
	}
	for _, args := range [][]string{{"retire-session", id}, {"show-session", id}} {
		out := c.must(args...)
		if got := c.value(out, "active", "session", "active"); !strings.EqualFold(got, "false") || !strings.Contains(out, nodes[0].Hostname) {
			c.t.Errorf("%v: %s", args, out)
		}
	}
	if out := c.must("list-sessions"); strings.Contains(out, nodes[0].Hostname) {
		c.t.Errorf("list-sessions shows a session that has ended: %s", out)
	}
	for _, wrong := range []struct {
		detail string
		args   []string
	}{
		{fmt.Sprintf("session %s is retired", id), []string{"retire-session", id}},
		{"Not Found", []string{"show-session", "99999"}},
		{"Not Found", []string{"show-pool", "nope"}},
		{"can't reserve nodes: quantity=1 pool='nope'", []string{"request-session", "pool=nope,quantity=1"}},
		{"can't reserve nodes: quantity=9 pool='plain'", []string{"request-session", "pool=plain,quantity=9"}},
		{"Unauthorized", []string{"--auth-key", "4140e563-278f-5432-bc48-55c08191fbac", "list-sessions"}},
		{"Unauthorized", []string{"--auth-name", "nobody", "request-session", "pool=plain,quantity=1"}},
	} {
		out, failure := c.run(wrong.args...)
		if c.flat && strings.Contains(failure, "AttributeError: 'dict' object has no attribute 'error'") {
			c.t.Logf("%v: this version can't print an error in this format, whoever answers", wrong.args)
			continue
		}
		got := c.value(out, "error", "error", "detail")
		if got = strings.ReplaceAll(got, `'"'"'`, "'"); got != wrong.detail || failure != "" {
			c.t.Errorf("%v: error %q, want %q: %s%s", wrong.args, got, wrong.detail, out, failure)
		}
	}
}

// value finds a value in what was printed: by its key in the flat format, else by
// its path.
func (c duffyClient) value(out, key string, path ...string) string {
	c.t.Helper()
	if c.flat {
		m := regexp.MustCompile(`(?m)(?:^| )` + key + `=(?:'((?:[^']|'"'"')*)'|(\S*))(?: |$)`).FindStringSubmatch(out)
		if m == nil {
			return ""
		}
		return m[1] + m[2]
	}
	var v any
	if err := yaml.Unmarshal([]byte(out), &v); err != nil { // JSON is YAML
		c.t.Fatalf("%v: %s", err, out)
	}
	for _, step := range path {
		switch at := v.(type) {
		case map[string]any:
			v = at[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(at) {
				return ""
			}
			v = at[i]
		default:
			return ""
		}
	}
	return fmt.Sprint(v)
}

// TestCico runs python-cicoclient against a broker: it gets nodes, tries again
// while there are too few, shows inventories, and gives the nodes back. CICO lists
// several versions.
func TestCico(t *testing.T) {
	programs := brokertest.OptionalPrograms(t, "cico", "CICO", onPyPI)
	t.Parallel()
	const key = "4140e563-278f-5432-bc48-55c08191fbac"
	s := newServer(t, plainPool(t, 2)+`
legacy {
  max_wait = "0s"
  map {
    ver  = "7"
    pool = "plain"
  }
}
`)
	s.start()
	s.full(time.Minute)
	s.admin("legacy", "key", "add", "2", "--key", key, "--note", "cico")
	for _, path := range programs {
		t.Run(filepath.Base(path), func(t *testing.T) {
			c := cico{outside{t, path, []string{"HOME=" + t.TempDir(), "CICO_API_KEY=" + key}, []string{"--endpoint", s.url + "/"}}}
			c.whole(s)
		})
		s.full(time.Minute)
	}
	s.stop()
}

type cico struct{ outside }

// hosts runs a command and reads its table.
func (c cico) hosts(args ...string) map[string]string {
	c.t.Helper()
	return c.table(c.must(append(args, "--format", "json")...))
}

// table gives host names with their sessions.
func (c cico) table(out string) map[string]string {
	c.t.Helper()
	var rows []struct {
		Hostname string
		Comment  string
	}
	if err := json.Unmarshal([]byte(out), &rows); err != nil {
		c.t.Fatalf("%v: %s", err, out)
	}
	hosts := make(map[string]string)
	for _, row := range rows {
		hosts[row.Hostname] = row.Comment
	}
	return hosts
}

// whole goes through all commands.
func (c cico) whole(s *server) {
	c.t.Helper()
	first := c.hosts("node", "get", "--arch", "x86_64", "--release", "7", "--count", "2")
	ssid := ""
	for _, session := range first {
		ssid = session
	}
	if len(first) != 2 || ssid == "" {
		c.t.Fatalf("node get gave %v", first)
	}
	for _, args := range [][]string{{"inventory"}, {"inventory", "--all"}, {"inventory", "--ssid", ssid}} {
		if got := c.hosts(args...); fmt.Sprint(got) != fmt.Sprint(first) {
			c.t.Errorf("%v shows %v, want %v", args, got, first)
		}
	}
	// All is lent: it fails after its tries, or gets what comes meanwhile.
	if out, failure := c.run("node", "get", "--count", "8", "--retry-count", "1", "--retry-interval", "1"); !strings.Contains(failure, "no inventory is available") {
		c.t.Errorf("node get of more than there is: %s%s", out, failure)
	}
	second := make(chan string)
	go func() {
		out, failure := c.run("node", "get", "--count", "2", "--retry-count", "60", "--retry-interval", "1", "--format", "json")
		second <- out + failure
	}()
	if got := c.hosts("node", "done", ssid); fmt.Sprint(got) != fmt.Sprint(first) {
		c.t.Errorf("node done shows %v, want %v", got, first)
	}
	var sessions []string
	for _, session := range c.table(<-second) {
		sessions = append(sessions, session)
	}
	if len(sessions) != 2 || sessions[0] != sessions[1] || sessions[0] == ssid {
		c.t.Fatalf("the second node get gave sessions %v", sessions)
	}
	c.hosts("node", "done", sessions[0])
	if left := s.must(200, "demo", "GET", "/sessions", nil).Sessions; len(left) != 0 {
		c.t.Errorf("after node done there are sessions %v", left)
	}
	if got := c.hosts("inventory"); len(got) != 0 {
		c.t.Errorf("after node done the inventory has %v", got)
	}
}
