package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// Hosts lists the hosts of an inventory that are not retired, also those in use.
// Admins only.
func (c *Client) Hosts(ctx context.Context, inventory string) (Answer[v1.NodesAnswer], error) {
	u := c.base.JoinPath("nodes")
	u.RawQuery = url.Values{"inventory": {inventory}}.Encode()
	raw, err := c.read(ctx, http.MethodGet, u, nil)
	if err != nil {
		return Answer[v1.NodesAnswer]{}, err
	}
	return understand[v1.NodesAnswer](c, raw)
}

// CreateNode adds a host to the inventory of the API. Admins only.
func (c *Client) CreateNode(ctx context.Context, n v1.NodeCreate) (Answer[v1.NodeAnswer], error) {
	return call[v1.NodeAnswer](ctx, c, http.MethodPost, n, "nodes")
}

// RetireNode takes a host of an inventory out of use for good. Admins only.
func (c *Client) RetireNode(ctx context.Context, id int64) (Answer[v1.NodeAnswer], error) {
	return call[v1.NodeAnswer](ctx, c, http.MethodPut, v1.NodeUpdate{Active: new(bool)}, "nodes", strconv.FormatInt(id, 10))
}

// RepairNode puts a host of an inventory that is broken, or in quarantine, back to
// use. Admins only.
func (c *Client) RepairNode(ctx context.Context, id int64) (Answer[v1.NodeAnswer], error) {
	return call[v1.NodeAnswer](ctx, c, http.MethodPut, v1.NodeUpdate{Condition: "unused"}, "nodes", strconv.FormatInt(id, 10))
}
