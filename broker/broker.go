package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// KeyHasher makes and compares keyed hashes of API keys.
type KeyHasher interface {
	HashAPIKey(key string) []byte
	// EqualAPIKey compares in constant time.
	EqualAPIKey(key string, hash []byte) bool
	// CurrentAPIKeyHash tells whether a hash is made as HashAPIKey makes them now.
	// One that is not is replaced when its API key is seen.
	CurrentAPIKeyHash(hash []byte) bool
}

// Config is what a [Broker] is made of. All fields but ImportedKeys, Logs,
// Workspaces, Reloader, Identities, BootFiles, Outlook, ContextualizeTimeout and
// those for snapshots are required.
type Config struct {
	Store          Store
	Contextualizer Contextualizer
	Keys           KeyHasher
	ImportedKeys   ImportedKeys // nil: a tenant that was imported needs a new key
	Pools          *PoolSet
	Logs           RunLogs    // for NodeLog alone
	Workspaces     Workspacer // for the workspaces of held nodes alone
	Reloader       Reloader   // for Reload and LastReload alone
	// Identities and BootFiles are for what nodes ask; nil: no node is known.
	Identities NodeIdentities
	BootFiles  BootFiles // nil only if Identities is
	Outlook    Outlook   // nil: pools have no schedules, and never rest

	// For snapshots alone: the modules, how many Terraform runs may be in flight at
	// once, and the turns that pools have had. All may be zero.
	Modules ModuleReader
	Runs    int
	Turns   func() map[string]PoolTurn

	Log *slog.Logger
	Now func() time.Time
	// Wake tells the reconcile loop that there may be work. It must not block.
	Wake func()
	// ContextualizeTimeout bounds the SSH work on one node of a request; 0 means
	// [DefaultContextualizeTimeout].
	ContextualizeTimeout time.Duration
}

// DefaultContextualizeTimeout is how long a node in stock may take to accept a
// tenant's key. A healthy one needs well under a second; a dead one is replaced
// after this.
const DefaultContextualizeTimeout = 15 * time.Second

// Broker carries out what tenants and operators ask for. Its methods may run at
// once.
type Broker struct {
	cfg Config

	mu      sync.Mutex
	serving map[string]bool // Session.Request of the calls in progress
	// keyed is which requests with an idempotency key are in progress. What is
	// waited for is closed when they end.
	keyed map[idempotencyRef]chan struct{}
	// Uses of legacy keys that are not written down yet, and when that was done last.
	legacy        map[legacyKeyRef]*legacyUse
	legacyFlushed time.Time

	unmet    unmet
	lastUsed map[int64]time.Time // by tenant: logins that are not written down yet

	defaults atomic.Pointer[TenantDefaults]
	poolsDir atomic.Pointer[string]
	// fileSettings are what else the pools' file sets, for plans.
	fileSettings atomic.Pointer[map[string]json.RawMessage]

	imported *importedLine
	writable writable

	workspaceMu sync.Mutex // workspaces are opened, returned and tidied one at a time
}

// New makes a Broker.
func New(cfg Config) *Broker {
	if cfg.ContextualizeTimeout == 0 {
		cfg.ContextualizeTimeout = DefaultContextualizeTimeout
	}
	if cfg.Outlook == nil {
		cfg.Outlook = plain{}
	}
	return &Broker{cfg: cfg, serving: make(map[string]bool), imported: newImportedLine()}
}

// Serving gives the requests that are being served in this process right now,
// by [Session.Request].
func (b *Broker) Serving() map[string]bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	serving := make(map[string]bool, len(b.serving))
	for id := range b.serving {
		serving[id] = true
	}
	return serving
}

func (b *Broker) serve(request string) (done func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.serving[request] = true
	return func() {
		b.mu.Lock()
		delete(b.serving, request)
		b.mu.Unlock()
	}
}

