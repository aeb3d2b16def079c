package broker

import "context"

// Provisioner makes and destroys what a node stands for.
//
// Its runs outlive the caller: when ctx ends, a call returns ctx's error and the
// run goes on by itself. A later call of the same kind for the same node, by this
// process or the next one, adopts that run, or reads the result of one that has
// ended meanwhile, instead of starting another. So every call may be repeated
// after a crash.
//
// One call at a time for a node; calls for different nodes may run at once.
type Provisioner interface {
	// Apply makes the node's resources. The result is valid with an error too:
	// its State then holds what was made. An error without a state may still
	// have left something behind.
	Apply(ctx context.Context, n Node) (Result, error)
	// Destroy removes everything recorded in sealed (or in newer state that a
	// crash left in the run's directory). It succeeds only if what was recorded
	// before is gone from the state after it. With an error, Result.State holds
	// what is left.
	Destroy(ctx context.Context, n Node, sealed []byte) (Result, error)
	// Settle waits until no run of the node is in progress, and starts none.
	Settle(ctx context.Context, n Node) error
	// Discard removes the private directory of a node's last run, after its
	// result was committed. A directory that is not there is no error.
	Discard(n Node) error
}

// RunLogs reads what runs of a [Provisioner] write.
type RunLogs interface {
	// OpenLog gives the log of a run that has ended: Terraform's messages as JSON,
	// a line each.
	OpenLog(r Run, sealed []byte) ([]byte, error)
	// WatchRun passes on the messages of the node's run in progress, from its
	// beginning on, until it ends or ctx does. No run in progress is no error.
	// All secrets that are known are masked.
	WatchRun(ctx context.Context, n Node, write func(operation string, line []byte) error) error
}

// Result is what a run of a [Provisioner] left behind.
type Result struct {
	// State is the node's Terraform state, sealed with the broker's key; nil when
	// it holds no resource.
	State   []byte
	Outputs Outputs // of an Apply that succeeded
	// Runs are those that this call has seen end, with their logs. Node and pool
	// are the caller's to fill in.
	Runs []Run
}

// Contextualizer reaches nodes over SSH. Methods may run at once for different
// nodes. None of them ever accepts a host key other than the node's recorded ones.
type Contextualizer interface {
	// Check tries until the node's ready check passes or ctx ends. It returns
	// the host keys that the node has shown, to be recorded; a node that has
	// recorded ones already must show one of them.
	Check(ctx context.Context, n Node) (hostKeys []string, err error)
	// Contextualize puts the keys (authorized_keys lines) on the node, in place
	// of those of an earlier tenant. Repeating it changes nothing. CodeInvalid says
	// that the keys are none, which is no fault of the node.
	Contextualize(ctx context.Context, n Node, keys string) error
	// Decontextualize takes tenants' keys off the node. Repeating it changes nothing.
	Decontextualize(ctx context.Context, n Node) error
}
