package reconcile

import "github.com/duffy-broker/duffy-broker/broker"

// sortInterrupted is sort for a node that will go away by itself, if it is in stock
// or on its way there: it is neither any more, so that another one is made in its
// place. False for one that is somewhere else.
func (entry *pool) sortInterrupted(n *broker.Node, busy bool) bool {
	switch {
	case n.State == broker.NodeApplying: // its run goes on to its end
		entry.creating++
		entry.file(&entry.adopt, n, busy)
	case comes(n.State) || n.State == broker.NodeReady:
		entry.file(&entry.interrupted, n, busy)
	default:
		return false
	}
	entry.leaving++
	return true
}

// releaseInterrupted takes such nodes out of use, without regard to how many there
// are: they can't be kept.
func (p *planner) releaseInterrupted(entry *pool) {
	for _, n := range entry.interrupted {
		p.do(Action{Kind: ReleaseNode, Pool: n.Pool, NodeID: n.ID, State: n.State, Reason: n.Interruption.String()})
	}
}
