package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// Tenants lists the tenants that the caller may see: all for an admin, also the
// retired ones.
func (c *Client) Tenants(ctx context.Context) (Answer[v1.TenantsAnswer], error) {
	return call[v1.TenantsAnswer](ctx, c, http.MethodGet, nil, "tenants")
}

// Tenant shows one tenant.
func (c *Client) Tenant(ctx context.Context, id int64) (Answer[v1.TenantAnswer], error) {
	return call[v1.TenantAnswer](ctx, c, http.MethodGet, nil, "tenants", strconv.FormatInt(id, 10))
}

// FindTenant gives the id of the tenant that text names: a number is an id if
// there is such a tenant, everything else a name. [broker.CodeNotFound] if there
// is none.
func (c *Client) FindTenant(ctx context.Context, text string) (int64, error) {
	list, err := c.Tenants(ctx)
	if err != nil {
		return 0, err
	}
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		id = 0 // no tenant's
	}
	var named int64
	for _, t := range list.Value.Tenants {
		if t.ID == id {
			return id, nil
		}
		if t.Name == text {
			named = t.ID
		}
	}
	if named == 0 {
		return 0, broker.Errorf(broker.CodeNotFound, "there is no tenant %q", text).WithHint("duffy-broker tenant list shows those that you may see")
	}
	return named, nil
}

// CreateTenant makes a tenant. The answer has its API key, which is never shown
// again. Admins only.
func (c *Client) CreateTenant(ctx context.Context, t v1.TenantCreate) (Answer[v1.TenantCreatedAnswer], error) {
	return call[v1.TenantCreatedAnswer](ctx, c, http.MethodPost, t, "tenants")
}

// TenantUpdate says what is to be changed of a tenant: [v1.TenantUpdate] without
// what is not set. Active goes alone: the server does not look at it beside others.
type TenantUpdate struct {
	Active             *bool            `json:"active,omitempty"`           // false retires the tenant
	SSHKey             *string          `json:"ssh_key,omitempty"`          // public keys, a line each
	APIKey             string           `json:"api_key,omitempty"`          // "reset", or a UUID
	PreviousKey        string           `json:"previous_api_key,omitempty"` // "keep" with a new key, or "drop"
	NodeQuota          Override[int]    `json:"node_quota,omitzero"`
	SessionLifetime    Override[string] `json:"session_lifetime,omitzero"` // "1d 2h", or seconds
	SessionLifetimeMax Override[string] `json:"session_lifetime_max,omitzero"`
}

// Override changes a setting that has a default: not Set changes nothing, Set
// without a Value takes the default, which null says on the wire.
type Override[T any] struct {
	Set   bool
	Value *T
}

// MarshalJSON writes the value, or null.
func (o Override[T]) MarshalJSON() ([]byte, error) { return json.Marshal(o.Value) }

// UpdateTenant changes a tenant. A new API key is in the answer, this once.
// Admins only.
func (c *Client) UpdateTenant(ctx context.Context, id int64, u TenantUpdate) (Answer[v1.TenantWithKeyAnswer], error) {
	return call[v1.TenantWithKeyAnswer](ctx, c, http.MethodPut, u, "tenants", strconv.FormatInt(id, 10))
}
