package client

import (
	"context"
	"net/http"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// PoolStatus tells how a pool does; more of it to admins.
func (c *Client) PoolStatus(ctx context.Context, name string) (Answer[v1.PoolStatusAnswer], error) {
	return call[v1.PoolStatusAnswer](ctx, c, http.MethodGet, nil, "pools", name, "status")
}
