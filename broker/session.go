package broker

import (
	"fmt"
	"slices"
	"time"
)

// SessionState says where a session stands.
type SessionState string

// The states of a session. sessionSteps says which may follow which.
const (
	// SessionPreparing: its nodes are reserved and are being contextualized. It
	// was not acknowledged yet: after a crash it is abandoned.
	SessionPreparing SessionState = "preparing"
	// SessionActive: acknowledged; its nodes are the tenant's.
	SessionActive SessionState = "active"
	// SessionRetired: ended, by its tenant or because it expired.
	SessionRetired SessionState = "retired"
	// SessionAbandoned: never acknowledged. No list shows it.
	SessionAbandoned SessionState = "abandoned"
)

//nolint:gochecknoglobals // a table: nothing writes it
var sessionSteps = map[SessionState][]SessionState{
	SessionPreparing: {SessionActive, SessionAbandoned},
	SessionActive:    {SessionRetired},
	SessionRetired:   {},
	SessionAbandoned: {},
}

// CanBecome tells whether the table allows the step.
func (s SessionState) CanBecome(next SessionState) bool {
	return slices.Contains(sessionSteps[s], next)
}

// NodesSpec asks for a number of nodes of one pool.
type NodesSpec struct {
	Pool     string `json:"pool"`
	Quantity int    `json:"quantity"`
}

// Session lends nodes to one tenant.
type Session struct {
	ID        int64        `json:"id"`
	TenantID  int64        `json:"tenant_id"`
	State     SessionState `json:"state"`
	Specs     []NodesSpec  `json:"nodes_specs"`
	CreatedAt time.Time    `json:"created_at"`
	ExpiresAt time.Time    `json:"expires_at"`
	RetiredAt time.Time    `json:"retired_at,omitzero"`
	// Request is a random id of the call that asked for it. Who serves a call is
	// known in memory under this id: a preparing session that nobody serves is
	// what a crash left behind.
	Request string `json:"request"`
	// Nodes is a copy of what was lent, since this record outlives the nodes.
	// Live facts (a node's present state) stand in the nodes themselves.
	Nodes []LentNode `json:"nodes"`
	// Kept: its tenant asked to keep it beyond its time, to look at its nodes.
	Kept bool `json:"kept,omitempty"`
}

// LentNode is a session's own copy of a node, and the spec that it answers.
type LentNode struct {
	ID   int64     `json:"id"`
	Pool string    `json:"pool"`
	Spec NodesSpec `json:"nodes_spec"`
	Outputs
}

// Become moves s to the next state, or gives a [TransitionError].
func (s *Session) Become(next SessionState, now time.Time) error {
	if !s.State.CanBecome(next) {
		return &TransitionError{Object: fmt.Sprintf("session %d", s.ID), From: string(s.State), To: string(next)}
	}
	s.State = next
	if next == SessionRetired || next == SessionAbandoned {
		s.RetiredAt = now
	}
	return nil
}

// SessionRequest asks for a session.
type SessionRequest struct {
	TenantID *int64 // for whom; nil: the caller. Only admins may name others
	Specs    []NodesSpec
	// IdempotencyKey makes the same request of the same caller give the same
	// session, for a day. "": each request is another one.
	IdempotencyKey string
}

// SessionUpdate changes a session.
type SessionUpdate struct {
	Retire  bool
	Expires *Expiry // nil: unchanged
}

// Expiry is a new end of a session: an absolute time, or a shift.
type Expiry struct {
	At    time.Time     // zero: relative
	Delta time.Duration // added to the present end when At is zero
}

// latestEnd is as far as any client can read a time.
//
//nolint:gochecknoglobals // a constant, but for the language
var latestEnd = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)

// resolve gives the new end of s, bounded below by its start and, unless
// unbounded, above by its longest lifetime: Duffy bounds silently, too.
func (e Expiry) resolve(s Session, longest time.Duration, unbounded bool) time.Time {
	end := e.At
	if end.IsZero() {
		end = s.ExpiresAt.Add(e.Delta)
	}
	if latest := s.CreatedAt.Add(longest); !unbounded && end.After(latest) {
		end = latest
	}
	if end.After(latestEnd) {
		end = latestEnd
	}
	if end.Before(s.CreatedAt) {
		end = s.CreatedAt
	}
	return end
}
