package v1

import "encoding/json"

// NodeHost are the fields that only hosts of an inventory have.
type NodeHost struct {
	Inventory string `json:"inventory"`
	UpdatedAt Time   `json:"updated_at"`
	Uses      int    `json:"uses"`              // nodes that have run on it
	LastUsed  Time   `json:"last_used"`         // null: never
	NodeID    int64  `json:"node_id,omitempty"` // the node that runs on it
}

// NodeCreate is the body of POST /nodes.
type NodeCreate struct {
	Hostname string          `json:"hostname"`
	IPAddr   string          `json:"ipaddr"`
	Comment  *string         `json:"comment"`
	Pool     *string         `json:"pool"`               // shown, and no more
	Reusable *bool           `json:"reusable,omitempty"` // left out: true
	Data     json.RawMessage `json:"data,omitempty"`     // an object
}

// NodeUpdate is the body of PUT /nodes/ID.
type NodeUpdate struct {
	Active bool `json:"active"` // false: retire it
}
