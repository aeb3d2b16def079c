package main

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ran is how a `client run` came out.
type ran struct {
	status   int
	out, err string
}

func (s *server) run(tmp string, args ...string) ran {
	s.t.Helper()
	cmd := s.command(s.t.Context(), append([]string{"client", "run"}, args...)...)
	cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit := (*exec.ExitError)(nil); err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), out.String(), errOut.String()}
}

func TestClientRun(t *testing.T) {
	t.Parallel()
	s := newServer(t, localPools(t))
	s.start()
	s.full(2 * time.Minute)
	tmp := t.TempDir()
	noSessions := func(t *testing.T) {
		t.Helper()
		if left := s.must(200, "admin", "GET", "/sessions", nil).Sessions; len(left) != 0 {
			t.Errorf("sessions left: %+v", left)
		}
	}
	t.Run("a command on every node", func(t *testing.T) {
		got := s.run(tmp, "pool=small,quantity=2", "pool=large,quantity=1", "--", "echo", "hello;", "printf", "end")
		lines := strings.Split(strings.TrimSpace(got.out), "\n")
		slices.Sort(lines)
		line := regexp.MustCompile(`^node-[0-9a-f]{16} \| (hello|end)$`)
		names := make(map[string]bool)
		for _, l := range lines {
			if !line.MatchString(l) {
				t.Errorf("line %q", l)
			}
			names[strings.Fields(l)[0]] = true
		}
		if got.status != 0 || len(lines) != 6 || len(names) != 3 {
			t.Errorf("exit %d: %s\n%s", got.status, got.out, got.err)
		}
		noSessions(t)
	})
	t.Run("a command that fails", func(t *testing.T) {
		got := s.run(tmp, "pool=small,quantity=1", "--", "echo oops >&2; exit 3")
		if got.status != 3 || !strings.Contains(got.err, " | oops\n") {
			t.Errorf("exit %d: %s\n%s", got.status, got.out, got.err)
		}
		noSessions(t)
	})
	t.Run("here, with the nodes in the environment", func(t *testing.T) {
		script := `for n in $DUFFY_NODES; do ssh -n -F $DUFFY_SSH_CONFIG $n echo on $n in $DUFFY_SESSION; done; grep -c ansible_host $ANSIBLE_INVENTORY; grep '^\[' $ANSIBLE_INVENTORY; exit 4`
		got := s.run(tmp, "pool=small,quantity=2", "--local", "--", "sh", "-c", script)
		want := regexp.MustCompile(`^on node-\w{16} in \d+\non node-\w{16} in \d+\n2\n\[small\]\n\[all:vars\]\n$`)
		if got.status != 4 || !want.MatchString(got.out) {
			t.Errorf("exit %d: %s\n%s", got.status, got.out, got.err)
		}
		noSessions(t)
	})
	t.Run("too few nodes, asked once", func(t *testing.T) {
		if got := s.run(tmp, "pool=small,quantity=7", "--wait", "0s", "--", "true"); got.status != 1 || !strings.Contains(got.err, "can't reserve nodes") {
			t.Errorf("exit %d: %s", got.status, got.err)
		}
	})
	t.Run("no command", func(t *testing.T) {
		if got := s.run(tmp, "pool=small,quantity=1"); got.status != 1 || !strings.Contains(got.err, "for example") {
			t.Errorf("exit %d: %s", got.status, got.err)
		}
		noSessions(t)
	})
	t.Run("a command that takes too long", func(t *testing.T) {
		if got := s.run(tmp, "pool=small,quantity=1", "--timeout", "1s", "--", "sleep 600"); got.status != 124 {
			t.Errorf("exit %d: %s", got.status, got.err)
		}
		noSessions(t)
	})
	t.Run("Ctrl-C", func(t *testing.T) {
		cmd := s.command(t.Context(), "client", "run", "pool=small,quantity=1", "--", "echo started; sleep 600")
		cmd.Env = append(cmd.Env, "TMPDIR="+tmp)
		out := new(lineBuffer)
		cmd.Stdout = out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		s.eventually("the command runs", time.Minute, func() error {
			if !strings.Contains(out.String(), "started") {
				return errors.New("no output")
			}
			return nil
		})
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // its state says more
		if got := cmd.ProcessState.ExitCode(); got != 130 {
			t.Errorf("exit %d", got)
		}
		noSessions(t)
	})
	t.Run("kept after a failure", func(t *testing.T) {
		got := s.run(tmp, "pool=small,quantity=1", "--keep-on-failure", "2h", "--", "false")
		sessions := s.must(200, "admin", "GET", "/sessions", nil).Sessions
		if got.status != 1 || len(sessions) != 1 || !strings.Contains(got.err, fmt.Sprintf("client ssh %d", sessions[0].ID)) {
			t.Fatalf("exit %d, sessions %+v: %s", got.status, sessions, got.err)
		}
		if left := time.Until(sessions[0].ExpiresAt); left > 2*time.Hour || left < time.Hour {
			t.Errorf("it is kept for %s", left)
		}
		s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", sessions[0].ID), map[string]any{"active": false})
	})
	if left, err := filepath.Glob(filepath.Join(tmp, "*")); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v, %v", left, err)
	}
}

func TestPrefixWriter(t *testing.T) {
	var out bytes.Buffer
	w := newLineWriter(&out).prefixed("a | ")
	for _, text := range []string{"one", " line\nanother\n", "", "\n", "the rest"} {
		if n, err := w.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("Write(%q) = %d, %v", text, n, err)
		}
	}
	w.flush()
	w.flush()
	if got, want := out.String(), "a | one line\na | another\na | \na | the rest\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
