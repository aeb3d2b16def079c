package client

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// Name gives the URL of the API, for messages.
func (c *Client) Name() string { return c.name }

// Snapshot gives what a plan needs to know of the broker. Admins only.
func (c *Client) Snapshot(ctx context.Context) (broker.Snapshot, error) {
	answer, err := call[v1.SnapshotAnswer](ctx, c, http.MethodGet, nil, "snapshot")
	if err != nil {
		return broker.Snapshot{}, err
	}
	return decodeSnapshot(answer.Value.Snapshot)
}

// decodeSnapshot reads a snapshot; CodeInvalid if it is none, or of a version that
// is not known here.
func decodeSnapshot(raw json.RawMessage) (s broker.Snapshot, err error) {
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, broker.Wrap(broker.CodeInvalid, err, "the broker's snapshot can't be understood")
	}
	major, _, _ := strings.Cut(broker.SnapshotVersion, ".")
	if theirs, _, _ := strings.Cut(s.FormatVersion, "."); theirs != major {
		return s, broker.Errorf(broker.CodeInvalid, "the broker's snapshot has the version %q, and this duffy-broker knows %s", s.FormatVersion, broker.SnapshotVersion).
			WithHint("plan with the duffy-broker that the broker runs")
	}
	return s, nil
}
