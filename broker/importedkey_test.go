package broker_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// slowKeys are imported keys whose hash is "slow KEY". A comparison takes a second.
type slowKeys struct {
	calls, running, most atomic.Int64
	meanwhile            func() // during a comparison
}

// EqualImportedKey implements [broker.ImportedKeys].
func (k *slowKeys) EqualImportedKey(key string, hash []byte) bool {
	k.calls.Add(1)
	if now := k.running.Add(1); now > k.most.Load() {
		k.most.Store(now)
	}
	defer k.running.Add(-1)
	time.Sleep(time.Second)
	if k.meanwhile != nil {
		k.meanwhile()
	}
	return string(hash) == "slow "+key
}

// importedWorld is a broker with imported tenants, whose keys are "key of NAME".
func importedWorld(t *testing.T, tenants ...broker.Tenant) (*broker.Broker, *slowKeys, broker.Store) {
	t.Helper()
	store, slow := memory.New(), new(slowKeys)
	imports := make([]broker.TenantImport, 0, len(tenants))
	for _, tenant := range tenants {
		tenant.KeyHash = broker.ImportedHash([]byte("slow key of " + tenant.Name))
		imports = append(imports, broker.TenantImport{Tenant: tenant})
	}
	if _, err := broker.ImportTenants(t.Context(), store, imports, broker.ImportOptions{From: "a test", Now: t0}); err != nil {
		t.Fatal(err)
	}
	return newImportedBroker(store, slow), slow, store
}

func newImportedBroker(store broker.Store, slow *slowKeys) *broker.Broker {
	return broker.New(broker.Config{
		Store: store, Keys: plainKeys{}, ImportedKeys: slow, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return t0 }, Wake: func() {},
	})
}

func storedTenant(t *testing.T, store broker.Store, name string) (tenant broker.Tenant) {
	t.Helper()
	err := store.View(context.Background(), func(tx broker.ReadTx) (err error) {
		tenant, err = tx.TenantByName(name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

// An imported hash is compared until its key has been seen, and then never again.
func TestImportedKeyIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, slow, store := importedWorld(t, broker.Tenant{Name: "ci"}, broker.Tenant{Name: "gone", RetiredAt: t0})
		for _, step := range []struct {
			name, key string
			want      broker.Code
			calls     int64 // of the slow comparison, so far
		}{
			{"ci", "wrong", broker.CodeUnauthorized, 1},
			{"ci", "", broker.CodeUnauthorized, 2},
			{"nobody", "key of ci", broker.CodeUnauthorized, 2},
			{"ci", "key of ci", "", 3},
			{"ci", "key of ci", "", 3},
			{"ci", "wrong", broker.CodeUnauthorized, 3},
			{"gone", "wrong", broker.CodeUnauthorized, 4},
			{"gone", "key of gone", broker.CodeForbidden, 5},
			{"gone", "key of gone", broker.CodeForbidden, 5}, // or its jobs would cost a comparison each time
		} {
			got, err := b.Authenticate(t.Context(), step.name, step.key)
			if broker.CodeOf(err) != step.want || err == nil && got.Name != step.name {
				t.Errorf("%s with key %q: %q, %v; want code %q", step.name, step.key, got.Name, err, step.want)
			}
			if calls := slow.calls.Load(); calls != step.calls {
				t.Errorf("%s with key %q: %d slow comparisons so far, want %d", step.name, step.key, calls, step.calls)
			}
		}
		for _, name := range []string{"ci", "gone"} {
			if got, want := storedTenant(t, store, name).KeyHash, (plainKeys{}).HashAPIKey("key of "+name); !bytes.Equal(got, want) {
				t.Errorf("the stored hash of %s is %q, want our own", name, got)
			}
		}
		// Without the means to compare, an imported key fits nobody, and nothing breaks.
		plain := broker.New(broker.Config{Store: store, Keys: plainKeys{}, Log: slog.New(slog.DiscardHandler), Now: time.Now})
		if _, err := plain.Authenticate(t.Context(), "ci", "key of ci"); err != nil {
			t.Error(err)
		}
	})
}

// Two keys may be valid before the imported one was ever used.
func TestImportedKeyInARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, _, store := importedWorld(t, broker.Tenant{Name: "root", IsAdmin: true}, broker.Tenant{Name: "ci"}, broker.Tenant{Name: "reset"})
		admin := storedTenant(t, store, "root")
		change := func(name string, u broker.TenantUpdate) string {
			t.Helper()
			_, key, err := b.UpdateTenant(t.Context(), admin, storedTenant(t, store, name).ID, u)
			if err != nil {
				t.Fatal(err)
			}
			return key
		}
		fits := func(name, key string) bool {
			_, err := b.Authenticate(t.Context(), name, key)
			return err == nil
		}
		second := change("ci", broker.TenantUpdate{ResetKey: true, KeepKey: true})
		for range 2 { // the second time it is not imported any more
			if !fits("ci", second) || !fits("ci", "key of ci") || fits("ci", "wrong") {
				t.Error("not just both keys are valid")
			}
		}
		third := change("ci", broker.TenantUpdate{ResetKey: true, KeepKey: true})
		if !fits("ci", third) || !fits("ci", second) || fits("ci", "key of ci") {
			t.Error("after a second rotation not just the two newest keys are valid")
		}
		key := change("reset", broker.TenantUpdate{ResetKey: true})
		if !fits("reset", key) || fits("reset", "key of reset") {
			t.Error("after a reset the imported key is valid, or the new one is not")
		}
	})
}

