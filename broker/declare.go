package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"time"
)

// declarer stands in events for who has changed pools.hcl.
const declarer = "pools.hcl"

// SyncInventories makes the stored hosts those that stand in pools.hcl, in one
// transaction. Those that are not there any more are retired: a node that runs on
// one goes on. Those that were posted to the API are left alone. It names the hosts
// that have to wait, since the machine is still in use under another name.
//
// Errors: CodeInvalid as of [NewHost], CodeConflict if another host has the host
// name or address of one. Then nothing has changed.
func (b *Broker) SyncInventories(ctx context.Context, inventories []Inventory) (waiting []string, err error) {
	now := b.cfg.Now()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		stored, err := tx.Hosts(HostQuery{})
		if err != nil {
			return err
		}
		d := declaration{hosts: stored, now: now}
		if err := d.declare(inventories); err != nil {
			return err
		}
		waiting = d.waiting
		for _, c := range d.changes {
			h := d.hosts[c.host]
			if c.before == "" {
				h.ID = 0
				err = tx.CreateHost(&h)
			} else {
				err = tx.UpdateHost(c.before, h)
			}
			if err != nil {
				return err
			}
			if err := hostEvent(tx, h, c.before, now, Tenant{Name: declarer}, c.what); err != nil {
				return err
			}
			if c.what == hostChanged {
				if err := tellNode(tx, h); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return waiting, nil
}

// Declared gives the hosts that there are once inventories are declared, as
// [Broker.SyncInventories] does it, and the names of those that have to wait. Those
// that are new get ids that are counted on from last. stored stays as it is. Errors
// are those of SyncInventories.
func Declared(stored []Host, inventories []Inventory, last int64, now time.Time) (hosts []Host, waiting []string, err error) {
	d := declaration{hosts: slices.Clone(stored), now: now}
	if err := d.declare(inventories); err != nil {
		return nil, nil, err
	}
	for i := len(stored); i < len(d.hosts); i++ {
		last++
		d.hosts[i].ID = last
	}
	return d.hosts, d.waiting, nil
}

// What a declaration does to a host, for events.
const (
	hostDeclared = "declared"
	hostChanged  = "changed"
	hostRetired  = "retired"
)

// declaration finds out what becomes of hosts when inventories are declared. It is
// pure.
type declaration struct {
	hosts   []Host           // the stored ones, then the new ones
	owners  map[string][]int // places of hosts, by claim
	now     time.Time
	changes []hostChange // in this order
	waiting []string
}

type hostChange struct {
	host   int       // its place among the hosts
	before HostState // "": it is new
	what   string
}

func (d *declaration) declare(inventories []Inventory) error {
	known := make(map[[2]string]int) // places of the last of each name
	d.owners = make(map[string][]int)
	for i, h := range d.hosts {
		for _, claim := range h.Claims() {
			d.owners[claim] = append(d.owners[claim], i)
		}
		if h.Inventory != APIInventory {
			known[[2]string{h.Inventory, h.Name}] = i
		}
	}
	kept := make(map[int]bool)
	for _, i := range inventories {
		for _, h := range i.Hosts {
			if at, ok := known[[2]string{i.Name, h.Name}]; ok {
				kept[at] = true
			}
		}
	}
	for i := range d.hosts { // first: others may be called as they were
		h := d.hosts[i]
		if h.Inventory == APIInventory || kept[i] || !h.RetiredAt.IsZero() {
			continue
		}
		before := h.State()
		h.RetiredAt, h.UpdatedAt = d.now, d.now
		d.set(i, h, before, hostRetired)
	}
	for _, i := range inventories {
		for _, h := range i.Hosts {
			h.Inventory = i.Name
			at, ok := known[[2]string{i.Name, h.Name}]
			if !ok {
				at = -1
			}
			if err := d.host(h, at); err != nil {
				return err
			}
		}
	}
	return nil
}

// host takes over what pools.hcl says of a host. at is the place of its record, -1
// if it is new.
func (d *declaration) host(h Host, at int) error {
	next, err := NewHost(h, d.now)
	if err != nil {
		return Errorf(CodeOf(err), "host %q of inventory %q: %s", h.Name, h.Inventory, MessageOf(err)).WithHint("%s", HintOf(err))
	}
	before, what := HostState(""), hostDeclared
	if at >= 0 {
		old := d.hosts[at]
		changed := old
		changed.Hostname, changed.Address, changed.Comment, changed.Data, changed.Attributes = next.Hostname, next.Address, next.Comment, next.Data, next.Attributes
		changed.MAC, changed.BMC, changed.Credentials, changed.RetiredAt = next.MAC, next.BMC, next.Credentials, time.Time{}
		if same, err := sameRecord(old, changed); same || err != nil {
			return err
		}
		changed.UpdatedAt = d.now
		before, what, next = old.State(), hostChanged, changed
	}
	if waits, err := d.claimed(next, at); waits || err != nil {
		return err
	}
	if at < 0 {
		at = len(d.hosts)
		d.hosts = append(d.hosts, Host{})
	}
	d.set(at, next, before, what)
	return nil
}

// set changes the host at a place.
func (d *declaration) set(at int, h Host, before HostState, what string) {
	for _, claim := range d.hosts[at].Claims() {
		d.owners[claim] = slices.DeleteFunc(d.owners[claim], func(place int) bool { return place == at })
	}
	for _, claim := range h.Claims() {
		d.owners[claim] = append(d.owners[claim], at)
	}
	d.hosts[at] = h
	d.changes = append(d.changes, hostChange{at, before, what})
}

// claimed tells whether h, whose record is at a place, has to wait for a machine
// that has left the file under another name, and is in use. An error says that
// another host has its host name or address.
func (d *declaration) claimed(h Host, at int) (waits bool, err error) {
	var conflict error
	for _, claim := range h.Claims() {
		for _, place := range d.owners[claim] {
			switch other := d.hosts[place]; {
			case place == at:
			case !other.RetiredAt.IsZero():
				d.waiting = append(d.waiting, h.Name)
				return true, nil
			case conflict == nil:
				conflict = ErrHostClaimed(other.ID, claim)
			}
		}
	}
	if conflict != nil {
		return false, Errorf(CodeConflict, "host %q of inventory %q can't be declared: %s", h.Name, h.Inventory, MessageOf(conflict)).
			WithHint("remove one of the two; names and addresses that change places do so in two steps")
	}
	return false, nil
}

// sameRecord tells whether both are the same once they are stored.
func sameRecord(a, b Host) (bool, error) {
	x, err := json.Marshal(a)
	if err != nil {
		return false, err
	}
	y, err := json.Marshal(b)
	return bytes.Equal(x, y), err
}

// tellNode passes on what has changed of a host to the node that runs on it: with
// that it is destroyed.
func tellNode(tx Tx, h Host) error {
	if h.NodeID == 0 {
		return nil
	}
	n, err := tx.Node(h.NodeID)
	if CodeOf(err) == CodeNotFound || err == nil && (n.Host == nil || n.Host.ID != h.ID) {
		return nil
	}
	if err != nil {
		return err
	}
	n.Host = h.ForNode()
	return tx.UpdateNode(n.State, n)
}