// Identity gives the broker's identity, made on the first call. CodeConflict if
// the store belongs to other keys than the configured ones.
func (b *Broker) Identity(ctx context.Context) (Identity, error) {
	var id Identity
	fresh := Identity{ID: NewUUID(), CreatedAt: b.cfg.Now()}
	fresh.KeyCheck = b.cfg.Keys.HashAPIKey(fresh.ID)
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		var err error
		if id, err = tx.Identity(); CodeOf(err) != CodeNotFound {
			if err == nil && !b.cfg.Keys.EqualAPIKey(id.ID, id.KeyCheck) {
				return Errorf(CodeConflict, "the keys are not those that this database was made with: its secrets can't be read, and no API key would fit").
					WithHint("put back the keys directory from the backup that belongs to the database, or name the right key with --key-file")
			}
			if err != nil || b.cfg.Keys.CurrentAPIKeyHash(id.KeyCheck) {
				return err
			}
			id.KeyCheck = b.cfg.Keys.HashAPIKey(id.ID)
			return tx.SetIdentity(id)
		}
		id = fresh
		return tx.SetIdentity(id)
	})
	return id, err
}

// MoveNode takes a node to its next state: the table is asked, the store
// compares the state before, and an event is written, all in tx. Change n's
// other fields before the call.
func MoveNode(tx Tx, n *Node, next NodeState, now time.Time, message string) error {
	from := n.State
	if err := n.Become(next, now); err != nil {
		return err
	}
	if err := tx.UpdateNode(from, *n); err != nil {
		return err
	}
	if n.Host != nil && (from == NodeGone || next == NodeGone) {
		if err := followNode(tx, *n, now); err != nil {
			return err
		}
	}
	return tx.AppendEvent(&Event{
		At: now, Kind: EventNode, Pool: n.Pool, NodeID: n.ID, SessionID: n.SessionID,
		From: string(from), To: string(next), Message: message,
	})
}

// MoveSession takes a session to its next state as [MoveNode] does a node.
func MoveSession(tx Tx, s *Session, next SessionState, now time.Time, message string) error {
	from := s.State
	if err := s.Become(next, now); err != nil {
		return err
	}
	if err := tx.UpdateSession(from, *s); err != nil {
		return err
	}
	return tx.AppendEvent(&Event{
		At: now, Kind: EventSession, SessionID: s.ID, TenantID: s.TenantID,
		From: string(from), To: string(next), Message: message,
	})
}

// EndSession retires an active session, or abandons one that was never
// acknowledged, and takes its nodes back, in tx. Nodes that were lent are
// released. Those of an abandoned session were in nobody's hands: they are
// cleaned, checked, and return to stock.
func EndSession(tx Tx, s *Session, now time.Time, why string) error {
	next, nodeNext := SessionRetired, NodeReleasing
	if s.State == SessionPreparing {
		next, nodeNext = SessionAbandoned, NodeChecking
	}
	if err := MoveSession(tx, s, next, now, why); err != nil {
		return err
	}
	for _, lent := range s.Nodes {
		n, err := tx.Node(lent.ID)
		if CodeOf(err) == CodeNotFound {
			continue
		}
		if err != nil {
			return err
		}
		next := nodeNext
		if n.State == NodeDeployed { // one that needs no key was lent at once
			next = NodeReleasing
		}
		if n.SessionID != s.ID || !n.State.CanBecome(next) {
			continue // failed already, or on its way out
		}
		if next == NodeChecking {
			n.SessionID = 0
		}
		if err := MoveNode(tx, &n, next, now, why); err != nil {
			return err
		}
	}
	return nil
}

// RequestSession lends nodes to a tenant, all of the specs or nothing. It
// returns after the session was committed and the tenant's key is on every
// node. A node that can't be reached is replaced from stock. A request with an
// idempotency key goes on when ctx is cancelled: its client may ask again.
//
// Errors: CodeInvalid, CodeForbidden, CodeQuota, CodeCapacity (not enough ready
// nodes), CodeUnavailable (nodes failed, and no spare is left).
func (b *Broker) RequestSession(ctx context.Context, actor Tenant, req SessionRequest) (Session, error) {
	if err := b.checkRequest(actor, req); err != nil {
		return Session{}, err
	}
	if req.IdempotencyKey != "" {
		return b.requestOnce(ctx, actor, req)
	}
	return b.request(ctx, actor, req, nil)
}

