package broker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// LegacyKey lets its holder use the legacy API as a tenant. It is of no use for
// any other API.
type LegacyKey struct {
	ID        int64     `json:"id"` // within its tenant, from 1
	Hash      []byte    `json:"hash"`
	Note      string    `json:"note,omitempty"` // whose jobs use it
	CreatedAt time.Time `json:"created_at"`
	// LastUsed, LastAgent and Calls are at most a minute behind.
	LastUsed  time.Time        `json:"last_used,omitzero"`
	LastAgent string           `json:"last_agent,omitempty"` // User-Agent of the last call
	Calls     map[string]int64 `json:"calls,omitempty"`      // by endpoint: "/Node/get"
}

// LegacyCall is one call of the legacy API.
type LegacyCall struct {
	Endpoint string
	Agent    string // User-Agent
}

const (
	// minLegacyKey is the shortest key that is accepted: keys of Duffy v2 are UUIDs.
	minLegacyKey = 16
	maxLegacyKey = 128
	// legacyFlush is how often uses of legacy keys are written down.
	legacyFlush = time.Minute
	maxAgent    = 120
)

// legacyUse is what is not written down yet about a key.
type legacyUse struct {
	last  time.Time
	agent string
	calls map[string]int64
}

type legacyKeyRef struct{ tenant, key int64 }

// AuthenticateLegacy finds the tenant of a legacy key, retired ones too: the
// legacy API has answers of its own for them. The call is counted. Errors:
// CodeUnauthorized.
func (b *Broker) AuthenticateLegacy(ctx context.Context, key string, call LegacyCall) (Tenant, error) {
	tenants, err := b.Tenants(ctx)
	if err != nil {
		return Tenant{}, err
	}
	var owner *Tenant
	var id int64
	var hash []byte
	// All are compared, so that the time tells nothing. There are few.
	for i := range tenants {
		for _, k := range tenants[i].LegacyKeys {
			if b.cfg.Keys.EqualAPIKey(key, k.Hash) {
				owner, id, hash = &tenants[i], k.ID, k.Hash
			}
		}
	}
	if owner == nil {
		return Tenant{}, Errorf(CodeUnauthorized, "the legacy API does not know this key").
			WithHint("an admin adds it with duffy-broker legacy key add")
	}
	b.rehash(ctx, *owner, key, hash)
	b.countLegacy(ctx, legacyKeyRef{owner.ID, id}, call)
	return *owner, nil
}

// countLegacy counts a call, and writes the counts down once a minute: no call
// costs a commit.
func (b *Broker) countLegacy(ctx context.Context, ref legacyKeyRef, call LegacyCall) {
	now := b.cfg.Now()
	b.mu.Lock()
	if b.legacy == nil {
		b.legacy = make(map[legacyKeyRef]*legacyUse)
	}
	use := b.legacy[ref]
	if use == nil {
		use = &legacyUse{calls: make(map[string]int64)}
		b.legacy[ref] = use
	}
	use.last, use.agent = now, call.Agent[:min(len(call.Agent), maxAgent)]
	use.calls[call.Endpoint]++
	due := now.Sub(b.legacyFlushed) >= legacyFlush
	if due {
		b.legacyFlushed = now
	}
	b.mu.Unlock()
	if !due {
		return
	}
	if err := b.FlushLegacyUse(ctx); err != nil {
		b.cfg.Log.WarnContext(ctx, "use of legacy keys can't be written down now", "error", err)
	}
}

// FlushLegacyUse writes down how legacy keys were used since the last time.
func (b *Broker) FlushLegacyUse(ctx context.Context) error {
	b.mu.Lock()
	uses := b.legacy
	b.legacy = nil
	b.mu.Unlock()
	if len(uses) == 0 {
		return nil
	}
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		tenants, err := tx.Tenants()
		if err != nil {
			return err
		}
		for _, t := range tenants {
			if !t.recordLegacy(uses) {
				continue
			}
			if err := tx.UpdateTenant(t); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.restoreLegacy(uses)
		return fmt.Errorf("use of legacy keys: %w", err)
	}
	return nil
}

