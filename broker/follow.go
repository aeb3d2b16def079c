package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Follow names outputs of a pool's module that come from data sources, such as the
// id of the newest image. They are looked up again and again; a new value makes the
// pool's nodes stale. The zero value follows nothing.
type Follow struct {
	// Outputs are names without repetition, sorted.
	Outputs []string `json:"outputs,omitempty"`
	// Every is the time between two lookups.
	Every time.Duration `json:"every,omitempty"`
}

// Followed is what the broker remembers of the outputs that a pool follows, so that
// a restart makes nothing stale, also without network.
//
// The values that were seen first say what the nodes of that time are made from:
// they change no generation, and neither does coming back to them. So nothing turns
// stale when a pool begins to follow, or follows one more output; and a change of
// the module or of its variables, which may come to other values, makes nodes stale
// once and not twice. Each variant of a pool sees values of its own, which decide
// the generation of its nodes alone.
type Followed struct {
	Pool string `json:"pool"`
	// Base is the generation that the pool, or one of its variants, has by its module,
	// variables and environment alone. With another one the record counts for nothing.
	Base string `json:"base"`
	// First and Values are the first and the last values seen, in JSON, by output.
	First  map[string]string `json:"first,omitempty"`
	Values map[string]string `json:"values,omitempty"`
	// At is when Values were seen.
	At time.Time `json:"at"`
	// Variant is what the variant was called then that sees these; "" without.
	Variant string `json:"variant,omitempty"`
	// Others are what the other variants of the pool see.
	Others []FollowedVariant `json:"others,omitempty"`
}

// FollowedVariant is what is remembered of one variant of a pool: see [Followed].
type FollowedVariant struct {
	Variant string            `json:"variant"`
	Base    string            `json:"base"`
	First   map[string]string `json:"first,omitempty"`
	Values  map[string]string `json:"values,omitempty"`
	At      time.Time         `json:"at"`
}

// Variants gives what is remembered, one of each variant; without variants there
// is one, without records none.
func (f Followed) Variants() []FollowedVariant {
	if f.Base == "" {
		return nil
	}
	return append([]FollowedVariant{{f.Variant, f.Base, f.First, f.Values, f.At}}, f.Others...)
}

// Of gives what is remembered of nodes whose generation is base by module,
// variables and environment alone: without a base where that is nothing.
func (f Followed) Of(base string) Followed {
	for _, v := range f.Variants() {
		if v.Base == base {
			return Followed{Pool: f.Pool, Variant: v.Variant, Base: v.Base, First: v.First, Values: v.Values, At: v.At}
		}
	}
	return Followed{Pool: f.Pool}
}

// With gives the record of a pool whose variants have these bases, with what one of
// them has seen. What is remembered of other bases is left out.
func (f Followed) With(one Followed, bases []string) Followed {
	next := Followed{Pool: f.Pool}
	done := make(map[string]bool)
	for _, base := range bases {
		v := one
		if v.Base != base {
			v = f.Of(base)
		}
		if v.Base == "" || done[base] {
			continue
		}
		if done[base] = true; next.Base == "" {
			next = Followed{Pool: f.Pool, Variant: v.Variant, Base: v.Base, First: v.First, Values: v.Values, At: v.At}
		} else {
			next.Others = append(next.Others, FollowedVariant{v.Variant, v.Base, v.First, v.Values, v.At})
		}
	}
	return next
}

// FollowedValue is the value of an output that a pool follows.
type FollowedValue struct {
	Variant string          `json:"variant,omitempty"` // that sees it; "" without
	Output  string          `json:"output"`
	Value   json.RawMessage `json:"value"`
	At      time.Time       `json:"at"` // when it was seen last
	// New: it is another one than at first, so that it counts for what nodes are
	// made from.
	New bool `json:"new"`
}

// FollowedValues gives what the pool follows and what is known of it, by variant and
// output.
func (p Pool) FollowedValues() (all []FollowedValue) {
	for _, v := range p.Followed.Variants() {
		for _, name := range p.Follow.Outputs {
			if value := v.Values[name]; value != "" {
				all = append(all, FollowedValue{v.Variant, name, json.RawMessage(value), v.At, v.First[name] != value})
			}
		}
	}
	return all
}

// followVersion is hashed into generations with a followed value. Changing it makes
// the nodes of pools with such a value stale.
const followVersion = "duffy-broker follow 1"

// GenerationOver gives the generation of a pool whose module, variables and
// environment have the generation base: that itself, unless a followed output has
// another value than at first.
func (p Pool) GenerationOver(base string) string {
	f := p.Followed.Of(base)
	if f.Base != base {
		return base
	}
	text := fmt.Appendf(nil, "%s\n%s", followVersion, base)
	changed := false
	for _, name := range slices.Sorted(slices.Values(p.Follow.Outputs)) {
		first, value := f.First[name], f.Values[name]
		if first == "" || value == "" || first == value {
			continue
		}
		changed = true
		text = fmt.Appendf(text, "\n%q=%q", name, value)
	}
	if !changed {
		return base
	}
	sum := sha256.Sum256(text)
	digits := hex.EncodeToString(sum[:])
	return digits[:min(len(base), len(digits))]
}

// NextLookup gives when the outputs that a pool of the generation base follows are
// to be looked up again: the zero time for at once.
func (f Followed) NextLookup(follow Follow, base string) time.Time {
	f = f.Of(base)
	if f.Base != base {
		return time.Time{}
	}
	for _, name := range follow.Outputs {
		if f.Values[name] == "" {
			return time.Time{}
		}
	}
	return f.At.Add(follow.Every)
}

