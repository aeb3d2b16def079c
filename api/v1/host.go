package v1

import "encoding/json"

// NodeHost are the fields that only hosts of an inventory have.
type NodeHost struct {
	Inventory string `json:"inventory"`
	UpdatedAt Time   `json:"updated_at"`
	Uses      int    `json:"uses"`              // nodes that have run on it
	LastUsed  Time   `json:"last_used"`         // null: never
	NodeID    int64  `json:"node_id,omitempty"` // the node that runs on it
	Name      string `json:"name,omitempty"`    // its own, in an inventory of pools.hcl
	*HostFailures
}

// HostFailures are the fields of a host on which the last create has failed.
type HostFailures struct {
	Failures         int  `json:"host_failures"`     // creates in a row that failed on it
	QuarantinedUntil Time `json:"quarantined_until"` // when it may be tried again; null: it waits for an admin
}

// HostName tells which host of an inventory a node runs on.
type HostName struct {
	ID   int64  `json:"id"`
	Name string `json:"name"`
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

// NodeUpdate is the body of PUT /nodes/ID: one of both.
type NodeUpdate struct {
	Active    *bool  `json:"active,omitempty"`    // false: retire it
	Condition string `json:"condition,omitempty"` // "unused": put it back to use after failures
}
