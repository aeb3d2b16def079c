package bolt

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func oneKey() broker.Idempotency {
	return broker.Idempotency{TenantID: 1, Key: "k", CreatedAt: time.Unix(1, 0)}
}

// A file from before some buckets came gets them when it is opened, and what was
// stored is found in them.
func TestOpenIndexesEvents(t *testing.T) {
	path := t.TempDir() + "/db"
	s, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	err = s.update(t.Context(), func(t *tx) error {
		if err := t.AppendEvent(&broker.Event{At: time.Unix(1, 0), SessionID: 5}); err != nil {
			return err
		}
		for _, name := range []string{bucketEventsBySession, bucketIdempotency, bucketIdempotencyByTime, bucketHandouts} {
			if err := t.b.DeleteBucket([]byte(name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if s, err = Open(path, Options{}); err != nil {
			t.Fatal(err)
		}
		err = s.View(t.Context(), func(tx broker.ReadTx) error {
			events, err := tx.SessionEvents(5, 0, 10)
			if len(events) != 1 {
				t.Errorf("got %d events of the session, want 1", len(events))
			}
			return err
		})
		if err := errors.Join(err, s.Check(t.Context()), s.Close()); err != nil {
			t.Fatal(err)
		}
	}
}

// Check is the net below all other tests: it must hold.
func TestCheck(t *testing.T) {
	for _, tt := range []struct {
		name  string
		spoil func(*tx) error
		want  string
	}{
		{"index key too much", func(t *tx) error {
			return t.put(bucketNodesByState, nodeIndexKey(broker.Node{ID: 1, Pool: "b", State: broker.NodeReady}), nil)
		}, "nodes_by_state"},
		{"index key missing", func(t *tx) error {
			return t.remove(bucketSessionsByState, sessionIndexKey(broker.Session{ID: 1, TenantID: 1, State: broker.SessionActive}))
		}, "sessions_by_state"},
		{"index value wrong", func(t *tx) error { return t.put(bucketTenantsByName, []byte("alice"), idKey(2)) }, "tenants_by_name"},
		{"uid missing", func(t *tx) error { return t.remove(bucketNodesByUID, []byte("u")) }, "nodes_by_uid"},
		{"event record missing", func(t *tx) error { return t.remove(bucketEvents, idKey(1)) }, "events_by_time"},
		{"event missing in its session", func(t *tx) error { return t.remove(bucketEventsBySession, append(idKey(1), idKey(1)...)) }, "events_by_session"},
		{"idempotency not by time", func(t *tx) error { return t.remove(bucketIdempotencyByTime, idempotencyTimeKey(oneKey())) }, "idempotency_by_time"},
		{"idempotency under a wrong key", func(t *tx) error {
			return t.write(bucketIdempotency, idempotencyKey(1, "k"), broker.Idempotency{TenantID: 2, Key: "k"})
		}, "the record says"},
		{"hand-outs broken", func(t *tx) error { return t.put(bucketHandouts, handoutsKey(1, "a"), []byte("{")) }, "handouts, key"},
		{"record under a wrong key", func(t *tx) error { return t.write(bucketSessions, idKey(1), broker.Session{ID: 7}) }, "the record says it is 7"},
		{"record above the sequence", func(t *tx) error { return t.write(bucketEvents, idKey(7), broker.Event{Seq: 7}) }, "above the sequence"},
		{"no record", func(t *tx) error { return t.put(bucketNodes, idKey(1), []byte("{")) }, "nodes, key"},
		{"host claim missing", func(t *tx) error { return t.remove(bucketHostClaims, []byte("hostname h")) }, "host_claims: key"},
		{"host in a wrong state", func(t *tx) error {
			return t.put(bucketHostsByState, hostIndexKey(broker.Host{ID: 2, Inventory: "api", NodeID: 1}), nil)
		}, "hosts_by_state"},
		{"host with the id of a node", func(t *tx) error {
			return t.write(bucketHosts, idKey(1), broker.Host{ID: 1, RetiredAt: time.Unix(1, 0)})
		}, "there is a node 1, too"},
		{"host above the sequence", func(t *tx) error { return t.write(bucketHosts, idKey(7), broker.Host{ID: 7}) }, "hosts, key 0000000000000007: above the sequence"},
		{"orphan", func(t *tx) error { return t.put(bucketTerraform, []byte("v"), []byte("x")) }, "no node has uid v"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, err := Open(t.TempDir()+"/db", Options{})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			err = s.update(t.Context(), func(t *tx) error {
				if err := t.CreateNode(&broker.Node{UID: "u", Pool: "a", State: broker.NodeReady}); err != nil {
					return err
				}
				if err := t.CreateSession(&broker.Session{TenantID: 1, State: broker.SessionActive}); err != nil {
					return err
				}
				if err := t.AppendEvent(&broker.Event{At: time.Unix(1, 0), SessionID: 1}); err != nil {
					return err
				}
				if err := t.SetIdempotency(oneKey()); err != nil {
					return err
				}
				if err := t.AddHandouts(1, "a", 1); err != nil {
					return err
				}
				if err := t.CreateHost(&broker.Host{Inventory: "api", Hostname: "h", Address: "192.0.2.1"}); err != nil {
					return err
				}
				return t.CreateTenant(&broker.Tenant{Name: "alice"})
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Check(t.Context()); err != nil {
				t.Fatalf("a sound store: %v", err)
			}
			if err := s.update(t.Context(), tt.spoil); err != nil {
				t.Fatal(err)
			}
			if err := s.Check(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a message with %q", err, tt.want)
			}
		})
	}
}
