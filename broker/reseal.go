package broker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
)

// Resealer knows how a provisioner has sealed what the store keeps of a node: its
// source's variables, its identity, and its Terraform state. Both methods only
// compute.
type Resealer interface {
	// Reseal gives all sealed with the current key, and the rest of the node as it
	// was. What is so already, or is empty, comes back as it is.
	Reseal(n Node, state []byte) (Node, []byte, error)
	// SealedWith gives the ids of the keys that any is sealed with, each once;
	// "" stands for a value that does not say.
	SealedWith(n Node, state []byte) []string
}

// Reseal seals anew what is sealed with an old key, each node in a transaction of
// its own, which sees what a run has stored meanwhile. It gives the number of
// nodes that it changed. A node that can't be opened does not keep it from the
// others; such errors come joined. Repeating it changes nothing.
func Reseal(ctx context.Context, store Store, r Resealer) (changed int, err error) {
	nodes, err := allNodes(ctx, store)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, n := range nodes {
		fresh, err := resealNode(ctx, store, r, n.ID)
		if err != nil {
			errs = append(errs, err)
		}
		if fresh {
			changed++
		}
		if ctx.Err() != nil {
			break
		}
	}
	return changed, errors.Join(errs...)
}

// errUnchanged ends a transaction that has nothing to write.
var errUnchanged = errors.New("nothing to change")

func resealNode(ctx context.Context, store Store, r Resealer, id int64) (changed bool, err error) {
	reseal := func(tx ReadTx) (n Node, state []byte, err error) {
		if n, err = tx.Node(id); err != nil {
			return n, nil, err
		}
		before, err := tx.NodeTerraform(n.UID)
		if err != nil {
			return n, nil, err
		}
		fresh, state, err := r.Reseal(n, before)
		if err != nil {
			return n, nil, fmt.Errorf("node %s: %w", n.UID, err)
		}
		if bytes.Equal(state, before) && bytes.Equal(fresh.Source.Variables, n.Source.Variables) && bytes.Equal(fresh.Identity, n.Identity) {
			return n, nil, errUnchanged
		}
		return fresh, state, nil
	}
	// Most have nothing to change, and writers stand in line: look first.
	err = store.View(ctx, func(tx ReadTx) error {
		_, _, err := reseal(tx)
		return err
	})
	if err == nil {
		err = store.Update(ctx, func(tx Tx) error {
			n, state, err := reseal(tx)
			if err != nil {
				return err
			}
			if err := tx.SetNodeTerraform(n.UID, state); err != nil {
				return err
			}
			return tx.UpdateNode(n.State, n)
		})
		changed = err == nil
	}
	if errors.Is(err, errUnchanged) || CodeOf(err) == CodeNotFound {
		return false, nil // as it should be, or forgotten meanwhile
	}
	return changed, err
}

func allNodes(ctx context.Context, store Store) (nodes []Node, err error) {
	err = store.View(ctx, func(tx ReadTx) error {
		nodes, err = tx.Nodes(NodeQuery{})
		return err
	})
	return nodes, err
}

// KeyUse counts what a root key is needed for.
type KeyUse struct {
	Nodes   int `json:"nodes"`    // whose state or variables are sealed with it
	APIKeys int `json:"api_keys"` // of tenants that are not retired, legacy keys too, that are hashed with it
}

// KeyUses counts what each root key is needed for, by its id; "" stands for what
// does not say which key it needs. keyOf gives the id of the key that an API key
// was hashed with.
func KeyUses(ctx context.Context, store Store, r Resealer, keyOf func(hash []byte) string) (map[string]KeyUse, error) {
	uses := make(map[string]KeyUse)
	nodes, err := allNodes(ctx, store)
	if err != nil {
		return nil, err
	}
	for _, n := range nodes {
		var ids []string
		err := store.View(ctx, func(tx ReadTx) error {
			now, err := tx.Node(n.ID)
			if CodeOf(err) == CodeNotFound {
				return nil
			}
			if err != nil {
				return err
			}
			state, err := tx.NodeTerraform(now.UID)
			ids = r.SealedWith(now, state)
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			use := uses[id]
			use.Nodes++
			uses[id] = use
		}
	}
	var tenants []Tenant
	err = store.View(ctx, func(tx ReadTx) (err error) {
		tenants, err = tx.Tenants()
		return err
	})
	for _, t := range tenants {
		if !t.Active() {
			continue // may not log in, whatever its hash
		}
		hashes := [][]byte{t.KeyHash}
		if t.PreviousKeyHash != nil {
			hashes = append(hashes, t.PreviousKeyHash)
		}
		for _, k := range t.LegacyKeys {
			hashes = append(hashes, k.Hash)
		}
		for _, hash := range hashes {
			if _, imported := importedHash(hash); imported {
				continue // was made without any root key
			}
			id := keyOf(hash)
			use := uses[id]
			use.APIKeys++
			uses[id] = use
		}
	}
	return uses, err
}
