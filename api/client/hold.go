package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// HoldNode keeps a node as it is. It returns when nothing is done to it any more.
// Admins only.
func (c *Client) HoldNode(ctx context.Context, id int64, h v1.HoldCreate) (Answer[v1.NodeAnswer], error) {
	return call[v1.NodeAnswer](ctx, c, http.MethodPost, h, "nodes", strconv.FormatInt(id, 10), "hold")
}

// ReleaseNode ends the hold of a node without a workspace. Admins only.
func (c *Client) ReleaseNode(ctx context.Context, id int64) (Answer[v1.NodeAnswer], error) {
	return call[v1.NodeAnswer](ctx, c, http.MethodDelete, nil, "nodes", strconv.FormatInt(id, 10), "hold")
}

// OpenWorkspace holds a node and puts its state into a directory on the broker's
// machine. Admins only.
func (c *Client) OpenWorkspace(ctx context.Context, id int64, h v1.HoldCreate) (Answer[v1.WorkspaceAnswer], error) {
	return call[v1.WorkspaceAnswer](ctx, c, http.MethodPost, h, "nodes", strconv.FormatInt(id, 10), "workspace")
}

// ReturnWorkspace ends the hold of a node with the state in its directory; with
// discard, with the one from before. Admins only.
func (c *Client) ReturnWorkspace(ctx context.Context, id int64, discard bool) (Answer[v1.NodeAnswer], error) {
	u := c.base.JoinPath("nodes", strconv.FormatInt(id, 10), "workspace")
	if discard {
		u.RawQuery = url.Values{"discard": {"true"}}.Encode()
	}
	raw, err := c.read(ctx, http.MethodDelete, u, nil)
	if err != nil {
		return Answer[v1.NodeAnswer]{}, err
	}
	return understand[v1.NodeAnswer](c, raw)
}
