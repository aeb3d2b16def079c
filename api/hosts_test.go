package api

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

func TestNewHost(t *testing.T) {
	host := func(change func(*broker.Host)) broker.Host {
		h := broker.Host{Hostname: "n", Address: "192.0.2.1", Reusable: true, Data: json.RawMessage("{}")}
		if change != nil {
			change(&h)
		}
		return h
	}
	const both = `"hostname": "n", "ipaddr": "192.0.2.1"`
	for body, test := range map[string]struct {
		want   broker.Host
		places []string // that are wrong
	}{
		`{` + both + `}`: {want: host(nil)},
		`{` + both + `, "comment": null, "pool": null, "id": 7, "state": "ready"}`:           {want: host(nil)},
		`{"hostname": 12, "ipaddr": "::1"}`:                                                  {want: host(func(h *broker.Host) { h.Hostname, h.Address = "12", "::1" })},
		`{` + both + `, "comment": "c", "pool": "p", "reusable": 0}`:                         {want: host(func(h *broker.Host) { h.Comment, h.Pool, h.Reusable = "c", "p", false })},
		`{` + both + `, "data": {"b": [1, null], "a": {"n": 1.50}}}`:                         {want: host(func(h *broker.Host) { h.Data = json.RawMessage(`{"a":{"n":1.50},"b":[1,null]}`) })},
		`{` + both + `, "data": []}`:                                                         {want: host(nil)},
		`{}`:                                                                                 {places: []string{"hostname", "ipaddr"}},
		`{"hostname": null, "ipaddr": null}`:                                                 {places: []string{"hostname", "ipaddr"}},
		`{"hostname": [], "ipaddr": "n.example.net"}`:                                        {places: []string{"hostname", "ipaddr"}},
		`{"hostname": "n", "ipaddr": "192.0.2.0/24"}`:                                        {places: []string{"ipaddr"}},
		`{"hostname": "n", "ipaddr": 5}`:                                                     {places: []string{"ipaddr"}},
		`{` + both + `, "reusable": null, "data": null}`:                                     {places: []string{"reusable", "data"}},
		`{` + both + `, "reusable": "maybe", "data": [1], "comment": {}, "pool": [], "": 1}`: {places: []string{"comment", "pool", "reusable", "data"}},
		`{` + both + `, "data": "{}"}`:                                                       {places: []string{"data"}},
	} {
		v, err := decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		var k checker
		got := k.newHost(v.(map[string]any))
		var places []string
		for _, f := range k.fields {
			places = append(places, fmt.Sprint(f.Loc[len(f.Loc)-1]))
		}
		if !slices.Equal(places, test.places) {
			t.Errorf("%s: wrong are %v, want %v", body, places, test.places)
		}
		if diff := cmp.Diff(test.want, got); diff != "" && test.places == nil {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

// FuzzNewHost: what is taken can be stored and shown.
func FuzzNewHost(f *testing.F) {
	for _, seed := range []string{
		`{"hostname": "n", "ipaddr": "192.0.2.1"}`, `{"hostname": "n", "ipaddr": "fe80::1%eth0", "data": {"a": 1e999, "a": "\u0000"}}`,
		`{"hostname": 1e5, "ipaddr": "::ffff:1.2.3.4", "data": []}`, `{"hostname": "\ud800", "ipaddr": ""}`, `null`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		v, err := decode(body)
		if err != nil {
			return
		}
		var k checker
		object, _ := v.(map[string]any)
		wanted := k.newHost(object)
		if err := k.err(""); err != nil {
			checkBodyError(t, err)
			return
		}
		h, err := broker.NewHost(wanted, time.Unix(1, 0))
		if err != nil {
			if broker.CodeOf(err) != broker.CodeInvalid {
				t.Fatal(err)
			}
			return
		}
		h.Inventory = broker.APIInventory
		if err := memory.New().Update(t.Context(), func(tx broker.Tx) error { return tx.CreateHost(&h) }); err != nil {
			t.Fatal(err)
		}
		if _, err := encode(wireHost(broker.HostStatus{Host: h})); err != nil {
			t.Fatal(err)
		}
	})
}

// A host's life over the API: it is posted, shown among the nodes to those who may
// see it, and retired.
func TestHosts(t *testing.T) {
	base := start(t, Config{Broker: newRecordedBroker(t)}) + "/api/v1"
	call := func(role, method, path, body string, status int) map[string]any {
		t.Helper()
		a := send(t, method, base+path, body, recordedAuth(t, role))
		if a.status != status {
			t.Fatalf("%s %s as %s: %d, want %d: %s", method, path, role, a.status, status, a.body)
		}
		return decoded(t, []byte(a.body))
	}
	ids := func(query string) (list []int64) {
		t.Helper()
		for _, n := range call("admin", "GET", "/nodes?"+query, "", 200)["nodes"].([]any) {
			list = append(list, int64(n.(map[string]any)["id"].(float64)))
		}
		return list
	}
	made := call("admin", "POST", "/nodes", `{"hostname": "a", "ipaddr": "192.0.2.1", "data": {"arch": "aarch64", "slot": 3}}`, 201)["node"].(map[string]any)
	if diff := cmp.Diff(map[string]any{"arch": "aarch64", "slot": 3.0}, made["data"]); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	plain := call("admin", "POST", "/nodes", `{"hostname": "b", "ipaddr": "192.0.2.2", "pool": "refill-pool"}`, 201)["node"].(map[string]any)
	if diff := cmp.Diff(map[string]any{}, plain["data"]); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	a, b := int64(made["id"].(float64)), int64(plain["id"].(float64))
	if a != 89 || b != 90 { // after the 88 nodes of the stock
		t.Errorf("ids %d and %d", a, b)
	}
	shown := call("admin", "GET", fmt.Sprintf("/nodes/%d", a), "", 200)
	if diff := cmp.Diff(made, shown["node"]); diff != "" || shown["action"] != "get" {
		t.Errorf("(-made +shown):\n%s", diff)
	}
	for query, want := range map[string][]int64{
		"after=87": {88, 89, 90}, "after=86&limit=3": {87, 88, 89}, "after=88&limit=1": {89}, "state=unused": {89, 90}, "state=unused,ready&after=87": {88, 89, 90},
		"state=ready&after=87": {88}, "state=done": nil, "pool=refill-pool": {86, 87, 88, 90}, "inventory=api": {89, 90}, "inventory=x": nil,
		"inventory=api&state=done": nil, "inventory=api&state=deployed": nil,
	} {
		if got := ids(query); !slices.Equal(got, want) {
			t.Errorf("?%s lists %v, want %v", query, got, want)
		}
	}
	if list := call("tenant", "GET", "/nodes", "", 200)["nodes"].([]any); len(list) != 0 {
		t.Errorf("a tenant sees %v", list)
	}
	for _, role := range []string{"tenant", "other"} {
		call(role, "GET", fmt.Sprintf("/nodes/%d", a), "", 403)
		call(role, "PUT", fmt.Sprintf("/nodes/%d", a), `{"active": false}`, 403)
		call(role, "POST", "/nodes", `{"hostname": "c", "ipaddr": "192.0.2.3"}`, 403)
		call(role, "POST", "/nodes", `{"hostname": "c"}`, 422) // the body comes first, as in Duffy
	}

	path := fmt.Sprintf("/nodes/%d", a)
	for body, want := range map[string]string{
		`{}`: "field required", `{"active": null}`: "not an allowed value", `{"active": true}`: "permitted: false", `{"active": "maybe"}`: "parsed to a boolean", `{"condition": "broken"}`: "permitted: 'unused'", `{"condition": 1, "active": false}`: "permitted: 'unused'", `{"condition": null}`: "str type expected", `{`: "Expecting",
	} {
		if detail := call("admin", "PUT", path, body, 422)["detail"].(string); !strings.Contains(detail, want) {
			t.Errorf("%s: %s", body, detail)
		}
	}
	retired := call("admin", "PUT", path, `{"active": "no"}`, 200)
	node := retired["node"].(map[string]any)
	if retired["action"] != "put" || node["active"] != false || node["retired_at"] == nil || node["state"] != "done" || node["condition"] != "retired" || node["inventory"] != "api" {
		t.Errorf("retired: %v", retired)
	}
	if diff := cmp.Diff(node, call("admin", "GET", path, "", 200)["node"]); diff != "" {
		t.Errorf("(-retired +shown):\n%s", diff)
	}
	for query, want := range map[string][]int64{"after=87": {88, 90}, "state=done": {89}, "inventory=api": {90}, "inventory=api&state=done": {89}} {
		if got := ids(query); !slices.Equal(got, want) {
			t.Errorf("then ?%s lists %v, want %v", query, got, want)
		}
	}
	for id, want := range map[string]string{path: "node 89 is retired", "/nodes/1": "Terraform made it"} {
		if detail := call("admin", "PUT", id, `{"active": false}`, 422)["detail"].(string); !strings.Contains(detail, want) {
			t.Errorf("%s: %s", id, detail)
		}
	}
	if gone := call("admin", "PUT", "/nodes/999", `{"active": false}`, 404); gone["detail"] != "Not Found" || gone["hint"] != "there is no node 999" {
		t.Errorf("%v", gone)
	}
	call("admin", "GET", "/nodes/999", "", 404)
	call("tenant", "GET", "/nodes/999", "", 404)
	call("admin", "POST", "/nodes", `{"hostname": "a", "ipaddr": "192.0.2.1"}`, 201)
	if detail := call("admin", "POST", "/nodes", `{"hostname": "a", "ipaddr": "192.0.2.1"}`, 409)["detail"]; detail != "node 91 has the host name 'a' already" {
		t.Errorf("%v", detail)
	}
}

// Hosts stand among nodes by their ids, and a page has the first of both.
func TestWithHosts(t *testing.T) {
	for limit, want := range map[int]string{0: "2 3 5 7 9", 3: "2 3 5", 9: "2 3 5 7 9"} {
		var got []string
		for _, n := range withHosts([]v1.Node{{ID: 3}, {ID: 9}}, []broker.HostStatus{{Host: broker.Host{ID: 2}}, {Host: broker.Host{ID: 5}}, {Host: broker.Host{ID: 7}}}, limit) {
			got = append(got, fmt.Sprint(n.ID))
		}
		if got := strings.Join(got, " "); got != want {
			t.Errorf("limit %d: %s, want %s", limit, got, want)
		}
	}
}

// A machine that is broken is shown as that, and put back to use. One in use is as
// its node is.
func TestHostsThatFail(t *testing.T) {
	w := newRecordedWorld(t, new(brokertest.Cloud), time.Now)
	base := start(t, Config{Broker: w.Broker}) + "/api/v1"
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	for i, h := range []broker.Host{
		{Failures: 2, BrokenAt: now, RetryAt: now, Failure: "no answer", FailureClass: broker.FailureTimeout},
		{Failures: 1, RetryAt: now, Failure: "no answer", FailureClass: broker.FailureTimeout},
		{NodeID: 88, Credentials: map[string]string{"PASSWORD": "env:RACK"}, BMC: &broker.BMC{Address: "192.0.2.9"}},
	} {
		h.Inventory, h.Name, h.Hostname, h.Address = "rack", fmt.Sprintf("n%d", i), fmt.Sprintf("n%d.example.net", i), fmt.Sprintf("192.0.2.%d", i+1)
		if err := w.store.Update(t.Context(), func(tx broker.Tx) error { return tx.CreateHost(&h) }); err != nil {
			t.Fatal(err)
		}
	}
	call := func(role, method, path, body string, status int) map[string]any {
		t.Helper()
		a := send(t, method, base+path, body, recordedAuth(t, role))
		if a.status != status || strings.Contains(a.body, "RACK") {
			t.Fatalf("%s %s as %s: %d, want %d: %s", method, path, role, a.status, status, a.body)
		}
		return decoded(t, []byte(a.body))
	}
	list := func(query string) string {
		t.Helper()
		var got []string
		for _, n := range call("admin", "GET", "/nodes?inventory=rack"+query, "", 200)["nodes"].([]any) {
			n := n.(map[string]any)
			got = append(got, fmt.Sprintf("%v %v %v %v %v", n["name"], n["state"], n["condition"], n["host_failures"], n["quarantined_until"]))
		}
		return strings.Join(got, "; ")
	}
	if got, want := list(""), "n0 failed broken 2 <nil>; n1 failed quarantined 1 2026-11-24T12:00:00+00:00; n2 ready occupied <nil> <nil>"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for query, want := range map[string]string{"&state=ready": "n2 ready occupied <nil> <nil>", "&state=deployed": "", "&state=unused": ""} {
		if got := list(query); got != want {
			t.Errorf("%s: %s, want %s", query, got, want)
		}
	}
	for _, role := range []string{"tenant", "other"} {
		call(role, "PUT", "/nodes/89", `{"condition": "unused"}`, 403)
	}
	for id, want := range map[string]string{"/nodes/1": "Terraform made it", "/nodes/999": "Not Found"} {
		status := map[bool]int{true: 422, false: 404}[id == "/nodes/1"]
		if detail := call("admin", "PUT", id, `{"condition": "unused"}`, status)["detail"].(string); !strings.Contains(detail, want) {
			t.Errorf("%s: %s", id, detail)
		}
	}
	if detail := call("admin", "PUT", "/nodes/89", `{"active": false}`, 422)["detail"].(string); !strings.Contains(detail, "stands in pools.hcl") {
		t.Errorf("a machine of the file can be retired: %s", detail)
	}
	repaired := call("admin", "PUT", "/nodes/89", `{"condition": "unused"}`, 200)["node"].(map[string]any)
	if repaired["state"] != "unused" || repaired["condition"] != "unused" || repaired["host_failures"] != nil || repaired["failure"] != nil {
		t.Errorf("repaired: %v", repaired)
	}
}
