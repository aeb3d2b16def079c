package config

import (
	"time"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/duffy-broker/duffy-broker/broker"
)

// tenantDefaults reads the tenant_defaults block. Without one nothing is set.
func (l *loader) tenantDefaults(blocks []*hclsyntax.Block) broker.TenantDefaults {
	l.once(blocks)
	var result broker.TenantDefaults
	for i, block := range blocks {
		b := l.open(block.Body, "a tenant_defaults block")
		quota := read(b, "node_quota", atLeast(0), "Nodes that a tenant may have at once.", broker.DefaultNodeQuota)
		lifetime := read(b, "session_lifetime", durationForm, "How long a session lasts that is not extended.", broker.DefaultSessionLifetime)
		longest := read(b, "session_lifetime_max", durationForm, "Beyond which a session can't be extended.", broker.DefaultSessionLifetimeMax)
		b.finish()
		l.checkLifetimes(lifetime, longest)
		if i == 0 {
			result = broker.TenantDefaults{
				NodeQuota: quota.pointer(), SessionLifetime: lifetime.pointer(), SessionLifetimeMax: longest.pointer(),
			}
		}
	}
	return result
}

func (l *loader) checkLifetimes(lifetime, longest setting[time.Duration]) {
	most := longest.or(broker.DefaultSessionLifetimeMax)
	if lifetime.bad || longest.bad || lifetime.or(broker.DefaultSessionLifetime) <= most {
		return
	}
	if longest.set {
		l.report(longest.at, "Invalid session_lifetime_max", "Sessions can't last longer than %s, and last %s when nobody asks for more. Make session_lifetime_max at least as long as session_lifetime.",
			most, lifetime.or(broker.DefaultSessionLifetime))
		return
	}
	l.report(lifetime.at, "Invalid session_lifetime", "Sessions last %s when nobody asks for more, and can't last longer than %s. Write session_lifetime_max too.",
		lifetime.value, most)
}

// pointer gives the value, nil where there is none.
func (s setting[T]) pointer() *T {
	if !s.set || s.bad {
		return nil
	}
	return &s.value
}
