package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"
)

// APIInventory is the inventory of the hosts that were posted to the API.
const APIInventory = "api"

// HostState is what a host of an inventory is doing, called `condition` in the API.
type HostState string

// The states of a host. They follow from its record: see [Host.State].
const (
	// HostFree: nothing uses it.
	HostFree HostState = "unused"
	// HostOccupied: a node runs on it. That node is what lists show.
	HostOccupied HostState = "occupied"
	// HostQuarantined: the last create on it failed. It is tried again after a while.
	HostQuarantined HostState = "quarantined"
	// HostBroken: creates on it failed again and again. It waits for an admin.
	HostBroken HostState = "broken"
	// HostRetired: nothing will use it any more.
	HostRetired HostState = "retired"
)

// Wire gives Duffy's word for s, as seen in the API.
func (s HostState) Wire() string {
	switch s {
	case HostFree:
		return "unused"
	case HostOccupied:
		return "deployed"
	case HostQuarantined, HostBroken:
		return "failed"
	case HostRetired:
		return "done"
	}
	return string(s)
}

// HostStates lists every state of a host.
func HostStates() []HostState { return append(UsefulHostStates(), HostRetired) }

// UsefulHostStates lists those of a host that is not retired, or still in use.
func UsefulHostStates() []HostState {
	return []HostState{HostFree, HostOccupied, HostQuarantined, HostBroken}
}

// Host is a machine that exists whether the broker uses it or not, which nodes can
// run on, one after the other. In the API it is a node in its own right, as in
// Duffy.
type Host struct {
	ID        int64  `json:"id"` // of the same sequence as the ids of nodes; the store gives it
	Inventory string `json:"inventory"`
	// Name is its own in an inventory of pools.hcl; "" in others.
	Name string `json:"name,omitempty"`
	// Hostname and Address belong to no other host: see [Host.Claims].
	Hostname string `json:"hostname"`
	Address  string `json:"ipaddr"`
	Comment  string `json:"comment,omitempty"`
	// Pool and Reusable are what Duffy's clients say of it. The broker shows them
	// and does nothing with them.
	Pool     string          `json:"pool,omitempty"`
	Reusable bool            `json:"reusable"`
	Data     json.RawMessage `json:"data,omitempty"` // an object; no place for secrets
	// Attributes are the strings, numbers and booleans at the top of Data, by which
	// a host can be chosen.
	Attributes map[string]string `json:"attributes,omitempty"`
	MAC        string            `json:"mac,omitempty"` // lower case, with colons
	BMC        *BMC              `json:"bmc,omitempty"`
	// Credentials are references to secrets, as in [Environment], for the runs of
	// the nodes on it.
	Credentials map[string]string `json:"credentials,omitempty"`

	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
	RetiredAt time.Time `json:"retired_at,omitzero"`

	NodeID   int64     `json:"node_id,omitempty"` // the node that runs on it, 0 for none
	Uses     int       `json:"uses,omitempty"`    // nodes that have run on it
	LastUsed time.Time `json:"last_used,omitzero"`

	// Failures counts the creates that failed on it since the last that succeeded,
	// and FailedPools are those whose they were. The last one's failure is kept.
	Failures     int          `json:"failures,omitempty"`
	FailedPools  []string     `json:"failed_pools,omitempty"`
	Failure      string       `json:"failure,omitempty"`
	FailureClass FailureClass `json:"failure_class,omitempty"`
	// RetryAt is when it may be tried again after a failure; BrokenAt is since when
	// it may not.
	RetryAt  time.Time `json:"retry_at,omitzero"`
	BrokenAt time.Time `json:"broken_at,omitzero"`
}

// State tells what h is doing. A retired host is occupied as long as a node runs
// on it.
func (h Host) State() HostState {
	switch {
	case h.NodeID != 0:
		return HostOccupied
	case !h.RetiredAt.IsZero():
		return HostRetired
	case !h.BrokenAt.IsZero():
		return HostBroken
	case !h.RetryAt.IsZero():
		return HostQuarantined
	}
	return HostFree
}

