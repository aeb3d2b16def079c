package memory

import (
	"bytes"
	"fmt"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Node implements [broker.ReadTx].
func (t *tx) Node(id int64) (broker.Node, error) { return find(t.nodes, id, "node") }

// NodeByUID implements [broker.ReadTx].
func (t *tx) NodeByUID(uid string) (broker.Node, error) {
	for _, n := range t.nodes {
		if n.UID == uid {
			return clone(n)
		}
	}
	return broker.Node{}, broker.Errorf(broker.CodeNotFound, "there is no node with uid %s", uid)
}

// Nodes implements [broker.ReadTx].
func (t *tx) Nodes(q broker.NodeQuery) ([]broker.Node, error) {
	return list(t.nodes, q.Limit, func(n broker.Node) bool {
		return n.ID > q.After && (q.Pool == "" || q.Pool == n.Pool) && asked(q.States, n.State)
	})
}

// CountNodes implements [broker.ReadTx].
func (t *tx) CountNodes(pool string) (map[broker.NodeState]int, error) {
	counts := make(map[broker.NodeState]int)
	for _, n := range t.nodes {
		if pool == "" || pool == n.Pool {
			counts[n.State]++
		}
	}
	return counts, nil
}

// CountNodesByPool implements [broker.ReadTx].
func (t *tx) CountNodesByPool() (map[string]map[broker.NodeState]int, error) {
	counts := make(map[string]map[broker.NodeState]int)
	for _, n := range t.nodes {
		if counts[n.Pool] == nil {
			counts[n.Pool] = make(map[broker.NodeState]int)
		}
		counts[n.Pool][n.State]++
	}
	return counts, nil
}

// NodeTerraform implements [broker.ReadTx].
func (t *tx) NodeTerraform(uid string) ([]byte, error) { return bytes.Clone(t.terraform[uid]), nil }

// CreateNode implements [broker.Tx].
func (t *tx) CreateNode(n *broker.Node) error {
	if err := named("the uid of a node", n.UID); err != nil {
		return err
	}
	if err := named("the pool of a node", n.Pool); err != nil {
		return err
	}
	if t.knows(n.UID) {
		return broker.Errorf(broker.CodeConflict, "there is a node with the uid %s already", n.UID)
	}
	stored := *n
	stored.ID = t.lastNode + 1
	if err := put(t, t.nodes, stored.ID, stored); err != nil {
		return err
	}
	set(t, &t.lastNode, stored.ID)
	t.touchedNodes = append(t.touchedNodes, stored.ID)
	n.ID = stored.ID
	return nil
}

func (t *tx) knows(uid string) bool {
	for _, n := range t.nodes {
		if n.UID == uid {
			return true
		}
	}
	return false
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
	t.touchedNodes = append(t.touchedNodes, n.ID)
	return put(t, t.nodes, n.ID, n)
}

// SetNodePool implements [broker.Tx].
func (t *tx) SetNodePool(id int64, pool string) error {
	if err := named("the pool of a node", pool); err != nil {
		return err
	}
	n, err := t.Node(id)
	if err != nil {
		return err
	}
	n.Pool = pool
	t.touchedNodes = append(t.touchedNodes, id)
	return put(t, t.nodes, id, n)
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
	t.touchedNodes = append(t.touchedNodes, id)
	remove(t, t.nodes, id)
	remove(t, t.terraform, n.UID)
	return nil
}

// SetNodeTerraform implements [broker.Tx].
func (t *tx) SetNodeTerraform(uid string, sealed []byte) error {
	if !t.knows(uid) {
		return broker.Errorf(broker.CodeNotFound, "there is no node with uid %s", uid)
	}
	if len(sealed) == 0 {
		remove(t, t.terraform, uid)
		return nil
	}
	return put(t, t.terraform, uid, sealed)
}
