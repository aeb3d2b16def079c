package client

import (
	"cmp"
	"context"
	"encoding/json"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// SessionFilter selects sessions.
type SessionFilter struct {
	Tenant string // id or name; "" selects those of all tenants
	Ended  bool   // those that have ended, instead of the active ones
}

// FindSessions lists the sessions that the caller may see and the filter selects.
func (c *Client) FindSessions(ctx context.Context, f SessionFilter) (Answer[v1.SessionsAnswer], error) {
	query := url.Values{}
	if f.Tenant != "" {
		query.Set("tenant", f.Tenant)
	}
	if f.Ended {
		query.Set("active", "false")
	}
	u := c.base.JoinPath("sessions")
	u.RawQuery = query.Encode()
	raw, err := c.read(ctx, http.MethodGet, u, nil)
	if err != nil {
		return Answer[v1.SessionsAnswer]{}, err
	}
	return understand[v1.SessionsAnswer](c, raw)
}

// NodeFilter selects nodes.
type NodeFilter struct {
	Pool  string // name; "" selects those of all pools
	State string // on the wire, several with commas between them; "" selects all that exist
}

// FindNodes lists the nodes that the caller may see and the filter selects.
func (c *Client) FindNodes(ctx context.Context, f NodeFilter) (Answer[v1.NodesAnswer], error) {
	query := url.Values{}
	if f.Pool != "" {
		query.Set("pool", f.Pool)
	}
	if f.State != "" {
		query.Set("state", f.State)
	}
	u := c.base.JoinPath("nodes")
	u.RawQuery = query.Encode()
	raw, err := c.read(ctx, http.MethodGet, u, nil)
	if err != nil {
		return Answer[v1.NodesAnswer]{}, err
	}
	return understand[v1.NodesAnswer](c, raw)
}

// AllSessions lists the ended sessions and the active ones, by id. Tenant is as in
// [SessionFilter].
func (c *Client) AllSessions(ctx context.Context, tenant string) (Answer[v1.SessionsAnswer], error) {
	// In this order one that ends meanwhile is never missed; it may come twice.
	active, err := c.FindSessions(ctx, SessionFilter{Tenant: tenant})
	if err != nil {
		return active, err
	}
	all, err := c.FindSessions(ctx, SessionFilter{Tenant: tenant, Ended: true})
	if err != nil {
		return all, err
	}
	all.Value.Sessions = mergeSessions(all.Value.Sessions, active.Value.Sessions)
	all.Raw, err = json.Marshal(all.Value)
	return all, err
}

// SessionEvents lists what happened to a session and its nodes.
func (c *Client) SessionEvents(ctx context.Context, id int64) (Answer[v1.EventsAnswer], error) {
	return call[v1.EventsAnswer](ctx, c, http.MethodGet, nil, "sessions", strconv.FormatInt(id, 10), "events")
}

// mergeSessions puts two lists together, by id. What is in both counts as in the
// first.
func mergeSessions(first, second []v1.Session) []v1.Session {
	byID := make(map[int64]v1.Session)
	for _, s := range append(slices.Clone(second), first...) {
		byID[s.ID] = s
	}
	return slices.SortedFunc(maps.Values(byID), func(a, b v1.Session) int { return cmp.Compare(a.ID, b.ID) })
}
