package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/secret"
)

// The whole path, on the real program with real Terraform and real SSH: fill,
// lend, log in, extend, give back, and be as before after a restart.
func TestWholePath(t *testing.T) {
	brokertest.NeedProgram(t, "ssh")
	t.Parallel()
	s := newServer(t, localPools(t))
	s.start()
	s.full(2 * time.Minute)
	s.noStrays()
	if !strings.Contains(s.out.String(), "created tenant demo") || !strings.Contains(s.out.String(), s.profile.Tenants["demo"].APIKey) {
		t.Errorf("the first start does not show the tenants' keys:\n%s", s.out)
	}
	if got := strings.Count(s.out.String(), "ready: node "); got != 5 {
		t.Errorf("%d lines say that a node is ready, want 5:\n%s", got, s.out)
	}
	for _, command := range []string{"client request-session", "client ssh", "client retire-session"} {
		if !strings.Contains(s.out.String(), command) {
			t.Errorf("the output does not say to try %q:\n%s", command, s.out)
		}
	}

	// Three nodes of two pools at once, through the client.
	var answer apiAnswer
	out := s.client("--format", "json", "request-session", "pool=small,quantity=2", "pool=large,quantity=1")
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		t.Fatalf("the client printed %q: %v", out, err)
	}
	session := answer.Session
	if len(session.Nodes) != 3 || !session.Active {
		t.Fatalf("got session %+v, want an active one with 3 nodes", session)
	}
	id := fmt.Sprint(session.ID)
	homes := map[string]bool{}
	for _, n := range session.Nodes {
		got := strings.Fields(s.client("ssh", id, n.Hostname, "--", `echo "$DUFFY_NODE" "$HOME"; cat ~/.ssh/authorized_keys`))
		if len(got) < 2 || got[0] != n.Hostname || homes[got[1]] {
			t.Fatalf("on node %s the shell says %q, want its host name and a home of its own", n.Hostname, got)
		}
		homes[got[1]] = true
		if n.State != "deployed" || n.Port == 0 || len(n.HostKeys) == 0 {
			t.Errorf("node %+v: want it deployed, with port and host keys", n)
		}
	}
	// The key of a command's exit status comes through.
	if err := s.command(context.Background(), "client", "ssh", id, "--", "exit 7").Run(); err == nil || !strings.Contains(err.Error(), "exit status 7") {
		t.Errorf("ssh -- exit 7 ended with %v, want exit status 7", err)
	}

	// Another host key than the recorded one is refused.
	nodes := s.session("demo", id).Nodes
	forged := nodes[0]
	forged.SSHHostKeys = nodes[1].SSHHostKeys
	key := s.profile.Tenants["demo"].SSHKey
	for _, ssh := range []struct {
		node v1.SessionNode
		fine bool
	}{{nodes[0], true}, {forged, false}} {
		err := runSSH(t.Context(), streams{out: io.Discard, err: io.Discard}, ssh.node, key, []string{"true"})
		if (err == nil) != ssh.fine {
			t.Errorf("ssh with host keys %v: %v, want success: %v", ssh.node.SSHHostKeys, err, ssh.fine)
		}
	}

	extended := s.must(200, "demo", "PUT", "/sessions/"+id, map[string]any{"expires_at": "+1h"}).Session
	if got := extended.ExpiresAt.Sub(session.ExpiresAt); got != time.Hour {
		t.Errorf("extended by %v, want 1h", got)
	}
	s.full(time.Minute) // replacements: lent nodes don't count

	// SIGTERM and start: everything is as it was.
	before := s.must(200, "demo", "GET", "/sessions/"+id, nil)
	s.stop()
	s.start()
	after := s.must(200, "demo", "GET", "/sessions/"+id, nil)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("the session after a restart (-before +after):\n%s", diff)
	}
	s.full(time.Minute)
	s.noStrays()
	for _, n := range session.Nodes {
		s.client("ssh", id, n.Hostname, "--", "true")
	}

	// Given back: the key goes first, then the machine, and stock is full again.
	s.client("retire-session", id)
	s.eventually("the nodes given back are gone", time.Minute, func() error {
		known := s.knownNodes()
		for _, n := range session.Nodes {
			if _, ok := known[strings.TrimPrefix(n.Hostname, "node-")]; ok {
				return fmt.Errorf("node %s is still known", n.Hostname)
			}
		}
		return nil
	})
	if err := s.command(context.Background(), "client", "ssh", id, "--", "true").Run(); err == nil {
		t.Error("a node that was given back still lets its tenant in")
	}
	s.full(time.Minute)
	s.noStrays()
	if events := s.nodeEvents(session.Nodes[0].ID); events == "" {
		t.Error("the log has no trace of the node's life")
	}
	s.stop()
}

