package memory

import (
	"fmt"
	"slices"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Host implements [broker.ReadTx].
func (t *tx) Host(id int64) (broker.Host, error) { return find(t.hosts, id, "host") }

// Hosts implements [broker.ReadTx].
func (t *tx) Hosts(q broker.HostQuery) ([]broker.Host, error) {
	return list(t.hosts, q.Limit, func(h broker.Host) bool {
		return h.ID > q.After && (q.Inventory == "" || q.Inventory == h.Inventory) && asked(q.States, h.State())
	})
}

// CreateHost implements [broker.Tx].
func (t *tx) CreateHost(h *broker.Host) error {
	stored := *h
	stored.ID = t.lastNode + 1
	if err := t.fitsHost(stored); err != nil {
		return err
	}
	if err := put(t, t.hosts, stored.ID, stored); err != nil {
		return err
	}
	set(t, &t.lastNode, stored.ID)
	h.ID = stored.ID
	return nil
}

// UpdateHost implements [broker.Tx].
func (t *tx) UpdateHost(expect broker.HostState, h broker.Host) error {
	old, err := t.Host(h.ID)
	if err != nil {
		return err
	}
	if old.State() != expect {
		return &broker.TransitionError{
			Object: fmt.Sprintf("host %d", h.ID), From: string(old.State()), To: string(h.State()), Expected: string(expect),
		}
	}
	if old.Inventory != h.Inventory {
		return broker.Errorf(broker.CodeInvalid, "host %d belongs to inventory %s: that can't change", h.ID, old.Inventory)
	}
	if err := t.fitsHost(h); err != nil {
		return err
	}
	return put(t, t.hosts, h.ID, h)
}

// fitsHost refuses a host without names, or with claims of another one.
func (t *tx) fitsHost(h broker.Host) error {
	for what, name := range map[string]string{"inventory": h.Inventory, "host name": h.Hostname, "address": h.Address} {
		if err := named("the "+what+" of a host", name); err != nil {
			return err
		}
	}
	for _, claim := range h.Claims() {
		for _, other := range t.hosts {
			if other.ID != h.ID && slices.Contains(other.Claims(), claim) {
				return broker.ErrHostClaimed(other.ID, claim)
			}
		}
	}
	return nil
}