// restoreLegacy puts back what could not be written down.
func (b *Broker) restoreLegacy(uses map[legacyKeyRef]*legacyUse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.legacy == nil {
		b.legacy = uses
		return
	}
	for ref, old := range uses {
		use := b.legacy[ref]
		if use == nil {
			b.legacy[ref] = old
			continue
		}
		for endpoint, n := range old.calls {
			use.calls[endpoint] += n
		}
	}
}

// recordLegacy adds uses to the tenant's keys, and tells whether there were any.
func (t *Tenant) recordLegacy(uses map[legacyKeyRef]*legacyUse) bool {
	changed := false
	for i := range t.LegacyKeys {
		k := &t.LegacyKeys[i]
		use := uses[legacyKeyRef{t.ID, k.ID}]
		if use == nil {
			continue
		}
		changed = true
		k.LastUsed, k.LastAgent = use.last, use.agent
		calls := maps.Clone(k.Calls)
		if calls == nil {
			calls = make(map[string]int64)
		}
		for endpoint, n := range use.calls {
			calls[endpoint] += n
		}
		k.Calls = calls
	}
	return changed
}

// AddLegacyKey gives a tenant a key for the legacy API: the given one, or a new
// UUID. The key itself is not stored. Errors: CodeForbidden unless actor is an
// admin, CodeNotFound, CodeInvalid for a key that is too short or can't stand in
// a URL, CodeConflict if any tenant has it already.
func (b *Broker) AddLegacyKey(ctx context.Context, actor Tenant, tenantID int64, key, note string) (LegacyKey, string, error) {
	if !actor.IsAdmin {
		return LegacyKey{}, "", errAdminsOnly("add legacy keys")
	}
	if key == "" {
		key = NewUUID()
	}
	if len(key) < minLegacyKey || len(key) > maxLegacyKey || strings.ContainsFunc(key, notUnreserved) {
		return LegacyKey{}, "", Errorf(CodeInvalid, "a legacy key has %d to %d letters, digits and -._~", minLegacyKey, maxLegacyKey).
			WithHint("leave the key out to get a new one")
	}
	added := LegacyKey{Hash: b.cfg.Keys.HashAPIKey(key), Note: note, CreatedAt: b.cfg.Now()}
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		tenants, err := tx.Tenants()
		if err != nil {
			return err
		}
		added.ID = 1
		var owner *Tenant
		for i := range tenants {
			for _, k := range tenants[i].LegacyKeys {
				if b.cfg.Keys.EqualAPIKey(key, k.Hash) {
					return Errorf(CodeConflict, "tenant '%s' has this legacy key already", tenants[i].Name).
						WithHint("a key belongs to one tenant: `duffy-broker legacy key remove` takes it away there")
				}
			}
			if tenants[i].ID == tenantID {
				owner = &tenants[i]
			}
		}
		if owner == nil {
			return Errorf(CodeNotFound, "there is no tenant %d", tenantID)
		}
		for _, k := range owner.LegacyKeys {
			added.ID = max(added.ID, k.ID+1)
		}
		owner.LegacyKeys = append(slices.Clone(owner.LegacyKeys), added)
		if err := tx.UpdateTenant(*owner); err != nil {
			return err
		}
		return tx.AppendEvent(&Event{
			At: added.CreatedAt, Kind: EventTenant, TenantID: owner.ID,
			Message: fmt.Sprintf("legacy key %d added by %s", added.ID, actor.Name),
		})
	})
	return added, key, err
}

