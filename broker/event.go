package broker

import "time"

// Event says that something changed. It is written in the transaction that
// changed it, and holds no secret.
type Event struct {
	Seq       int64     `json:"seq"` // one sequence over the whole store; the store gives it
	At        time.Time `json:"at"`
	Kind      EventKind `json:"kind"`
	Pool      string    `json:"pool,omitempty"`
	NodeID    int64     `json:"node_id,omitempty"`
	SessionID int64     `json:"session_id,omitempty"`
	TenantID  int64     `json:"tenant_id,omitempty"`
	From      string    `json:"from,omitempty"` // state before
	To        string    `json:"to,omitempty"`   // state after
	Message   string    `json:"message,omitempty"`
}

// EventKind names what an event is about.
type EventKind string

// The kinds of events.
const (
	EventNode    EventKind = "node"    // a node changed its state
	EventNotice  EventKind = "notice"  // a node that keeps its state said something about itself; its tenant may read it
	EventSession EventKind = "session" // a session changed its state or its end
	EventTenant  EventKind = "tenant"  // a tenant was made or changed
	EventRollout EventKind = "rollout" // a rollout began, ended, was paused or resumed
	EventPool    EventKind = "pool"    // a pool was renamed, or an output that it follows has a new value, or none
	EventReload  EventKind = "reload"  // the pools were read again, or refused
	EventHost    EventKind = "host"    // a host of an inventory was made or changed; NodeID is its id
)
