package plan

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

// Declare gives the configuration the inventories of its file, and the hosts that
// there are with them in a world. Errors are those of [broker.Declared].
func (c *Config) Declare(now time.Time, w reconcile.World, inventories []broker.Inventory) (err error) {
	last := int64(0)
	for _, n := range w.Nodes {
		last = max(last, n.ID)
	}
	for _, h := range w.Hosts {
		last = max(last, h.ID)
	}
	c.Inventories = inventories
	c.Hosts, c.Waiting, err = broker.Declared(w.Hosts, inventories, last, now)
	return err
}

// declaredIn gives the inventories whose hosts stand in the file, of hosts that are
// stored.
func declaredIn(hosts []broker.Host) (inventories []broker.Inventory) {
	places := make(map[string]int)
	for _, h := range hosts {
		if h.Inventory == broker.APIInventory || !h.RetiredAt.IsZero() {
			continue
		}
		i, known := places[h.Inventory]
		if !known {
			i = len(inventories)
			places[h.Inventory] = i
			inventories = append(inventories, broker.Inventory{Name: h.Inventory})
		}
		inventories[i].Hosts = append(inventories[i].Hosts, h)
	}
	return inventories
}

// hostSettings are what stands in the file about one host, without what its data
// have beyond the attributes.
type hostSettings struct {
	Hostname    string
	Ipaddr      string
	Mac         string
	Bmc         *broker.BMC
	Attributes  map[string]string
	Credentials map[string]string
	Comment     string
}

// hostLeaves gives the settings of hosts, by the names of the hosts.
func (c Config) hostLeaves() (names []string, settings map[string][]leaf) {
	settings = make(map[string][]leaf)
	for _, i := range c.Inventories {
		for _, h := range i.Hosts {
			if normal, err := broker.NewHost(h, time.Time{}); err == nil {
				h = normal
			}
			name := join(join("inventory", i.Name), h.Name)
			names = append(names, name)
			settings[name] = leaves(name, reflect.ValueOf(hostSettings{h.Hostname, h.Address, h.MAC, h.BMC, h.Attributes, h.Credentials, h.Comment}))
		}
	}
	return names, settings
}

// hostFields compares the hosts of the inventories: one that comes or goes is one
// setting, its address. One that waits for a machine in use has not come yet.
func (c *computation) hostFields() (fields []Field) {
	oldNames, old := c.before.hostLeaves()
	names, after := c.after.hostLeaves()
	address := func(all []leaf) []byte {
		for _, l := range all {
			if strings.HasSuffix(l.name, ".ipaddr") {
				return l.value
			}
		}
		return nil
	}
	for _, name := range names {
		if was, known := old[name]; known {
			fields = append(fields, differences(was, after[name])...)
		} else if !c.after.waits(name) {
			fields = append(fields, Field{Name: name, New: address(after[name])})
		}
	}
	for _, name := range oldNames {
		if after[name] == nil {
			fields = append(fields, Field{Name: name, Old: address(old[name])})
		}
	}
	return fields
}

// waits tells whether a host of the file, as [Config.hostLeaves] names it, waits for
// a machine that is in use.
func (c Config) waits(name string) bool {
	if !slices.ContainsFunc(c.Waiting, func(host string) bool { return strings.HasSuffix(name, "."+host) }) {
		return false
	}
	return !slices.ContainsFunc(c.Hosts, func(h broker.Host) bool { // another inventory may have one of this name
		return h.RetiredAt.IsZero() && join(join("inventory", h.Inventory), h.Name) == name
	})
}

// unknownHosts are the inventories of whose hosts nothing is known: what was posted
// to a broker that nobody asks.
func (c *computation) unknownHosts() []string {
	if c.options.Against.AssumedFull {
		return []string{broker.APIInventory}
	}
	return nil
}

func (c *computation) hostsUnknown(p broker.Pool) bool {
	return slices.Contains(c.unknownHosts(), p.Inventory.Name)
}

