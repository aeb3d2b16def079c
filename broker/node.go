package broker

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"
)

// NodeState is the exact step that a node is in, called `condition` in the API.
type NodeState string

// The states of a node. nodeSteps says which may follow which.
const (
	// NodePlanned: recorded, Terraform not started: nothing exists.
	NodePlanned NodeState = "planned"
	// NodeApplying: Terraform may be making it.
	NodeApplying NodeState = "applying"
	// NodeChecking: made; must pass its ready check before it may be lent.
	NodeChecking NodeState = "checking"
	// NodeReady: stock.
	NodeReady NodeState = "ready"
	// NodeReserved: belongs to a session; nothing was done to it yet.
	NodeReserved NodeState = "reserved"
	// NodeContextualizing: the tenant's key is being written to it.
	NodeContextualizing NodeState = "contextualizing"
	// NodeDeployed: lent.
	NodeDeployed NodeState = "deployed"
	// NodeLost: lent, and found to exist no more. It stays its session's until that
	// ends.
	NodeLost NodeState = "lost"
	// NodeReleasing: given back, or not wanted any more; to be destroyed.
	NodeReleasing NodeState = "releasing"
	// NodeDestroying: Terraform may be destroying it. Repeated until nothing is left.
	NodeDestroying NodeState = "destroying"
	// NodeFailed: unusable; what exists of it counts, and is to be destroyed.
	NodeFailed NodeState = "failed"
	// NodeHeld: kept for a person, who may be working on it: nothing is done to it.
	NodeHeld NodeState = "held"
	// NodeGone: nothing exists any more. The record is kept for a while.
	NodeGone NodeState = "gone"
)

// nodeSteps is the one table of which state may follow which.
//
//nolint:gochecknoglobals // a table: nothing writes it
var nodeSteps = map[NodeState][]NodeState{
	NodePlanned:         {NodeApplying, NodeGone},
	NodeApplying:        {NodeChecking, NodeFailed},
	NodeChecking:        {NodeReady, NodeFailed, NodeReleasing, NodeHeld},
	NodeReady:           {NodeReserved, NodeReleasing, NodeFailed, NodeHeld},
	NodeReserved:        {NodeContextualizing, NodeDeployed, NodeChecking},
	NodeContextualizing: {NodeDeployed, NodeChecking, NodeFailed},
	NodeDeployed:        {NodeReleasing, NodeLost},
	NodeLost:            {NodeDestroying},
	NodeReleasing:       {NodeDestroying, NodeHeld},
	NodeFailed:          {NodeDestroying, NodeHeld},
	NodeDestroying:      {NodeGone, NodeHeld},
	NodeHeld:            {NodeChecking, NodeDestroying},
	NodeGone:            {NodeFailed}, // something of it was found after all
}

// NodeStates lists every state, in the order of a node's life.
func NodeStates() []NodeState {
	return []NodeState{
		NodePlanned, NodeApplying, NodeChecking, NodeReady, NodeReserved, NodeContextualizing,
		NodeDeployed, NodeLost, NodeReleasing, NodeFailed, NodeDestroying, NodeHeld, NodeGone,
	}
}

// LiveNodeStates lists the states in which something of a node may exist, which
// is every state but [NodeGone].
func LiveNodeStates() []NodeState {
	states := NodeStates()
	return states[:len(states)-1]
}

// Next lists the states that may follow s.
func (s NodeState) Next() []NodeState { return slices.Clone(nodeSteps[s]) }

// CanBecome tells whether the table allows the step.
func (s NodeState) CanBecome(next NodeState) bool { return slices.Contains(nodeSteps[s], next) }

// IsTerminal tells whether nothing follows s by itself.
func (s NodeState) IsTerminal() bool { return s == NodeGone }

// Wire gives Duffy's word for s, as seen in the API.
func (s NodeState) Wire() string {
	switch s {
	case NodePlanned, NodeApplying, NodeChecking:
		return "provisioning"
	case NodeReady:
		return "ready"
	case NodeReserved, NodeContextualizing:
		return "contextualizing"
	case NodeDeployed, NodeHeld:
		return "deployed"
	case NodeReleasing, NodeDestroying:
		return "deprovisioning"
	case NodeFailed, NodeLost:
		return "failed"
	case NodeGone:
		return "done"
	}
	return string(s)
}