// Claims gives what no two hosts may have in common, whatever their inventories:
// host name and address, as keys to compare. A host has them until it is retired
// and nothing runs on it any more.
func (h Host) Claims() []string {
	if h.State() == HostRetired {
		return nil
	}
	return []string{hostnameClaim + strings.ToLower(h.Hostname), addressClaim + h.Address}
}

// What a claim begins with.
const (
	hostnameClaim = "hostname "
	addressClaim  = "ipaddr "
)

// ErrHostClaimed is what a store answers when the host owner has a claim already.
func ErrHostClaimed(owner int64, claim string) error {
	what, is := "host name", strings.TrimPrefix(claim, hostnameClaim)
	if address, ok := strings.CutPrefix(claim, addressClaim); ok {
		what, is = "address", address
	}
	return Errorf(CodeConflict, "node %d has the %s '%s' already", owner, what, is).
		WithHint("`duffy-broker node show %d` shows it; a machine gets free once it is retired, or leaves pools.hcl, and nothing runs on it", owner)
}

// HostQuery selects hosts. Zero fields select all.
type HostQuery struct {
	Inventory string
	States    []HostState
	After     int64 // only ids above it
	Limit     int   // at most this many, the lowest ids first; 0 means all
}

var hostnameForm = regexp.MustCompile(`^[0-9A-Za-z_]([0-9A-Za-z._-]{0,251}[0-9A-Za-z_])?$`)

// NewHost gives a host that is new, free, and has no id yet, with what h says of
// the machine, its address in the one form in which addresses are compared, and
// its attributes. Errors: CodeInvalid for a host name, address or data that is
// none.
func NewHost(h Host, now time.Time) (Host, error) {
	if !hostnameForm.MatchString(h.Hostname) {
		return Host{}, Errorf(CodeInvalid, "%q is no host name", h.Hostname).
			WithHint("up to 253 letters, digits, '.', '-' and '_', with a letter, digit or '_' at both ends")
	}
	address, err := netip.ParseAddr(h.Address)
	if err != nil {
		return Host{}, Errorf(CodeInvalid, "%q is no IPv4 or IPv6 address", h.Address)
	}
	attributes, err := attributesOf(h.Data)
	if err != nil {
		return Host{}, err
	}
	return Host{
		Inventory: h.Inventory, Hostname: h.Hostname, Address: address.Unmap().String(), Comment: h.Comment,
		Pool: h.Pool, Reusable: h.Reusable, Data: h.Data, Attributes: attributes, CreatedAt: now, UpdatedAt: now,
		Name: h.Name, MAC: h.MAC, BMC: h.BMC, Credentials: h.Credentials,
	}, nil
}

// attributesOf gives what stands at the top of data and is no list, object or null.
func attributesOf(data json.RawMessage) (map[string]string, error) {
	if len(data) == 0 {
		return nil, nil
	}
	var members map[string]any
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber() // numbers as they were written
	if err := d.Decode(&members); err != nil || members == nil || !json.Valid(data) {
		return nil, Errorf(CodeInvalid, "the data of a host is no JSON object")
	}
	attributes := make(map[string]string)
	for name, v := range members {
		switch v := v.(type) {
		case string, json.Number, bool:
			attributes[name] = fmt.Sprint(v)
		}
	}
	return attributes, nil
}

// CreateHost adds a host to the inventory [APIInventory], and gives it as it is
// then. Errors: CodeForbidden unless actor is an admin, CodeInvalid as of
// [NewHost], CodeConflict if another host has its host name or address.
func (b *Broker) CreateHost(ctx context.Context, actor Tenant, h Host) (Host, error) {
	if !actor.IsAdmin {
		return Host{}, errAdminsOnly("create nodes")
	}
	h.Inventory = APIInventory
	created, err := NewHost(h, b.cfg.Now())
	if err != nil {
		return Host{}, err
	}
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		created.ID = 0
		if err := tx.CreateHost(&created); err != nil {
			return err
		}
		return hostEvent(tx, created, "", created.CreatedAt, actor, "created")
	})
	if err != nil {
		return Host{}, err
	}
	b.cfg.Wake() // a pool may have waited for it
	return created, nil
}