// RemoveLegacyKey takes a legacy key from a tenant. Errors: CodeForbidden,
// CodeNotFound.
func (b *Broker) RemoveLegacyKey(ctx context.Context, actor Tenant, tenantID, id int64) error {
	if !actor.IsAdmin {
		return errAdminsOnly("remove legacy keys")
	}
	now := b.cfg.Now()
	return b.cfg.Store.Update(ctx, func(tx Tx) error {
		t, err := tx.Tenant(tenantID)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(t.LegacyKeys, func(k LegacyKey) bool { return k.ID == id })
		if i < 0 {
			return Errorf(CodeNotFound, "tenant '%s' has no legacy key %d", t.Name, id)
		}
		t.LegacyKeys = slices.Delete(slices.Clone(t.LegacyKeys), i, i+1)
		if err := tx.UpdateTenant(t); err != nil {
			return err
		}
		return tx.AppendEvent(&Event{
			At: now, Kind: EventTenant, TenantID: t.ID, Message: fmt.Sprintf("legacy key %d removed by %s", id, actor.Name),
		})
	})
}

// LegacyReport gives the tenants that have legacy keys, with how these were used
// up to now. Errors: CodeForbidden unless actor is an admin.
func (b *Broker) LegacyReport(ctx context.Context, actor Tenant) ([]Tenant, error) {
	if !actor.IsAdmin {
		return nil, errAdminsOnly("see who uses the legacy API")
	}
	if err := b.FlushLegacyUse(ctx); err != nil {
		return nil, err
	}
	tenants, err := b.Tenants(ctx)
	return slices.DeleteFunc(tenants, func(t Tenant) bool { return len(t.LegacyKeys) == 0 }), err
}

// KeepSession extends a session by d, within its tenant's maximum, so that its
// nodes can be looked at, and marks it as kept. At most limit nodes of a tenant
// are kept so at once; 0 means no limit. Errors: CodeNotFound, CodeForbidden,
// CodeInvalid if it is retired, CodeQuota beyond the limit.
func (b *Broker) KeepSession(ctx context.Context, actor Tenant, id int64, d time.Duration, limit int) (s Session, err error) {
	now := b.cfg.Now()
	defer b.cfg.Wake()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		if s, err = visibleSession(tx, actor, id); err != nil {
			return err
		}
		if s.State != SessionActive {
			return Errorf(CodeInvalid, "session %d is retired", id)
		}
		tenant, err := tx.Tenant(s.TenantID)
		if err != nil {
			return err
		}
		if limit > 0 {
			kept, err := keptNodes(tx, s)
			if err != nil {
				return err
			}
			if kept > limit {
				return Errorf(CodeQuota, "tenant '%s' would keep %d nodes, and may keep %d", tenant.Name, kept, limit).
					WithHint("give back a session that was kept earlier")
			}
		}
		s.Kept = true
		s.ExpiresAt = Expiry{Delta: d}.resolve(s, b.TenantDefaults().LifetimeMax(tenant), actor.IsAdmin)
		if err := tx.UpdateSession(SessionActive, s); err != nil {
			return err
		}
		return tx.AppendEvent(&Event{
			At: now, Kind: EventSession, SessionID: s.ID, TenantID: s.TenantID, From: string(s.State), To: string(s.State),
			Message: "kept for a look at its nodes; expires at " + s.ExpiresAt.UTC().Format(time.RFC3339),
		})
	})
	return s, err
}

// keptNodes counts the nodes of the kept sessions of s's tenant, s included.
func keptNodes(tx ReadTx, s Session) (int, error) {
	sessions, err := tx.Sessions(SessionQuery{TenantID: s.TenantID, States: []SessionState{SessionActive}})
	count := 0
	for _, other := range sessions {
		if other.Kept || other.ID == s.ID {
			count += len(other.Nodes)
		}
	}
	return count, err
}

func errAdminsOnly(what string) error {
	return Errorf(CodeForbidden, "only admins may %s", what)
}

// notUnreserved tells whether r needs escaping in a URL (RFC 3986, section 2.3).
func notUnreserved(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', strings.ContainsRune("-._~", r):
		return false
	}
	return true
}
