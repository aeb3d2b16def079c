package broker

import (
	"context"
	"fmt"
	"time"
)

// Hold says for whom a node is kept as it is.
type Hold struct {
	Reason string    `json:"reason,omitempty"` // in the words of who asked
	By     string    `json:"by"`               // the tenant who asked
	Since  time.Time `json:"since"`            // when it was asked for; tells two holds of a node apart
	// From is the state that the node was in when it became [NodeHeld]; until
	// then, the one that it was in when that was asked for.
	From NodeState `json:"from"`
}

// ToBeHeld tells whether somebody has asked to hold n, and it is not held yet.
// Whatever is done to it now is the last.
func (n Node) ToBeHeld() bool { return n.Hold != nil && n.State.CanBecome(NodeHeld) }

const (
	// holdPoll is how often is looked whether a node is held by now.
	holdPoll = 100 * time.Millisecond
	// holdWait bounds how long a call waits for work on a node to end.
	holdWait = 5 * time.Minute
)

// HoldNode keeps a node as it is, for a person to look at or to work on: it is
// not lent, checked, replaced or destroyed any more. A node in stock is held at
// once; if something is being done to the node, nothing is begun after it, and
// the call waits until it has ended. A node that is held already is given as it
// is.
//
// Errors: CodeForbidden unless actor is an admin; CodeNotFound; CodeConflict if
// the node is being made, is lent, or is gone; CodeUnavailable if the work on it
// takes long: then the node is held as soon as that ends.
func (b *Broker) HoldNode(ctx context.Context, actor Tenant, id int64, reason string) (n Node, err error) {
	if n, err = b.AskForHold(ctx, actor, id, reason); err != nil {
		return Node{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, holdWait)
	defer cancel()
	return b.waitUntilHeld(ctx, n)
}

// AskForHold is [Broker.HoldNode] without the wait: it notes what is asked for,
// also where no loop runs that would carry it out.
func (b *Broker) AskForHold(ctx context.Context, actor Tenant, id int64, reason string) (n Node, err error) {
	if !actor.IsAdmin {
		return Node{}, errAdminsOnly("hold nodes")
	}
	now := b.cfg.Now()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		if n, err = tx.Node(id); err != nil {
			return err
		}
		return askForHold(tx, &n, Hold{Reason: reason, By: actor.Name, Since: now}, now)
	})
	if err != nil {
		return Node{}, err
	}
	b.cfg.Wake()
	return n, nil
}

// askForHold notes a hold on a node, and lets it take effect at once where nobody
// can be busy with the node.
func askForHold(tx Tx, n *Node, h Hold, now time.Time) error {
	if n.Hold != nil {
		return nil
	}
	switch n.State {
	case NodeChecking, NodeReleasing, NodeFailed, NodeDestroying:
		h.From = n.State
		n.Hold = &h
		if err := tx.UpdateNode(n.State, *n); err != nil {
			return err
		}
		return tx.AppendEvent(&Event{
			At: now, Kind: EventNode, Pool: n.Pool, NodeID: n.ID, SessionID: n.SessionID,
			From: string(n.State), To: string(n.State), Message: "to be " + h.message(),
		})
	case NodeReady:
		n.Hold = &h
		return TakeHold(tx, n, now)
	case NodePlanned, NodeApplying:
		return Errorf(CodeConflict, "node %d is being made, which is never interrupted", n.ID).
			WithHint("wait until it is made: `duffy-broker node logs -f %d` follows it", n.ID)
	case NodeReserved, NodeContextualizing, NodeDeployed, NodeLost:
		return Errorf(CodeConflict, "node %d is lent, in session %d", n.ID, n.SessionID).
			WithHint("retire that session first; a node that was given back can be held until it is destroyed")
	case NodeGone:
		return Errorf(CodeConflict, "node %d is gone: nothing of it is left", n.ID).
			WithHint("`duffy-broker node logs %d` shows what its runs said", n.ID)
	case NodeHeld: // has a hold
	}
	return &TransitionError{Object: fmt.Sprintf("node %d", n.ID), From: string(n.State), To: string(NodeHeld)}
}

