package reconcile

import (
	"context"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// start runs a job's work in a worker of its own. The node counts as busy until
// the result is committed, so the next plan leaves it alone.
func (l *Loop) start(ctx context.Context, j job) {
	l.cfg.Observe(j.node)
	var work func(context.Context, broker.Node) (broker.Node, error)
	switch j.kind {
	case ApplyNode:
		work = l.apply
	case CheckNode:
		work = l.check
	case RevokeNode:
		work = l.revoke
	case DestroyNode:
		work = l.destroy
	case HoldNode:
		work = l.hold
	case CreateNode, ReleaseNode, ReturnNode, ForgetNode, ExpireSession, AbandonSession, StartRollout, PauseRollout, FinishRollout, MendHost:
		return
	}
	l.mu.Lock()
	l.busy[j.node.ID] = true
	l.mu.Unlock()
	l.workers.Go(func() {
		n, err := work(ctx, j.node)
		switch {
		case err == nil:
			l.cfg.Observe(n)
		case ctx.Err() == nil:
			// The result was not lost: the run's directory has it, and the same
			// state plans the same step again. Give a broken store time.
			l.cfg.Log.ErrorContext(ctx, "result can't be committed", "kind", string(j.kind), "node_id", j.node.ID, "node_uid", j.node.UID, "error", err)
			sleep(ctx, retryPass, nil)
		}
		l.mu.Lock()
		delete(l.busy, j.node.ID)
		l.mu.Unlock()
		l.Wake()
	})
}

// update changes a node after work on it, if it is still in the state that the
// work began in. Once ctx has ended it changes nothing, so that a run that goes
// on without us is not taken for one that failed: the next process adopts it.
func (l *Loop) update(ctx context.Context, n broker.Node, change func(broker.Tx, *broker.Node) error) (now broker.Node, err error) {
	err = l.cfg.Store.Update(ctx, func(tx broker.Tx) error {
		if now, err = tx.Node(n.ID); err != nil {
			return err
		}
		if now.State != n.State {
			return &broker.TransitionError{Object: "node " + n.UID, From: string(now.State), Expected: string(n.State)}
		}
		return change(tx, &now)
	})
	return now, err
}

func (l *Loop) apply(ctx context.Context, n broker.Node) (broker.Node, error) {
	result, runErr := l.cfg.Provisioner.Apply(ctx, n)
	at := l.cfg.Now()
	n, err := l.update(ctx, n, func(tx broker.Tx, n *broker.Node) error {
		if err := tx.SetNodeTerraform(n.UID, result.State); err != nil {
			return err
		}
		if err := broker.AddRuns(tx, *n, result.Runs); err != nil {
			return err
		}
		if runErr != nil {
			return l.fail(tx, n, at, "create", runErr)
		}
		name := n.Hostname
		n.Outputs = result.Outputs
		if n.Hostname == "" {
			n.Hostname = name
		}
		return broker.MoveNode(tx, n, broker.NodeChecking, at, "")
	})
	if err != nil {
		return n, err
	}
	l.discard(ctx, n)
	if runErr != nil {
		l.cfg.Log.ErrorContext(ctx, "node can't be created", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "class", string(n.FailureClass), "error", runErr)
		l.warnResting(ctx, n)
		if n.FailureClass == broker.FailureInterrupted || n.FailureClass == broker.FailureTimeout {
			l.cfg.Soon(n.Pool)
		}
	}
	return n, nil
}

// fail marks a node as failed and counts the failure against its pool.
func (l *Loop) fail(tx broker.Tx, n *broker.Node, at time.Time, step string, cause error) error {
	n.Failure, n.FailureClass = step+": "+cause.Error(), broker.FailureClassOf(cause)
	p, fresh := l.fresh(*n)
	if n.Interruption == nil { // else it is nobody's fault
		if err := l.blameHost(tx, *n, at); err != nil {
			return err
		}
	}
	if err := broker.MoveNode(tx, n, broker.NodeFailed, at, n.Failure); err != nil || !fresh {
		return err
	}
	h, err := tx.PoolHealth(n.Pool)
	if err != nil {
		return err
	}
	return tx.SetPoolHealth(failed(p, h, *n, at))
}

// fresh tells whether the fate of a node says something about its pool as it is
// defined now: not if it was made from an older generation, nor if it returns to
// stock from a session that came to nothing, nor if it was about to be interrupted.
func (l *Loop) fresh(n broker.Node) (broker.Pool, bool) {
	p, ok := l.cfg.Pools.Get(n.Pool)
	return p, ok && p.Current(n) && !n.Touched && n.Interruption == nil
}

// warnResting says that a pool's creates pause after repeated failures.
func (l *Loop) warnResting(ctx context.Context, n broker.Node) {
	var h broker.PoolHealth
	err := l.cfg.Store.View(ctx, func(tx broker.ReadTx) (err error) {
		h, err = tx.PoolHealth(n.Pool)
		return err
	})
	if err == nil {
		l.warnCooling(ctx, n, h)
	}
	if pause := BreakerPause(trials(h)); err == nil && pause > 0 {
		l.cfg.Log.WarnContext(ctx, "pool rests: its creates fail one after the other",
			"pool", n.Pool, "failures", h.Failures, "class", string(h.Class), "next_try", h.LastFailure.Add(pause))
	}
}

// discard removes a run's directory after its result was committed. A failure
// costs disk, not correctness: the next run of the node meets the same state.
func (l *Loop) discard(ctx context.Context, n broker.Node) {
	if err := l.cfg.Provisioner.Discard(n); err != nil {
		l.cfg.Log.WarnContext(ctx, "run directory can't be removed", "node_uid", n.UID, "error", err)
	}
}

func (l *Loop) check(ctx context.Context, n broker.Node) (broker.Node, error) {
	// A node that waited while the broker was down gets a fair try all the same.
	left := max(n.Ready.Timeout-l.cfg.Now().Sub(n.Since), min(n.Ready.Timeout, minCheck))
	checkCtx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	keys, runErr := l.ready(checkCtx, n)
	if ctx.Err() != nil {
		return n, ctx.Err()
	}
	at := l.cfg.Now()
	n, err := l.update(ctx, n, func(tx broker.Tx, n *broker.Node) error {
		if runErr != nil {
			return l.fail(tx, n, at, "ready check", runErr)
		}
		if len(keys) > 0 {
			n.HostKeys = keys
		}
		if p, fresh := l.fresh(*n); fresh {
			h, err := tx.PoolHealth(n.Pool)
			if err != nil {
				return err
			}
			if err := tx.SetPoolHealth(succeeded(p, h, *n)); err != nil {
				return err
			}
		}
		n.Touched = false
		if err := broker.TrustHost(tx, *n, at); err != nil {
			return err
		}
		if n.Interruption != nil && n.Hold == nil { // it was never in stock
			return broker.MoveNode(tx, n, broker.NodeReleasing, at, n.Interruption.String())
		}
		if err := broker.MoveNode(tx, n, broker.NodeReady, at, ""); err != nil || n.Hold == nil {
			return err
		}
		return broker.TakeHold(tx, n, at) // before anybody can be lent it
	})
	if err == nil && runErr != nil {
		l.cfg.Log.ErrorContext(ctx, "node is not ready", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "class", string(n.FailureClass), "error", runErr)
		l.warnResting(ctx, n)
	}
	return n, err
}

// ready runs the ready check. A node that may carry a tenant's key is cleaned
// first.
func (l *Loop) ready(ctx context.Context, n broker.Node) ([]string, error) {
	if n.Touched {
		if err := l.cfg.Contextualizer.Decontextualize(ctx, n); err != nil {
			return nil, err
		}
	}
	if !n.Ready.SSH {
		return nil, nil
	}
	return l.cfg.Contextualizer.Check(ctx, n)
}

// hold leaves a node to the person who asked for it, after the end of whatever an
// earlier process began on it.
func (l *Loop) hold(ctx context.Context, n broker.Node) (broker.Node, error) {
	if err := l.cfg.Provisioner.Settle(ctx, n); err != nil {
		return n, err
	}
	at := l.cfg.Now()
	return l.update(ctx, n, func(tx broker.Tx, n *broker.Node) error {
		if n.Hold == nil { // taken back meanwhile
			return nil
		}
		return broker.TakeHold(tx, n, at)
	})
}

// revoke takes the tenant's key off a node that was given back, once and as well
// as can be: the node is destroyed next in any case.
func (l *Loop) revoke(ctx context.Context, n broker.Node) (broker.Node, error) {
	sshCtx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	runErr := l.cfg.Contextualizer.Decontextualize(sshCtx, n)
	if ctx.Err() != nil {
		return n, ctx.Err()
	}
	if runErr != nil {
		l.cfg.Log.WarnContext(ctx, "tenant's key can't be taken off; the node is destroyed next", "node_id", n.ID, "error", runErr)
	}
	return l.update(ctx, n, func(tx broker.Tx, n *broker.Node) error {
		n.Touched = false
		return tx.UpdateNode(n.State, *n)
	})
}

func (l *Loop) destroy(ctx context.Context, n broker.Node) (broker.Node, error) {
	var sealed []byte
	err := l.cfg.Store.View(ctx, func(tx broker.ReadTx) (err error) {
		sealed, err = tx.NodeTerraform(n.UID)
		return err
	})
	if err != nil {
		return n, err
	}
	result, runErr := l.cfg.Provisioner.Destroy(ctx, n, sealed)
	at := l.cfg.Now()
	n, err = l.update(ctx, n, func(tx broker.Tx, n *broker.Node) error {
		if err := broker.AddRuns(tx, *n, result.Runs); err != nil {
			return err
		}
		if runErr == nil {
			if err := tx.SetNodeTerraform(n.UID, nil); err != nil {
				return err
			}
			n.Import = nil
			return broker.MoveNode(tx, n, broker.NodeGone, at, "")
		}
		// What is stored goes only when something newer is known.
		if result.State != nil {
			if err := tx.SetNodeTerraform(n.UID, result.State); err != nil {
				return err
			}
		}
		n.Attempts++
		n.RetryAt = at.Add(DestroyPause(n.Attempts))
		n.Failure, n.FailureClass = "destroy: "+runErr.Error(), broker.FailureClassOf(runErr)
		if err := tx.UpdateNode(n.State, *n); err != nil {
			return err
		}
		return tx.AppendEvent(&broker.Event{
			At: at, Kind: broker.EventNode, Pool: n.Pool, NodeID: n.ID, SessionID: n.SessionID,
			From: string(n.State), To: string(n.State), Message: n.Failure,
		})
	})
	if err != nil {
		return n, err
	}
	if runErr == nil || result.State != nil {
		l.discard(ctx, n) // else the directory may hold state that the store has not
	}
	if runErr != nil {
		l.cfg.Log.ErrorContext(ctx, "node can't be destroyed yet", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool,
			"class", string(n.FailureClass), "attempts", n.Attempts, "retry_at", n.RetryAt, "error", runErr)
	}
	return n, nil
}

// moveRollout notes what a plan says of a pool's rollout, unless the pool has
// changed, or an admin has said otherwise, since the plan was made.
func (l *Loop) moveRollout(tx broker.Tx, now time.Time, a Action) error {
	p, ok := l.cfg.Pools.Get(a.Pool)
	if !ok {
		return nil
	}
	r, err := tx.Rollout(a.Pool)
	if err != nil {
		return err
	}
	open := r.Open() && r.Generation == p.Generation()
	from := r.State
	switch a.Kind {
	case StartRollout:
		if open || r.State == broker.RolloutAborted && r.Generation == p.Generation() {
			return nil
		}
		r = broker.Rollout{Pool: a.Pool, Generation: p.Generation(), State: broker.RolloutRunning, Stale: a.Stale, StartedAt: now}
	case PauseRollout:
		if !open || r.State == broker.RolloutPaused {
			return nil
		}
		r.State, r.Reason = broker.RolloutPaused, a.Reason
		l.cfg.Log.Warn("rollout paused: creates of the new generation fail", "pool", a.Pool, "error", a.Reason)
	case FinishRollout:
		if r.State == broker.RolloutDone || r.Generation != p.Generation() {
			return nil
		}
		r.State, r.Now, r.Reason = broker.RolloutDone, false, ""
	case ExpireSession, AbandonSession, ReleaseNode, ReturnNode, RevokeNode, DestroyNode, CreateNode, ApplyNode, CheckNode, HoldNode, ForgetNode, MendHost:
	}
	return broker.SetRollout(tx, from, &r, now, a.Reason)
}
