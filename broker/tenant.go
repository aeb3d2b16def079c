package broker

import "time"

// Defaults of a tenant that sets nothing, as Duffy v3 has them.
const (
	DefaultNodeQuota          = 10
	DefaultSessionLifetime    = 6 * time.Hour
	DefaultSessionLifetimeMax = 12 * time.Hour
)

// Tenant may ask for sessions.
type Tenant struct {
	ID        int64     `json:"id"`
	Name      string    `json:"name"`
	IsAdmin   bool      `json:"is_admin"` // has no quota, sees everything, acts for others
	CreatedAt time.Time `json:"created_at"`
	RetiredAt time.Time `json:"retired_at,omitzero"` // not zero: may not log in
	// SSHKey is one or more public keys, a line each: what contextualize writes.
	SSHKey string `json:"ssh_key"`
	// KeyHash is the keyed hash of the API key, never the key, or what
	// [ImportedHash] gives. PreviousKeyHash is that of the key before it, as long as
	// that one is valid, too.
	KeyHash         []byte `json:"key_hash"`
	PreviousKeyHash []byte `json:"previous_key_hash,omitempty"`
	// LastUsed is when one of its keys was last used: at most a minute behind.
	LastUsed time.Time `json:"last_used,omitzero"`
	// LegacyKeys are its keys for the legacy API.
	LegacyKeys []LegacyKey `json:"legacy_keys,omitempty"`

	NodeQuota          *int           `json:"node_quota,omitempty"`           // nil: the default
	SessionLifetime    *time.Duration `json:"session_lifetime,omitempty"`     // nil: the default
	SessionLifetimeMax *time.Duration `json:"session_lifetime_max,omitempty"` // nil: the default
}

// Active tells whether the tenant is not retired.
func (t Tenant) Active() bool { return t.RetiredAt.IsZero() }

// TenantDefaults is what holds for tenants that set nothing of their own. A nil
// field means Duffy's default.
type TenantDefaults struct {
	NodeQuota          *int           `json:"node_quota,omitempty"`
	SessionLifetime    *time.Duration `json:"session_lifetime,omitempty"`
	SessionLifetimeMax *time.Duration `json:"session_lifetime_max,omitempty"`
}

// Quota is how many nodes t may hold at once. Admins have none: the number then
// only informs.
func (d TenantDefaults) Quota(t Tenant) int {
	return valueOr(t.NodeQuota, valueOr(d.NodeQuota, DefaultNodeQuota))
}

// Lifetime is how long t's sessions last if nobody asks for more.
func (d TenantDefaults) Lifetime(t Tenant) time.Duration {
	return valueOr(t.SessionLifetime, valueOr(d.SessionLifetime, DefaultSessionLifetime))
}

// LifetimeMax is how long t's sessions may last, counted from their start.
func (d TenantDefaults) LifetimeMax(t Tenant) time.Duration {
	return valueOr(t.SessionLifetimeMax, valueOr(d.SessionLifetimeMax, DefaultSessionLifetimeMax))
}

func valueOr[T any](p *T, fallback T) T {
	if p == nil {
		return fallback
	}
	return *p
}
