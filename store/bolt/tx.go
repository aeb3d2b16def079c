package bolt

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	"go.etcd.io/bbolt"

	"github.com/duffy-broker/duffy-broker/broker"
)

// The buckets: see the package comment.
const (
	bucketMeta            = "meta"
	bucketNodes           = "nodes"
	bucketNodesByState    = "nodes_by_state"
	bucketNodesByUID      = "nodes_by_uid"
	bucketTerraform       = "terraform"
	bucketSessions        = "sessions"
	bucketSessionsByState = "sessions_by_state"
	bucketTenants         = "tenants"
	bucketTenantsByName   = "tenants_by_name"
	bucketPoolHealth      = "pool_health"
	bucketRollouts        = "rollouts"
	bucketEvents          = "events"
	bucketEventsByTime    = "events_by_time"
	bucketRuns            = "runs"
	bucketRunsByNode      = "runs_by_node"
	bucketRunLogs         = "run_logs"

	bucketEventsBySession   = "events_by_session"
	bucketIdempotency       = "idempotency"
	bucketIdempotencyByTime = "idempotency_by_time"
	bucketHandouts          = "handouts"

	bucketHosts        = "hosts"
	bucketHostsByState = "hosts_by_state"
	bucketHostClaims   = "host_claims"

	bucketFollowed = "followed"
)

func buckets() []string {
	return append(addedBuckets(),
		bucketMeta, bucketNodes, bucketNodesByState, bucketNodesByUID, bucketTerraform, bucketSessions, bucketSessionsByState,
		bucketTenants, bucketTenantsByName, bucketPoolHealth, bucketEvents, bucketEventsByTime,
	)
}

// addedBuckets are those that came after the first version of the schema: a file
// without one of them may be an old one. Without any other it has lost something.
func addedBuckets() []string {
	return []string{
		bucketRuns, bucketRunsByNode, bucketRunLogs,
		bucketEventsBySession, bucketIdempotency, bucketIdempotencyByTime, bucketHandouts, bucketRollouts,
		bucketHosts, bucketHostsByState, bucketHostClaims, bucketFollowed,
	}
}

const (
	keySchema   = "schema"
	keyIdentity = "identity"
)

// tx is one function's use of a bbolt transaction. Everything that touches bbolt
// goes through the methods in this file, which turn its panics into errors.
type tx struct {
	b     *bbolt.Tx
	path  string
	dirty *bool // set by every write; nil when reading
	// touched is what is written, for the log of changes; log is what a reader asks.
	// Each is nil where the other is not.
	touched *changeSet
	log     *changeLog
	// failure is the first error that makes the transaction unfit to be kept:
	// damage, or a record written without its index. It counts even when the
	// function overlooks it.
	failure error
}

var (
	_ broker.Tx = (*tx)(nil)

	errOver = errors.New("the transaction was used after its function had returned")
)

// end makes later use an error: by then the bbolt transaction is somebody else's.
func (t *tx) end() { t.b = nil }

// guard turns a panic of bbolt into an error.
func (t *tx) guard(err *error) {
	if r := recover(); r != nil {
		*err = t.damaged(r)
	}
}

func (t *tx) damaged(what any) error {
	return t.fail(damaged(t.path, what))
}

func (t *tx) fail(err error) error {
	if t.failure == nil {
		t.failure = err
	}
	return err
}

func (t *tx) bucket(name string) (*bbolt.Bucket, error) {
	if t.b == nil {
		return nil, errOver
	}
	b := t.b.Bucket([]byte(name))
	if b == nil {
		return nil, t.damaged("it has no bucket " + name)
	}
	return b, nil
}

// get gives a copy of the value of a key, nil when there is none. Reading the
// file itself stays in here, where a fault is caught.
func (t *tx) get(bucket string, key []byte) (value []byte, err error) {
	defer t.guard(&err)
	b, err := t.bucket(bucket)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(b.Get(key)), nil
}

// getID gives the id that an index has under a key, and whether it has one.
func (t *tx) getID(index string, key []byte) (id int64, ok bool, err error) {
	value, err := t.get(index, key)
	if value == nil || err != nil {
		return 0, false, err
	}
	if len(value) != idLen {
		return 0, false, t.damaged(fmt.Errorf("%s, key %x: %x is no id", index, key, value))
	}
	return keyID(value), true, nil
}

func (t *tx) put(bucket string, key, value []byte) (err error) {
	defer t.guard(&err)
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	*t.dirty = true
	t.touched.note(bucket, key)
	if err := b.Put(key, value); err != nil {
		return t.fail(fmt.Errorf("write to %s: %w", bucket, err))
	}
	return nil
}

func (t *tx) remove(bucket string, key []byte) (err error) {
	defer t.guard(&err)
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	*t.dirty = true
	t.touched.note(bucket, key)
	if err := b.Delete(key); err != nil {
		return t.fail(fmt.Errorf("delete from %s: %w", bucket, err))
	}
	return nil
}

// nextID gives an id that the bucket never gave before.
func (t *tx) nextID(bucket string) (_ int64, err error) {
	defer t.guard(&err)
	b, err := t.bucket(bucket)
	if err != nil {
		return 0, err
	}
	*t.dirty = true
	id, err := b.NextSequence()
	return int64(id), err //nolint:gosec // a sequence does not come to 2^63
}

// scan calls fn for the keys from start on, until it returns false.
func (t *tx) scan(bucket string, start []byte, fn func(key, value []byte) bool) (err error) {
	defer t.guard(&err)
	b, err := t.bucket(bucket)
	if err != nil {
		return err
	}
	c := b.Cursor()
	for k, v := c.Seek(start); k != nil && fn(k, v); k, v = c.Next() {
	}
	return nil
}