func (b *Broker) request(ctx context.Context, actor Tenant, req SessionRequest, once *Idempotency) (Session, error) {
	request := NewUID()
	done := b.serve(request)
	defer func() {
		done()
		b.cfg.Wake() // stock has shrunk, or a leftover is to be repaired
	}()

	session, keys, err := b.reserve(ctx, actor, req, request, once)
	b.noteDemand(actor, req, err)
	if err != nil {
		// A store that failed may have kept the change all the same.
		if code := CodeOf(err); session.ID != 0 && (code == CodeInternal || code == CodeUnavailable) {
			b.abandon(ctx, session.ID, request, once, err)
		}
		return Session{}, err
	}
	if session.State != SessionPreparing {
		return session, nil
	}
	if err := b.contextualize(ctx, &session, keys); err != nil {
		b.abandon(ctx, session.ID, request, once, err)
		return Session{}, err
	}
	return session, nil
}

func (b *Broker) checkRequest(actor Tenant, req SessionRequest) error {
	if len(req.Specs) == 0 {
		return Errorf(CodeInvalid, "nodes_specs is empty").WithHint("ask for at least one node: [{\"pool\": NAME, \"quantity\": 1}]")
	}
	for _, spec := range req.Specs {
		if spec.Quantity < 1 {
			return Errorf(CodeInvalid, "quantity must be at least 1: quantity=%d pool='%s'", spec.Quantity, spec.Pool)
		}
	}
	if req.TenantID != nil && *req.TenantID != actor.ID && !actor.IsAdmin {
		return Errorf(CodeForbidden, "can't create session for other tenant")
	}
	return nil
}

// reserve commits the session with its nodes. Where no node needs its tenant's
// key the session is active at once; else it is preparing, its nodes are
// contextualizing, and keys are what to put on them.
// once, unless nil, is stored with it, or finds what it became earlier.
func (b *Broker) reserve(ctx context.Context, actor Tenant, req SessionRequest, request string, once *Idempotency) (s Session, keys string, err error) {
	now := b.cfg.Now()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		s = Session{}
		if once != nil {
			if s, err = earlier(tx, *once, now); err != nil || s.ID != 0 {
				return err
			}
		}
		tenant, err := requestTenant(tx, actor, req)
		if err != nil {
			return err
		}
		keys = tenant.SSHKey
		if err := b.mayUse(actor, tenant, req.Specs); err != nil {
			return err
		}
		if err := checkQuota(tx, tenant, b.TenantDefaults().Quota(tenant), req.Specs); err != nil {
			return err
		}
		s = Session{
			TenantID: tenant.ID, State: SessionPreparing, Specs: req.Specs, Request: request,
			CreatedAt: now, ExpiresAt: now.Add(b.TenantDefaults().Lifetime(tenant)),
		}
		if err := tx.CreateSession(&s); err != nil {
			return err
		}
		if once != nil {
			once.SessionID, once.CreatedAt = s.ID, now
			if err := tx.SetIdempotency(*once); err != nil {
				return err
			}
		}
		active := true
		for _, spec := range req.Specs {
			taken, err := b.take(tx, &s, spec, spec.Quantity, now)
			if err != nil {
				return err
			}
			for _, n := range taken {
				active = active && n.State == NodeDeployed
			}
		}
		if active {
			return handOut(tx, &s, now)
		}
		return tx.UpdateSession(SessionPreparing, s)
	})
	return s, keys, err
}