func (h Hold) message() string {
	text := "held by " + h.By
	if h.Reason != "" {
		text += ": " + h.Reason
	}
	return text
}

// TakeHold makes a node held for which that was asked, in tx. Nobody may be
// working on it.
func TakeHold(tx Tx, n *Node, now time.Time) error {
	h := *n.Hold
	h.From = n.State
	n.Hold = &h
	return MoveNode(tx, n, NodeHeld, now, h.message())
}

// waitUntilHeld waits until the hold that n has is in effect.
func (b *Broker) waitUntilHeld(ctx context.Context, n Node) (Node, error) {
	since := n.Hold.Since
	for n.State != NodeHeld {
		select {
		case <-ctx.Done():
			return Node{}, Wrap(CodeUnavailable, ctx.Err(), "node %d is %s, and that takes a while", n.ID, n.State).
				WithHint("it is held as soon as that ends: ask again, or take the request back with `duffy-broker node release %d`", n.ID)
		case <-time.After(holdPoll):
		}
		err := b.cfg.Store.View(ctx, func(tx ReadTx) (err error) {
			n, err = tx.Node(n.ID)
			return err
		})
		switch {
		case err != nil && ctx.Err() == nil:
			return Node{}, err
		case err != nil: // told above
		case n.State == NodeGone:
			return Node{}, Errorf(CodeConflict, "node %d was destroyed before it could be held", n.ID).
				WithHint("its destroy had begun, and is never interrupted; `duffy-broker node logs %d` shows what its runs said", n.ID)
		case n.Hold == nil || !n.Hold.Since.Equal(since):
			return Node{}, Errorf(CodeConflict, "the request to hold node %d was taken back", n.ID).
				WithHint("somebody released it meanwhile: `duffy-broker events` says who")
		}
	}
	return n, nil
}

// ReleaseHold ends a hold, or takes back the request for one. What was in stock,
// or about to be, is checked and returns there; anything else is destroyed.
//
// Errors: CodeForbidden unless actor is an admin; CodeNotFound; CodeConflict if
// the node has no hold, or a workspace, which must be returned.
func (b *Broker) ReleaseHold(ctx context.Context, actor Tenant, id int64) (n Node, err error) {
	if !actor.IsAdmin {
		return Node{}, errAdminsOnly("release nodes")
	}
	b.workspaceMu.Lock()
	defer b.workspaceMu.Unlock()
	now := b.cfg.Now()
	err = b.cfg.Store.Update(ctx, func(tx Tx) error {
		if n, err = tx.Node(id); err != nil {
			return err
		}
		if n.Hold == nil {
			return errNotHeld(n)
		}
		if b.hasWorkspace(n) {
			return Errorf(CodeConflict, "node %d has a workspace, with a state that may be newer than ours", n.ID).
				WithHint("return it: `duffy-broker node workspace --return %d`", n.ID)
		}
		return endHold(tx, &n, true, now, "released by "+actor.Name)
	})
	if err != nil {
		return Node{}, err
	}
	b.cfg.Wake()
	return n, nil
}

func errNotHeld(n Node) *Error {
	return Errorf(CodeConflict, "node %d is not held: it is %s", n.ID, n.State).
		WithHint("`duffy-broker node hold %d` keeps a node that is not lent; `node list` shows those that are held", n.ID)
}

// endHold takes the hold off a node, in tx. sound tells whether all that was made
// of it may still be there.
func endHold(tx Tx, n *Node, sound bool, now time.Time, why string) error {
	from := n.Hold.From
	n.Hold = nil
	if n.State != NodeHeld { // it was asked for only
		if err := tx.UpdateNode(n.State, *n); err != nil {
			return err
		}
		return tx.AppendEvent(&Event{
			At: now, Kind: EventNode, Pool: n.Pool, NodeID: n.ID, SessionID: n.SessionID,
			From: string(n.State), To: string(n.State), Message: why,
		})
	}
	next := NodeDestroying
	if sound && (from == NodeReady || from == NodeChecking) {
		next = NodeChecking
	}
	return MoveNode(tx, n, next, now, why)
}
