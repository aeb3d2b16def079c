package broker

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// Override is a change of a setting that a tenant may have instead of a default.
// The zero Override changes nothing.
type Override[T any] struct {
	Set   bool
	Value *T // nil: the default from now on
}

// TenantUpdate changes a tenant. Zero fields change nothing. Active excludes all
// others.
type TenantUpdate struct {
	Active *bool   // false retires, true un-retires
	SSHKey *string // public keys, a line each

	// ResetKey gives it a new API key, and APIKey a given one. The key before is
	// of no use from then on, unless KeepKey is set: then both are valid, and any
	// older one is not. DropKey ends that: only the newest is valid.
	ResetKey bool
	APIKey   string
	KeepKey  bool
	DropKey  bool

	NodeQuota          Override[int]
	SessionLifetime    Override[time.Duration]
	SessionLifetimeMax Override[time.Duration]
}

// TenantDefaults gives what holds for tenants that set nothing of their own.
func (b *Broker) TenantDefaults() TenantDefaults {
	if d := b.defaults.Load(); d != nil {
		return *d
	}
	return TenantDefaults{}
}

// SetTenantDefaults replaces the defaults. Sessions that exist keep their end.
func (b *Broker) SetTenantDefaults(d TenantDefaults) { b.defaults.Store(&d) }

// VisibleTenants lists the tenants that actor may see, retired ones too: itself,
// or all for an admin.
func (b *Broker) VisibleTenants(ctx context.Context, actor Tenant) ([]Tenant, error) {
	if !actor.IsAdmin {
		t, err := b.Tenant(ctx, actor, actor.ID)
		return []Tenant{t}, err
	}
	list, err := b.Tenants(ctx)
	for i := range list {
		list[i] = b.withUse(list[i])
	}
	return list, err
}

// Tenant gives one tenant. Errors: CodeNotFound, CodeForbidden unless it is actor
// itself or actor is an admin.
func (b *Broker) Tenant(ctx context.Context, actor Tenant, id int64) (Tenant, error) {
	if id != actor.ID && !actor.IsAdmin {
		return Tenant{}, Errorf(CodeForbidden, "tenant %d is not you", id)
	}
	var t Tenant
	err := b.cfg.Store.View(ctx, func(tx ReadTx) (err error) {
		t, err = tx.Tenant(id)
		return err
	})
	return b.withUse(t), err
}

// CreateTenant makes a tenant with a new API key, which it gives back this once.
// Errors: CodeForbidden unless actor is an admin, CodeInvalid for a name that
// nobody could log in with, CodeConflict if it is taken, by a retired tenant too.
func (b *Broker) CreateTenant(ctx context.Context, actor, t Tenant) (Tenant, string, error) {
	if !actor.IsAdmin {
		return Tenant{}, "", errAdminsOnly("create tenants")
	}
	if err := checkTenantName(t.Name); err != nil {
		return Tenant{}, "", err
	}
	key := NewUUID()
	created := Tenant{
		Name: t.Name, IsAdmin: t.IsAdmin, SSHKey: t.SSHKey, CreatedAt: b.cfg.Now(), KeyHash: b.cfg.Keys.HashAPIKey(key),
		NodeQuota: t.NodeQuota, SessionLifetime: t.SessionLifetime, SessionLifetimeMax: t.SessionLifetimeMax,
	}
	err := b.cfg.Store.Update(ctx, func(tx Tx) error {
		created.ID = 0
		if err := tx.CreateTenant(&created); err != nil {
			if CodeOf(err) == CodeConflict {
				return Errorf(CodeConflict, "tenant '%s' exists already", t.Name).WithHint("retired tenants keep their names")
			}
			return err
		}
		return tenantEvent(tx, created, created.CreatedAt, fmt.Sprintf("tenant '%s' created by %s", t.Name, actor.Name))
	})
	if err != nil {
		return Tenant{}, "", err
	}
	return created, key, nil
}

// checkTenantName refuses a name that HTTP Basic authentication can't carry.
func checkTenantName(name string) error {
	if strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r > '~' || r == ':' }) {
		return Errorf(CodeInvalid, "the name of a tenant is made of printable ASCII characters without ':'")
	}
	return nil
}

