package broker

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Inventory are hosts that stand in pools.hcl. Of each host, NewHost's fields are
// set, and its Name, which is its own in the inventory.
type Inventory struct {
	Name  string `json:"name"`
	Hosts []Host `json:"hosts"`
}

// HostSelector says on which hosts the nodes of a pool run.
type HostSelector struct {
	Name string `json:"name"` // of the inventory; "" for none: its nodes need no host
	// Where are attributes that a host must have; none: each will do.
	Where map[string]string `json:"where,omitempty"`
}

// Draws tells whether the nodes of a pool run on hosts at all.
func (s HostSelector) Draws() bool { return s.Name != "" }

// Selects tells whether h is one of the hosts, whatever it is doing. One that is
// retired is none.
func (s HostSelector) Selects(h Host) bool {
	if !s.Draws() || h.Inventory != s.Name || !h.RetiredAt.IsZero() {
		return false
	}
	for name, want := range s.Where {
		if got, ok := h.Attributes[name]; !ok || got != want {
			return false
		}
	}
	return true
}

// Misplaced tells whether a node runs on none of the hosts that its pool draws from.
// h is what its host is now, nil if that is not known.
func (p Pool) Misplaced(n Node, h *Host) bool {
	switch {
	case n.Host == nil:
		return p.Inventory.Draws()
	case n.Host.Inventory != p.Inventory.Name:
		return true
	}
	return h != nil && !p.Inventory.Selects(*h)
}

// BMC is how the power of a host is switched.
type BMC struct {
	Address string `json:"address"`        // as the module takes it: a host, or a URL
	Kind    string `json:"kind,omitempty"` // such as "redfish" or "ipmi"; the module knows them
}