// mayUse tells whether a session for a tenant may have nodes of the pools that
// are asked for.
func (b *Broker) mayUse(actor, tenant Tenant, specs []NodesSpec) error {
	if actor.IsAdmin {
		return nil
	}
	for _, spec := range specs {
		if p, ok := b.cfg.Pools.Get(spec.Pool); ok && p.Tenants != nil && !slices.Contains(p.Tenants, tenant.Name) {
			return Errorf(CodeForbidden, "tenant '%s' may not use pool '%s'", tenant.Name, spec.Pool).
				WithHint("ask for nodes of another pool, or the operators for this one")
		}
	}
	return nil
}

func requestTenant(tx ReadTx, actor Tenant, req SessionRequest) (Tenant, error) {
	id := actor.ID
	if req.TenantID != nil {
		id = *req.TenantID
	}
	tenant, err := tx.Tenant(id)
	if CodeOf(err) == CodeNotFound {
		return Tenant{}, Errorf(CodeInvalid, "can't find tenant with id %d", id)
	}
	if err != nil {
		return Tenant{}, err
	}
	if !tenant.Active() {
		return Tenant{}, Errorf(CodeInvalid, "tenant '%s' isn't active", tenant.Name)
	}
	return tenant, nil
}

func checkQuota(tx ReadTx, t Tenant, quota int, specs []NodesSpec) error {
	if t.IsAdmin {
		return nil
	}
	sessions, err := tx.Sessions(SessionQuery{TenantID: t.ID, States: []SessionState{SessionPreparing, SessionActive}})
	if err != nil {
		return err
	}
	var held, asked int
	for _, s := range sessions {
		held += len(s.Nodes)
	}
	for _, spec := range specs {
		// Beyond any quota, and far from overflow.
		asked = min(asked+min(spec.Quantity, math.MaxInt32), math.MaxInt32)
	}
	if held+asked > quota {
		return Errorf(CodeQuota, "quota exceeded: requested nodes (%d) + current allocation (%d) = %d > %d", asked, held, held+asked, quota).
			WithHint("give back a session that is not needed any more, or ask for fewer nodes")
	}
	return nil
}

// take moves ready nodes of a pool into s, oldest first, and appends them to
// s.Nodes. It gives CodeCapacity when there are too few.
func (b *Broker) take(tx Tx, s *Session, spec NodesSpec, quantity int, now time.Time) ([]Node, error) {
	p, known := b.cfg.Pools.Get(spec.Pool)
	nodes, err := lendable(tx, p, spec.Pool, quantity, now)
	if err != nil {
		return nil, err
	}
	if !known || len(nodes) < quantity {
		err := Errorf(CodeCapacity, "can't reserve nodes: quantity=%d pool='%s'", spec.Quantity, spec.Pool)
		if !known {
			return nil, err.WithHint("there is no pool of that name: list-pools shows them")
		}
		return nil, err.WithHint("%d of them are ready now; try again later, or ask for fewer", len(nodes))
	}
	nodes = nodes[:quantity]
	for i := range nodes {
		n := &nodes[i]
		n.SessionID = s.ID
		if err := MoveNode(tx, n, NodeReserved, now, ""); err != nil {
			return nil, err
		}
		next := NodeDeployed
		if n.Contextualize == ContextualizeSSH {
			next, n.Touched = NodeContextualizing, true
		}
		if err := MoveNode(tx, n, next, now, ""); err != nil {
			return nil, err
		}
		s.Nodes = append(s.Nodes, LentNode{ID: n.ID, Pool: n.Pool, Spec: spec, Outputs: n.Outputs})
	}
	return nodes, nil
}

// contextualize puts keys on the session's nodes, replaces those that fail, and
// makes the session active.
func (b *Broker) contextualize(ctx context.Context, s *Session, keys string) error {
	pending := make([]int64, 0, len(s.Nodes))
	for _, lent := range s.Nodes {
		pending = append(pending, lent.ID)
	}
	for {
		for len(pending) > 0 {
			failed, err := b.contextualizeNodes(ctx, pending, keys)
			if err != nil {
				return err
			}
			if len(failed) == 0 {
				break
			}
			if pending, err = b.replace(ctx, s, failed); err != nil {
				return err
			}
		}
		leaving, err := b.activate(ctx, s)
		if err != nil || len(leaving) == 0 {
			return err
		}
		if pending, err = b.replace(ctx, s, leaving); err != nil {
			return err
		}
	}
}