// compareHosts says which hosts pools draw from, and which they draw from no more.
func (c *computation) compareHosts(w reconcile.World) {
	names := func(p *broker.Pool, hosts []broker.Host) map[string]bool {
		all := make(map[string]bool)
		for _, h := range hosts {
			if p != nil && p.Inventory.Selects(h) {
				all[cmp.Or(h.Name, h.Hostname)] = true
			}
		}
		return all
	}
	for i := range c.plan.Pools {
		p, s := &c.plan.Pools[i], c.sides[i]
		if s.new == nil || !s.new.Inventory.Draws() {
			continue
		}
		p.Hosts = &Hosts{Inventory: s.new.Inventory.Name, Unknown: c.hostsUnknown(*s.new)}
		if p.Hosts.Unknown {
			continue
		}
		for _, h := range c.after.Hosts {
			if !s.new.Inventory.Selects(h) {
				continue
			}
			switch h.State() {
			case broker.HostFree:
				p.Hosts.Free++
			case broker.HostOccupied:
				p.Hosts.InUse++
			case broker.HostQuarantined:
				p.Hosts.Quarantined++
			case broker.HostBroken:
				p.Hosts.Broken++
			case broker.HostRetired:
			}
		}
		p.Hosts.Short = max(0, s.fill(c.now)-p.Hosts.Usable())
		if s.old == nil || s.old.Inventory.Name != s.new.Inventory.Name {
			continue // all are other ones: the field says it
		}
		was, is := names(s.old, w.Hosts), names(s.new, c.after.Hosts)
		for _, name := range slices.Sorted(maps.Keys(is)) {
			if !was[name] {
				p.Hosts.Added = append(p.Hosts.Added, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(was)) {
			if !is[name] {
				p.Hosts.Removed = append(p.Hosts.Removed, name)
			}
		}
		if p.Kind == Unchanged && len(p.Hosts.Added)+len(p.Hosts.Removed) > 0 {
			p.Kind = Changed
		}
	}
	c.hosts.before, c.hosts.after = index(w.Hosts), index(c.after.Hosts)
}

func index(hosts []broker.Host) map[int64]*broker.Host {
	all := make(map[int64]*broker.Host, len(hosts))
	for i := range hosts {
		all[hosts[i].ID] = &hosts[i]
	}
	return all
}

// misplaced tells whether a node runs on none of the hosts that its pool draws from
// after the change.
func (c *computation) misplaced(p broker.Pool, n broker.Node) bool {
	return c.misplacedAmong(p, n, c.hosts.after)
}

func (c *computation) misplacedAmong(p broker.Pool, n broker.Node, hosts map[int64]*broker.Host) bool {
	if c.hostsUnknown(p) {
		p.Inventory = broker.HostSelector{}
	}
	var h *broker.Host
	if n.Host != nil {
		h = hosts[n.Host.ID]
	}
	return p.Misplaced(n, h)
}

// stale tells whether a node will be stale: the loop replaces it.
func (c *computation) stale(p *broker.Pool, n broker.Node) bool {
	return !p.Current(n) || c.misplaced(*p, n)
}

// wasStale tells whether it is stale without the change, too.
func (c *computation) wasStale(p *broker.Pool, n broker.Node) bool {
	return !p.Current(n) || c.misplacedAmong(*p, n, c.hosts.before)
}

// fill is the number of ready nodes that a pool of the plan comes to now: its fill
// level, if it has the hosts.
func (c *computation) fill(i int) int {
	fill := c.sides[i].fill(c.now)
	if h := c.plan.Pools[i].Hosts; h != nil && !h.Unknown {
		fill = min(fill, h.Usable())
	}
	return fill
}

// hostNotes say what is not known of hosts.
func (c *computation) hostNotes() (notes []string) {
	if len(c.after.Waiting) > 0 {
		notes = append(notes, fmt.Sprintf("Hosts that wait for a machine that is in use under another name, and count for nothing here: %s.", strings.Join(c.after.Waiting, ", ")))
	}
	for _, p := range c.plan.Pools {
		if p.Hosts != nil && p.Hosts.Unknown && p.Kind != Unchanged {
			notes = append(notes, fmt.Sprintf("Nothing is known here of the hosts of inventory %q, which were posted to the broker: the forecast goes as if there were enough. "+
				"A plan with --server or --data-dir knows them.", p.Hosts.Inventory))
			break
		}
	}
	return notes
}
