package broker_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/fault"
)

// tenant gives a tenant as an admin sees it.
func (w *world) tenant(id int64) broker.Tenant {
	w.t.Helper()
	t, err := w.b.Tenant(w.t.Context(), w.admin, id)
	if err != nil {
		w.t.Fatal(err)
	}
	return t
}

func (w *world) change(id int64, u broker.TenantUpdate) (broker.Tenant, string) {
	w.t.Helper()
	t, key, err := w.b.UpdateTenant(w.t.Context(), w.admin, id, u)
	if err != nil {
		w.t.Fatal(err)
	}
	return t, key
}

// valid tells which of keys log a tenant in.
func (w *world) valid(name string, keys ...string) (valid []bool) {
	w.t.Helper()
	for _, key := range keys {
		_, err := w.b.Authenticate(w.t.Context(), name, key)
		valid = append(valid, err == nil)
	}
	return valid
}

func TestTenantKeys(t *testing.T) {
	w := newWorld(t, 0)
	made, first, err := w.b.CreateTenant(t.Context(), w.admin, broker.Tenant{Name: "ci", SSHKey: "one\ntwo"})
	if err != nil || made.SSHKey != "one\ntwo" || strings.Contains(string(made.KeyHash), first) {
		t.Fatalf("got %+v, %v", made, err)
	}
	check := func(step string, want []bool, keys ...string) {
		t.Helper()
		if diff := cmp.Diff(want, w.valid("ci", keys...)); diff != "" {
			t.Errorf("%s: valid keys (-want +got):\n%s", step, diff)
		}
	}
	check("created", []bool{true, false, false}, first, "", "x")

	_, second := w.change(made.ID, broker.TenantUpdate{ResetKey: true})
	check("reset: the old key is of no use", []bool{false, true}, first, second)

	_, third := w.change(made.ID, broker.TenantUpdate{ResetKey: true, KeepKey: true})
	check("rotated: both are", []bool{false, true, true}, first, second, third)

	given := "11111111-1111-4111-8111-111111111111"
	w.change(made.ID, broker.TenantUpdate{APIKey: given, KeepKey: true})
	check("rotated again: never three", []bool{false, false, true, true}, first, second, third, given)

	w.change(made.ID, broker.TenantUpdate{DropKey: true})
	check("dropped", []bool{false, true}, third, given)
	if w.tenant(made.ID).PreviousKeyHash != nil {
		t.Error("a hash is kept of a key that is not valid")
	}
	check("an empty key never fits", []bool{false}, "")
}

func TestCreateTenantRefused(t *testing.T) {
	w := newWorld(t, 0)
	for _, test := range []struct {
		actor broker.Tenant
		name  string
		code  broker.Code
	}{
		{w.demo, "new", broker.CodeForbidden},
		{w.admin, "demo", broker.CodeConflict},
		{w.admin, "a:b", broker.CodeInvalid},
		{w.admin, "a\nb", broker.CodeInvalid},
		{w.admin, "é", broker.CodeInvalid},
	} {
		_, key, err := w.b.CreateTenant(t.Context(), test.actor, broker.Tenant{Name: test.name})
		if broker.CodeOf(err) != test.code || key != "" {
			t.Errorf("%q by %s: %v and key %q, want %s", test.name, test.actor.Name, err, key, test.code)
		}
	}
	if list, err := w.b.VisibleTenants(t.Context(), w.admin); err != nil || len(list) != 3 {
		t.Errorf("%d tenants, %v; want the 3 from before", len(list), err)
	}
}

