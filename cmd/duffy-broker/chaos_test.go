package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"
)

// chaosRounds is how often the broker is killed: CHAOS_ROUNDS, else 5.
func chaosRounds(t *testing.T) int {
	text := os.Getenv("CHAOS_ROUNDS")
	if text == "" {
		return 5
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("CHAOS_ROUNDS=%s is not a number of rounds", text)
	}
	return n
}

func chaosSeed(t *testing.T) uint64 {
	text := os.Getenv("CHAOS_SEED")
	if text == "" {
		return rand.Uint64()
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("CHAOS_SEED=%s is not a number", text)
	}
	return n
}

// ledger is what the clients were told: the sessions that were acknowledged and
// not given back.
type ledger struct {
	mu   sync.Mutex
	held map[int64]apiSession
	// unsure are sessions whose retirement was asked for and never answered.
	unsure map[int64]bool
	made   int
}

// A round is one kill -9 of a busy broker, at a random moment, and one recovery:
// no node in two sessions, no acknowledged session lost, no server that the
// store does not know, and stock full again by itself.
func TestChaos(t *testing.T) {
	t.Parallel()
	rounds, seed := chaosRounds(t), chaosSeed(t)
	t.Logf("CHAOS_ROUNDS=%d CHAOS_SEED=%d", rounds, seed)
	random := rand.New(rand.NewPCG(seed, 0))
	s := newServer(t, localPools(t))
	s.start()
	s.full(2 * time.Minute)
	book := &ledger{held: map[int64]apiSession{}, unsure: map[int64]bool{}}
	for round := range rounds {
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for client := range 4 {
			r := rand.New(rand.NewPCG(seed, uint64(round*100+client+1)))
			clients.Go(func() { book.busy(s, r, stop) })
		}
		time.Sleep(time.Duration(200+random.IntN(3000)) * time.Millisecond)
		s.kill()
		close(stop)
		clients.Wait()
		s.start()
		book.check(s)
		s.full(2 * time.Minute)
		s.noStrays()
		book.check(s)
		if t.Failed() {
			t.Fatalf("round %d of seed %d failed", round+1, seed)
		}
	}
	t.Logf("%d rounds, %d sessions acknowledged, none lost", rounds, book.made)
	// Even those whose end nobody heard of.
	for _, session := range s.must(200, "admin", "GET", "/sessions", nil).Sessions {
		s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
	}
	s.full(2 * time.Minute)
	s.noStrays()
	s.stop()
}

// busy asks for sessions and gives them back until the broker is gone.
func (l *ledger) busy(s *server, r *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		specs := []map[string]any{{"pool": "small", "quantity": 1 + r.IntN(2)}}
		if r.IntN(2) == 0 {
			specs = append(specs, map[string]any{"pool": "large", "quantity": 1})
		}
		status, answer, err := s.call("admin", "POST", "/sessions", map[string]any{"nodes_specs": specs})
		if err != nil || status != 201 {
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
			continue
		}
		session := answer.Session
		l.mu.Lock()
		l.held[session.ID] = session
		l.made++
		l.mu.Unlock()
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		if r.IntN(10) == 0 {
			continue // this one is kept
		}
		l.mu.Lock()
		l.unsure[session.ID] = true
		l.mu.Unlock()
		status, _, err = s.call("admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
		if err != nil {
			continue
		}
		l.mu.Lock()
		delete(l.unsure, session.ID)
		if status == 200 {
			delete(l.held, session.ID)
		}
		l.mu.Unlock()
	}
}

// check compares what the broker says with what its clients were told. Sessions
// that are kept are given back now and then, so that stock does not run out.
func (l *ledger) check(s *server) {
	s.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	active := map[int64]apiSession{}
	holder := map[int64]int64{}
	for _, session := range s.must(200, "admin", "GET", "/sessions", nil).Sessions {
		active[session.ID] = session
		for _, n := range session.Nodes {
			if other, taken := holder[n.ID]; taken {
				s.t.Errorf("node %d is in sessions %d and %d", n.ID, other, session.ID)
			}
			holder[n.ID] = session.ID
			if n.State != "deployed" {
				s.t.Errorf("node %d of active session %d is %s", n.ID, session.ID, n.State)
			}
		}
	}
	for id, told := range l.held {
		got, ok := active[id]
		switch {
		case l.unsure[id]: // either is right
		case !ok:
			s.t.Errorf("session %d was acknowledged, and is lost", id)
			continue
		case len(got.Nodes) != len(told.Nodes):
			s.t.Errorf("session %d has %d nodes, and its client was told of %d", id, len(got.Nodes), len(told.Nodes))
		}
		if !ok {
			continue
		}
		if err := l.useNodes(s, got); err != nil && !l.unsure[id] {
			s.t.Errorf("session %d: %v", id, err)
		}
	}
	for id := range active {
		s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", id), map[string]any{"active": false})
		delete(l.held, id)
	}
	clear(l.held)
	clear(l.unsure)
}

// useNodes finds the server of every node of a session alive.
func (l *ledger) useNodes(s *server, session apiSession) error {
	running := s.processes()
	for _, n := range session.Nodes {
		if len(running[n.Hostname[len("node-"):]]) == 0 {
			return errors.New("no server of node " + n.Hostname + " runs")
		}
	}
	return nil
}
