package memory

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"sync"
	"unicode/utf8"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Store is a [broker.Store] in memory. Make it with [New].
type Store struct {
	mu     sync.RWMutex
	closed bool

	identity   *broker.Identity
	nodes      map[int64]broker.Node
	terraform  map[string][]byte // by node uid
	sessions   map[int64]broker.Session
	tenants    map[int64]broker.Tenant
	health     map[string]broker.PoolHealth
	rollouts   map[string]broker.Rollout
	followed   map[string]broker.Followed
	events     []broker.Event // by sequence number
	idempotent map[string]broker.Idempotency
	handouts   map[string]broker.Handouts
	hosts      map[int64]broker.Host
	lastNode   int64 // the highest ids ever given; that of nodes and hosts
	lastSess   int64
	lastTenant int64
	lastEvent  int64
	runs       map[int64]broker.Run
	runLogs    map[int64][]byte
	lastRun    int64

	version     broker.Version
	nodeChanges map[int64]broker.Version // when each was last touched, those removed included
	sessChanges map[int64]broker.Version
}

var _ broker.Store = (*Store)(nil)

// New gives an empty store.
func New() *Store {
	return &Store{
		nodes: make(map[int64]broker.Node), terraform: make(map[string][]byte), sessions: make(map[int64]broker.Session),
		tenants: make(map[int64]broker.Tenant), health: make(map[string]broker.PoolHealth), rollouts: make(map[string]broker.Rollout), followed: make(map[string]broker.Followed),
		runs: make(map[int64]broker.Run), runLogs: make(map[int64][]byte),
		version: 1, nodeChanges: make(map[int64]broker.Version), sessChanges: make(map[int64]broker.Version),
		idempotent: make(map[string]broker.Idempotency), handouts: make(map[string]broker.Handouts),
		hosts: make(map[int64]broker.Host),
	}
}

// Close implements [broker.Store]. Repeating it changes nothing.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// View implements [broker.Store].
func (s *Store) View(ctx context.Context, fn func(broker.ReadTx) error) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	return fn(&tx{Store: s, reading: true})
}

// Update implements [broker.Store].
func (s *Store) Update(ctx context.Context, fn func(broker.Tx) error) (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.usable(ctx); err != nil {
		return err
	}
	t := &tx{Store: s}
	keep := false
	defer func() { // after a panic, too
		if !keep {
			t.rollback()
		}
	}()
	err = fn(t)
	if keep = err == nil; keep {
		s.version++
		for _, id := range t.touchedNodes {
			s.nodeChanges[id] = s.version
		}
		for _, id := range t.touchedSessions {
			s.sessChanges[id] = s.version
		}
	}
	return err
}

func (s *Store) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if s.closed {
		return broker.Errorf(broker.CodeUnavailable, "the store is closed")
	}
	return nil
}

// tx changes the store in place, and remembers how to undo it and what it touched.
type tx struct {
	*Store

	undo    []func()
	reading bool

	touchedNodes, touchedSessions []int64
}

var _ broker.Tx = (*tx)(nil)

func (t *tx) rollback() {
	for _, undo := range slices.Backward(t.undo) {
		undo()
	}
}

// set assigns a variable of the store.
func set[T any](t *tx, p *T, v T) {
	old := *p
	t.undo = append(t.undo, func() { *p = old })
	*p = v
}

// put stores a copy under a key.
func put[K comparable, V any](t *tx, m map[K]V, key K, v V) error {
	v, err := clone(v)
	if err != nil {
		return err
	}
	restore(t, m, key)
	m[key] = v
	return nil
}

func remove[K comparable, V any](t *tx, m map[K]V, key K) {
	restore(t, m, key)
	delete(m, key)
}

func restore[K comparable, V any](t *tx, m map[K]V, key K) {
	old, had := m[key]
	t.undo = append(t.undo, func() {
		if had {
			m[key] = old
		} else {
			delete(m, key)
		}
	})
}

// clone copies a value with all that it points to.
func clone[T any](v T) (c T, err error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return c, broker.Wrap(broker.CodeInvalid, err, "this record can't be stored")
	}
	return c, json.Unmarshal(raw, &c)
}

// list copies the values that fit, ordered by key; limit 0 means all.
func list[K interface{ ~int64 | ~string }, V any](m map[K]V, limit int, fits func(V) bool) (all []V, err error) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if !fits(m[key]) {
			continue
		}
		v, err := clone(m[key])
		if err != nil {
			return nil, err
		}
		if all = append(all, v); len(all) == limit {
			break
		}
	}
	return all, nil
}

// find copies the value of a key.
func find[V any](m map[int64]V, id int64, what string) (v V, err error) {
	v, ok := m[id]
	if !ok {
		return v, broker.Errorf(broker.CodeNotFound, "there is no %s %d", what, id)
	}
	return clone(v)
}

// asked tells whether a query's states name s; none names all.
func asked[S comparable](states []S, s S) bool { return len(states) == 0 || slices.Contains(states, s) }

func named(what, name string) error {
	if name == "" {
		return broker.Errorf(broker.CodeInvalid, "%s is empty", what)
	}
	if !utf8.ValidString(name) {
		return broker.Errorf(broker.CodeInvalid, "%s %q is not valid UTF-8", what, name)
	}
	return nil
}

// Changes implements [broker.ReadTx].
func (t *tx) Changes(since broker.Version) (broker.Changes, error) {
	if !t.reading {
		return broker.Changes{}, nil
	}
	c := broker.Changes{Version: t.version, Known: since > 0 && since <= t.version}
	if c.Known {
		c.Nodes, c.Sessions = after(t.nodeChanges, since), after(t.sessChanges, since)
	}
	return c, nil
}

func after(changes map[int64]broker.Version, since broker.Version) (ids []int64) {
	for id, version := range changes {
		if version > since {
			ids = append(ids, id)
		}
	}
	return ids
}