// A key that is replaced while it is compared is not valid any more.
func TestImportedKeyIsResetMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, slow, store := importedWorld(t, broker.Tenant{Name: "root", IsAdmin: true}, broker.Tenant{Name: "ci"})
		slow.meanwhile = func() {
			if _, _, err := b.UpdateTenant(t.Context(), storedTenant(t, store, "root"), storedTenant(t, store, "ci").ID, broker.TenantUpdate{ResetKey: true}); err != nil {
				t.Error(err)
			}
		}
		if _, err := b.Authenticate(t.Context(), "ci", "key of ci"); broker.CodeOf(err) != broker.CodeUnauthorized {
			t.Errorf("got %v, want unauthorized", err)
		}
	})
}

// A client that gives up during the comparison does not cost another one.
func TestImportedKeyOfAClientThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, slow, _ := importedWorld(t, broker.Tenant{Name: "ci"})
		ctx, cancel := context.WithCancel(t.Context())
		slow.meanwhile = cancel
		_, _ = b.Authenticate(ctx, "ci", "key of ci") // nobody hears of it
		if _, err := b.Authenticate(t.Context(), "ci", "key of ci"); err != nil || slow.calls.Load() != 1 {
			t.Errorf("%v, after %d slow comparisons; want one", err, slow.calls.Load())
		}
	})
}

// A store that takes no changes keeps nobody out.
func TestImportedKeyWithAReadOnlyStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, slow, store := importedWorld(t, broker.Tenant{Name: "ci"})
		b := newImportedBroker(readOnly{store}, slow)
		for range 2 {
			if _, err := b.Authenticate(t.Context(), "ci", "key of ci"); err != nil {
				t.Error(err)
			}
		}
		if slow.calls.Load() != 2 {
			t.Errorf("%d slow comparisons, want one a login", slow.calls.Load())
		}
	})
}

// However many ask, one comparison runs at a time; a tenant that is flooded with
// wrong keys keeps no other waiting; and jobs of one tenant that all come at once
// cost one comparison.
func TestImportedKeysFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, slow, _ := importedWorld(t, broker.Tenant{Name: "flooded"}, broker.Tenant{Name: "ci"})
		var wg sync.WaitGroup
		var mu sync.Mutex
		got := make(map[broker.Code]int)
		for i := range 200 {
			wg.Go(func() {
				_, err := b.Authenticate(t.Context(), "flooded", fmt.Sprint("wrong ", i))
				mu.Lock()
				defer mu.Unlock()
				got[broker.CodeOf(err)]++
			})
		}
		synctest.Wait()
		// Those that gave up cost nothing.
		gone, cancel := context.WithCancel(t.Context())
		wg.Go(func() {
			if _, err := b.Authenticate(gone, "ci", "wrong"); err == nil {
				t.Error("a wrong key fits")
			}
		})
		synctest.Wait()
		cancel()
		began := time.Now()
		for range 50 {
			wg.Go(func() {
				if _, err := b.Authenticate(t.Context(), "ci", "key of ci"); err != nil {
					t.Errorf("the right key of another tenant: %v", err)
				}
				if waited := time.Since(began); waited > 5*time.Second {
					t.Errorf("it waited %s", waited)
				}
			})
		}
		wg.Wait()
		if diff := cmp.Diff(map[broker.Code]int{broker.CodeUnauthorized: 64, broker.CodeUnavailable: 136}, got); diff != "" {
			t.Errorf("answers to wrong keys (-want +got):\n%s", diff)
		}
		if slow.most.Load() != 1 || slow.calls.Load() != 65 {
			t.Errorf("%d slow comparisons, %d at once; want 64 wrong keys and a right one, one at a time", slow.calls.Load(), slow.most.Load())
		}
		// The line is open again.
		if _, err := b.Authenticate(t.Context(), "flooded", "key of flooded"); err != nil {
			t.Error(err)
		}
	})
}

// Imported hashes need no root key.
func TestImportedHashesNeedNoRootKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, store := importedWorld(t, broker.Tenant{Name: "ci"})
		keys, err := secret.Open(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		b := broker.New(broker.Config{Store: store, Keys: keys, ImportedKeys: new(slowKeys), Log: slog.New(slog.DiscardHandler), Now: time.Now})
		uses := func() map[string]broker.KeyUse {
			t.Helper()
			uses, err := broker.KeyUses(t.Context(), store, sealing{keys}, keys.KeyOf)
			if err != nil {
				t.Fatal(err)
			}
			return uses
		}
		if got := uses(); len(got) > 0 {
			t.Errorf("before the login: %v", got)
		}
		if _, err := b.Authenticate(t.Context(), "ci", "key of ci"); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[string]broker.KeyUse{keys.Current().ID(): {APIKeys: 1}}, uses()); diff != "" {
			t.Errorf("after the login (-want +got):\n%s", diff)
		}
	})
}
