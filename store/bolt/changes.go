package bolt

import (
	"encoding/binary"
	"slices"
	"sync"

	"github.com/duffy-broker/duffy-broker/broker"
)

// maxChanges is how many ids the log of changes holds at most: many times of what
// changes between two passes of the reconcile loop.
const maxChanges = 1 << 16

// changeSet are the records that a transaction has touched, also if its function
// has failed since. Several functions share one, one after the other.
type changeSet struct{ nodes, sessions []int64 }

// note takes down a write to a bucket.
func (c *changeSet) note(bucket string, key []byte) {
	if c == nil || len(key) != idLen {
		return
	}
	id := int64(binary.BigEndian.Uint64(key)) //nolint:gosec // the reverse of idKey
	switch bucket {
	case bucketNodes:
		c.nodes = append(c.nodes, id)
	case bucketSessions:
		c.sessions = append(c.sessions, id)
	}
}

func (c *changeSet) len() int { return len(c.nodes) + len(c.sessions) }

// changeLog remembers what the last commits have touched. It lives in memory: who
// wants to know more reads everything. The version of a state is bbolt's id of the
// transaction that made it.
type changeLog struct {
	mu      sync.Mutex
	oldest  int // what was touched after this version is known, once there are commits
	commits []commit
	ids     int // in all commits
}

type commit struct {
	version int
	changeSet
}

// add takes down what a commit is about to write. It must come before the commit:
// from then on others see the new state, and ask. A commit that fails has cost
// nothing but reading again what has not changed; the next one has its version.
func (l *changeLog) add(version int, c changeSet) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.oldest == 0 {
		l.oldest = version - 1
	}
	if c.len() == 0 {
		return
	}
	l.commits = append(l.commits, commit{version, c})
	if l.ids += c.len(); l.ids <= maxChanges {
		return
	}
	drop := 0
	for l.ids > maxChanges/2 { // not one by one: what stays is copied
		l.ids -= l.commits[drop].len()
		l.oldest = l.commits[drop].version
		drop++
	}
	l.commits = slices.Clone(l.commits[drop:])
}

// between gives what was touched after one version and up to another.
func (l *changeLog) between(since, now int) broker.Changes {
	c := broker.Changes{Version: broker.Version(now)} //nolint:gosec // a count of transactions
	l.mu.Lock()
	defer l.mu.Unlock()
	if since <= 0 || since > now || since < now && (l.oldest == 0 || since < l.oldest) {
		return c
	}
	c.Known = true
	for i := len(l.commits) - 1; i >= 0 && l.commits[i].version > since; i-- {
		if l.commits[i].version <= now {
			c.Nodes = append(c.Nodes, l.commits[i].nodes...)
			c.Sessions = append(c.Sessions, l.commits[i].sessions...)
		}
	}
	return c
}

// Changes implements [broker.ReadTx].
func (t *tx) Changes(since broker.Version) (broker.Changes, error) {
	if t.b == nil {
		return broker.Changes{}, errOver
	}
	if t.log == nil { // it is writing
		return broker.Changes{}, nil
	}
	return t.log.between(int(since), t.b.ID()), nil //nolint:gosec // one of ours, or too large to be one
}
