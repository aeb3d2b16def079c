package broker

import (
	"context"
	"fmt"
)

// Workspacer gives the Terraform workspaces of held nodes out of its hands: into
// directories in which a person can run Terraform. Its calls for one node must
// come one after the other.
type Workspacer interface {
	// Checkout writes a directory for a held node, with the newest state that is
	// known of it: sealed, or what a crash left in the directory of a run. Called
	// again for the same hold, it gives the directory as it is.
	Checkout(n Node, sealed []byte) (dir string, err error)
	// Return reads the state in the directory of a held node, and changes nothing.
	// CodeConflict says why it can't take the place of sealed: Terraform is working
	// there, or it is damaged, older, or another node's.
	Return(n Node, sealed []byte) (WorkspaceState, error)
	// HasWorkspace tells whether there is a directory for the present hold of a node.
	HasWorkspace(n Node) bool
	// DiscardWorkspace removes the directory of a node, if there is one.
	// CodeConflict while Terraform is working there.
	DiscardWorkspace(n Node) error
	// Workspaces lists the uids of all nodes with a directory, of whatever hold.
	Workspaces() ([]string, error)
}

// WorkspaceState is what somebody left of a node.
type WorkspaceState struct {
	State     []byte // sealed; nil if nothing was ever recorded
	Resources int    // that it records
	Newer     bool   // than what was stored
}

// OpenWorkspace holds a node and gives the directory, on the broker's machine, in
// which its state is now. Repeated, it gives the same. Errors are those of
// HoldNode; CodeUnavailable if the directory can't be written. The node stays
// held in any case.
func (b *Broker) OpenWorkspace(ctx context.Context, actor Tenant, id int64, reason string) (n Node, dir string, err error) {
	if n, err = b.HoldNode(ctx, actor, id, reason); err != nil {
		return Node{}, "", err
	}
	b.workspaceMu.Lock()
	defer b.workspaceMu.Unlock()
	n, sealed, err := b.heldNode(ctx, id)
	if err != nil {
		return Node{}, "", err
	}
	if dir, err = b.cfg.Workspaces.Checkout(n, sealed); err != nil {
		return Node{}, "", err
	}
	b.cfg.Log.InfoContext(ctx, "node is held, its state is in a workspace", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "tenant", actor.Name, "directory", dir)
	return n, dir, nil
}

// heldNode gives a node that is held, and its sealed state.
func (b *Broker) heldNode(ctx context.Context, id int64) (n Node, sealed []byte, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		if n, err = tx.Node(id); err != nil {
			return err
		}
		if n.State != NodeHeld {
			return errNotHeld(n)
		}
		sealed, err = tx.NodeTerraform(n.UID)
		return err
	})
	return n, sealed, err
}

// ReturnWorkspace takes the state of a workspace back, and ends the hold. With
// discard, whatever was done there is forgotten, and the state from before counts.
// A node that came from stock is checked and returns there if something is still
// recorded; anything else is destroyed.
//
// Errors: CodeForbidden unless actor is an admin; CodeNotFound; CodeConflict if
// the node is not held, has no workspace, or the state in it can't be taken. Then
// nothing has changed.
func (b *Broker) ReturnWorkspace(ctx context.Context, actor Tenant, id int64, discard bool) (n Node, err error) {
	if !actor.IsAdmin {
		return Node{}, errAdminsOnly("return workspaces")
	}
	b.workspaceMu.Lock()
	defer b.workspaceMu.Unlock()
	n, sealed, err := b.heldNode(ctx, id)
	if err != nil {
		return Node{}, err
	}
	if !b.hasWorkspace(n) {
		return Node{}, Errorf(CodeConflict, "node %d has no workspace", n.ID).
			WithHint("`duffy-broker node release %d` ends the hold", n.ID)
	}
	w := WorkspaceState{}
	why := "workspace discarded by " + actor.Name
	if discard {
		// First, since it refuses while Terraform is at work there.
		err = b.cfg.Workspaces.DiscardWorkspace(n)
	} else {
		w, err = b.cfg.Workspaces.Return(n, sealed)
		why = fmt.Sprintf("workspace returned by %s, with %d resources", actor.Name, w.Resources)
	}
	if err != nil {
		return Node{}, err
	}
	sound := discard || w.Resources > 0 || sealed == nil
	hold, now := *n.Hold, b.cfg.Now()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		if n, err = tx.Node(id); err != nil {
			return err
		}
		if n.State != NodeHeld || !n.Hold.Since.Equal(hold.Since) {
			return errNotHeld(n)
		}
		if !discard {
			if err := tx.SetNodeTerraform(n.UID, w.State); err != nil {
				return err
			}
		}
		return endHold(tx, &n, sound, now, why)
	})
	if err != nil {
		return Node{}, err
	}
	b.discardWorkspace(ctx, n)
	b.cfg.Wake()
	return n, nil
}

// hasWorkspace tells whether a node's present hold has a workspace.
func (b *Broker) hasWorkspace(n Node) bool {
	return b.cfg.Workspaces != nil && b.cfg.Workspaces.HasWorkspace(n)
}

// discardWorkspace removes a directory that is not wanted any more. If it can't,
// TidyWorkspaces tries later.
func (b *Broker) discardWorkspace(ctx context.Context, n Node) {
	if err := b.cfg.Workspaces.DiscardWorkspace(n); err != nil {
		b.cfg.Log.WarnContext(ctx, "workspace can't be removed: it has a state in clear", "node_id", n.ID, "node_uid", n.UID, "error", err)
	}
}

// TidyWorkspaces removes directories of workspaces that a crash left after they
// had been returned. One that has something newer than the store stays, and is
// logged: somebody has to look at it. Call it at the start, and now and then.
func (b *Broker) TidyWorkspaces(ctx context.Context) error {
	b.workspaceMu.Lock()
	defer b.workspaceMu.Unlock()
	uids, err := b.cfg.Workspaces.Workspaces()
	if err != nil || len(uids) == 0 {
		return err
	}
	nodes, sealed := map[string]Node{}, map[string][]byte{}
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		clear(nodes)
		all, err := tx.Nodes(NodeQuery{})
		if err != nil {
			return err
		}
		for _, n := range all {
			nodes[n.UID] = n
		}
		for _, uid := range uids {
			if sealed[uid], err = tx.NodeTerraform(uid); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, uid := range uids {
		n, known := nodes[uid]
		if known && n.Hold != nil && b.hasWorkspace(n) {
			continue
		}
		if known && n.State != NodeGone {
			w, err := b.cfg.Workspaces.Return(n, sealed[uid])
			known = err == nil && !w.Newer
		}
		if !known {
			b.cfg.Log.WarnContext(ctx, "workspace of a node that is not held has a state that the store does not know: take from it what is wanted, and remove it by hand",
				"node_id", n.ID, "node_uid", uid)
			continue
		}
		b.discardWorkspace(ctx, n)
	}
	return nil
}