// activate makes the session active, unless nodes have said meanwhile that they
// will be interrupted: it gives those, with the reason.
func (b *Broker) activate(ctx context.Context, s *Session) (leaving map[int64]error, err error) {
	now := b.cfg.Now()
	var active Session
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		leaving = make(map[int64]error)
		if active, err = tx.Session(s.ID); err != nil {
			return err
		}
		var nodes []Node
		for _, lent := range active.Nodes {
			n, err := tx.Node(lent.ID)
			if err != nil {
				return err
			}
			if n.State == NodeDeployed { // its pool asks for no key
				continue
			}
			if n.Interruption != nil {
				leaving[n.ID] = errors.New(n.Interruption.String())
			}
			nodes = append(nodes, n)
		}
		if len(leaving) > 0 {
			return errUnchanged
		}
		for i := range nodes {
			if err := MoveNode(tx, &nodes[i], NodeDeployed, now, ""); err != nil {
				return err
			}
		}
		return handOut(tx, &active, now)
	})
	if errors.Is(err, errUnchanged) {
		return leaving, nil
	}
	if err != nil {
		return nil, err
	}
	*s = active
	return nil, nil
}

// contextualizeNodes works on the nodes in parallel, outside any transaction,
// and says which failed and why.
func (b *Broker) contextualizeNodes(ctx context.Context, ids []int64, keys string) (map[int64]error, error) {
	byID, err := b.NodesByID(ctx, ids...)
	if err != nil {
		return nil, err
	}
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		failed  = make(map[int64]error)
		invalid error // the request's own fault: no node would do better
	)
	for _, n := range byID {
		if n.State != NodeContextualizing {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, b.cfg.ContextualizeTimeout)
			defer cancel()
			err := b.cfg.Contextualizer.Contextualize(ctx, n, keys)
			switch {
			case CodeOf(err) == CodeInvalid:
				mu.Lock()
				invalid = err
				mu.Unlock()
			case err != nil:
				b.cfg.Log.WarnContext(ctx, "node can't be contextualized", "node_id", n.ID, "pool", n.Pool, "session_id", n.SessionID, "error", err)
				mu.Lock()
				failed[n.ID] = err
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if invalid != nil {
		return nil, invalid
	}
	if ctx.Err() != nil { // the client has gone: no fault of the nodes
		return nil, Wrap(CodeUnavailable, context.Cause(ctx), "the request ended before its nodes were prepared")
	}
	return failed, nil
}

// replace fails the nodes that could not be contextualized and takes others of
// their pools, in one transaction. It gives the ids of the new ones.
func (b *Broker) replace(ctx context.Context, s *Session, failed map[int64]error) (pending []int64, err error) {
	now := b.cfg.Now()
	var short error
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		pending, short = nil, nil
		session, err := tx.Session(s.ID)
		if err != nil {
			return err
		}
		var kept []LentNode
		var lost []NodesSpec
		for _, lent := range session.Nodes {
			cause, bad := failed[lent.ID]
			if !bad {
				kept = append(kept, lent)
				continue
			}
			n, err := tx.Node(lent.ID)
			if err != nil {
				return err
			}
			n.Failure = fmt.Sprintf("contextualize: %v", cause)
			if err := MoveNode(tx, &n, NodeFailed, now, n.Failure); err != nil {
				return err
			}
			lost = append(lost, lent.Spec)
		}
		session.Nodes = kept
		for _, spec := range lost {
			taken, err := b.take(tx, &session, spec, 1, now)
			if CodeOf(err) == CodeCapacity {
				// Keep what was learnt: the failed nodes stay failed.
				short = Errorf(CodeUnavailable, "contextualization of nodes failed").
					WithHint("nodes of pool '%s' did not answer, and no spare is left; try again later", spec.Pool)
				break
			}
			if err != nil {
				return err
			}
			pending = append(pending, taken[0].ID)
		}
		*s = session
		return tx.UpdateSession(SessionPreparing, session)
	})
	return pending, errors.Join(err, short)
}

