package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

// identityVersion is hashed into every id. Changing it makes every id that is
// confirmed but not applied yet worthless.
const identityVersion = "duffy-broker plan 1"

// identify gives the id of a plan: the hash of the configuration that comes, and
// of the pools whose stock it destroys, as they were. Nodes and times are no part
// of it, or no plan of a busy broker would be the same a minute later.
func identify(before, after Config, p Plan) string {
	h := sha256.New()
	write := func(format string, args ...any) { _, _ = fmt.Fprintf(h, format+"\n", args...) } // hashes take all
	write("%s", identityVersion)
	for i := range after.Pools {
		pool := &after.Pools[i]
		write("pool %q %s", pool.Name, pool.Generation())
		for _, l := range poolLeaves(pool) {
			if l.name != "module" && !l.zero { // the generation has all of it
				write("  %q %s", l.name, l.value)
			}
		}
	}
	for _, l := range after.settings() {
		write("setting %q %s", l.name, l.value)
	}
	names, hosts := after.hostLeaves()
	for _, name := range names {
		for _, l := range hosts[name] {
			if !l.zero {
				write("setting %q %s", l.name, l.value)
			}
		}
	}
	for _, m := range after.Moves {
		write("moved %q %q", m.From, m.To)
	}
	old := make(map[string]broker.Pool, len(before.Pools))
	for _, pool := range before.Pools {
		old[pool.Name] = pool
	}
	var lost []string
	for _, pool := range p.Pools {
		was := old[pool.Name]
		if pool.From != "" {
			was = old[pool.From]
		}
		if s := atStake(pool, was); s != "" {
			lost = append(lost, s)
		}
		if s := hostsAtStake(before, after, was, pool); s != "" {
			lost = append(lost, s)
		}
	}
	slices.Sort(lost)
	write("%s", strings.Join(lost, "\n"))
	return hex.EncodeToString(h.Sum(nil))[:idDigits]
}

const idDigits = 16

// atStake says which stock of a pool a change may take away, whether or not there
// is some just now; "" for none.
func atStake(p Pool, was broker.Pool) string {
	size := slices.ContainsFunc(p.Fields, func(f Field) bool {
		return f.Name == "fill_level" || f.Name == "max_age" || strings.HasPrefix(f.Name, "schedule.")
	})
	if p.Kind == Added || p.Kind != Removed && p.Generation == nil && !size {
		return ""
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%q %t %s", was.Name, p.Kind == Removed, was.Generation())
	for _, l := range poolLeaves(&was) {
		if l.name == "fill_level" || l.name == "max_age" || strings.HasPrefix(l.name, "schedule.") {
			fmt.Fprintf(&text, " %q %s", l.name, l.value)
		}
	}
	return text.String()
}

// hostsAtStake says from which hosts of the file a pool draws no more: what runs on
// them goes. "" for none.
func hostsAtStake(before, after Config, was broker.Pool, p Pool) string {
	if p.Kind == Added || p.Kind == Removed || !was.Inventory.Draws() {
		return ""
	}
	var is broker.HostSelector
	for _, pool := range after.Pools {
		if pool.Name == p.Name {
			is = pool.Inventory
		}
	}
	if is.Name != was.Inventory.Name {
		return fmt.Sprintf("%q hosts of %q", was.Name, was.Inventory.Name)
	}
	kept := selected(after, is)
	var lost []string
	for name := range selected(before, was.Inventory) {
		if !kept[name] {
			lost = append(lost, fmt.Sprintf("%q", name))
		}
	}
	if len(lost) == 0 {
		return ""
	}
	slices.Sort(lost)
	return fmt.Sprintf("%q hosts %s", was.Name, strings.Join(lost, " "))
}

// selected are the names of the hosts of a file that a selector selects.
func selected(c Config, s broker.HostSelector) map[string]bool {
	all := make(map[string]bool)
	for _, i := range c.Inventories {
		for _, h := range i.Hosts {
			if h.Inventory = i.Name; s.Selects(h) {
				all[h.Name] = true
			}
		}
	}
	return all
}