// client runs the client and gives what it printed.
func (s *server) client(args ...string) string {
	s.t.Helper()
	cmd := s.command(context.Background(), append([]string{"client"}, args...)...)
	var errOut strings.Builder
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("client %v: %v\n%s%s", args, err, out, errOut.String())
	}
	return string(out)
}

// session reads a session as the client does.
func (s *server) session(tenant, id string) v1.Session {
	s.t.Helper()
	c, err := client.New(client.Config{URL: s.url, Tenant: tenant, Key: s.profile.Tenants[tenant].APIKey})
	if err != nil {
		s.t.Fatal(err)
	}
	n, err := sessionID(id)
	if err != nil {
		s.t.Fatal(err)
	}
	answer, err := c.Session(context.Background(), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return answer.Value.Session
}

func (s *server) nodeEvents(id int64) string {
	var lines strings.Builder
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, fmt.Sprintf(`"node_id":%d,`, id)) {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// A tenant's key goes from the node as soon as the session ends, though the
// machine may wait long for its destroy.
func TestKeyGoesFirst(t *testing.T) {
	brokertest.NeedProgram(t, "ssh")
	t.Parallel()
	pools := strings.Replace(localPools(t), "fill_level = 2", "fill_level = 0", 1)
	s := newServer(t, strings.Replace(pools, "fill_level = 3", "fill_level = 1", 1))
	s.start()
	s.full(time.Minute)
	session := s.must(201, "demo", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "small", "quantity": 1}}}).Session
	uid := strings.TrimPrefix(session.Nodes[0].Hostname, "node-")
	keys := filepath.Join(s.data, "nodes", uid, "home", ".ssh", "authorized_keys")
	before, err := os.ReadFile(keys)
	if err != nil {
		t.Fatal(err)
	}
	s.must(200, "demo", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
	s.eventually("the key is gone", time.Minute, func() error {
		after, err := os.ReadFile(keys)
		if errors.Is(err, os.ErrNotExist) {
			return nil // the whole node went in the meantime
		}
		if err == nil && len(after) >= len(before) {
			return errors.New("authorized_keys is as long as before")
		}
		return err
	})
	s.eventually("the loop said so", time.Minute, func() error {
		if !strings.Contains(s.nodeEvents(session.Nodes[0].ID), `"state":"gone"`) {
			return errors.New("the node is not gone")
		}
		return nil
	})
	s.stop()
}

// A node that has died in stock is replaced within the request.
func TestDeadNodeIsReplaced(t *testing.T) {
	t.Parallel()
	s := newServer(t, localPools(t))
	s.start()
	s.full(2 * time.Minute)
	var victim apiNode
	for _, n := range s.must(200, "admin", "GET", "/nodes", nil).Nodes {
		if n.Pool == "small" && (victim.ID == 0 || n.ID < victim.ID) {
			victim = n // the oldest: the next to be lent
		}
	}
	uid := strings.TrimPrefix(victim.Hostname, "node-")
	if err := s.command(context.Background(), "local-node", "stop", "--dir", filepath.Join(s.data, "nodes", uid)).Run(); err != nil {
		t.Fatal(err)
	}
	session := s.must(201, "demo", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "small", "quantity": 2}}}).Session
	if len(session.Nodes) != 2 {
		t.Fatalf("got %d nodes, want 2", len(session.Nodes))
	}
	for _, n := range session.Nodes {
		if n.ID == victim.ID {
			t.Errorf("the dead node %d was handed out", n.ID)
		}
	}
	s.full(time.Minute)
	s.noStrays()
	s.stop()
}

