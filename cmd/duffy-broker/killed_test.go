package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// asked is what a client got for a request.
type asked struct {
	status  int
	session apiSession
	err     error
}

// once asks for a session with a key of its own.
func (s *server) once(key string) asked {
	req, err := http.NewRequest(http.MethodPost, s.url+"/api/v1/sessions", strings.NewReader(`{"nodes_specs": [{"pool": "plain", "quantity": 2}]}`))
	if err != nil {
		return asked{err: err}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Idempotency-Key", key)
	req.SetBasicAuth("demo", s.profile.Tenants["demo"].APIKey)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return asked{err: err}
	}
	defer func() { _ = resp.Body.Close() }()
	var answer apiAnswer
	err = json.NewDecoder(resp.Body).Decode(&answer)
	return asked{resp.StatusCode, answer.Session, err}
}

// freeze stops the broker, and waits until all of it has stopped.
func (s *server) freeze() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the broker has stopped", 10*time.Second, func() error {
		paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
		if err != nil || len(paths) == 0 {
			return permanent{fmt.Errorf("it is gone: %w", err)}
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			_, state, ok := strings.Cut(string(text), ") ")
			if err == nil && (!ok || state[0] != 'T') {
				return fmt.Errorf("%s: %s", path, text)
			}
		}
		return nil
	})
}

// committed gives the active sessions that are in the store of a frozen broker.
func (s *server) committed() []broker.Session {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.data, "broker.db"))
	if err != nil {
		s.t.Fatal(err)
	}
	path := filepath.Join(s.t.TempDir(), "broker.db")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
	store, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	var sessions []broker.Session
	err = store.View(context.Background(), func(tx broker.ReadTx) error {
		all, err := tx.Sessions(broker.SessionQuery{})
		sessions = slices.DeleteFunc(all, func(x broker.Session) bool { return x.State != broker.SessionActive })
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return sessions
}

var errAnswered = errors.New("the answer had left before the broker could be killed")

// killBeforeAnswer lets the broker work in slices until it has committed the
// session that a request asks for, and kills it before the answer leaves.
func (s *server) killBeforeAnswer(key string) (broker.Session, error) {
	s.t.Helper()
	answers := make(chan asked, 1)
	s.freeze()
	go func() { answers <- s.once(key) }()
	for {
		if sessions := s.committed(); len(sessions) > 0 {
			s.kill()
			if a := <-answers; a.err == nil {
				return sessions[0], errAnswered
			}
			return sessions[0], nil
		}
		if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
			s.t.Fatal(err)
		}
		time.Sleep(50 * time.Microsecond)
		s.freeze()
	}
}

// A broker is killed with kill -9 between the commit of a session and its answer.
// With the same Idempotency-Key the client gets that session afterwards, and there
// is no second one.
func TestKilledBeforeAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t, plainPool(t, 4))
	s.start()
	s.full(time.Minute)
	for try := range 40 {
		key := fmt.Sprintf("job-%d", try)
		lost, err := s.killBeforeAnswer(key)
		s.start()
		again := s.once(key)
		if again.err != nil || again.status != http.StatusCreated {
			t.Fatalf("the same request again: status %d, error %v", again.status, again.err)
		}
		var want, got []int64
		for _, n := range lost.Nodes {
			want = append(want, n.ID)
		}
		for _, n := range again.session.Nodes {
			got = append(got, n.ID)
		}
		if again.session.ID != lost.ID || !again.session.Active || !slices.Equal(got, want) {
			t.Errorf("the same request again gave session %d with nodes %v, want session %d with nodes %v", again.session.ID, got, lost.ID, want)
		}
		all := s.must(200, "admin", "GET", "/sessions", nil).Sessions
		if len(all) != 1 {
			t.Errorf("there are %d sessions: %+v", len(all), all)
		}
		if err == nil || t.Failed() {
			return
		}
		t.Logf("try %d: %v", try+1, err)
		s.must(200, "demo", "PUT", fmt.Sprintf("/sessions/%d", lost.ID), map[string]any{"active": false})
		s.full(time.Minute)
	}
	t.Error("the broker was never killed in time")
}
