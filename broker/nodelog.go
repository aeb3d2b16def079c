package broker

import (
	"bytes"
	"context"
	"encoding/json"
	"time"
)

// NodeLogRequest says which logs of a node are wanted.
type NodeLogRequest struct {
	Node int64
	Run  int64 // this run only; 0: all that are kept
	// Follow goes on with runs in progress, until the node comes to rest.
	Follow bool
}

// followPoll is how often a node is looked at between its runs.
const followPoll = 250 * time.Millisecond

// runHeader is a line of ours in a node's log: it precedes the messages of a run
// (run_start), and tells how it came out (run_end).
type runHeader struct {
	Message   string       `json:"@message"`
	Timestamp time.Time    `json:"@timestamp,omitzero"`
	Type      string       `json:"type"`
	Run       int64        `json:"run,omitempty"` // 0: in progress
	Operation string       `json:"operation"`
	Class     FailureClass `json:"class,omitempty"`
	Failure   string       `json:"failure,omitempty"`
}

// NodeLog passes on what the Terraform runs of a node have written, run by run:
// Terraform's messages as JSON, a line each, between lines of the types run_start
// and run_end. Secrets are masked. The node's own record may have gone already.
// Errors: CodeForbidden unless actor is an admin, CodeNotFound.
func (b *Broker) NodeLog(ctx context.Context, actor Tenant, req NodeLogRequest, write func(line []byte) error) error {
	if !actor.IsAdmin {
		return errAdminsOnly("read the logs of Terraform runs")
	}
	n, runs, err := b.nodeRuns(ctx, req.Node)
	if err != nil {
		return err
	}
	found := req.Run == 0
	f := follower{b: b, write: write}
	for _, r := range runs {
		f.last = r.ID
		if req.Run != 0 && r.ID != req.Run {
			continue
		}
		found = true
		if err := f.stored(ctx, r); err != nil {
			return err
		}
	}
	if !found {
		return Errorf(CodeNotFound, "node %d has no run %d", req.Node, req.Run).WithHint("without a run, all that are kept are shown")
	}
	if !req.Follow || req.Run != 0 || n.UID == "" {
		return nil
	}
	return f.follow(ctx, n)
}

// nodeRuns gives a node, zero if its record has gone, and its runs.
func (b *Broker) nodeRuns(ctx context.Context, id int64) (n Node, runs []Run, err error) {
	err = b.cfg.Store.View(ctx, func(tx ReadTx) error {
		if runs, err = tx.Runs(id); err != nil {
			return err
		}
		n, err = tx.Node(id)
		if CodeOf(err) == CodeNotFound && len(runs) > 0 {
			n, err = Node{}, nil
		}
		return err
	})
	return n, runs, err
}

// follower passes on the logs of one node.
type follower struct {
	b     *Broker
	write func(line []byte) error
	last  int64 // the newest run that was passed on
	seen  int   // runs that were passed on while they went on, and not stored by then
}

func (f *follower) header(h runHeader) error {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	return f.write(append(line, '\n'))
}

// stored passes on a run that has ended.
func (f *follower) stored(ctx context.Context, r Run) error {
	var sealed []byte
	err := f.b.cfg.Store.View(ctx, func(tx ReadTx) (err error) {
		sealed, err = tx.RunLog(r.ID)
		return err
	})
	if CodeOf(err) == CodeNotFound {
		return nil // it was pruned just now
	}
	if err != nil {
		return err
	}
	err = f.header(runHeader{Message: "terraform " + r.Operation, Timestamp: r.Began, Type: "run_start", Run: r.ID, Operation: r.Operation})
	if err != nil {
		return err
	}
	text, err := f.b.cfg.Logs.OpenLog(r, sealed)
	if err != nil { // sealed with a key that has gone: the others may be readable
		text = nil
		f.b.cfg.Log.WarnContext(ctx, "log of a terraform run can't be read", "node_uid", r.NodeUID, "run", r.ID, "error", err)
	}
	for line := range bytes.Lines(text) {
		if err := f.write(line); err != nil {
			return err
		}
	}
	return f.end(r)
}

func (f *follower) end(r Run) error {
	message := "terraform " + r.Operation + " succeeded"
	if r.Class != "" {
		message = "terraform " + r.Operation + " failed: " + string(r.Class)
	}
	return f.header(runHeader{
		Message: message, Timestamp: r.Ended, Type: "run_end", Run: r.ID, Operation: r.Operation, Class: r.Class, Failure: r.Failure,
	})
}

// follow passes on runs in progress, and those that come, until the node rests.
func (f *follower) follow(ctx context.Context, n Node) error {
	for {
		watched := ""
		err := f.b.cfg.Logs.WatchRun(ctx, n, func(operation string, line []byte) error {
			if watched == "" {
				watched = operation
				f.seen++
				if err := f.header(runHeader{Message: "terraform " + operation, Type: "run_start", Operation: operation}); err != nil {
					return err
				}
			}
			return f.write(line)
		})
		if err != nil {
			return err
		}
		// The node first: what it rests with was stored before.
		next, runs, err := f.b.nodeRuns(ctx, n.ID)
		if err != nil {
			return err
		}
		for _, r := range runs {
			if r.ID <= f.last {
				continue
			}
			f.last = r.ID
			if f.seen > 0 {
				f.seen--
				err = f.end(r)
			} else {
				err = f.stored(ctx, r)
			}
			if err != nil {
				return err
			}
		}
		if next.UID == "" || !next.State.working() {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(followPoll):
		}
	}
}

// working tells whether more is done to a node by itself.
func (s NodeState) working() bool {
	switch s {
	case NodePlanned, NodeApplying, NodeChecking, NodeReleasing, NodeFailed, NodeDestroying:
		return true
	case NodeReady, NodeReserved, NodeContextualizing, NodeDeployed, NodeLost, NodeHeld, NodeGone:
	}
	return false
}
