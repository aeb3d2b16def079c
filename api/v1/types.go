package v1

import "encoding/json"

// Action says which method an answer belongs to.
type Action string

// The actions.
const (
	ActionGet  Action = "get"
	ActionPost Action = "post"
	ActionPut  Action = "put"
)

// NodesSpec asks for a number of nodes of one pool.
type NodesSpec struct {
	Quantity int    `json:"quantity"`
	Pool     string `json:"pool"`
}

// SessionCreate is the body of POST /sessions.
type SessionCreate struct {
	TenantID   *int64      `json:"tenant_id"` // nil: the caller
	NodesSpecs []NodesSpec `json:"nodes_specs"`
}

// SessionUpdate is the body of PUT /sessions/ID. Null fields change nothing.
type SessionUpdate struct {
	Active *bool `json:"active"` // false retires the session
	// ExpiresAt is a time ("2026-01-31T12:00:00Z") or a shift of the present
	// end ("+1h 30m", "-20m").
	ExpiresAt *string `json:"expires_at"`
}

// SessionAnswer is the answer about one session.
type SessionAnswer struct {
	Action  Action  `json:"action"`
	Session Session `json:"session"`
}

// SessionsAnswer is the answer about several sessions.
type SessionsAnswer struct {
	Action   Action    `json:"action"`
	Sessions []Session `json:"sessions"`
}

// Session lends nodes to a tenant.
type Session struct {
	RetiredAt Time          `json:"retired_at"`
	Active    bool          `json:"active"`
	CreatedAt Time          `json:"created_at"`
	ID        int64         `json:"id"`
	ExpiresAt Time          `json:"expires_at"`
	Tenant    Tenant        `json:"tenant"`
	Data      SessionData   `json:"data"`
	Nodes     []SessionNode `json:"nodes"`
}

// SessionData says what a session was asked for.
type SessionData struct {
	NodesSpecs []NodesSpec `json:"nodes_specs"`
}

// SessionNode is a node as its session shows it.
type SessionNode struct {
	Hostname string   `json:"hostname"`
	IPAddr   string   `json:"ipaddr"`
	Comment  *string  `json:"comment"`
	Pool     string   `json:"pool"`
	Reusable bool     `json:"reusable"`
	Data     NodeData `json:"data"`
	ID       int64    `json:"id"`
	State    string   `json:"state"`
	NodeExtra
}

// BootReport is what a machine says when it has been installed.
type BootReport struct {
	SSHHostKeys []string `json:"ssh_host_keys"` // as in the files /etc/ssh/ssh_host_*_key.pub
}

// Notice is what a node says about itself.
type Notice struct {
	Kind   string `json:"kind"`   // interruption
	Action string `json:"action"` // what will be done to it: terminate, stop, hibernate
	At     string `json:"at"`     // when, in RFC 3339
}

// NodeExtra are the fields of a node that Duffy does not have.
type NodeExtra struct {
	Condition   string   `json:"condition,omitempty"` // the exact state behind State
	SSHUser     string   `json:"ssh_user,omitempty"`
	SSHPort     int      `json:"ssh_port,omitempty"`
	SSHHostKeys []string `json:"ssh_host_keys,omitempty"` // "ssh-ed25519 AAAA..."
	Arch        string   `json:"arch,omitempty"`          // if the pool's module tells it
}

// NodeData is what is known of a node beyond its fields.
type NodeData struct {
	Provision json.RawMessage `json:"provision"`            // an object; what the pool's module gave out
	NodesSpec *NodesSpec      `json:"nodes_spec,omitempty"` // what the node was asked with, once it was lent
}

// NodeAnswer is the answer about one node.
type NodeAnswer struct {
	Action Action `json:"action"`
	Node   Node   `json:"node"`
}

// NodesAnswer is the answer about several nodes.
type NodesAnswer struct {
	Action Action `json:"action"`
	Nodes  []Node `json:"nodes"`
}

