package bolt

import (
	"bytes"
	"fmt"

	"github.com/duffy-broker/duffy-broker/broker"
)

func nodeIndexKey(n broker.Node) []byte {
	return append(stateKey(string(n.State), stringKey(n.Pool)), idKey(n.ID)...)
}

// Node implements [broker.ReadTx].
func (t *tx) Node(id int64) (broker.Node, error) {
	n, ok, err := read[broker.Node](t, bucketNodes, idKey(id))
	if err == nil && !ok {
		err = broker.Errorf(broker.CodeNotFound, "there is no node %d", id)
	}
	return n, err
}

// NodeByUID implements [broker.ReadTx].
func (t *tx) NodeByUID(uid string) (broker.Node, error) {
	id, ok, err := t.getID(bucketNodesByUID, []byte(uid))
	if err != nil {
		return broker.Node{}, err
	}
	if !ok {
		return broker.Node{}, broker.Errorf(broker.CodeNotFound, "there is no node with uid %s", uid)
	}
	return t.Node(id)
}

// Nodes implements [broker.ReadTx].
func (t *tx) Nodes(q broker.NodeQuery) ([]broker.Node, error) {
	if q.Pool == "" && len(q.States) == 0 {
		return readAll[broker.Node](t, bucketNodes, firstID(q.After), q.Limit)
	}
	var group []byte
	if q.Pool != "" {
		group = stringKey(q.Pool)
	}
	ids, err := t.ids(bucketNodesByState, texts(q.States), group, q.After, q.Limit)
	if err != nil {
		return nil, err
	}
	return readIDs[broker.Node](t, bucketNodes, ids)
}

// CountNodes implements [broker.ReadTx].
func (t *tx) CountNodes(pool string) (map[broker.NodeState]int, error) {
	states, err := t.states(bucketNodesByState)
	if err != nil {
		return nil, err
	}
	var group []byte
	if pool != "" {
		group = stringKey(pool)
	}
	counts := make(map[broker.NodeState]int, len(states))
	for _, state := range states {
		n := 0
		err := t.scanPrefix(bucketNodesByState, stateKey(state, group), func(_, _ []byte) bool {
			n++
			return true
		})
		if err != nil {
			return nil, err
		}
		if n > 0 {
			counts[broker.NodeState(state)] = n
		}
	}
	return counts, nil
}

// CountNodesByPool implements [broker.ReadTx].
func (t *tx) CountNodesByPool() (map[string]map[broker.NodeState]int, error) {
	counts := make(map[string]map[broker.NodeState]int)
	var group []byte // the state and the pool of the keys that are being counted
	var in map[broker.NodeState]int
	var state broker.NodeState
	err := t.scan(bucketNodesByState, nil, func(key, _ []byte) bool {
		if len(key) != len(group)+idLen || !bytes.HasPrefix(key, group) || in == nil {
			s, rest, ok := cutString(key)
			pool, id, ok2 := cutString(rest)
			if !ok || !ok2 || len(id) != idLen {
				_ = t.damaged(fmt.Sprintf("%s, key %x", bucketNodesByState, key))
				return false
			}
			if group, state, in = bytes.Clone(key[:len(key)-idLen]), broker.NodeState(s), counts[string(pool)]; in == nil {
				in = make(map[broker.NodeState]int)
				counts[string(pool)] = in
			}
		}
		in[state]++
		return true
	})
	if err == nil {
		err = t.failure
	}
	return counts, err
}

// NodeTerraform implements [broker.ReadTx].
func (t *tx) NodeTerraform(uid string) ([]byte, error) {
	return t.get(bucketTerraform, []byte(uid))
}

// CreateNode implements [broker.Tx].
func (t *tx) CreateNode(n *broker.Node) error {
	if err := named("the uid of a node", n.UID); err != nil {
		return err
	}
	if err := named("the pool of a node", n.Pool); err != nil {
		return err
	}
	known, ok, err := t.getID(bucketNodesByUID, []byte(n.UID))
	if err != nil {
		return err
	}
	if ok {
		return broker.Errorf(broker.CodeConflict, "node %d has the uid %s already", known, n.UID)
	}
	id, err := t.nextID(bucketNodes)
	if err != nil {
		return err
	}
	stored := *n
	stored.ID = id
	if err := t.write(bucketNodes, idKey(id), stored); err != nil {
		return err
	}
	if err := t.put(bucketNodesByState, nodeIndexKey(stored), nil); err != nil {
		return err
	}
	if err := t.put(bucketNodesByUID, []byte(stored.UID), idKey(id)); err != nil {
		return err
	}
	n.ID = id
	return nil
}

// UpdateNode implements [broker.Tx].
func (t *tx) UpdateNode(expect broker.NodeState, n broker.Node) error {
	old, err := t.Node(n.ID)
	if err != nil {
		return err
	}
	if old.State != expect {
		return &broker.TransitionError{
			Object: fmt.Sprintf("node %d", n.ID), From: string(old.State), To: string(n.State), Expected: string(expect),
		}
	}
	if old.UID != n.UID || old.Pool != n.Pool {
		return broker.Errorf(broker.CodeInvalid, "node %d has uid %s and pool %s: they can't change", n.ID, old.UID, old.Pool)
	}
	if err := t.write(bucketNodes, idKey(n.ID), n); err != nil {
		return err
	}
	if old.State == n.State {
		return nil
	}
	if err := t.remove(bucketNodesByState, nodeIndexKey(old)); err != nil {
		return err
	}
	return t.put(bucketNodesByState, nodeIndexKey(n), nil)
}

// SetNodePool implements [broker.Tx].
func (t *tx) SetNodePool(id int64, pool string) error {
	if err := named("the pool of a node", pool); err != nil {
		return err
	}
	n, err := t.Node(id)
	if err != nil || n.Pool == pool {
		return err
	}
	if err := t.remove(bucketNodesByState, nodeIndexKey(n)); err != nil {
		return err
	}
	n.Pool = pool
	if err := t.write(bucketNodes, idKey(id), n); err != nil {
		return err
	}
	return t.put(bucketNodesByState, nodeIndexKey(n), nil)
}

// DeleteNode implements [broker.Tx].
func (t *tx) DeleteNode(id int64) error {
	n, err := t.Node(id)
	if err != nil {
		return err
	}
	if n.State != broker.NodeGone {
		return broker.Errorf(broker.CodeConflict, "node %d is %s: only a node that is gone can be forgotten", id, n.State)
	}
	if err := t.remove(bucketNodes, idKey(id)); err != nil {
		return err
	}
	if err := t.remove(bucketNodesByState, nodeIndexKey(n)); err != nil {
		return err
	}
	if err := t.remove(bucketNodesByUID, []byte(n.UID)); err != nil {
		return err
	}
	return t.remove(bucketTerraform, []byte(n.UID))
}

// SetNodeTerraform implements [broker.Tx].
func (t *tx) SetNodeTerraform(uid string, sealed []byte) error {
	_, ok, err := t.getID(bucketNodesByUID, []byte(uid))
	if err != nil {
		return err
	}
	if !ok {
		return broker.Errorf(broker.CodeNotFound, "there is no node with uid %s", uid)
	}
	if len(sealed) == 0 {
		return t.remove(bucketTerraform, []byte(uid))
	}
	return t.put(bucketTerraform, []byte(uid), bytes.Clone(sealed)) // bbolt keeps it until the commit
}
