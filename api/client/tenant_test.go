package client

import (
	"encoding/json"
	"net/http"
	"testing"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func TestFindTenant(t *testing.T) {
	s := serve(t, http.StatusOK, nil, `{"tenants": [{"id": 1, "name": "admin"}, {"id": 2, "name": "3"}, {"id": 3, "name": "7"}]}`)
	for text, want := range map[string]int64{"admin": 1, "1": 1, "3": 3, "7": 3, "demo": 0, "": 0, "0": 0} {
		id, err := newClient(t, s.url).FindTenant(t.Context(), text)
		if id != want || want == 0 && (broker.CodeOf(err) != broker.CodeNotFound || broker.HintOf(err) == "") || want != 0 && err != nil {
			t.Errorf("FindTenant(%q) = %d, %v; want %d", text, id, err, want)
		}
	}
}

// What is not set is not sent, and a default is null.
func TestUpdateTenant(t *testing.T) {
	s := serve(t, http.StatusOK, nil, `{"tenant": {"id": 2, "api_key": "k"}}`)
	quota, life, no, key := 5, "1d 2h", false, "ssh-ed25519 A"
	for want, u := range map[string]TenantUpdate{
		`{"active":false}`: {Active: &no},
		`{"api_key":"reset","previous_api_key":"keep"}`:                           {APIKey: "reset", PreviousKey: "keep"},
		`{"ssh_key":"ssh-ed25519 A","node_quota":5,"session_lifetime":"1d 2h"}`:   {SSHKey: &key, NodeQuota: Override[int]{Set: true, Value: &quota}, SessionLifetime: Override[string]{Set: true, Value: &life}},
		`{"node_quota":null,"session_lifetime":null,"session_lifetime_max":null}`: {NodeQuota: Override[int]{Set: true}, SessionLifetime: Override[string]{Set: true}, SessionLifetimeMax: Override[string]{Set: true}},
	} {
		a, err := newClient(t, s.url).UpdateTenant(t.Context(), 2, u)
		if err != nil || a.Value.Tenant.APIKey == nil || *a.Value.Tenant.APIKey != "k" {
			t.Errorf("got %s, %v", a.Raw, err)
		}
		if s.method != http.MethodPut || s.path != "/api/v1/tenants/2" || s.body != want {
			t.Errorf("asked %s %s %s, want %s", s.method, s.path, s.body, want)
		}
	}
	created := serve(t, http.StatusCreated, nil, `{"tenant": {"id": 4, "api_key": "new"}}`)
	a, err := newClient(t, created.url).CreateTenant(t.Context(), v1.TenantCreate{Name: "ci", SSHKey: key, NodeQuota: &quota})
	if err != nil || a.Value.Tenant.ID != 4 || *a.Value.Tenant.APIKey != "new" {
		t.Errorf("created %s, %v", a.Raw, err)
	}
	if want := `{"name":"ci","is_admin":false,"ssh_key":"ssh-ed25519 A","node_quota":5,"session_lifetime":null,"session_lifetime_max":null}`; created.body != want {
		t.Errorf("sent %s, want %s", created.body, want)
	}
}

// A session that ends between the two requests is listed once, as ended.
func TestMergeSessions(t *testing.T) {
	got := mergeSessions([]v1.Session{{ID: 2}, {ID: 1}}, []v1.Session{{ID: 2, Active: true}, {ID: 3, Active: true}})
	raw, err := json.Marshal([][2]any{{got[0].ID, got[0].Active}, {got[1].ID, got[1].Active}, {got[2].ID, got[2].Active}})
	if want := `[[1,false],[2,false],[3,true]]`; err != nil || len(got) != 3 || string(raw) != want {
		t.Errorf("got %s, want %s", raw, want)
	}
}
