package client

import (
	"context"
	"net/http"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// Reload has the broker read its pools again, and waits for that. Admins only.
func (c *Client) Reload(ctx context.Context, o v1.ReloadOrder) (Answer[v1.ReloadAnswer], error) {
	return call[v1.ReloadAnswer](ctx, c, http.MethodPost, o, "reload")
}

// LastReload tells how the last reading of the pools went. Admins only.
func (c *Client) LastReload(ctx context.Context) (Answer[v1.ReloadAnswer], error) {
	return call[v1.ReloadAnswer](ctx, c, http.MethodGet, nil, "reload")
}

// Rollouts tells of each pool how far the replacement of its stale nodes is.
// Admins only.
func (c *Client) Rollouts(ctx context.Context) (Answer[v1.RolloutsAnswer], error) {
	return call[v1.RolloutsAnswer](ctx, c, http.MethodGet, nil, "rollouts")
}

// OrderRollout pauses, resumes, hurries or aborts the rollout of a pool. Admins
// only.
func (c *Client) OrderRollout(ctx context.Context, pool string, o v1.RolloutOrder) (Answer[v1.RolloutAnswer], error) {
	return call[v1.RolloutAnswer](ctx, c, http.MethodPost, o, "rollouts", pool)
}
