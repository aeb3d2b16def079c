package bolt

import (
	"fmt"

	"github.com/duffy-broker/duffy-broker/broker"
)

func hostIndexKey(h broker.Host) []byte {
	return append(stateKey(string(h.State()), stringKey(h.Inventory)), idKey(h.ID)...)
}

// Host implements [broker.ReadTx].
func (t *tx) Host(id int64) (broker.Host, error) {
	h, ok, err := read[broker.Host](t, bucketHosts, idKey(id))
	if err == nil && !ok {
		err = broker.Errorf(broker.CodeNotFound, "there is no host %d", id)
	}
	return h, err
}

// Hosts implements [broker.ReadTx].
func (t *tx) Hosts(q broker.HostQuery) ([]broker.Host, error) {
	if q.Inventory == "" && len(q.States) == 0 {
		return readAll[broker.Host](t, bucketHosts, firstID(q.After), q.Limit)
	}
	var group []byte
	if q.Inventory != "" {
		group = stringKey(q.Inventory)
	}
	ids, err := t.ids(bucketHostsByState, texts(q.States), group, q.After, q.Limit)
	if err != nil {
		return nil, err
	}
	return readIDs[broker.Host](t, bucketHosts, ids)
}

// CreateHost implements [broker.Tx].
func (t *tx) CreateHost(h *broker.Host) error {
	if err := namedHost(*h); err != nil {
		return err
	}
	if err := t.claimsAreFree(*h); err != nil {
		return err
	}
	id, err := t.nextID(bucketNodes)
	if err != nil {
		return err
	}
	stored := *h
	stored.ID = id
	if err := t.write(bucketHosts, idKey(id), stored); err != nil {
		return err
	}
	if err := t.put(bucketHostsByState, hostIndexKey(stored), nil); err != nil {
		return err
	}
	if err := t.claim(stored); err != nil {
		return err
	}
	h.ID = id
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
	if err := namedHost(h); err != nil {
		return err
	}
	if err := t.claimsAreFree(h); err != nil {
		return err
	}
	if err := t.write(bucketHosts, idKey(h.ID), h); err != nil {
		return err
	}
	for _, claim := range old.Claims() {
		if err := t.remove(bucketHostClaims, []byte(claim)); err != nil {
			return err
		}
	}
	if err := t.claim(h); err != nil {
		return err
	}
	if err := t.remove(bucketHostsByState, hostIndexKey(old)); err != nil {
		return err
	}
	return t.put(bucketHostsByState, hostIndexKey(h), nil)
}

func namedHost(h broker.Host) error {
	for what, name := range map[string]string{"inventory": h.Inventory, "host name": h.Hostname, "address": h.Address} {
		if err := named("the "+what+" of a host", name); err != nil {
			return err
		}
	}
	return nil
}

// claimsAreFree refuses what another host than h has.
func (t *tx) claimsAreFree(h broker.Host) error {
	for _, claim := range h.Claims() {
		owner, ok, err := t.getID(bucketHostClaims, []byte(claim))
		if err != nil {
			return err
		}
		if ok && owner != h.ID {
			return broker.ErrHostClaimed(owner, claim)
		}
	}
	return nil
}

func (t *tx) claim(h broker.Host) error {
	for _, claim := range h.Claims() {
		if err := t.put(bucketHostClaims, []byte(claim), idKey(h.ID)); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) checkHosts(report func(error)) {
	byState, claims := index{}, index{}
	checkRecordsOf(t, report, bucketHosts, bucketNodes, func(h broker.Host) int64 {
		byState[string(hostIndexKey(h))] = ""
		for _, claim := range h.Claims() {
			claims[claim] = string(idKey(h.ID))
		}
		if node, err := t.get(bucketNodes, idKey(h.ID)); node != nil || err != nil {
			report(fmt.Errorf("%s: there is a node %d, too", bucketHosts, h.ID))
		}
		return h.ID
	})
	t.compare(report, bucketHostsByState, byState)
	t.compare(report, bucketHostClaims, claims)
}
