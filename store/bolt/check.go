package bolt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"github.com/duffy-broker/duffy-broker/broker"
)

// maxFindings bounds what [Store.Check] reports: damage breeds messages.
const maxFindings = 20

// Check reads the whole database and compares every page, record and index with
// each other. It gives nil, or an error that lists what does not fit. Writers
// wait meanwhile: it is for tests, and for an operator who suspects damage.
func (s *Store) Check(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// bbolt's own check reads the list of free pages, so no writer may be at work.
	b, err := s.db.Begin(true)
	if err != nil {
		return s.beginError(err)
	}
	defer func() { _ = b.Rollback() }() // nothing was written
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))

	var findings []error
	report := func(err error) {
		if len(findings) < maxFindings {
			findings = append(findings, err)
		}
	}
	if err := s.checkSize(b); err != nil {
		return damaged(s.path, err) // reading on would fault
	}
	t := &tx{b: b, path: s.path}
	defer t.end()
	t.checkNodes(report)
	t.checkSessions(report)
	t.checkTenants(report)
	t.checkEvents(report)
	t.checkRuns(report)
	t.checkIdempotency(report)
	t.checkHosts(report)
	if len(findings) == 0 {
		// Last, since it reads in a goroutine of its own, where faults can't be
		// caught: by now every page in use has been read.
		for err := range b.Check() {
			report(err)
		}
	}
	if len(findings) > 0 {
		return damaged(s.path, errors.Join(findings...))
	}
	return ctx.Err()
}

func (t *tx) checkNodes(report func(error)) {
	byState, byUID := index{}, index{}
	checkRecords(t, report, bucketNodes, func(n broker.Node) int64 {
		byState[string(nodeIndexKey(n))] = ""
		byUID[n.UID] = string(idKey(n.ID))
		return n.ID
	})
	t.compare(report, bucketNodesByState, byState)
	t.compare(report, bucketNodesByUID, byUID)
	for _, bucket := range []string{bucketMeta, bucketPoolHealth, bucketRollouts, bucketFollowed} {
		if err := t.scan(bucket, nil, func(_, _ []byte) bool { return true }); err != nil {
			report(err)
		}
	}
	err := t.scan(bucketTerraform, nil, func(uid, _ []byte) bool {
		if _, ok := byUID[string(uid)]; !ok {
			report(fmt.Errorf("%s: no node has uid %s", bucketTerraform, uid))
		}
		return true
	})
	if err != nil {
		report(err)
	}
}

func (t *tx) checkSessions(report func(error)) {
	byState := index{}
	checkRecords(t, report, bucketSessions, func(s broker.Session) int64 {
		byState[string(sessionIndexKey(s))] = ""
		return s.ID
	})
	t.compare(report, bucketSessionsByState, byState)
}

func (t *tx) checkTenants(report func(error)) {
	byName := index{}
	checkRecords(t, report, bucketTenants, func(tenant broker.Tenant) int64 {
		byName[string(nameKey(tenant.Name))] = string(idKey(tenant.ID))
		return tenant.ID
	})
	t.compare(report, bucketTenantsByName, byName)
}

func (t *tx) checkEvents(report func(error)) {
	byTime, bySession := index{}, index{}
	checkRecords(t, report, bucketEvents, func(e broker.Event) int64 {
		byTime[string(eventIndexKey(e))] = ""
		if key := sessionEventKey(e); key != nil {
			bySession[string(key)] = ""
		}
		return e.Seq
	})
	t.compare(report, bucketEventsByTime, byTime)
	t.compare(report, bucketEventsBySession, bySession)
}

func (t *tx) checkIdempotency(report func(error)) {
	byTime := index{}
	keep := func(bucket string, record any, own func() []byte) func(key, raw []byte) bool {
		return func(key, raw []byte) bool {
			if err := json.Unmarshal(raw, record); err != nil {
				report(fmt.Errorf("%s, key %x: %w", bucket, key, err))
			} else if !bytes.Equal(key, own()) {
				report(fmt.Errorf("%s, key %x: the record says it is %x", bucket, key, own()))
			}
			return true
		}
	}
	var i broker.Idempotency
	err := t.scan(bucketIdempotency, nil, keep(bucketIdempotency, &i, func() []byte {
		byTime[string(idempotencyTimeKey(i))] = ""
		return idempotencyKey(i.TenantID, i.Key)
	}))
	if err != nil {
		report(err)
	}
	t.compare(report, bucketIdempotencyByTime, byTime)
	var h broker.Handouts
	if err := t.scan(bucketHandouts, nil, keep(bucketHandouts, &h, func() []byte { return handoutsKey(h.TenantID, h.Pool) })); err != nil {
		report(err)
	}
}

func (t *tx) checkRuns(report func(error)) {
	byNode, ids := index{}, index{}
	checkRecords(t, report, bucketRuns, func(r broker.Run) int64 {
		byNode[string(runIndexKey(r))] = ""
		ids[string(idKey(r.ID))] = ""
		return r.ID
	})
	t.compare(report, bucketRunsByNode, byNode)
	err := t.scan(bucketRunLogs, nil, func(id, _ []byte) bool {
		if _, ok := ids[string(id)]; !ok {
			report(fmt.Errorf("%s: there is no run %x", bucketRunLogs, id))
		}
		return true
	})
	if err != nil {
		report(err)
	}
}

// index is what an index bucket must hold: key to value.
type index map[string]string

// checkRecords decodes every record of a bucket and compares its id with its key
// and with the bucket's sequence.
func checkRecords[T any](t *tx, report func(error), bucket string, id func(T) int64) {
	checkRecordsOf(t, report, bucket, bucket, id)
}

// checkRecordsOf is checkRecords for ids of another bucket's sequence.
func checkRecordsOf[T any](t *tx, report func(error), bucket, sequence string, id func(T) int64) {
	b, err := t.bucket(sequence)
	if err != nil {
		report(err)
		return
	}
	last := idKey(int64(b.Sequence())) //nolint:gosec // as in nextID
	err = t.scan(bucket, nil, func(key, raw []byte) bool {
		var record T
		if err := json.Unmarshal(raw, &record); err != nil {
			report(fmt.Errorf("%s, key %x: %w", bucket, key, err))
			return true
		}
		if got := id(record); string(idKey(got)) != string(key) {
			report(fmt.Errorf("%s, key %x: the record says it is %d", bucket, key, got))
		}
		if string(key) > string(last) {
			report(fmt.Errorf("%s, key %x: above the sequence, %x", bucket, key, last))
		}
		return true
	})
	if err != nil {
		report(err)
	}
}

// compare reports what an index has too much, too little, or wrong.
func (t *tx) compare(report func(error), bucket string, want index) {
	missing := maps.Clone(want)
	err := t.scan(bucket, nil, func(key, value []byte) bool {
		switch v, ok := want[string(key)]; {
		case !ok:
			report(fmt.Errorf("%s, key %x: no record has it", bucket, key))
		case v != string(value):
			report(fmt.Errorf("%s, key %x: it is %x, and the record is %x", bucket, key, value, v))
		}
		delete(missing, string(key))
		return true
	})
	if err != nil {
		report(err)
	}
	for _, key := range slices.Sorted(maps.Keys(missing)) {
		report(fmt.Errorf("%s: key %x of a record is missing", bucket, key))
	}
}
