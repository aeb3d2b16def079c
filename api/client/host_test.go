package client

import (
	"encoding/json"
	"net/http"
	"testing"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func TestHosts(t *testing.T) {
	const node = `{"action": "post", "node": {"id": 5, "pool": null, "data": {"a": 1}}, "nodes": [{"id": 5, "pool": "p", "data": {}}]}`
	s := serve(t, http.StatusOK, nil, node)
	c := newClient(t, s.url)
	comment, pool, no := "c", "p", false
	tests := map[string]struct {
		call               func() (int64, error)
		method, path, body string
	}{
		"list": {func() (int64, error) {
			a, err := c.Hosts(t.Context(), "a b")
			return a.Value.Nodes[0].ID, err
		}, "GET", "/api/v1/nodes?inventory=a+b", ""},
		"create": {func() (int64, error) {
			a, err := c.CreateNode(t.Context(), v1.NodeCreate{Hostname: "n", IPAddr: "192.0.2.1"})
			if n := a.Value.Node; n.Pool != nil || string(n.Data) != `{"a": 1}` {
				t.Errorf("got %+v", n)
			}
			return a.Value.Node.ID, err
		}, "POST", "/api/v1/nodes", `{"hostname":"n","ipaddr":"192.0.2.1","comment":null,"pool":null}`}, // the server refuses null for the others
		"create, all": {func() (int64, error) {
			a, err := c.CreateNode(t.Context(), v1.NodeCreate{
				Hostname: "n", IPAddr: "192.0.2.1", Comment: &comment, Pool: &pool, Reusable: &no, Data: json.RawMessage(`{"a":1}`),
			})
			return a.Value.Node.ID, err
		}, "POST", "/api/v1/nodes", `{"hostname":"n","ipaddr":"192.0.2.1","comment":"c","pool":"p","reusable":false,"data":{"a":1}}`},
		"retire": {func() (int64, error) {
			a, err := c.RetireNode(t.Context(), 5)
			return a.Value.Node.ID, err
		}, "PUT", "/api/v1/nodes/5", `{"active":false}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			id, err := test.call()
			if err != nil || id != 5 {
				t.Errorf("got node %d, %v", id, err)
			}
			if s.method != test.method || s.path != test.path || s.body != test.body || s.name != "demo" {
				t.Errorf("asked %s %s %q as %q", s.method, s.path, s.body, s.name)
			}
		})
	}
	refused := newClient(t, serve(t, http.StatusForbidden, nil, `{"detail": "Forbidden", "code": "forbidden", "hint": "only admins"}`).url)
	if _, err := refused.Hosts(t.Context(), "api"); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("got %v", err)
	}
}
