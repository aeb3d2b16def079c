package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// as runs a command with a tenant's key, and gives its exit code and what it prints.
func (s *server) as(name, key string, args ...string) (int, string) {
	s.t.Helper()
	cmd := s.command(s.t.Context(), args...)
	cmd.Env = append(cmd.Env, "DUFFY_BROKER_URL="+s.url+"/api/v1", "DUFFY_BROKER_AUTH_NAME="+name, "DUFFY_BROKER_AUTH_KEY="+key)
	out, _ := cmd.CombinedOutput() // the code says it
	return cmd.ProcessState.ExitCode(), string(out)
}

// shows fails unless text matches every pattern.
func shows(t *testing.T, text string, patterns ...string) {
	t.Helper()
	for _, p := range patterns {
		if !regexp.MustCompile("(?m)" + p).MatchString(text) {
			t.Errorf("%q is not in\n%s", p, text)
		}
	}
}

// The whole life of a tenant on the command line: made, changed, its key replaced
// in both ways, its session looked after, retired and let in again.
func TestAdminCommands(t *testing.T) {
	t.Parallel()
	s := newServer(t, plainPool(t, 3))
	s.start()
	s.full(2 * time.Minute)
	pub := filepath.Join(t.TempDir(), "keys.pub")
	if err := os.WriteFile(pub, []byte("ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	keyLine := regexp.MustCompile(`API key: ([0-9a-f-]{36})\n`)
	newKey := func(out string) string {
		t.Helper()
		m := keyLine.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no API key in\n%s", out)
		}
		return m[1]
	}
	can := func(key string, want bool) {
		t.Helper()
		if code, out := s.as("ci", key, "tenant", "show", "ci"); (code == 0) != want {
			t.Errorf("the tenant with this key: exit %d, want success %t: %s", code, want, out)
		}
	}

	out := s.admin("tenant", "create", "ci", "--ssh-key", pub, "--quota", "2", "--lifetime", "1h", "--lifetime-max", "1d 2h")
	first := newKey(out)
	shows(t, out, `^node quota +2$`, `^session lifetime +1h$`, `^longest session lifetime +26h$`)
	can(first, true)
	shows(t, s.admin("admin", "tenant", "list"), `^\d+ +ci +yes +no +2 +1h +26h +20`, `^\d+ +admin +yes +yes`)
	if code, out := s.as("ci", first, "tenant", "create", "more", "--ssh-key", pub); code != 1 {
		t.Errorf("a tenant that is no admin made one: %s", out)
	}

	shows(t, s.admin("tenant", "update", "ci", "--quota", "default", "--lifetime", "90m"), `^node quota +10 \(default\)$`, `^session lifetime +1h30m$`, `^longest session lifetime +26h$`)

	second := newKey(s.admin("tenant", "reset-key", "ci", "--keep-previous"))
	can(first, true)
	can(second, true)
	if out := s.admin("tenant", "reset-key", "ci", "--drop-previous"); keyLine.MatchString(out) {
		t.Errorf("dropping showed a key: %s", out)
	}
	can(first, false)
	can(second, true)
	third := newKey(s.admin("tenant", "reset-key", "ci"))
	can(second, false)
	can(third, true)

	// Its session; the same key gives it again.
	ask := []string{"client", "request-session", "pool=plain,quantity=1", "--format", "json", "--idempotency-key", "job-1"}
	var asked [2]apiAnswer
	for i := range asked {
		if code, out := s.as("ci", third, ask...); code != 0 || json.Unmarshal([]byte(out), &asked[i]) != nil {
			t.Fatalf("request: exit %d: %s", code, out)
		}
	}
	session := fmt.Sprint(asked[0].Session.ID)
	if asked[0].Session.ID != asked[1].Session.ID {
		t.Errorf("the same key gave sessions %d and %d", asked[0].Session.ID, asked[1].Session.ID)
	}
	shows(t, s.admin("session", "list", "--tenant", "ci"), "^"+session+" +yes +ci")
	if out := s.admin("session", "list", "--tenant", "demo"); strings.Contains(out, "ci") {
		t.Errorf("the sessions of another tenant: %s", out)
	}
	shows(t, s.admin("session", "extend", session, "2h"), `expires in 3h2\d`)
	shows(t, s.admin("admin", "session", "show", session), "session "+session+" of ci, expires in 3h2")
	shows(t, s.admin("session", "events", session), "session "+session+" .*active")
	shows(t, s.admin("session", "retire", session), "session "+session+" of ci, retired")
	if out := s.admin("session", "list"); strings.Contains(out, "ci") {
		t.Errorf("a retired session is listed: %s", out)
	}
	shows(t, s.admin("session", "list", "--all", "--tenant", "ci"), "^"+session+" +no +ci")

	shows(t, s.admin("tenant", "retire", "ci"), `^active +no$`)
	can(third, false)
	shows(t, s.admin("tenant", "unretire", "ci"), `^active +yes$`)
	can(third, true)

	// Events: those that are kept, and then what comes, across a restart.
	shows(t, s.admin("events"), `tenant .*tenant 'ci' created by admin`, `session `+session+` `)
	if code, out := s.as("admin", s.profile.Tenants["admin"].APIKey, "tenant", "retire", "nobody"); code != 1 || !strings.Contains(out, "tenant list shows") {
		t.Errorf("an unknown tenant: exit %d: %s", code, out)
	}
	s.full(time.Minute)
	for _, secret := range []string{first, second, third} {
		s.nowhere(secret)
	}
	s.stop()
}

// front stands before a broker, and does something to the first answer about a new
// session: when does is called, the broker has made it.
func (s *server) front(does func() (lost bool)) string {
	target, err := url.Parse(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	var first atomic.Bool
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.ModifyResponse = func(r *http.Response) error {
		if r.Request.Method == http.MethodPost && r.StatusCode == http.StatusCreated && first.CompareAndSwap(false, true) && does() {
			panic(http.ErrAbortHandler) // breaks the connection
		}
		return nil
	}
	front := httptest.NewServer(proxy)
	s.t.Cleanup(front.Close)
	return front.URL
}

// An answer that is lost costs no session: the client asks again, and gets the one
// that was made. Ctrl-C before the answer gives it back.
func TestRequestSession_answerLost(t *testing.T) {
	t.Parallel()
	s := newServer(t, localPools(t))
	s.start()
	s.full(2 * time.Minute)
	demo := s.profile.Tenants["demo"].APIKey
	started := func(base string, args ...string) (*exec.Cmd, *lineBuffer) {
		cmd, out := s.command(t.Context(), args...), new(lineBuffer)
		cmd.Env = append(cmd.Env, "DUFFY_BROKER_URL="+base, "DUFFY_BROKER_AUTH_NAME=demo", "DUFFY_BROKER_AUTH_KEY="+demo)
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd, out
	}
	const order = "pool=small,quantity=1"
	count := func() (n int) {
		return len(s.must(200, "admin", "GET", "/sessions", nil).Sessions) + len(s.must(200, "admin", "GET", "/sessions?active=false", nil).Sessions)
	}
	for name, args := range map[string][]string{
		"request-session":  {"client", "request-session", order},
		"run, asking once": {"client", "run", order, "--wait", "0s", "--local", "--", "true"},
	} {
		before := count()
		cmd, out := started(s.front(func() bool { return true }), args...)
		if err := cmd.Wait(); err != nil || !strings.Contains(out.String(), "asking again") {
			t.Errorf("%s: %v: %s", name, err, out)
		}
		if made := count() - before; made != 1 {
			t.Errorf("%s: %d sessions were made, want 1", name, made)
		}
	}
	if got := s.must(200, "admin", "GET", "/sessions", nil).Sessions; len(got) != 1 {
		t.Errorf("active: %+v, want the one of request-session", got)
	}
	for name, args := range map[string][]string{
		"request-session": {"client", "request-session", order},
		"run":             {"client", "run", order, "--keep-on-failure", "1h", "--local", "--", "echo", "it ran"},
	} {
		s.full(2 * time.Minute)
		answered, goOn := make(chan bool), make(chan bool)
		cmd, out := started(s.front(func() bool { answered <- true; <-goOn; return false }), args...)
		release := sync.OnceFunc(func() { close(goOn) })
		t.Cleanup(release) // before the front is closed, which waits for it
		<-answered
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		s.eventually("the client has noticed", time.Minute, func() error {
			if !strings.Contains(out.String(), "interrupted") {
				return errors.New("no such line")
			}
			return nil
		})
		release()
		_ = cmd.Wait() // its state says it
		if code := cmd.ProcessState.ExitCode(); code != exitInterrupted || strings.Contains(out.String(), "it ran") {
			t.Errorf("%s, interrupted: exit %d: %s", name, code, out)
		}
		if got := s.must(200, "admin", "GET", "/sessions", nil).Sessions; len(got) != 1 {
			t.Errorf("%s, interrupted: active: %+v, want that from before", name, got)
		}
	}
	s.full(2 * time.Minute) // no run is under way when the test ends
	s.stop()
}

// events -f goes on where it was after the broker was started again.
func TestEvents_follow(t *testing.T) {
	t.Parallel()
	s := newServer(t, plainPool(t, 1))
	s.start()
	s.full(time.Minute)
	var target atomic.Value // the port changes with each start
	target.Store(s.url)
	front := httptest.NewServer(&httputil.ReverseProxy{
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		Rewrite: func(r *httputil.ProxyRequest) {
			to, _ := url.Parse(target.Load().(string))
			r.SetURL(to)
		},
	})
	t.Cleanup(front.Close)
	cmd, out := s.command(t.Context(), "events", "-f", "--format", "json"), new(lineBuffer)
	cmd.Env = append(cmd.Env, "DUFFY_BROKER_URL="+front.URL, "DUFFY_BROKER_AUTH_NAME=admin", "DUFFY_BROKER_AUTH_KEY="+s.profile.Tenants["admin"].APIKey)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	has := func(text string) {
		t.Helper()
		s.eventually("the stream shows "+text, time.Minute, func() error {
			if !strings.Contains(out.String(), text) {
				return errors.New("not yet")
			}
			return nil
		})
	}
	has(`"kind": "node"`)
	s.stop()
	s.start()
	target.Store(s.url)
	s.must(201, "admin", "POST", "/tenants", map[string]any{"name": "late", "ssh_key": "ssh-ed25519 AAAA"})
	has("tenant 'late' created")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	last := int64(0)
	for line := range strings.Lines(out.String()) {
		var e struct{ Seq int64 }
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Seq != last+1 {
			t.Errorf("after event %d came %s", last, line)
		}
		last = e.Seq
	}
	s.stop()
}