// See gives the record after a lookup of a pool of the generation base, or of one of
// its variants: that alone.
func (f Followed) See(base string, values map[string]string, now time.Time) Followed {
	f = f.Of(base)
	next := Followed{Pool: f.Pool, Base: base, First: maps.Clone(values), Values: maps.Clone(values), At: now}
	if f.Base != base {
		return next
	}
	for name := range values {
		if first := f.First[name]; first != "" {
			next.First[name] = first
		}
	}
	return next
}

// FollowChange tells which values differ between two records, before and after, as
// NAME=VALUE in the order of the names, with the name of the variant in front of it,
// as in near.image_id="x". Of each generation it compares its own. Both are "" without a
// difference.
func FollowChange(old, next Followed) (from, to string) {
	var before, after []string
	for _, v := range next.Variants() {
		prefix := ""
		if v.Variant != "" {
			prefix = v.Variant + "."
		}
		for _, name := range slices.Sorted(maps.Keys(v.Values)) {
			was, is := old.Of(v.Base).Values[name], v.Values[name]
			if was == "" || was == is {
				continue
			}
			before, after = append(before, prefix+name+"="+brief(was)), append(after, prefix+name+"="+brief(is))
		}
	}
	return strings.Join(before, " "), strings.Join(after, " ")
}

// brief shortens a value for people.
func brief(value string) string {
	const most = 200
	if runes := []rune(value); len(runes) > most {
		return string(runes[:most]) + "..."
	}
	return value
}

// WithFollowed gives pools with what is remembered of the outputs that they follow.
// A pool that moves is one with its old name until MovePools was called.
func (b *Broker) WithFollowed(ctx context.Context, pools []Pool, moves []Move) (list []Pool, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		list = slices.Clone(pools)
		for i := range list {
			p := &list[i]
			if len(p.Follow.Outputs) == 0 {
				continue
			}
			if p.Followed, err = followedOf(tx, p.Name, moves); err != nil {
				return err
			}
		}
		return nil
	})
	return list, err
}

func followedOf(tx ReadTx, pool string, moves []Move) (Followed, error) {
	f, err := tx.Followed(pool)
	if err != nil || f.Base != "" {
		return f, err
	}
	for _, m := range moves {
		if m.To != pool {
			continue
		}
		if f, err = tx.Followed(m.From); err != nil || f.Base != "" {
			f.Pool = pool
			return f, err
		}
	}
	return Followed{Pool: pool}, nil
}

// FollowedIn gives the record of a pool among pools that run, by the name that it
// has after moves.
func FollowedIn(pools []Pool, moves []Move, name string) Followed {
	for _, p := range pools {
		if MovedName(moves, p.Name) == name {
			f := p.Followed
			f.Pool = name
			return f
		}
	}
	return Followed{Pool: name}
}

// ForgetFollowed removes the records of pools that follow nothing, and of those that
// are in old only: should they follow again, the first values count anew.
func (b *Broker) ForgetFollowed(ctx context.Context, old, pools []Pool) error {
	idle := make(map[string]bool)
	for _, p := range old {
		idle[p.Name] = true
	}
	for _, p := range pools {
		idle[p.Name] = len(p.Follow.Outputs) == 0
	}
	maps.DeleteFunc(idle, func(_ string, is bool) bool { return !is })
	err := b.cfg.Store.View(ctx, func(tx ReadTx) error {
		for name := range idle {
			f, err := tx.Followed(name)
			if err != nil {
				return err
			}
			idle[name] = f.Base != ""
		}
		return nil
	})
	maps.DeleteFunc(idle, func(_ string, is bool) bool { return !is })
	if err != nil || len(idle) == 0 {
		return err
	}
	return b.cfg.Store.Update(ctx, func(tx Tx) error {
		for name := range idle {
			if err := tx.SetFollowed(Followed{Pool: name}); err != nil {
				return err
			}
		}
		return nil
	})
}

// NoteFollowed stores a record, and with it the event of a change of its values
// since old.
func (b *Broker) NoteFollowed(ctx context.Context, old, next Followed) error {
	from, to := FollowChange(old, next)
	return b.cfg.Store.Update(ctx, func(tx Tx) error {
		if err := tx.SetFollowed(next); err != nil || to == "" {
			return err
		}
		return tx.AppendEvent(&Event{
			At: next.At, Kind: EventPool, Pool: next.Pool, From: from, To: to, Message: "followed outputs changed: " + from + " -> " + to,
		})
	})
}

// NoteFollowProblem writes the event of a lookup that failed. It changes nothing
// else.
func (b *Broker) NoteFollowProblem(ctx context.Context, pool, problem string) error {
	now := b.cfg.Now()
	return b.cfg.Store.Update(ctx, func(tx Tx) error {
		return tx.AppendEvent(&Event{
			At: now, Kind: EventPool, Pool: pool, Message: "followed outputs can't be looked up, the last values stay: " + problem,
		})
	})
}

// moveFollowed takes along what the pool follows, unless the new name has that.
func moveFollowed(tx Tx, m Move) error {
	old, err := tx.Followed(m.From)
	if err != nil || old.Base == "" {
		return err
	}
	if err := tx.SetFollowed(Followed{Pool: m.From}); err != nil {
		return err
	}
	own, err := tx.Followed(m.To)
	if err != nil || own.Base != "" {
		return err
	}
	old.Pool = m.To
	return tx.SetFollowed(old)
}
