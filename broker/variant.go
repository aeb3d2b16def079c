package broker

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Variant is one of the ways to make the nodes of a pool: a zone, an instance
// type, spot or on-demand. The first one of a pool that does not cool down is
// taken.
type Variant struct {
	Name string `json:"name"`
	// Variables are all inputs of the module: the pool's, with the variant's own in
	// their place.
	Variables json.RawMessage `json:"variables,omitempty"`
	// Cooldown is for how long no node is made from it after it had no capacity.
	Cooldown time.Duration `json:"cooldown"`
	// Source is filled in when the module has been accepted.
	Source Source `json:"source"`
}

// VariantHealth is what the broker remembers of a variant that had no capacity.
type VariantHealth struct {
	FailedAt time.Time    `json:"failed_at"`
	Class    FailureClass `json:"class"`
	Message  string       `json:"message,omitempty"`
}

// generationDigits is the length of a generation, as the provisioner writes it.
const generationDigits = 24

// Generation gives the hash of what the pool's nodes are made from. With variants
// it changes with any of them, but neither with their names nor with their order:
// these make no node stale.
func (p Pool) Generation() string {
	if len(p.Variants) == 0 {
		return p.Source.Generation
	}
	generations := make([]string, 0, len(p.Variants))
	for _, v := range p.Variants {
		generations = append(generations, v.Source.Generation)
	}
	slices.Sort(generations)
	sum := sha256.Sum256(fmt.Appendf(nil, "variants\n%s", strings.Join(generations, "\n")))
	return hex.EncodeToString(sum[:])[:generationDigits]
}

// Current tells whether a node is made from what its pool says now. One that is
// not is stale. With variants it must be one of them, under whatever name: so a
// pool that gets its first variants, or other names for them, keeps its nodes.
func (p Pool) Current(n Node) bool {
	if len(p.Variants) == 0 {
		return n.Source.Generation == p.Source.Generation
	}
	_, known := p.VariantOf(n)
	return known
}

// VariantOf gives the variant that a node is made from, as it is defined now.
func (p Pool) VariantOf(n Node) (Variant, bool) {
	for i := range p.Variants {
		if p.Variants[i].Source.Generation == n.Source.Generation {
			return p.Variants[i], true
		}
	}
	return Variant{}, false
}

// As gives the pool as if the variant of that name were all there is. Without
// variants it is the pool itself, for "" only.
func (p Pool) As(variant string) (Pool, bool) {
	if len(p.Variants) == 0 {
		return p, variant == ""
	}
	for _, v := range p.Variants {
		if v.Name == variant {
			p.Variants, p.Variables, p.Source = []Variant{v}, v.Variables, v.Source
			return p, true
		}
	}
	return Pool{}, false
}

// Ways gives the pool once for each of its variants, see [Pool.As]; itself without
// any.
func (p Pool) Ways() []Pool {
	if len(p.Variants) == 0 {
		return []Pool{p}
	}
	ways := make([]Pool, 0, len(p.Variants))
	for _, v := range p.Variants {
		way, _ := p.As(v.Name)
		ways = append(ways, way)
	}
	return ways
}

// Well tells whether there is nothing to remember.
func (h PoolHealth) Well() bool { return h.Failures <= 0 && len(h.Variants) == 0 }

// Cools gives until when a variant is not taken, by what is remembered of its
// pool; zero if it had capacity.
func (v Variant) Cools(h PoolHealth) time.Time {
	failed, ok := h.Variants[v.Name]
	if !ok {
		return time.Time{}
	}
	return failed.FailedAt.Add(v.Cooldown)
}

// Cools gives until when all variants of a pool cool down, so that it makes no
// node; zero if it has none, or one is free.
func (p Pool) Cools(h PoolHealth, now time.Time) time.Time {
	var first time.Time
	for _, v := range p.Variants {
		until := v.Cools(h)
		if !until.After(now) {
			return time.Time{}
		}
		if first.IsZero() || until.Before(first) {
			first = until
		}
	}
	return first
}

// VariantStatus is how a variant does.
type VariantStatus struct {
	Name  string
	Ready int // nodes that can be lent
	Nodes int // in any state in which they may hold resources
	// Failure is the last time that it had no capacity; zero if it has.
	Failure VariantHealth
	Cools   time.Time // until then no node is made from it; zero if one may be
}

// countVariants tells how the pool's variants do. Nodes count for what they are
// made from, whatever it was called then.
func (s *PoolStatus) countVariants(nodes []Node, now time.Time) {
	for _, v := range s.Pool.Variants {
		one := VariantStatus{Name: v.Name, Failure: s.Health.Variants[v.Name]}
		if until := v.Cools(s.Health); until.After(now) {
			one.Cools = until
		}
		for _, n := range nodes {
			if n.Source.Generation != v.Source.Generation {
				continue
			}
			one.Nodes++
			if n.State == NodeReady && s.Pool.Lendable(n) && !s.Pool.Expired(n, now) {
				one.Ready++
			}
		}
		s.Variants = append(s.Variants, one)
	}
}
