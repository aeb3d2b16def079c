package broker

import (
	"slices"
	"time"
)

// Run is one Terraform run of a node that has ended. It is kept for a while after
// the node has gone.
type Run struct {
	ID        int64        `json:"id"` // the store gives it; later runs have higher ones
	NodeID    int64        `json:"node_id"`
	NodeUID   string       `json:"node_uid"`
	Pool      string       `json:"pool"`
	Operation string       `json:"operation"` // apply, import, destroy
	Began     time.Time    `json:"began"`
	Ended     time.Time    `json:"ended"`
	Class     FailureClass `json:"class,omitempty"`   // "": it succeeded
	Failure   string       `json:"failure,omitempty"` // in full
	// Log is what it wrote, masked, compressed and sealed by the provisioner. Lists
	// leave it out.
	Log []byte `json:"-"`
}

// MaxRunsPerNode is how many runs of a node are kept: destroys are repeated for
// ever. The first stays, and the newest.
const MaxRunsPerNode = 20

// AddRuns stores runs of a node, in tx, and drops those that are too many. A run
// that is stored already is left as it is: its directory, and so its result, may
// be read once more after a crash.
func AddRuns(tx Tx, n Node, runs []Run) error {
	if len(runs) == 0 {
		return nil
	}
	kept, err := tx.Runs(n.ID)
	if err != nil {
		return err
	}
	for i := range runs {
		r := runs[i]
		if slices.ContainsFunc(kept, r.same) {
			continue
		}
		r.NodeID, r.NodeUID, r.Pool = n.ID, n.UID, n.Pool
		if err := tx.AddRun(&r); err != nil {
			return err
		}
		kept = append(kept, r)
	}
	for i := 1; i <= len(kept)-MaxRunsPerNode; i++ {
		if err := tx.DeleteRun(kept[i].ID); err != nil {
			return err
		}
	}
	return nil
}

// same tells whether r and other, of one node, are the same run.
func (r Run) same(other Run) bool {
	return !r.Began.IsZero() && r.Operation == other.Operation && r.Began.Equal(other.Began)
}
