package broker

import (
	"encoding/json"
	"time"
)

// ContextualizeMode says how a tenant gets access to a node.
type ContextualizeMode string

const (
	// ContextualizeSSH writes the tenant's key to the node over SSH.
	ContextualizeSSH ContextualizeMode = "ssh"
	// ContextualizeNone hands the node out as it is.
	ContextualizeNone ContextualizeMode = "none"
)

// ReadyCheck says when a new node counts as ready.
type ReadyCheck struct {
	// SSH asks for TCP, handshake, a recorded host key and a login with the
	// broker's key. Without it a node is ready once Terraform is done.
	SSH bool `json:"ssh"`
	// Command runs on the node after the login and must exit 0. "" runs nothing.
	Command string `json:"command,omitempty"`
	// Timeout bounds the whole check, repeated until it passes.
	Timeout time.Duration `json:"timeout"`
}

// Environment is what Terraform and its providers get to see of a pool, besides
// the broker's own environment. It is kept with each node, since what it was made
// with destroys it.
type Environment struct {
	// Environ are plain values, and part of what a node is made from.
	Environ map[string]string `json:"environment,omitempty"`
	// Credentials are references to secrets, by variable: "file:PATH" for the text of
	// a file, "env:NAME" for a variable of the broker's own environment. They are
	// resolved for each run, and the secrets are stored nowhere.
	Credentials map[string]string `json:"credentials,omitempty"`
}

// Source is what a node is made from. It is kept with the node, so that the
// node can be destroyed after its pool or module has gone.
type Source struct {
	// Template names the kept copy of the module tree, initialised, by content hash.
	Template string `json:"template"`
	// Variables are the module's inputs other than `broker`, sealed by the
	// provisioner: they may hold secrets.
	Variables json.RawMessage `json:"variables,omitempty"`
	// Generation is the hash of template, variables, environment, and of new values
	// of outputs that the pool follows.
	Generation string `json:"generation"`
	// Sweeps: the module can list what exists of its nodes, see [Lister].
	Sweeps bool `json:"sweeps,omitempty"`
}

// Pool is one pool of pools.hcl, ready to be worked on.
type Pool struct {
	Name           string            `json:"name"`
	Description    string            `json:"description,omitempty"`
	Module         string            `json:"module"` // directory of the Terraform module, absolute, or its source
	Variables      json.RawMessage   `json:"variables,omitempty"`
	FillLevel      int               `json:"fill_level"`  // ready nodes to keep
	MaxNodes       int               `json:"max_nodes"`   // nodes in any state that may hold resources
	Concurrency    int               `json:"concurrency"` // Terraform runs at once
	CreateTimeout  time.Duration     `json:"create_timeout"`
	DestroyTimeout time.Duration     `json:"destroy_timeout"`
	Ready          ReadyCheck        `json:"ready"`
	Contextualize  ContextualizeMode `json:"contextualize"`
	NoLegacy       bool              `json:"no_legacy,omitempty"` // the legacy API may not lend its nodes
	// ModuleDir is where the files of a Module lie that is a source; "" where that is a
	// directory, or has not been fetched.
	ModuleDir string `json:"-"`
	// ProviderSharing lets the Terraform runs of nodes with the same provider
	// configuration use one provider process.
	ProviderSharing bool `json:"provider_sharing,omitempty"`
	// Account names the [Account] whose rate of Terraform runs the pool shares; ""
	// for none: no limit.
	Account string `json:"account,omitempty"`
	// Sweep is for modules that can list what they have made.
	Sweep Sweep `json:"sweep,omitzero"`
	// Tenants may request the pool's nodes, by name; nil: all may. Admins always do.
	Tenants []string `json:"tenants,omitzero"`
	Environment
	// Inventory says on which hosts its nodes run, if on any.
	Inventory HostSelector `json:"inventory,omitzero"`
	// Rollout says how stale stock is replaced.
	Rollout RolloutSettings `json:"rollout"`
	// Schedule changes FillLevel and MaxNodes at times. Of windows that are open at
	// once, the last one counts.
	Schedule []Window `json:"schedule,omitempty"`
	// MaxAge is the age at which a node is not lent any more, see [Pool.Expiry]; 0
	// for none.
	MaxAge time.Duration `json:"max_age,omitempty"`
	// HourlyCost is what one node costs an hour, in whatever currency all pools
	// have in common. 0: not known.
	HourlyCost float64 `json:"hourly_cost,omitempty"`
	// Labels are for people and programs that read them; the broker does not.
	Labels map[string]string `json:"labels,omitempty"`

	// Follow names outputs of the module whose new values make nodes stale.
	Follow Follow `json:"follow,omitzero"`
	// Followed is what is known of them.
	Followed Followed `json:"followed,omitzero"`

	// Variants are the ways to make a node, the one to take first first; nil where
	// Variables say it all.
	Variants []Variant `json:"variants,omitempty"`

	// Source is filled in when the module has been accepted. With Variants it is
	// that of the first one.
	Source Source `json:"source"`
}

// PoolHealth is what the broker remembers of a pool's failures, so that a broken
// pool costs a bounded number of attempts an hour, across restarts too.
type PoolHealth struct {
	Pool        string    `json:"pool"`
	Generation  string    `json:"generation"` // what failed; another generation starts afresh
	Failures    int       `json:"failures"`   // creates that failed since the last that succeeded
	LastFailure time.Time `json:"last_failure"`
	Message     string    `json:"message,omitempty"` // of the last failure
	// Class is the kind of the last failure.
	Class FailureClass `json:"class,omitempty"`
	// Variants are those that had no capacity since they last made a node, by name.
	// They count as failures only while no other variant is free.
	Variants map[string]VariantHealth `json:"variants,omitempty"`
}

// PoolLevels counts a pool's nodes by wire state, as Duffy's API reports them.
type PoolLevels struct {
	Provisioning, Ready, Contextualizing, Deployed, Deprovisioning int
}
