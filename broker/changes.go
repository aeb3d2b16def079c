package broker

// Version tells the states of a store apart: each commit makes a later one. It
// means nothing to any other [Store] value, such as one that was opened anew on
// the same data. 0 is no version.
type Version uint64

// Changes says how a store differs from what it was.
type Changes struct {
	// Version is that of the state that the transaction sees; 0 if it has none.
	Version Version
	// Known: every node and every session that was made, changed or removed is in
	// Nodes or Sessions. Without it, anything may have happened.
	Known bool
	// Ids in no order. They may come twice, and there may be some of what did not
	// change after all.
	Nodes, Sessions []int64
}
