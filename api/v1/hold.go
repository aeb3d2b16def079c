package v1

// ActionDelete belongs to answers to DELETE.
const ActionDelete Action = "delete"

// NodeOperator are the fields of a node that only admins see.
type NodeOperator struct {
	UID        string `json:"uid"`
	Generation string `json:"generation"`        // of what it was made from
	Variant    string `json:"variant,omitempty"` // of its pool, that it was made from
	Since      Time   `json:"since"`             // when it came into its condition
	SessionID  int64  `json:"session_id,omitempty"`
	Attempts   int    `json:"attempts,omitempty"` // failed tries of the present step
	RetryAt    Time   `json:"retry_at,omitzero"`  // when the next is due
	Hold       *Hold  `json:"hold,omitempty"`
}

// Hold says for whom a node is kept as it is. It is in effect when the node's
// condition is "held".
type Hold struct {
	Reason string `json:"reason"`
	By     string `json:"by"`
	Since  Time   `json:"since"`
	From   string `json:"from"` // the condition before
}

// HoldCreate is the body of POST /nodes/ID/hold and /nodes/ID/workspace. It may be
// left out.
type HoldCreate struct {
	Reason string `json:"reason"`
}

// WorkspaceAnswer is the answer about the workspace of a held node.
type WorkspaceAnswer struct {
	Action    Action `json:"action"`
	Node      Node   `json:"node"`
	Directory string `json:"directory"` // on the broker's machine
}
