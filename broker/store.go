package broker

import (
	"context"
	"time"
)

// Store keeps everything that must survive a restart. Implementations are in
// store/; storetest checks all of them against this contract.
//
// View and Update run fn in one transaction: fn sees one consistent state, and
// all of its writes are kept or none. An error from fn undoes the transaction
// and is returned as it is. Update returns nil only after the writes are
// durable. fn may run again after a conflict, so it must have no outside effects
// and must set what it hands out anew each time; it must not use the transaction
// after it returned, nor call View or Update. Neither method holds a lock
// between calls. A cancelled ctx is an error before fn runs; what was committed
// stays committed.
//
// Values given and returned are copies: changing one changes nothing stored.
// Time is always an argument: a store reads no clock.
type Store interface {
	View(ctx context.Context, fn func(ReadTx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
	// Close releases the store. Calls after it fail.
	Close() error
}

// ReadTx is the reading half of a transaction. Lookups of what is not there give
// an [Error] with [CodeNotFound]. Lists are ordered by ascending id.
type ReadTx interface {
	// Identity gives what SetIdentity stored; CodeNotFound in a new store.
	Identity() (Identity, error)

	Node(id int64) (Node, error)
	NodeByUID(uid string) (Node, error)
	Nodes(q NodeQuery) ([]Node, error)
	// CountNodes counts a pool's nodes by state without reading them; "" counts
	// all pools together. States without nodes may be left out.
	CountNodes(pool string) (map[NodeState]int, error)
	// CountNodesByPool counts the nodes of every pool that has some, by state,
	// without reading them. States without nodes may be left out.
	CountNodesByPool() (map[string]map[NodeState]int, error)
	// NodeTerraform gives the sealed Terraform state of a node, nil when none was stored.
	NodeTerraform(uid string) ([]byte, error)

	Host(id int64) (Host, error)
	Hosts(q HostQuery) ([]Host, error)

	// Runs gives the runs of a node without their logs, the first one first; none
	// is no error.
	Runs(node int64) ([]Run, error)
	// RunLog gives the log that a run was stored with.
	RunLog(id int64) ([]byte, error)
	// RunsAfter gives runs of all nodes with an id above after, with their logs, at
	// most limit of them: what is sealed with another key goes through all.
	RunsAfter(after int64, limit int) ([]Run, error)

	Session(id int64) (Session, error)
	Sessions(q SessionQuery) ([]Session, error)
	// CountSessions counts the sessions in a state without reading them.
	CountSessions(state SessionState) (int, error)

	Tenant(id int64) (Tenant, error)
	TenantByName(name string) (Tenant, error)
	Tenants() ([]Tenant, error)

	// PoolHealth gives a zero record, with the name set, for a pool without one.
	PoolHealth(pool string) (PoolHealth, error)
	// PoolHealths gives all records, ordered by name.
	PoolHealths() ([]PoolHealth, error)

	// Rollout gives a zero record, with the name set, for a pool without one.
	Rollout(pool string) (Rollout, error)
	// Rollouts gives all records, ordered by pool.
	Rollouts() ([]Rollout, error)

	// Followed gives a zero record, with the name set, for a pool without one.
	Followed(pool string) (Followed, error)

	// Events gives events with a sequence number above after, oldest first, at
	// most limit of them.
	Events(after int64, limit int) ([]Event, error)
	// SessionEvents gives those of one session.
	SessionEvents(sessionID, after int64, limit int) ([]Event, error)
	// LastEvent gives the highest sequence number ever given, 0 at first.
	LastEvent() (int64, error)

	// Changes says what may have changed since the state that an earlier reading
	// transaction of this store has seen, whose version it takes. A transaction that
	// can write knows nothing, and a store may always know nothing.
	Changes(since Version) (Changes, error)

	// Idempotency gives what SetIdempotency stored under a tenant's key.
	Idempotency(tenantID int64, key string) (Idempotency, error)
	// Handouts gives all counters, ordered by tenant, then by pool.
	Handouts() ([]Handouts, error)
}

// Tx is a transaction that can write.
type Tx interface {
	ReadTx

	// SetIdentity stores the broker's identity; CodeConflict if one with another ID
	// is stored.
	SetIdentity(Identity) error

	// CreateNode stores n and sets its ID, which no node and no host had before in
	// this store. CodeConflict if the UID is known.
	CreateNode(n *Node) error
	// UpdateNode replaces the record of n.ID if its stored state is expect: else
	// a [TransitionError] with Expected set. UID and Pool can't change:
	// CodeInvalid, but see SetNodePool. It does not judge the transition itself: see [Node.Become].
	UpdateNode(expect NodeState, n Node) error
	// SetNodePool gives a node to another pool, whatever its state: CodeInvalid if
	// the name is empty.
	SetNodePool(id int64, pool string) error
	// DeleteNode forgets a node and its Terraform state; CodeConflict unless it
	// is [NodeGone].
	DeleteNode(id int64) error
	// SetNodeTerraform replaces the sealed Terraform state of a node; nil removes it.
	SetNodeTerraform(uid string, sealed []byte) error

	// CreateHost stores h and sets its ID, which no host and no node had before in
	// this store. [ErrHostClaimed] if another host has one of its claims.
	CreateHost(h *Host) error
	// UpdateHost replaces the record of h.ID if its stored state is expect: else a
	// [TransitionError] with Expected set. The inventory can't change: CodeInvalid.
	// [ErrHostClaimed] as of CreateHost.
	UpdateHost(expect HostState, h Host) error

	// AddRun stores r with its log and sets its ID, which is higher than that of
	// every run before. The node need not exist.
	AddRun(r *Run) error
	// SetRunLog replaces the log of a run.
	SetRunLog(id int64, log []byte) error
	// DeleteRun forgets a run and its log.
	DeleteRun(id int64) error
	// PruneRuns removes runs that ended before a time, up to the first one that
	// did not, and says how many.
	PruneRuns(before time.Time) (int, error)

	// CreateSession stores s and sets its ID, which no session had before.
	CreateSession(s *Session) error
	// UpdateSession replaces the record of s.ID if its stored state is expect:
	// else a [TransitionError] with Expected set.
	UpdateSession(expect SessionState, s Session) error

	// CreateTenant stores t and sets its ID. CodeConflict if the name is taken.
	CreateTenant(t *Tenant) error
	// UpdateTenant replaces the record of t.ID; a new name must be free, else CodeConflict.
	UpdateTenant(t Tenant) error

	// SetPoolHealth stores h; a record of a pool that is well is removed.
	SetPoolHealth(h PoolHealth) error

	// SetRollout stores r; a record without a state is removed.
	SetRollout(r Rollout) error

	// SetFollowed stores f; a record without a base is removed.
	SetFollowed(f Followed) error

	// AppendEvent stores e and sets its Seq, one above the highest ever given.
	AppendEvent(e *Event) error
	// PruneEvents removes events before a time and says how many.
	PruneEvents(before time.Time) (int, error)

	// SetIdempotency stores i in the place of what was under its tenant and key.
	SetIdempotency(i Idempotency) error
	// PruneIdempotency removes what was stored before a time and says how much.
	PruneIdempotency(before time.Time) (int, error)

	// AddHandouts adds to the counter of a tenant's nodes of a pool.
	AddHandouts(tenantID int64, pool string, nodes int) error
}

// Identity tells one broker from another. Tags and directories carry its ID.
type Identity struct {
	ID        string    `json:"id"` // UUID
	CreatedAt time.Time `json:"created_at"`
	// KeyCheck is the keyed hash of ID: it tells the keys that the store's
	// secrets are sealed with from all others.
	KeyCheck []byte `json:"key_check"`
}

// NodeQuery selects nodes. Zero fields select all.
type NodeQuery struct {
	Pool   string
	States []NodeState
	After  int64 // only ids above it
	Limit  int   // at most this many, the lowest ids first; 0 means all
}

// SessionQuery selects sessions. Zero fields select all.
type SessionQuery struct {
	TenantID int64
	States   []SessionState
	After    int64 // only ids above it
	Limit    int   // at most this many, the lowest ids first; 0 means all
}