// scanPrefix calls fn for the keys that begin with prefix, until it returns false.
func (t *tx) scanPrefix(bucket string, prefix []byte, fn func(key, value []byte) bool) error {
	return t.scan(bucket, prefix, func(k, v []byte) bool { return bytes.HasPrefix(k, prefix) && fn(k, v) })
}

// read gives the record under a key, and whether there is one.
func read[T any](t *tx, bucket string, key []byte) (record T, ok bool, err error) {
	raw, err := t.get(bucket, key)
	if raw == nil || err != nil {
		return record, false, err
	}
	if err := json.Unmarshal(raw, &record); err != nil {
		return record, false, t.damaged(fmt.Errorf("%s, key %x: %w", bucket, key, err))
	}
	return record, true, nil
}

// readAll gives all records of a bucket, in the order of their keys, beginning at
// start; at most limit of them, if that is above 0.
func readAll[T any](t *tx, bucket string, start []byte, limit int) (list []T, err error) {
	err = t.scan(bucket, start, func(key, raw []byte) bool {
		var record T
		if bad := json.Unmarshal(raw, &record); bad != nil {
			_ = t.damaged(fmt.Errorf("%s, key %x: %w", bucket, key, bad))
			return false
		}
		list = append(list, record)
		return len(list) != limit
	})
	if err == nil {
		err = t.failure
	}
	return list, err
}

// readIDs gives the records of ids, which an index says are there.
func readIDs[T any](t *tx, bucket string, ids []int64) ([]T, error) {
	list := make([]T, 0, len(ids))
	for _, id := range ids {
		record, ok, err := read[T](t, bucket, idKey(id))
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, t.damaged(fmt.Sprintf("an index names record %d, which %s does not hold", id, bucket))
		}
		list = append(list, record)
	}
	return list, nil
}

func (t *tx) write(bucket string, key []byte, record any) error {
	raw, err := json.Marshal(record)
	if err != nil {
		return broker.Wrap(broker.CodeInvalid, err, "this record of %s can't be stored", bucket)
	}
	return t.put(bucket, key, raw)
}

// ids gives what a by-state index holds for the states and the group, ascending.
// No states means all states, a nil group means all groups; only ids above last,
// at most limit of them, and 0 means all.
func (t *tx) ids(index string, states []string, group []byte, last int64, limit int) ([]int64, error) {
	if len(states) == 0 {
		var err error
		if states, err = t.states(index); err != nil {
			return nil, err
		}
	}
	var ids []int64
	for _, state := range states {
		n := 0
		err := t.scanPrefix(index, stateKey(state, group), func(key, _ []byte) bool {
			if id := keyID(key); id > last {
				ids = append(ids, id)
				n++
			}
			return group == nil || limit == 0 || n < limit // only within one group are ids in order
		})
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(ids)
	ids = slices.Compact(ids) // a state may be asked for twice
	if limit > 0 && len(ids) > limit {
		ids = ids[:limit]
	}
	return ids, nil
}

// states gives the states that a by-state index holds keys of. It reads one key a
// state.
func (t *tx) states(index string) (states []string, err error) {
	start := []byte{}
	for start != nil {
		at := start
		start = nil
		err := t.scan(index, at, func(key, _ []byte) bool {
			if n, used := binary.Uvarint(key); used > 0 && n <= uint64(len(key)-used) { //nolint:gosec // a length
				prefix := key[:used+int(n)] //nolint:gosec // bounded by the line above
				states, start = append(states, string(prefix[used:])), after(prefix)
			} else {
				_ = t.damaged(fmt.Sprintf("%s, key %x", index, key))
			}
			return false
		})
		if err == nil {
			err = t.failure
		}
		if err != nil {
			return nil, err
		}
	}
	return states, nil
}

// idLen is the length of an id in a key.
const idLen = 8

// idKey is the key of an id. Negative ids, which nothing has, sort last.
func idKey(id int64) []byte {
	return binary.BigEndian.AppendUint64(nil, uint64(id)) //nolint:gosec // see above
}

// keyID gives the id that a key is or ends with.
func keyID(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key[len(key)-idLen:])) //nolint:gosec // the reverse of idKey
}

// stateKey is the beginning of a by-state index key, without the id.
func stateKey(state string, group []byte) []byte { return append(stringKey(state), group...) }

// stringKey is a string inside a longer key: preceded by its length.
func stringKey(s string) []byte {
	return append(binary.AppendUvarint(nil, uint64(len(s))), s...)
}

// firstID is the key to begin at for the ids above last.
func firstID(last int64) []byte { return idKey(max(0, last) + 1) }

// cutString takes the string that a key begins with, made by stringKey.
func cutString(key []byte) (s, rest []byte, ok bool) {
	n, used := binary.Uvarint(key)
	if used <= 0 || n > uint64(len(key)-used) { //nolint:gosec // a length
		return nil, nil, false
	}
	key = key[used:]
	return key[:n], key[n:], true
}

// after gives the first key behind all keys that begin with prefix, nil when
// there can be none.
func after(prefix []byte) []byte {
	for i := len(prefix) - 1; i >= 0; i-- {
		if prefix[i] < 0xff {
			next := slices.Clone(prefix[:i+1])
			next[i]++
			return next
		}
	}
	return nil
}

// texts converts states to what ids asks for.
func texts[S ~string](states []S) []string {
	list := make([]string, len(states))
	for i, s := range states {
		list[i] = string(s)
	}
	return list
}

// named refuses a name that can't be a key or would not come back from JSON as it
// went in.
func named(what, name string) error {
	if name == "" {
		return broker.Errorf(broker.CodeInvalid, "%s is empty", what)
	}
	if !utf8.ValidString(name) {
		return broker.Errorf(broker.CodeInvalid, "%s %q is not valid UTF-8", what, name)
	}
	return nil
}