// abandon gives up a session that was not acknowledged. Should the store refuse,
// the reconcile loop does it, since nobody serves the request any more.
func (b *Broker) abandon(ctx context.Context, id int64, request string, once *Idempotency, cause error) {
	ctx = context.WithoutCancel(ctx)
	now := b.cfg.Now()
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		s, err := tx.Session(id)
		if CodeOf(err) == CodeNotFound || s.Request != request {
			return nil // it was not kept
		}
		if err != nil {
			return err
		}
		if once != nil { // the same request again is a new one
			if err := tx.SetIdempotency(Idempotency{TenantID: once.TenantID, Key: once.Key, CreatedAt: now}); err != nil {
				return err
			}
		}
		// A commit whose answer was lost may have made it active.
		return EndSession(tx, &s, now, MessageOf(cause))
	})
	if err != nil {
		b.cfg.Log.ErrorContext(ctx, "session can't be abandoned now, the loop will try", "session_id", id, "error", err)
	}
}

// AbandonedByClient retires a session whose client had gone before it could read
// the answer: nobody knows that it exists.
func (b *Broker) AbandonedByClient(ctx context.Context, id int64) error {
	now := b.cfg.Now()
	defer b.cfg.Wake()
	return b.cfg.Store.Update(context.WithoutCancel(ctx), func(tx Tx) error {
		s, err := tx.Session(id)
		if err != nil || s.State != SessionActive {
			return err
		}
		return EndSession(tx, &s, now, "the client had gone before the answer")
	})
}

// Session gives one session. Errors: CodeNotFound, CodeForbidden.
func (b *Broker) Session(ctx context.Context, actor Tenant, id int64) (s Session, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		s, err = visibleSession(tx, actor, id)
		return err
	})
	return s, err
}

func visibleSession(tx ReadTx, actor Tenant, id int64) (Session, error) {
	s, err := tx.Session(id)
	if err != nil {
		return Session{}, err
	}
	if s.State == SessionPreparing || s.State == SessionAbandoned {
		return Session{}, Errorf(CodeNotFound, "there is no session %d", id)
	}
	if s.TenantID != actor.ID && !actor.IsAdmin {
		return Session{}, Errorf(CodeForbidden, "session %d belongs to another tenant", id)
	}
	return s, nil
}

// Sessions lists the active sessions that actor may see: its own, or all for an
// admin.
func (b *Broker) Sessions(ctx context.Context, actor Tenant) ([]Session, error) {
	return b.FindSessions(ctx, actor, SessionFilter{})
}

// UpdateSession extends or retires a session, and returns it as it is then.
// Errors: CodeNotFound, CodeForbidden, CodeInvalid if it is retired.
func (b *Broker) UpdateSession(ctx context.Context, actor Tenant, id int64, u SessionUpdate) (s Session, err error) {
	now := b.cfg.Now()
	defer b.cfg.Wake()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		if s, err = visibleSession(tx, actor, id); err != nil {
			return err
		}
		if s.State != SessionActive {
			return Errorf(CodeInvalid, "session %d is retired", id)
		}
		if u.Expires != nil {
			tenant, err := tx.Tenant(s.TenantID)
			if err != nil {
				return err
			}
			s.ExpiresAt = u.Expires.resolve(s, b.TenantDefaults().LifetimeMax(tenant), actor.IsAdmin)
			if err := tx.UpdateSession(SessionActive, s); err != nil {
				return err
			}
			err = tx.AppendEvent(&Event{
				At: now, Kind: EventSession, SessionID: s.ID, TenantID: s.TenantID,
				From: string(s.State), To: string(s.State), Message: "expires at " + s.ExpiresAt.UTC().Format(time.RFC3339),
			})
			if err != nil {
				return err
			}
		}
		if u.Retire {
			return EndSession(tx, &s, now, "retired by "+actor.Name)
		}
		return nil
	})
	return s, err
}

