package plan

import (
	"slices"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Quotas say what tenants may ask of a pool, and how many nodes it may have. A quota
// counts nodes of all pools, so it is what they may hold of this one at most.
type Quotas struct {
	// Absent where the pool does not exist.
	Before *Allowance `json:"before,omitempty"`
	After  *Allowance `json:"after,omitempty"`
}

// Allowance is what the quotas of a pool's tenants come to.
type Allowance struct {
	Tenants  int `json:"tenants"`   // active ones that may request its nodes, without admins, who have no quota
	Nodes    int `json:"nodes"`     // the sum of their quotas
	MaxNodes int `json:"max_nodes"` // of the pool, outside of the windows of its schedule
}

// quotas compares what tenants may ask of a pool; nil where no tenant is known.
func (c *computation) quotas(s side) *Quotas {
	if len(c.options.Tenants) == 0 {
		return nil
	}
	return &Quotas{Before: c.before.allowance(s.old, c.options.Tenants), After: c.after.allowance(s.new, c.options.Tenants)}
}

func (c Config) allowance(p *broker.Pool, tenants []broker.SnapshotTenant) *Allowance {
	if p == nil {
		return nil
	}
	a := Allowance{MaxNodes: p.MaxNodes}
	for _, t := range tenants {
		if p.Tenants == nil || slices.Contains(p.Tenants, t.Name) {
			a.Tenants++
			a.Nodes += c.TenantDefaults.Quota(broker.Tenant{NodeQuota: t.NodeQuota})
		}
	}
	return &a
}