// UpdateTenant changes a tenant, and gives it back as it is then, with its new
// API key if there is one. The sessions of a tenant that is retired end at once.
// Errors: CodeNotFound; CodeInvalid if it is retired, except for un-retiring;
// CodeForbidden unless actor is an admin; CodeConflict for the last admin.
func (b *Broker) UpdateTenant(ctx context.Context, actor Tenant, id int64, u TenantUpdate) (t Tenant, key string, err error) {
	now := b.cfg.Now()
	if key = u.APIKey; u.ResetKey {
		key = NewUUID()
	}
	defer b.cfg.Wake() // sessions may have come to their end
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		if t, err = tx.Tenant(id); err != nil {
			return err
		}
		if !t.Active() && (u.Active == nil || !*u.Active) {
			return Errorf(CodeInvalid, "tenant %s (id=%d) is retired", t.Name, id)
		}
		if !actor.IsAdmin {
			return errAdminsOnly("change tenants")
		}
		if u.Active != nil {
			return setActive(tx, &t, *u.Active, now, actor.Name)
		}
		what := b.change(&t, u, key)
		if len(what) == 0 {
			return nil
		}
		if err := tx.UpdateTenant(t); err != nil {
			return err
		}
		return tenantEvent(tx, t, now, fmt.Sprintf("%s of tenant '%s' changed by %s", strings.Join(what, ", "), t.Name, actor.Name))
	})
	if err != nil {
		return Tenant{}, "", err
	}
	return b.withUse(t), key, nil
}

// change carries out u on t, and names what it changed.
func (b *Broker) change(t *Tenant, u TenantUpdate, key string) (what []string) {
	if u.SSHKey != nil {
		t.SSHKey = *u.SSHKey
		what = append(what, "ssh key")
	}
	if key != "" {
		previous := t.KeyHash
		if !u.KeepKey {
			previous = nil
		}
		t.KeyHash, t.PreviousKeyHash = b.cfg.Keys.HashAPIKey(key), previous
		what = append(what, "API key")
	}
	if u.DropKey {
		t.PreviousKeyHash = nil
		what = append(what, "previous API key")
	}
	if u.NodeQuota.Set {
		t.NodeQuota = u.NodeQuota.Value
		what = append(what, "node quota")
	}
	if u.SessionLifetime.Set {
		t.SessionLifetime = u.SessionLifetime.Value
		what = append(what, "session lifetime")
	}
	if u.SessionLifetimeMax.Set {
		t.SessionLifetimeMax = u.SessionLifetimeMax.Value
		what = append(what, "longest session lifetime")
	}
	return what
}

// setActive retires or un-retires a tenant. Sessions of a retired one have come
// to their end: the loop takes their nodes back.
func setActive(tx Tx, t *Tenant, active bool, now time.Time, by string) error {
	if active == t.Active() {
		return nil
	}
	if active {
		t.RetiredAt = time.Time{}
		if err := tx.UpdateTenant(*t); err != nil {
			return err
		}
		return tenantEvent(tx, *t, now, fmt.Sprintf("tenant '%s' un-retired by %s", t.Name, by))
	}
	if err := notTheLastAdmin(tx, *t); err != nil {
		return err
	}
	t.RetiredAt = now
	if err := tx.UpdateTenant(*t); err != nil {
		return err
	}
	sessions, err := tx.Sessions(SessionQuery{TenantID: t.ID, States: []SessionState{SessionPreparing, SessionActive}})
	if err != nil {
		return err
	}
	for _, s := range sessions {
		if !s.ExpiresAt.After(now) {
			continue
		}
		s.ExpiresAt = now
		if err := tx.UpdateSession(s.State, s); err != nil {
			return err
		}
		err := tx.AppendEvent(&Event{
			At: now, Kind: EventSession, SessionID: s.ID, TenantID: t.ID, From: string(s.State), To: string(s.State),
			Message: "expires now: its tenant was retired",
		})
		if err != nil {
			return err
		}
	}
	return tenantEvent(tx, *t, now, fmt.Sprintf("tenant '%s' retired by %s", t.Name, by))
}

// notTheLastAdmin refuses to lock everybody out.
func notTheLastAdmin(tx ReadTx, t Tenant) error {
	if !t.IsAdmin {
		return nil
	}
	tenants, err := tx.Tenants()
	if err != nil {
		return err
	}
	for _, other := range tenants {
		if other.ID != t.ID && other.IsAdmin && other.Active() {
			return nil
		}
	}
	return Errorf(CodeConflict, "tenant '%s' is the last active admin", t.Name).WithHint("create another admin first")
}

func tenantEvent(tx Tx, t Tenant, now time.Time, message string) error {
	return tx.AppendEvent(&Event{At: now, Kind: EventTenant, TenantID: t.ID, Message: message})
}

// fits tells whether key is a valid API key of t, and gives the hash that it has
// there. Both are always compared, so that the time tells nothing.
func (t Tenant) fits(keys KeyHasher, key string) (hash []byte, ok bool) {
	current, previous := keys.EqualAPIKey(key, t.KeyHash), keys.EqualAPIKey(key, t.PreviousKeyHash)
	if !current && previous {
		return t.PreviousKeyHash, true
	}
	return t.KeyHash, current
}