// Healthy tells whether the store takes changes, without making one.
func (b *Broker) Healthy(ctx context.Context) error {
	return b.cfg.Store.Update(ctx, func(Tx) error { return nil })
}

// Pools lists the accepted pools, each with the numbers of nodes that hold now.
func (b *Broker) Pools(context.Context) ([]Pool, error) {
	now, pools := b.cfg.Now(), b.cfg.Pools.All()
	for i := range pools {
		pools[i] = b.effective(pools[i], now)
	}
	return pools, nil
}

// Pool gives a pool, with the numbers of nodes that hold now, and how many nodes
// it has in which state; in stock are those that can be lent. Errors: CodeNotFound.
func (b *Broker) Pool(ctx context.Context, name string) (Pool, PoolLevels, error) {
	p, ok := b.cfg.Pools.Get(name)
	if !ok {
		return Pool{}, PoolLevels{}, Errorf(CodeNotFound, "there is no pool '%s'", name)
	}
	now := b.cfg.Now()
	p = b.effective(p, now)
	var levels PoolLevels
	err := b.cfg.Store.View(ctx, func(tx ReadTx) error {
		counts, err := tx.CountNodes(name)
		levels = levelsOf(counts)
		if err == nil && p.picky() && levels.Ready > 0 {
			var stock []Node
			stock, err = lendable(tx, p, name, 0, now)
			levels.Ready = len(stock)
		}
		return err
	})
	return p, levels, err
}

func levelsOf(counts map[NodeState]int) (l PoolLevels) {
	for state, n := range counts {
		switch state.Wire() {
		case "provisioning":
			l.Provisioning += n
		case "ready":
			l.Ready += n
		case "contextualizing":
			l.Contextualizing += n
		case "deployed":
			l.Deployed += n
		case "deprovisioning":
			l.Deprovisioning += n
		}
	}
	return l
}

// Nodes lists the live nodes that actor may see: those lent to it, or all for an
// admin.
func (b *Broker) Nodes(ctx context.Context, actor Tenant) ([]Node, error) {
	return b.FindNodes(ctx, actor, NodeFilter{})
}

// Node gives one node. Errors: CodeNotFound; CodeForbidden when it is not lent to actor.
func (b *Broker) Node(ctx context.Context, actor Tenant, id int64) (n Node, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		if n, err = tx.Node(id); err != nil || actor.IsAdmin {
			return err
		}
		if n.SessionID != 0 {
			if s, err := tx.Session(n.SessionID); err == nil && s.TenantID == actor.ID {
				return nil
			}
		}
		n = Node{}
		return Errorf(CodeForbidden, "node %d is not lent to you", id)
	})
	return n, err
}

// NodesByID gives the nodes of these ids, without those that are not known.
func (b *Broker) NodesByID(ctx context.Context, ids ...int64) (map[int64]Node, error) {
	return byID(ctx, b.cfg.Store, ids, ReadTx.Node)
}

// TenantsByID gives the tenants of these ids, without those that are not known.
func (b *Broker) TenantsByID(ctx context.Context, ids ...int64) (map[int64]Tenant, error) {
	return byID(ctx, b.cfg.Store, ids, ReadTx.Tenant)
}

func byID[T any](ctx context.Context, store Store, ids []int64, get func(ReadTx, int64) (T, error)) (map[int64]T, error) {
	var found map[int64]T
	err := store.View(ctx, func(tx ReadTx) error {
		found = make(map[int64]T, len(ids))
		for _, id := range ids {
			v, err := get(tx, id)
			if CodeOf(err) == CodeNotFound {
				continue
			}
			if err != nil {
				return err
			}
			found[id] = v
		}
		return nil
	})
	return found, err
}