// Node is one Terraform workspace and what it made.
type Node struct {
	ID        int64     `json:"id"`  // the store gives it; what Duffy's clients know
	UID       string    `json:"uid"` // random; what tags, directories and host names carry
	Pool      string    `json:"pool"`
	State     NodeState `json:"state"`
	Since     time.Time `json:"since"` // when it came into State
	CreatedAt time.Time `json:"created_at"`
	RetiredAt time.Time `json:"retired_at,omitzero"` // when it became gone

	// What it was made from, and the rules that it was made under: kept, since
	// the pool may change or go.
	Source         Source            `json:"source"`
	Variant        string            `json:"variant,omitempty"` // its name then; "" where the pool had none
	CreateTimeout  time.Duration     `json:"create_timeout"`
	DestroyTimeout time.Duration     `json:"destroy_timeout"`
	Ready          ReadyCheck        `json:"ready"`
	Contextualize  ContextualizeMode `json:"contextualize"`
	// ProviderSharing: its module has been found fit for it.
	ProviderSharing bool   `json:"provider_sharing,omitempty"`
	Account         string `json:"account,omitempty"` // see [Pool.Account]
	Environment
	// Host is what it runs on, if its pool draws from an inventory. That it is in use
	// says [Host.NodeID].
	Host *NodeHost `json:"host,omitempty"`

	// Identity is what its token and its host key are made from, sealed by the
	// provisioner; nil for a node of an older version.
	Identity []byte `json:"identity,omitempty"`

	Outputs

	// Import is what the leak sweep has found of a node that no Terraform state
	// records: import ids by resource address. Its destroy imports them first.
	Import map[string]string `json:"import,omitempty"`

	SessionID int64 `json:"session_id,omitempty"` // the session it is or was lent to, 0 for none
	// Touched: a tenant's key may be on it.
	Touched bool `json:"touched,omitempty"`
	// Attempts counts the failed tries of the present step; RetryAt is when the
	// next one is due.
	Attempts int       `json:"attempts,omitempty"`
	RetryAt  time.Time `json:"retry_at,omitzero"`
	// Failure is the last error in full, for operators, and of which kind it is.
	Failure      string       `json:"failure,omitempty"`
	FailureClass FailureClass `json:"failure_class,omitempty"`
	// Interruption is set once the node has said that it will go away.
	Interruption *Interruption `json:"interruption,omitempty"`
	// Hold is set from when somebody asks for the node to be held until it is
	// given back: nothing more is begun on it meanwhile.
	Hold *Hold `json:"hold,omitempty"`
}

// Outputs are what a module's contract gives back about a node.
type Outputs struct {
	Address  string          `json:"ipaddr,omitempty"`
	Hostname string          `json:"hostname,omitempty"`
	SSHUser  string          `json:"ssh_user,omitempty"`
	SSHPort  int             `json:"ssh_port,omitempty"`
	HostKeys []string        `json:"ssh_host_keys,omitempty"` // authorized_keys form: "ssh-ed25519 AAAA..."
	Data     json.RawMessage `json:"data,omitempty"`          // anything for the tenant
}

// Arch gives the architecture that a module tells in "arch" of its data, or "".
func (o Outputs) Arch() string {
	var data struct {
		Arch string `json:"arch"`
	}
	if json.Unmarshal(o.Data, &data) != nil {
		return ""
	}
	return data.Arch
}

// NewNode gives a planned node of a pool, with a fresh uid and no id yet.
func NewNode(p Pool, now time.Time) Node {
	uid := NewUID()
	variant := ""
	if len(p.Variants) > 0 {
		variant = p.Variants[0].Name // see [Pool.As]
	}
	return Node{
		UID: uid, Pool: p.Name, State: NodePlanned, Since: now, CreatedAt: now,
		Source: p.Source, Variant: variant, CreateTimeout: p.CreateTimeout, DestroyTimeout: p.DestroyTimeout,
		Ready: p.Ready, Contextualize: p.Contextualize, ProviderSharing: p.ProviderSharing, Account: p.Account, Environment: p.Environment,
		Outputs: Outputs{Hostname: DefaultHostname(uid)},
	}
}

// NewUID gives a random id of 16 lower-case hex digits.
func NewUID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the program instead (crypto/rand)
	return hex.EncodeToString(b[:])
}

// DefaultHostname is the host name of a node whose module gives none. All have
// the same width, so that none is contained in another: old clients compare by
// containment.
func DefaultHostname(uid string) string { return "node-" + uid }

// Become moves n to the next state, or gives a [TransitionError] that the table
// forbids. It changes the copy only; a store makes it true.
func (n *Node) Become(next NodeState, now time.Time) error {
	if !n.State.CanBecome(next) {
		return &TransitionError{Object: fmt.Sprintf("node %d", n.ID), From: string(n.State), To: string(next)}
	}
	n.State, n.Since, n.Attempts, n.RetryAt = next, now, 0, time.Time{}
	n.RetiredAt = time.Time{}
	if next == NodeGone {
		n.RetiredAt, n.Hold = now, nil
	}
	return nil
}
