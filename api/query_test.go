package api

import (
	"net/http"
	"net/url"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestListFilters(t *testing.T) {
	tests := map[string]struct {
		sessions broker.SessionFilter
		nodes    broker.NodeFilter
		wrong    string // place in the query
	}{
		"/sessions": {},
		"/sessions?active=false&tenant=a%20b&limit=5&after=7": {sessions: broker.SessionFilter{Ended: true, Tenant: "a b", Limit: 5, After: 7}},
		"/sessions?active=1&other=x":                          {},
		"/sessions?active=maybe":                              {wrong: "active"},
		"/sessions?limit=0":                                   {wrong: "limit"},
		"/sessions?limit=":                                    {wrong: "limit"},
		"/sessions?after=-1":                                  {wrong: "after"},
		"/nodes":                                              {},
		"/nodes?pool=small&state=deployed,failed&after=0&limit=99999999999999": {nodes: broker.NodeFilter{
			Pool: "small", States: []broker.NodeState{broker.NodeDeployed, broker.NodeHeld, broker.NodeLost, broker.NodeFailed}, Limit: 1<<31 - 1,
			Hosts: []broker.HostState{broker.HostOccupied, broker.HostQuarantined, broker.HostBroken},
		}},
		"/nodes?state=provisioning": {nodes: broker.NodeFilter{States: []broker.NodeState{broker.NodePlanned, broker.NodeApplying, broker.NodeChecking}}},
		"/nodes?state=done":         {nodes: broker.NodeFilter{States: []broker.NodeState{broker.NodeGone}, Hosts: []broker.HostState{broker.HostRetired}}},
		"/nodes?state=unused":       {nodes: broker.NodeFilter{Hosts: []broker.HostState{broker.HostFree}}},
		"/nodes?inventory=api":      {nodes: broker.NodeFilter{Inventory: "api"}},
		"/nodes?state=broken":       {wrong: "state"},
		"/nodes?limit=x":            {wrong: "limit"},
		"/tenants?limit=x":          {wrong: "limit"},
	}
	for path, test := range tests {
		f := newFake()
		a := send(t, http.MethodGet, start(t, Config{Broker: f})+"/api/v1"+path, "", asDemo)
		if test.wrong != "" {
			if e := wireError(t, a); a.status != http.StatusUnprocessableEntity || len(e.Errors) != 1 || e.Errors[0].Loc[1] != test.wrong {
				t.Errorf("%s: %d %+v", path, a.status, e)
			}
			continue
		}
		if a.status != http.StatusOK {
			t.Errorf("%s: %d %s", path, a.status, a.body)
		}
		if diff := cmp.Diff(test.sessions, f.sessionFilter); diff != "" {
			t.Errorf("%s: sessions (-want +got):\n%s", path, diff)
		}
		if diff := cmp.Diff(test.nodes, f.nodeFilter); diff != "" {
			t.Errorf("%s: nodes (-want +got):\n%s", path, diff)
		}
	}
}

// Pages that are read one after the other give everything once.
func TestTenantPages(t *testing.T) {
	base := start(t, Config{Broker: newRecordedBroker(t)})
	var got []any
	for after := "0"; ; {
		q := url.Values{"limit": {"4"}, "after": {after}}
		a := send(t, http.MethodGet, base+"/api/v1/tenants?"+q.Encode(), "", recordedAuth(t, "admin"))
		page := decoded(t, []byte(a.body))["tenants"].([]any)
		if len(page) == 0 {
			break
		}
		for _, tenant := range page {
			name := tenant.(map[string]any)["name"]
			got, after = append(got, name), lastID(tenant)
		}
	}
	if diff := cmp.Diff([]any{"admin", "tenant", "other", "retired", "bench", "legacy"}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func lastID(object any) string {
	id, _ := object.(map[string]any)["id"].(float64)
	return strconv.Itoa(int(id))
}