// Node is a node by itself.
type Node struct {
	RetiredAt Time            `json:"retired_at"`
	Active    bool            `json:"active"`
	CreatedAt Time            `json:"created_at"`
	Hostname  string          `json:"hostname"`
	IPAddr    string          `json:"ipaddr"`
	Comment   *string         `json:"comment"`
	Pool      *string         `json:"pool"` // null: a host of an inventory that names none
	Reusable  bool            `json:"reusable"`
	Data      json.RawMessage `json:"data"` // a NodeData; of a host of an inventory any object
	ID        int64           `json:"id"`
	State     string          `json:"state"`
	NodeExtra
	// FailureClass is the kind of its last failure: throttled, no_capacity, quota,
	// auth, configuration, unreachable, timeout, interrupted or other. Failure is
	// that in full, which only admins see.
	FailureClass string `json:"failure_class,omitempty"`
	Failure      string `json:"failure,omitempty"`
	// Interruption is what will be done to the node by who owns the machine, such as
	// terminate, and InterruptedAt is when, if that is known.
	Interruption  string `json:"interruption,omitempty"`
	InterruptedAt *Time  `json:"interrupted_at,omitempty"`
	*NodeOperator
	*NodeHost
	Host *HostName `json:"host,omitempty"` // what it runs on, if its pool draws from an inventory
}

// Tenant is whom a session belongs to. SSHKey is always masked.
type Tenant struct {
	RetiredAt                   Time     `json:"retired_at"`
	Active                      bool     `json:"active"`
	CreatedAt                   Time     `json:"created_at"`
	Name                        string   `json:"name"`
	IsAdmin                     bool     `json:"is_admin"`
	SSHKey                      string   `json:"ssh_key"`
	NodeQuota                   *int     `json:"node_quota"`
	SessionLifetime             *Seconds `json:"session_lifetime"`
	SessionLifetimeMax          *Seconds `json:"session_lifetime_max"`
	ID                          int64    `json:"id"`
	EffectiveNodeQuota          int      `json:"effective_node_quota"`
	EffectiveSessionLifetime    Seconds  `json:"effective_session_lifetime"`
	EffectiveSessionLifetimeMax Seconds  `json:"effective_session_lifetime_max"`
}

// TenantDetail is a tenant by itself.
type TenantDetail struct {
	Tenant
	// LastUsed is when one of its API keys was last used; null: never.
	LastUsed Time `json:"last_used"`
	// PreviousKeyValid: beside the API key, the one before it is valid.
	PreviousKeyValid bool `json:"previous_api_key_valid"`
}

// TenantAnswer is the answer about one tenant.
type TenantAnswer struct {
	Action Action       `json:"action"`
	Tenant TenantDetail `json:"tenant"`
}

// TenantsAnswer is the answer about several tenants.
type TenantsAnswer struct {
	Action  Action         `json:"action"`
	Tenants []TenantDetail `json:"tenants"`
}

// TenantWithKey is a tenant whose API key may have changed.
type TenantWithKey struct {
	TenantDetail
	APIKey *string `json:"api_key"` // a new one, shown this once, or masked; null when it was retired or un-retired
}

// TenantWithKeyAnswer is the answer about a tenant that was changed.
type TenantWithKeyAnswer struct {
	Action Action        `json:"action"`
	Tenant TenantWithKey `json:"tenant"`
}

// TenantCreated is a new tenant. Its keys are shown, this once.
type TenantCreated struct {
	TenantWithKey
	SSHKey *string `json:"ssh_key"`
}

// TenantCreatedAnswer is the answer about a new tenant.
type TenantCreatedAnswer struct {
	Action Action        `json:"action"`
	Tenant TenantCreated `json:"tenant"`
}

// TenantCreate is the body of POST /tenants.
type TenantCreate struct {
	Name               string  `json:"name"`
	IsAdmin            bool    `json:"is_admin"`
	SSHKey             string  `json:"ssh_key"`              // public keys, a line each
	NodeQuota          *int    `json:"node_quota"`           // nil: the default
	SessionLifetime    *string `json:"session_lifetime"`     // "1d 2h", or seconds; nil: the default
	SessionLifetimeMax *string `json:"session_lifetime_max"` // nil: the default
}

// TenantUpdate is the body of PUT /tenants/ID. Fields that are left out change
// nothing: with null the last three become the defaults, so a client writes only
// those that it means.
type TenantUpdate struct {
	Active             *bool   `json:"active"` // false retires, true brings back; read only without the others
	SSHKey             *string `json:"ssh_key"`
	APIKey             *string `json:"api_key"`          // "reset", or a UUID
	PreviousKey        *string `json:"previous_api_key"` // "keep" with a new key, or "drop"
	NodeQuota          *int    `json:"node_quota"`
	SessionLifetime    *string `json:"session_lifetime"`
	SessionLifetimeMax *string `json:"session_lifetime_max"`
}

// Masked stands in answers where a secret would.
const Masked = "**********"

