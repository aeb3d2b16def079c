package api

import (
	"log/slog"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// countedKeys are imported keys, each its own hash.
type countedKeys struct{ calls atomic.Int64 }

// EqualImportedKey implements [broker.ImportedKeys].
func (k *countedKeys) EqualImportedKey(key string, hash []byte) bool {
	k.calls.Add(1)
	return key == string(hash)
}

// Wrong keys for an imported tenant cost as many slow comparisons as wrong logins
// are let through from an address, and the right key one in all.
func TestFailedLoginsOfImportedTenant(t *testing.T) {
	store, keys := memory.New(), new(countedKeys)
	_, err := broker.ImportTenants(t.Context(), store,
		[]broker.TenantImport{{Tenant: broker.Tenant{Name: "ci", KeyHash: broker.ImportedHash([]byte("right"))}}}, broker.ImportOptions{Now: time.Now()})
	if err != nil {
		t.Fatal(err)
	}
	s := newTestServer(Config{Broker: broker.New(broker.Config{
		Store: store, Keys: plainKeys{}, ImportedKeys: keys, Log: slog.New(slog.DiscardHandler), Now: time.Now, Pools: new(broker.PoolSet), Wake: func() {},
	})})
	now := time.Now()
	s.now = func() time.Time { return now }
	s.routes()
	call := func(key, address string) answerSeen {
		return ask(s.engine, "/api/v1/whoami", func(r *http.Request) { r.SetBasicAuth("ci", key) }, from(address))
	}
	for i := range 10 * failedLogins {
		a := call("wrong", "192.0.2.1:1")
		if i < failedLogins && a.status != http.StatusUnauthorized {
			t.Errorf("wrong login %d: %d", i, a.status)
		}
		if i >= failedLogins {
			refused(t, a, "one too many")
		}
	}
	if got := keys.calls.Load(); got != failedLogins {
		t.Errorf("%d slow comparisons, want %d", got, failedLogins)
	}
	for range 3 {
		if a := call("right", "192.0.2.2:1"); a.status != http.StatusOK {
			t.Errorf("the right key from another address: %d %s", a.status, a.body)
		}
	}
	if got := keys.calls.Load(); got != failedLogins+1 {
		t.Errorf("%d slow comparisons after the right logins, want one more than %d", got, failedLogins)
	}
}