func TestTenantVisibility(t *testing.T) {
	w := newWorld(t, 0)
	list, err := w.b.VisibleTenants(t.Context(), w.demo)
	if err != nil || len(list) != 1 || list[0].ID != w.demo.ID {
		t.Errorf("demo sees %+v, %v; want itself", list, err)
	}
	for _, test := range []struct {
		actor broker.Tenant
		id    int64
		code  broker.Code
	}{
		{w.demo, w.demo.ID, ""},
		{w.demo, w.other.ID, broker.CodeForbidden},
		{w.demo, 99, broker.CodeForbidden},
		{w.admin, w.other.ID, ""},
		{w.admin, 99, broker.CodeNotFound},
	} {
		if _, err := w.b.Tenant(t.Context(), test.actor, test.id); broker.CodeOf(err) != test.code {
			t.Errorf("tenant %d for %s: %v, want %q", test.id, test.actor.Name, err, test.code)
		}
	}
}

func TestRetireTenant(t *testing.T) {
	w := newWorld(t, 2)
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1))
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := w.b.RequestSession(t.Context(), w.other, want("small", 1))
	if err != nil {
		t.Fatal(err)
	}
	yes, no := true, false
	if _, _, err := w.b.UpdateTenant(t.Context(), w.demo, w.demo.ID, broker.TenantUpdate{Active: &no}); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("by itself: %v, want forbidden", err)
	}
	retired, _ := w.change(w.demo.ID, broker.TenantUpdate{Active: &no})
	if retired.Active() {
		t.Errorf("got %+v", retired)
	}
	s, err = w.b.Session(t.Context(), w.admin, s.ID)
	if err != nil || !s.ExpiresAt.Equal(t0) || s.State != broker.SessionActive {
		t.Errorf("its session is %s until %v, %v; want it to end now", s.State, s.ExpiresAt, err)
	}
	if foreign, err = w.b.Session(t.Context(), w.admin, foreign.ID); err != nil || !foreign.ExpiresAt.After(t0) {
		t.Errorf("another tenant's session ends at %v, %v", foreign.ExpiresAt, err)
	}
	if _, err := w.b.Authenticate(t.Context(), "demo", "d"); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("it logs in: %v", err)
	}
	for _, u := range []broker.TenantUpdate{{Active: &no}, {ResetKey: true}} {
		_, _, err := w.b.UpdateTenant(t.Context(), w.admin, w.demo.ID, u)
		if broker.CodeOf(err) != broker.CodeInvalid || broker.MessageOf(err) != "tenant demo (id=2) is retired" {
			t.Errorf("a change of a retired tenant: %v", err)
		}
	}
	for range 2 {
		if back, _ := w.change(w.demo.ID, broker.TenantUpdate{Active: &yes}); !back.Active() {
			t.Errorf("un-retired: %+v", back)
		}
	}
	if _, err := w.b.Authenticate(t.Context(), "demo", "d"); err != nil {
		t.Errorf("un-retired, it does not log in: %v", err)
	}
}

// Whatever happens, somebody can still change tenants.
func TestLastAdminStays(t *testing.T) {
	w := newWorld(t, 0)
	no := false
	if _, _, err := w.b.UpdateTenant(t.Context(), w.admin, w.admin.ID, broker.TenantUpdate{Active: &no}); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("got %v, want conflict", err)
	}
	second, _, err := w.b.CreateTenant(t.Context(), w.admin, broker.Tenant{Name: "second", IsAdmin: true})
	if err != nil {
		t.Fatal(err)
	}
	w.change(w.admin.ID, broker.TenantUpdate{Active: &no})
	if _, _, err := w.b.UpdateTenant(t.Context(), second, second.ID, broker.TenantUpdate{Active: &no}); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("got %v, want conflict", err)
	}
}

// A request that is being prepared when its tenant is retired ends soon, too.
func TestRetireTenantDuringRequest(t *testing.T) {
	w := newWorld(t, 1)
	no := false
	w.cloud.Fail = func(op string, _ broker.Node) error {
		if op == "contextualize" {
			w.change(w.demo.ID, broker.TenantUpdate{Active: &no})
		}
		return nil
	}
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1))
	if err != nil || !s.ExpiresAt.Equal(t0) {
		t.Errorf("ends at %v, %v; want %v", s.ExpiresAt, err, t0)
	}
}

