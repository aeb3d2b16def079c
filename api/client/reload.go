package client

import (
	"context"
	"net/http"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// Reload has the broker read its pools again, and waits for that. Admins only.
func (c *Client) Reload(ctx context.Context) (Answer[v1.ReloadAnswer], error) {
	return call[v1.ReloadAnswer](ctx, c, http.MethodPost, nil, "reload")
}

// LastReload tells how the last reading of the pools went. Admins only.
func (c *Client) LastReload(ctx context.Context) (Answer[v1.ReloadAnswer], error) {
	return call[v1.ReloadAnswer](ctx, c, http.MethodGet, nil, "reload")
}