func TestSecondBrokerSaysWhoHolds(t *testing.T) {
	t.Parallel()
	s := newServer(t, localPools(t))
	s.start()
	out, err := s.command(context.Background(), "serve", "--pools", s.pools, "--data", s.data, "--listen", "127.0.0.1:0").CombinedOutput()
	if err == nil || !strings.Contains(string(out), fmt.Sprintf("held by the broker with process id %d", s.cmd.Process.Pid)) {
		t.Errorf("a second broker ended with %v and said:\n%s", err, out)
	}
	s.full(2 * time.Minute)
	s.stop()
}

// Whatever is wrong at the start is one clear message, and nothing is lost.
func TestBadStarts(t *testing.T) {
	t.Parallel()
	good := localPools(t)
	emptyModule := func(s *server, text string) {
		dir := filepath.Join(filepath.Dir(s.pools), "module")
		if err := os.MkdirAll(dir, 0o750); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
		s.writePools("pool \"p\" {\n  module = \"./module\"\n  fill_level = 1\n}\n")
	}
	tests := []struct {
		name    string
		prepare func(*server)
		want    []string
	}{
		{"no pools file", func(s *server) { s.pools += ".missing" }, []string{"pools.hcl.missing"}},
		{"missing module", func(s *server) { s.writePools("pool \"p\" {\n  module = \"./nowhere\"\n  fill_level = 1\n}\n") }, []string{"nowhere", "line 2"}},
		{"module without ipaddr", func(s *server) { emptyModule(s, `variable "broker" { type = any }`) }, []string{`output "ipaddr"`}},
		{"module without broker", func(s *server) { emptyModule(s, `output "ipaddr" { value = "127.0.0.1" }`) }, []string{`variable "broker"`}},
		{"port in use", func(s *server) { s.extra = []string{"--listen", s.url} }, []string{"another program is listening on", "--listen"}},
		{"unreadable database", func(s *server) {
			if _, err := secret.Open(filepath.Join(s.data, "keys")); err != nil {
				s.t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(s.data, "broker.db"), []byte(strings.Repeat("not a database ", 1000)), 0o600); err != nil {
				s.t.Fatal(err)
			}
		}, []string{"broker.db"}},
		{"keys lost", func(s *server) {
			if err := os.WriteFile(filepath.Join(s.data, "broker.db"), nil, 0o600); err != nil {
				s.t.Fatal(err)
			}
		}, []string{"root.key is not", "backup"}},
		{"no such terraform", func(s *server) { s.extra = []string{"--terraform", "/nowhere/terraform"} }, []string{"/nowhere/terraform"}},
		{"version out of reach", func(s *server) {
			s.writePools("terraform {\n  required_version = \"= 1.0.99\"\n}\n" + good)
		}, []string{"1.0.99", "--terraform"}},
	}
	taken := newServer(t, good)
	taken.start()
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, good)
			if err := os.MkdirAll(s.data, 0o700); err != nil {
				t.Fatal(err)
			}
			s.url = strings.TrimPrefix(taken.url, "http://")
			test.prepare(s)
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			args := append([]string{"serve", "--pools", s.pools, "--data", s.data, "--listen", "127.0.0.1:0", "--log-format", "text"}, s.extra...)
			cmd := s.command(ctx, args...)
			cmd.Env = append(cmd.Env, "HTTPS_PROXY=http://127.0.0.1:1", "HTTP_PROXY=http://127.0.0.1:1")
			out, err := cmd.CombinedOutput()
			if err == nil || ctx.Err() != nil {
				t.Fatalf("it ended with %v (%v):\n%s", err, ctx.Err(), out)
			}
			for _, want := range test.want {
				if !strings.Contains(string(out), want) {
					t.Errorf("the message lacks %q:\n%s", want, out)
				}
			}
			if strings.Contains(string(out), "goroutine ") {
				t.Errorf("a panic:\n%s", out)
			}
		})
	}
	taken.full(2 * time.Minute)
	taken.stop()
}
