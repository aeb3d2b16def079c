package reconcile

import (
	"cmp"
	"context"
	"reflect"
	"slices"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// verifyEvery is how often the mirror is compared with the store.
const verifyEvery = 5 * time.Minute

// mirror is a copy of the live nodes, and of the sessions that may hold some, as
// the store had them at the last read: the world of a pass, without reading all of
// it each time. Nothing is decided by it alone: what follows from a plan compares
// states with the store once more. The zero value knows nothing.
type mirror struct {
	version  broker.Version // of the store; 0: read everything
	nodes    []broker.Node  // by id, as are the sessions
	sessions []broker.Session
	verified time.Time // when all was last read
}

// reading is what one transaction has to say.
type reading struct {
	changes  broker.Changes
	nodes    records[broker.Node] // those that changed
	sessions records[broker.Session]

	// whole: all of it was read, too.
	whole       bool
	allNodes    []broker.Node
	allSessions []broker.Session
}

// records are some that were looked up by their ids.
type records[T any] struct {
	found []T // in order
	gone  map[int64]bool
}

// lookUp reads records. Those that are not there, or not wanted, are gone.
func lookUp[T any](ids []int64, get func(int64) (T, error), wanted func(T) bool) (r records[T], err error) {
	ids = slices.Clone(ids)
	slices.Sort(ids)
	r.gone = make(map[int64]bool)
	for _, id := range slices.Compact(ids) {
		v, err := get(id)
		switch {
		case broker.CodeOf(err) == broker.CodeNotFound:
			r.gone[id] = true
		case err != nil:
			return r, err
		case wanted(v):
			r.found = append(r.found, v)
		default:
			r.gone[id] = true
		}
	}
	return r, nil
}

func isLive(n broker.Node) bool { return n.State != broker.NodeGone }

// mayHold tells whether a session may hold nodes.
func mayHold(s broker.Session) bool { return slices.Contains(holdingStates(), s.State) }

func holdingStates() []broker.SessionState {
	return []broker.SessionState{broker.SessionPreparing, broker.SessionActive}
}

// read brings the mirror up to date, and w with it. Where it turns out to differ
// from the store, which would be a defect, it takes over what the store has and
// says how many records were wrong. It is compared whenever the last time was as
// long ago as verify. The nodes and sessions of w must not be changed, and are good
// until the next read.
func (m *mirror) read(ctx context.Context, store broker.Store, w *World, now time.Time, verify time.Duration) (wrong int, err error) {
	var r reading
	err = store.View(ctx, func(tx broker.ReadTx) error {
		if r, err = m.look(tx, now.Sub(m.verified) >= verify); err != nil {
			return err
		}
		return w.readPools(tx)
	})
	if err != nil {
		return 0, err
	}
	if r.changes.Known {
		m.nodes = update(m.nodes, r.nodes, nodeID)
		m.sessions = update(m.sessions, r.sessions, sessionID)
	}
	if r.whole {
		if r.changes.Known {
			wrong = differences(m.nodes, r.allNodes, nodeID) + differences(m.sessions, r.allSessions, sessionID)
		}
		if wrong > 0 || !r.changes.Known {
			m.nodes, m.sessions = r.allNodes, r.allSessions
		}
		m.verified = now
	}
	m.version = r.changes.Version
	w.Nodes, w.Sessions = m.nodes, m.sessions
	return wrong, nil
}

// look reads what the mirror needs, in tx, all of it if whole is set. It changes
// nothing.
func (m *mirror) look(tx broker.ReadTx, whole bool) (r reading, err error) {
	if r.changes, err = tx.Changes(m.version); err != nil {
		return r, err
	}
	if r.changes.Known {
		if r.nodes, err = lookUp(r.changes.Nodes, tx.Node, isLive); err != nil {
			return r, err
		}
		if r.sessions, err = lookUp(r.changes.Sessions, tx.Session, mayHold); err != nil {
			return r, err
		}
	}
	if r.whole = whole || !r.changes.Known; !r.whole {
		return r, nil
	}
	if r.allNodes, err = tx.Nodes(broker.NodeQuery{States: broker.LiveNodeStates()}); err != nil {
		return r, err
	}
	r.allSessions, err = tx.Sessions(broker.SessionQuery{States: holdingStates()})
	return r, err
}

func nodeID(n *broker.Node) int64       { return n.ID }
func sessionID(s *broker.Session) int64 { return s.ID }

// update puts records into a list that is ordered by id, and takes out those that
// are gone.
func update[T any](list []T, r records[T], id func(*T) int64) []T {
	var added []T
	for i := range r.found {
		at, known := slices.BinarySearchFunc(list, id(&r.found[i]), func(v T, want int64) int { return cmp.Compare(id(&v), want) })
		if known {
			list[at] = r.found[i]
		} else {
			added = append(added, r.found[i])
		}
	}
	list = remove(list, r.gone, id)
	if len(added) == 0 {
		return list
	}
	inOrder := len(list) == 0 || id(&list[len(list)-1]) < id(&added[0])
	list = append(list, added...)
	if !inOrder { // one that was gone is back
		slices.SortFunc(list, func(a, b T) int { return cmp.Compare(id(&a), id(&b)) })
	}
	return list
}

// remove takes records out of a list, and moves the others once.
func remove[T any](list []T, gone map[int64]bool, id func(*T) int64) []T {
	if len(gone) == 0 {
		return list
	}
	kept := 0
	for i := range list {
		if gone[id(&list[i])] {
			continue
		}
		if kept != i {
			list[kept] = list[i]
		}
		kept++
	}
	clear(list[kept:])
	return list[:kept]
}

// differences counts the records that are not the same in two lists.
func differences[T any](got, want []T, id func(*T) int64) (count int) {
	for len(got) > 0 && len(want) > 0 {
		switch a, b := id(&got[0]), id(&want[0]); {
		case a < b:
			count++
			got = got[1:]
		case a > b:
			count++
			want = want[1:]
		default:
			if !reflect.DeepEqual(got[0], want[0]) {
				count++
			}
			got, want = got[1:], want[1:]
		}
	}
	return count + len(got) + len(want)
}