func TestTenantSettings(t *testing.T) {
	w := newWorld(t, 3)
	one, hour, day := 1, time.Hour, 24*time.Hour
	w.b.SetTenantDefaults(broker.TenantDefaults{NodeQuota: &one, SessionLifetime: &hour, SessionLifetimeMax: &day})
	if _, err := w.b.RequestSession(t.Context(), w.demo, want("small", 2)); broker.CodeOf(err) != broker.CodeQuota {
		t.Errorf("beyond the default quota: %v", err)
	}
	s, err := w.b.RequestSession(t.Context(), w.demo, want("small", 1))
	if err != nil || !s.ExpiresAt.Equal(t0.Add(hour)) {
		t.Errorf("ends at %v, %v; want after the default", s.ExpiresAt, err)
	}
	s, err = w.b.UpdateSession(t.Context(), w.demo, s.ID, broker.SessionUpdate{Expires: &broker.Expiry{Delta: 48 * hour}})
	if err != nil || !s.ExpiresAt.Equal(t0.Add(day)) {
		t.Errorf("ends at %v, %v; want the default maximum", s.ExpiresAt, err)
	}

	three, twoHours, threeHours := 3, 2*hour, 3*hour
	w.change(w.demo.ID, broker.TenantUpdate{
		NodeQuota:          broker.Override[int]{Set: true, Value: &three},
		SessionLifetime:    broker.Override[time.Duration]{Set: true, Value: &twoHours},
		SessionLifetimeMax: broker.Override[time.Duration]{Set: true, Value: &threeHours},
	})
	s, err = w.b.RequestSession(t.Context(), w.demo, want("small", 2))
	if err != nil || !s.ExpiresAt.Equal(t0.Add(twoHours)) {
		t.Errorf("ends at %v, %v; want after its own lifetime", s.ExpiresAt, err)
	}
	s, err = w.b.UpdateSession(t.Context(), w.demo, s.ID, broker.SessionUpdate{Expires: &broker.Expiry{Delta: day}})
	if err != nil || !s.ExpiresAt.Equal(t0.Add(threeHours)) {
		t.Errorf("ends at %v, %v; want its own maximum", s.ExpiresAt, err)
	}
	w.change(w.demo.ID, broker.TenantUpdate{NodeQuota: broker.Override[int]{Set: true}})
	if got := w.tenant(w.demo.ID); got.NodeQuota != nil || *got.SessionLifetime != twoHours {
		t.Errorf("after the quota went: %+v", got)
	}
}

// Logins cost no commit, and are written down when asked for.
func TestLastUsed(t *testing.T) {
	w := newWorld(t, 0)
	before := w.fault.Updates()
	for range 5 {
		w.valid("demo", "d", "wrong")
	}
	if got := w.fault.Updates() - before; got != 0 {
		t.Errorf("logins cost %d commits", got)
	}
	if got := w.tenant(w.demo.ID).LastUsed; !got.Equal(t0) {
		t.Errorf("last used %v, want %v at once", got, t0)
	}
	w.fault.FailUpdate(1, fault.Before, errors.New("disk full"))
	if err := w.b.FlushUse(t.Context()); err == nil {
		t.Error("a failed flush says nothing")
	}
	for range 2 {
		if err := w.b.FlushUse(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := w.fault.Updates() - before; got != 2 {
		t.Errorf("%d commits, want one failed and one good", got)
	}
	stored, err := w.b.TenantsByID(t.Context(), w.demo.ID) // reads the store only
	if err != nil || !stored[w.demo.ID].LastUsed.Equal(t0) {
		t.Errorf("stored %v, %v", stored[w.demo.ID].LastUsed, err)
	}
	w.valid("other", "x")
	w.change(w.other.ID, broker.TenantUpdate{ResetKey: true})
}