// PoolAnswer is the answer about one pool.
type PoolAnswer struct {
	Action Action `json:"action"`
	Pool   Pool   `json:"pool"`
}

// PoolsAnswer is the answer about several pools, without their levels.
type PoolsAnswer struct {
	Action Action `json:"action"`
	Pools  []Pool `json:"pools"`
}

// Pool is a pool. It may never have a field more: Duffy's older client refuses
// answers with unknown fields here.
type Pool struct {
	Name      string  `json:"name"`
	FillLevel int     `json:"fill-level"`
	Levels    *Levels `json:"levels,omitempty"`
}

// Levels counts the nodes of a pool by state.
type Levels struct {
	Provisioning    int `json:"provisioning"`
	Ready           int `json:"ready"`
	Contextualizing int `json:"contextualizing"`
	Deployed        int `json:"deployed"`
	Deprovisioning  int `json:"deprovisioning"`
}

// Event says that something changed. From and To are exact states, as in the
// condition of a node.
type Event struct {
	Seq       int64  `json:"seq"` // rises by one with each event of the broker
	At        Time   `json:"at"`
	Kind      string `json:"kind"` // node, host, session, tenant, rollout or reload
	Pool      string `json:"pool,omitempty"`
	NodeID    int64  `json:"node_id,omitempty"`
	SessionID int64  `json:"session_id,omitempty"`
	TenantID  int64  `json:"tenant_id,omitempty"`
	From      string `json:"from,omitempty"`
	To        string `json:"to,omitempty"`
	Message   string `json:"message,omitempty"`
}

// EventsAnswer is the answer about the events of a session.
type EventsAnswer struct {
	Action Action  `json:"action"`
	Events []Event `json:"events"`
}

// Handouts counts the nodes of a pool that were ever lent to a tenant.
type Handouts struct {
	Pool     string `json:"pool"`
	TenantID int64  `json:"tenant_id"`
	Tenant   string `json:"tenant"`
	Nodes    int64  `json:"nodes"`
}

// StatsAnswer is the answer of /stats.
type StatsAnswer struct {
	Action   Action     `json:"action"`
	Handouts []Handouts `json:"handouts"`
}

// Health is the answer of /health, /healthz and /readyz.
type Health struct {
	Status  string `json:"status"`
	Version string `json:"version,omitempty"`
}

// Error is the body of every answer that is not a success. Detail is always a
// string, since Duffy's client takes nothing else.
type Error struct {
	Detail string       `json:"detail"`
	Code   string       `json:"code,omitempty"`
	Hint   string       `json:"hint,omitempty"`
	Errors []FieldError `json:"errors,omitempty"` // what is wrong with the request, place by place
}

// FieldError says what is wrong at one place of a request.
type FieldError struct {
	Loc  []any          `json:"loc"` // "body" or "path", then field names and list positions
	Msg  string         `json:"msg"`
	Type string         `json:"type"`
	Ctx  map[string]any `json:"ctx,omitempty"`
}

// LegacySession is the legacy API's answer to a request for nodes.
type LegacySession struct {
	Hosts []string `json:"hosts"`
	SSID  int64    `json:"ssid"`
}

// LegacyRefusal is the legacy API's answer to a key that it does not take.
type LegacyRefusal struct {
	Msg string `json:"msg"`
}

// LegacyKey is a key of the legacy API, with how it was used.
type LegacyKey struct {
	ID        int64            `json:"id"`
	Tenant    string           `json:"tenant"`
	TenantID  int64            `json:"tenant_id"`
	Note      string           `json:"note"`
	CreatedAt Time             `json:"created_at"`
	LastUsed  Time             `json:"last_used"`     // null: never
	LastAgent string           `json:"last_agent"`    // User-Agent of the last call
	Calls     map[string]int64 `json:"calls"`         // by endpoint
	Key       string           `json:"key,omitempty"` // shown once, when it was made
}

// LegacyKeyCreate is the body of POST /tenants/ID/legacy-keys.
type LegacyKeyCreate struct {
	Key  string `json:"key"`  // "": a new one
	Note string `json:"note"` // whose jobs use it
}

// LegacyKeyAnswer is the answer about one key.
type LegacyKeyAnswer struct {
	Action    Action    `json:"action"`
	LegacyKey LegacyKey `json:"legacy_key"`
}

// LegacyKeysAnswer is the answer about several keys.
type LegacyKeysAnswer struct {
	Action     Action      `json:"action"`
	LegacyKeys []LegacyKey `json:"legacy_keys"`
}
