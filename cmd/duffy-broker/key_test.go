package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// key runs a key command, which must succeed.
func (s *server) key(args ...string) string {
	s.t.Helper()
	out, err := s.command(context.Background(), append([]string{"key"}, append(args, "--data", s.data)...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("key %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// wantKeys compares what key list says; a "*" in a line stands for any text.
func (s *server) wantKeys(got string, want ...string) {
	s.t.Helper()
	lines := strings.Split(strings.TrimSpace(got), "\n")
	for i, w := range want {
		pattern := "^" + strings.ReplaceAll(regexp.QuoteMeta(w), `\*`, ".*") + "$"
		if i+1 >= len(lines) || !regexp.MustCompile(pattern).MatchString(lines[i+1]) {
			s.t.Errorf("line %d of key list is not %q:\n%s", i+2, w, got)
		}
	}
	if len(lines) != len(want)+2 {
		s.t.Errorf("key list has %d lines, want %d keys, and two more lines:\n%s", len(lines), len(want), got)
	}
}

// oneNode is a pools.hcl with a pool of n local nodes.
func oneNode(t *testing.T, n int) string {
	t.Helper()
	text := strings.Replace(localPools(t), "fill_level = 2", "fill_level = 0", 1)
	return strings.Replace(text, "fill_level = 3", fmt.Sprintf("fill_level = %d", n), 1)
}

func (s *server) oldKeys() []string {
	s.t.Helper()
	paths, err := filepath.Glob(filepath.Join(s.data, "keys", "old", "*.key"))
	if err != nil {
		s.t.Fatal(err)
	}
	return paths
}

// A node of before two rotations lives on, tenants log in as before, and once the
// broker says so the old keys can go: the node is destroyed without them.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	s := newServer(t, oneNode(t, 1))
	s.start()
	s.full(time.Minute)
	before := s.knownNodes()
	out, err := s.command(context.Background(), "key", "rotate", "--data", s.data).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "held by the broker with process id") {
		t.Errorf("a rotation beside a running broker: %v\n%s", err, out)
	}
	s.wantKeys(s.key("list"), "* current * (0 minutes)*, everything new")
	s.stop()

	s.key("rotate")
	if out := s.key("rotate"); !strings.Contains(out, "Back up both now") {
		t.Errorf("key rotate says %q", out)
	}
	s.wantKeys(s.key("list"),
		"* current * everything new",
		"* old * logs of runs until *",
		"* old * 1 node, 2 API keys, logs of runs until *")
	s.start()
	s.logs("sealed anew with the current root key")
	s.full(time.Minute) // logs in as admin
	s.eventually("key list knows of it", time.Minute, func() error {
		if out := s.key("list"); !strings.Contains(out, "1 node, everything new") {
			return errors.New(out)
		}
		return nil
	})
	s.stop()
	s.wantKeys(s.key("list"),
		"* current * 1 node, 1 API key, everything new",
		"* old * logs of runs until *",
		"* old * 1 API key, logs of runs until *")

	// A week later, and after a login of the other tenant.
	past := time.Now().Add(-8 * 24 * time.Hour)
	if len(s.oldKeys()) != 2 {
		t.Fatalf("old keys: %v", s.oldKeys())
	}
	for _, path := range s.oldKeys() {
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	s.logs("an old root key is not needed any more") // the one that was current for no start
	s.must(200, "demo", "GET", "/sessions", nil)
	s.stop()
	s.wantKeys(s.key("list"),
		"* current * 1 node, 2 API keys, everything new",
		"* old * (8 days) * nothing: it can be removed",
		"* old * (8 days) * nothing: it can be removed")
	s.start()
	s.eventually("the broker says of both keys that they can go", time.Minute, func() error {
		for _, path := range s.oldKeys() {
			if strings.Count(s.log.String(), path) != 1 {
				return errors.New("not of " + path)
			}
		}
		return nil
	})
	s.stop()
	for _, path := range s.oldKeys() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	s.start()
	s.full(time.Minute)
	s.must(200, "demo", "GET", "/sessions", nil)
	for uid := range before {
		if _, ok := s.knownNodes()[uid]; !ok {
			t.Errorf("node %s of before the rotations is not there any more", uid)
		}
	}
	s.noStrays()
	s.writePools(oneNode(t, 0))
	s.reload()
	s.eventually("the node is destroyed", time.Minute, func() error {
		if len(s.knownNodes())+len(s.processes()) > 0 {
			return errors.New("it is not")
		}
		return nil
	})
	if strings.Contains(s.log.String(), `"level":"ERROR"`) {
		t.Errorf("errors in the log:\n%s", tail(s.log.String(), 3000))
	}
	s.stop()
}

// An old key that goes too early is missed, by name, and nothing is lost with it.
func TestKeyRemovedTooEarly(t *testing.T) {
	t.Parallel()
	s := newServer(t, oneNode(t, 1))
	s.start()
	s.full(time.Minute)
	s.stop()
	s.key("rotate")
	path := s.oldKeys()[0]
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	cmd := s.command(context.Background(), "key", "list", "--data", s.data)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "is not the one that") {
		t.Errorf("key list with a key that does not fit: %v\n%s", err, out)
	}
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	// A start without a look at the nodes: the identity knows the new key then.
	s.start()
	s.logs("sealed anew")
	s.stop()
	s.wantKeys(s.key("list"), "* current * 1 node, everything new", "* old * 2 API keys, *")
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	s.wantKeys(s.key("list"), "* current * 1 node, everything new", "* missing * 2 API keys")
	s.start()
	s.logs("tenants can't log in whose API keys were hashed with a root key that is not here")
	if status, _, err := s.call("demo", "GET", "/sessions", nil); err != nil || status != 401 {
		t.Errorf("a login without the old key: %d, %v", status, err)
	}
	s.stop()
	if err := os.Rename(path+".away", path); err != nil {
		t.Fatal(err)
	}
	s.start()
	s.must(200, "demo", "GET", "/sessions", nil)
	s.writePools(oneNode(t, 0))
	s.reload()
	s.full(time.Minute)
	s.stop()
}

// The root key comes from outside: by a flag, or else by the environment; and can
// be rotated there.
func TestKeyOutside(t *testing.T) {
	t.Parallel()
	s := newServer(t, oneNode(t, 1))
	outside := t.TempDir()
	file := func(name string, size int) string {
		path := filepath.Join(outside, name)
		if err := os.WriteFile(path, []byte(strings.Repeat(name[:1], size)), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	a, other, short := file("a", 32), file("other", 32), file("short", 31)
	text := func(letter string) string {
		return "DUFFY_BROKER_KEY=" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(letter, 32)))
	}
	with := func(args []string, env ...string) {
		s.extra, s.wrap = args, append([]string{"/usr/bin/env"}, env...)
	}
	noRootKey := func() {
		t.Helper()
		if _, err := os.Stat(filepath.Join(s.data, "keys", "root.key")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the data directory has a root key: %v", err)
		}
	}
	with([]string{"--key-file", a}, "DUFFY_BROKER_KEY_FILE="+other, text("x"))
	s.start()
	s.full(time.Minute)
	noRootKey()
	for _, node := range s.processes() {
		for _, pid := range node {
			if env, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || strings.Contains(string(env), "DUFFY_BROKER_KEY") {
				t.Errorf("a node's process knows of the root key: %v", err)
			}
		}
	}
	s.stop()
	for _, env := range [][]string{{"DUFFY_BROKER_KEY_FILE=" + a, text("x")}, {text("a")}} {
		with(nil, env...)
		s.start()
		s.full(time.Minute)
		s.stop()
		noRootKey()
	}

	for name, tt := range map[string]struct {
		args []string
		env  []string
		want []string
	}{
		"another file":       {[]string{"--key-file", other}, nil, []string{"the keys are not those that this database was made with", "--key-file"}},
		"another key":        {nil, []string{text("x")}, []string{"the keys are not those"}},
		"a short file":       {[]string{"--key-file", short}, nil, []string{short + " has 31 bytes, not 32", "head -c 32"}},
		"no file":            {nil, []string{"DUFFY_BROKER_KEY_FILE=" + a + ".missing"}, []string{"a.missing: no such file"}},
		"not base64":         {nil, []string{"DUFFY_BROKER_KEY=hunter-2"}, []string{"DUFFY_BROKER_KEY can't be used: it is not base64", "| base64"}},
		"base64 of a word":   {nil, []string{"DUFFY_BROKER_KEY=c2VjcmV0"}, []string{"it is base64 of 6 bytes, not of 32"}},
		"none":               {nil, nil, []string{"root.key is not", "--key-file"}},
		"readable by others": {[]string{"--key-file", filepath.Join(outside, "open")}, nil, []string{"mode 0644", "chmod 600"}},
	} {
		if err := os.WriteFile(filepath.Join(outside, "open"), []byte(strings.Repeat("a", 32)), 0o644); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := s.command(ctx, append([]string{"serve", "--pools", s.pools, "--data", s.data, "--listen", "127.0.0.1:0"}, tt.args...)...)
		cmd.Env = append(cmd.Env, tt.env...)
		out, err := cmd.CombinedOutput()
		if err == nil || ctx.Err() != nil {
			t.Errorf("%s: it ended with %v (%v)", name, err, ctx.Err())
		}
		cancel()
		for _, want := range tt.want {
			if !strings.Contains(string(out), want) {
				t.Errorf("%s: the message lacks %q:\n%s", name, want, out)
			}
		}
		if strings.Contains(string(out), "hunter") {
			t.Errorf("%s: the message shows the key:\n%s", name, out)
		}
	}
	noRootKey()

	// Rotated outside. The directory never has a key in clear, and the new one alone
	// opens all.
	cmd := s.command(context.Background(), "key", "rotate", "--data", s.data)
	cmd.Env = append(cmd.Env, "DUFFY_BROKER_KEY_FILE="+a)
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "--key-file") {
		t.Errorf("a rotation without a place for the new key: %v\n%s", err, out)
	}
	b := filepath.Join(outside, "b")
	s.key("rotate", "--key-file", b, "--old-key-file", a)
	s.wantKeys(s.key("list", "--key-file", b), "* current * everything new", "* old * 1 node, 2 API keys, *")
	for _, path := range s.oldKeys() {
		if content, err := os.ReadFile(path); err != nil || strings.Contains(string(content), "aaaa") {
			t.Errorf("the old key is readable in the data directory: %v", err)
		}
	}
	if err := os.Remove(a); err != nil {
		t.Fatal(err)
	}
	with([]string{"--key-file", b})
	s.start()
	s.logs("sealed anew")
	s.full(time.Minute)
	s.must(200, "demo", "GET", "/sessions", nil)
	s.writePools(oneNode(t, 0))
	s.reload()
	s.full(time.Minute)
	s.stop()
	noRootKey()
}

// A broker that had its key in the data directory gives it up for one outside.
func TestKeyMovesOut(t *testing.T) {
	t.Parallel()
	s := newServer(t, plainPool(t, 1))
	s.start()
	s.full(time.Minute)
	s.stop()
	file := filepath.Join(t.TempDir(), "new.key")
	s.key("rotate", "--key-file", file)
	if _, err := os.Stat(filepath.Join(s.data, "keys", "root.key")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the data directory has still its root key: %v", err)
	}
	s.extra = []string{"--key-file", file}
	s.start()
	s.logs("sealed anew")
	s.must(200, "demo", "GET", "/sessions", nil)
	s.full(time.Minute)
	s.stop()
}

func TestKeyCommandsWithoutABroker(t *testing.T) {
	for _, args := range [][]string{{"key", "list"}, {"key", "rotate"}} {
		dir := t.TempDir()
		var out, errOut strings.Builder
		code := run(t.Context(), append(args, "--data", dir), strings.NewReader(""), &out, &errOut)
		if code != 1 || !strings.Contains(errOut.String(), "is not the data directory of a broker") {
			t.Errorf("%v: exit %d, %s", args, code, errOut.String())
		}
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
			t.Errorf("%v made %v, %v", args, entries, err)
		}
	}
}