// RetireHost takes a host out of use for good, and gives it as it is then. A node
// that runs on it goes on to its end, but no other one follows. Errors:
// CodeForbidden unless actor is an admin, CodeNotFound, CodeInvalid if it is
// retired already, stands in pools.hcl or is a node that Terraform made.
func (b *Broker) RetireHost(ctx context.Context, actor Tenant, id int64) (s HostStatus, err error) {
	if !actor.IsAdmin {
		return HostStatus{}, errAdminsOnly("retire nodes")
	}
	now := b.cfg.Now()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		h, err := hostOrNode(tx, id)
		if err != nil {
			return err
		}
		if h.Inventory != APIInventory && h.RetiredAt.IsZero() {
			return Errorf(CodeInvalid, "node %d stands in pools.hcl, in the inventory '%s'", id, h.Inventory).
				WithHint("remove it there: it is retired at the next reload")
		}
		if !h.RetiredAt.IsZero() {
			return Errorf(CodeInvalid, "node %d is retired", id).WithHint("create it again to use the machine again")
		}
		before := h.State()
		h.RetiredAt, h.UpdatedAt = now, now
		if err := tx.UpdateHost(before, h); err != nil {
			return err
		}
		if err := hostEvent(tx, h, before, now, actor, "retired"); err != nil {
			return err
		}
		s, err = hostStatus(tx, h)
		return err
	})
	if err != nil {
		return HostStatus{}, err
	}
	return s, nil
}

// FindHosts lists the hosts that actor may see, none, or all for an admin, as far
// as the filter selects them.
func (b *Broker) FindHosts(ctx context.Context, actor Tenant, f NodeFilter) (list []HostStatus, err error) {
	states := f.Hosts
	filtered := len(f.Hosts)+len(f.States) > 0
	switch {
	case f.Inventory == "":
		states = slices.DeleteFunc(slices.Clone(states), func(s HostState) bool { return s == HostOccupied })
		if !filtered {
			states = []HostState{HostFree}
		}
	case !filtered:
		states = UsefulHostStates()
	case len(f.States) > 0 && !slices.Contains(states, HostOccupied):
		states = append(slices.Clone(states), HostOccupied)
	}
	if len(states) == 0 || !actor.IsAdmin {
		return nil, nil
	}
	q := HostQuery{Inventory: f.Inventory, States: states, After: f.After, Limit: f.Limit}
	byNode := len(f.States) > 0 && f.Inventory != "" // what is in use is as its node is
	if f.Pool != "" || byNode {
		q.Limit = 0 // no index knows the pools of hosts, nor the states of their nodes
	}
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		list = nil
		hosts, err := tx.Hosts(q)
		if err != nil {
			return err
		}
		for _, h := range hosts {
			if f.Pool != "" && h.Pool != f.Pool {
				continue
			}
			s, err := hostStatus(tx, h)
			if err != nil {
				return err
			}
			if byNode && h.State() == HostOccupied && s.Node != "" && !slices.Contains(f.States, s.Node) {
				continue
			}
			if list = append(list, s); len(list) == f.Limit {
				break
			}
		}
		return nil
	})
	return list, err
}

// Host gives one host. Errors: CodeNotFound, CodeForbidden unless actor is an admin.
func (b *Broker) Host(ctx context.Context, actor Tenant, id int64) (s HostStatus, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		h, err := tx.Host(id)
		if err != nil {
			return err
		}
		s, err = hostStatus(tx, h)
		return err
	})
	if err == nil && !actor.IsAdmin {
		return HostStatus{}, Errorf(CodeForbidden, "node %d is not lent to you", id)
	}
	return s, err
}

func hostEvent(tx Tx, h Host, from HostState, now time.Time, actor Tenant, what string) error {
	return tx.AppendEvent(h.event(from, now, what+" by "+actor.Name))
}