// NodeHost is the host of a node, as its module is told of it.
type NodeHost struct {
	ID         int64             `json:"id"`
	Inventory  string            `json:"inventory"`
	Name       string            `json:"name"`
	Hostname   string            `json:"hostname"`
	Address    string            `json:"ipaddr"`
	MAC        string            `json:"mac,omitempty"`
	BMC        *BMC              `json:"bmc,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
	// Credentials are references as in [Environment].
	Credentials map[string]string `json:"credentials,omitempty"`
}

// ForNode gives what is kept of h with a node that runs on it.
func (h Host) ForNode() *NodeHost {
	return &NodeHost{
		ID: h.ID, Inventory: h.Inventory, Name: cmp.Or(h.Name, h.Hostname), Hostname: h.Hostname, Address: h.Address,
		MAC: h.MAC, BMC: h.BMC, Attributes: h.Attributes, Credentials: h.Credentials,
	}
}

// RunEnvironment gives what the Terraform runs of n get to see: that of its pool,
// and the credentials of its host, which come first.
func (n Node) RunEnvironment() Environment {
	e := n.Environment
	if n.Host == nil || len(n.Host.Credentials) == 0 {
		return e
	}
	both := make(map[string]string, len(e.Credentials)+len(n.Host.Credentials))
	maps.Copy(both, e.Credentials)
	maps.Copy(both, n.Host.Credentials)
	e.Credentials = both
	return e
}

// Available tells whether a node may be made on h now.
func (h Host) Available(now time.Time) bool {
	switch h.State() {
	case HostFree:
		return true
	case HostQuarantined:
		return !h.RetryAt.After(now)
	case HostOccupied, HostBroken, HostRetired:
	}
	return false
}

// AddNode stores a new node of p, in tx, and with it takes the host with this id
// for it if p draws from an inventory. Errors: CodeNotFound, and [TransitionError]
// if the host is not to be had, or not wanted, any more.
func AddNode(tx Tx, p Pool, n *Node, host int64, now time.Time) error {
	if !p.Inventory.Draws() && host == 0 {
		return tx.CreateNode(n)
	}
	h, err := tx.Host(host)
	if err != nil {
		return err
	}
	if !p.Inventory.Selects(h) || !h.Available(now) {
		return &TransitionError{Object: fmt.Sprintf("host %d", host), From: string(h.State()), To: string(HostOccupied)}
	}
	n.Host = h.ForNode()
	if err := tx.CreateNode(n); err != nil {
		return err
	}
	h.Uses++
	return h.give(tx, n.ID, now, fmt.Sprintf("given to node %d of pool '%s'", n.ID, n.Pool))
}

// give makes a node the one that runs on h; 0 for none.
func (h Host) give(tx Tx, node int64, now time.Time, what string) error {
	before := h.State()
	h.NodeID, h.LastUsed = node, now
	if err := tx.UpdateHost(before, h); err != nil {
		return err
	}
	return tx.AppendEvent(h.event(before, now, what))
}

func (h Host) event(from HostState, now time.Time, what string) *Event {
	return &Event{
		At: now, Kind: EventHost, NodeID: h.ID, From: string(from), To: string(h.State()),
		Message: fmt.Sprintf("host '%s' (%s) of inventory '%s' %s", h.Hostname, h.Address, h.Inventory, what),
	}
}

// followNode gives back the host of a node that is gone, and takes it again for one
// that has turned out not to be, if nobody else has it.
func followNode(tx Tx, n Node, now time.Time) error {
	h, err := tx.Host(n.Host.ID)
	if CodeOf(err) == CodeNotFound {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case n.State == NodeGone && h.NodeID == n.ID:
		return h.give(tx, 0, now, fmt.Sprintf("given back by node %d", n.ID))
	case n.State != NodeGone && h.NodeID == 0 && h.RetiredAt.IsZero():
		return h.give(tx, n.ID, now, fmt.Sprintf("taken back by node %d", n.ID))
	}
	return nil
}

// MendHost sets right, in tx, which node runs on a host, where the records of both
// contradict each other: the node owner, if that says so, or none. It does nothing
// where they agree.
func MendHost(tx Tx, id, owner int64, now time.Time) error {
	h, err := tx.Host(id)
	if err != nil {
		return err
	}
	runs := func(node int64) (bool, error) {
		n, err := tx.Node(node)
		if CodeOf(err) == CodeNotFound {
			return false, nil
		}
		return err == nil && n.State != NodeGone && n.Host != nil && n.Host.ID == id, err
	}
	if right, err := runs(h.NodeID); right || err != nil {
		return err
	}
	right, err := runs(owner)
	if err != nil {
		return err
	}
	if !right {
		owner = 0
	}
	if owner == h.NodeID {
		return nil
	}
	return h.give(tx, owner, now, fmt.Sprintf("is used by node %d, not %d", owner, h.NodeID))
}

const (
	// hostPause is how long a host rests after a create on it that failed. It
	// doubles with each, up to hostPauseMax.
	hostPause    = 10 * time.Minute
	hostPauseMax = 12 * time.Hour
	// brokenAfter is after how many failed creates in a row a host is taken to be
	// broken: with different pools, where there are some.
	brokenAfter = 2
)

// BlameHost notes in tx that a create on the host of n has failed, and how, n's
// failure. It does nothing for failures that say nothing about the host. pools are
// all that there are.
func BlameHost(tx Tx, n Node, pools []Pool, now time.Time) error {
	if n.Host == nil || !n.FailureClass.blamesHost() {
		return nil
	}
	h, err := tx.Host(n.Host.ID)
	if CodeOf(err) == CodeNotFound || err == nil && h.NodeID != n.ID {
		return nil
	}
	if err != nil {
		return err
	}
	h.Failures++
	h.Failure, h.FailureClass = n.Failure, n.FailureClass
	h.RetryAt = now.Add(min(hostPauseMax, hostPause<<min(h.Failures-1, 10)))
	if !slices.Contains(h.FailedPools, n.Pool) {
		h.FailedPools = append(slices.Clone(h.FailedPools), n.Pool)
	}
	drawing := 0
	for _, p := range pools {
		if p.Inventory.Selects(h) {
			drawing++
		}
	}
	what := fmt.Sprintf("is in quarantine until %s: a create of pool '%s' failed on it", h.RetryAt.UTC().Format(time.RFC3339), n.Pool)
	if len(h.FailedPools) >= brokenAfter || drawing <= 1 && h.Failures >= brokenAfter {
		h.BrokenAt = now
		what = fmt.Sprintf("is broken: %d creates in a row failed on it, of %s", h.Failures, quoteNames(h.FailedPools))
	}
	if err := tx.UpdateHost(HostOccupied, h); err != nil {
		return err
	}
	return tx.AppendEvent(h.event(HostOccupied, now, what))
}

func quoteNames(names []string) string {
	text := "pool '" + strings.Join(names, "', '") + "'"
	if len(names) > 1 {
		text = "pools" + strings.TrimPrefix(text, "pool")
	}
	return text
}

// blamesHost tells whether failures of this class may be the fault of the machine.
func (c FailureClass) blamesHost() bool {
	switch c {
	case FailureConfiguration, FailureThrottled, FailureQuota, FailureNoCapacity, FailureInterrupted:
		return false
	case FailureAuth, FailureUnreachable, FailureTimeout, FailureOther:
	}
	return true
}

// TrustHost forgets in tx what has failed on the host of n, which works.
func TrustHost(tx Tx, n Node, now time.Time) error {
	if n.Host == nil {
		return nil
	}
	h, err := tx.Host(n.Host.ID)
	if CodeOf(err) == CodeNotFound || err == nil && (h.NodeID != n.ID || h.Failures == 0) {
		return nil
	}
	if err != nil {
		return err
	}
	h.trust()
	if err := tx.UpdateHost(HostOccupied, h); err != nil {
		return err
	}
	return tx.AppendEvent(h.event(HostOccupied, now, fmt.Sprintf("works again: node %d is ready", n.ID)))
}

func (h *Host) trust() {
	h.Failures, h.FailedPools, h.RetryAt, h.BrokenAt, h.Failure, h.FailureClass = 0, nil, time.Time{}, time.Time{}, "", ""
}

// RepairHost puts a host that is broken, or in quarantine, back to use, and gives
// it as it is then. A host that is neither is left as it is. Errors: CodeForbidden
// unless actor is an admin, CodeNotFound, CodeInvalid if it is retired or is a node
// that Terraform made.
func (b *Broker) RepairHost(ctx context.Context, actor Tenant, id int64) (s HostStatus, err error) {
	if !actor.IsAdmin {
		return HostStatus{}, errAdminsOnly("put nodes back to use")
	}
	now := b.cfg.Now()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		h, err := hostOrNode(tx, id)
		if err != nil {
			return err
		}
		if !h.RetiredAt.IsZero() {
			return Errorf(CodeInvalid, "node %d is retired", id).WithHint("create it again, or declare it in pools.hcl again, to use the machine again")
		}
		if h.Failures > 0 {
			before := h.State()
			h.trust()
			h.UpdatedAt = now
			if err := tx.UpdateHost(before, h); err != nil {
				return err
			}
			if err := hostEvent(tx, h, before, now, actor, "put back to use"); err != nil {
				return err
			}
		}
		s, err = hostStatus(tx, h)
		return err
	})
	if err != nil {
		return HostStatus{}, err
	}
	b.cfg.Wake()
	return s, nil
}

// hostOrNode gives a host, and says so if the id is that of a node.
func hostOrNode(tx ReadTx, id int64) (Host, error) {
	h, err := tx.Host(id)
	if CodeOf(err) != CodeNotFound {
		return h, err
	}
	if _, err := tx.Node(id); err != nil {
		return Host{}, err
	}
	return Host{}, Errorf(CodeInvalid, "node %d belongs to no inventory: Terraform made it", id).
		WithHint("it goes when its session ends, or when its pool needs it no more")
}

// HostStatus is a host, and the state of the node that runs on it.
type HostStatus struct {
	Host
	Node NodeState // "" without one
}

// Wire gives Duffy's word for what the machine is doing, as seen in the API: the
// one for the node that runs on it.
func (s HostStatus) Wire() string {
	if s.State() == HostOccupied && s.Node != "" {
		return s.Node.Wire()
	}
	return s.State().Wire()
}

func hostStatus(tx ReadTx, h Host) (HostStatus, error) {
	s := HostStatus{Host: h}
	if h.NodeID == 0 {
		return s, nil
	}
	n, err := tx.Node(h.NodeID)
	if CodeOf(err) == CodeNotFound {
		return s, nil
	}
	s.Node = n.State
	return s, err
}

// PoolHosts counts the hosts that a pool draws from.
type PoolHosts struct {
	Free, InUse, Quarantined, Broken int
}

// poolHosts gives nil for a pool that draws from no inventory.
func poolHosts(tx ReadTx, p Pool) (*PoolHosts, error) {
	if !p.Inventory.Draws() {
		return nil, nil
	}
	hosts, err := tx.Hosts(HostQuery{Inventory: p.Inventory.Name, States: UsefulHostStates()})
	c := new(PoolHosts)
	for _, h := range hosts {
		if !p.Inventory.Selects(h) {
			continue
		}
		switch h.State() {
		case HostFree:
			c.Free++
		case HostOccupied:
			c.InUse++
		case HostQuarantined:
			c.Quarantined++
		case HostBroken:
			c.Broken++
		case HostRetired:
		}
	}
	return c, err
}
