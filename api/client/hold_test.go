package client

import (
	"net/http"
	"testing"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

func TestHolds(t *testing.T) {
	const node = `{"action": "post", "node": {"id": 5, "condition": "held"}, "directory": "/data/workspaces/u"}`
	s := serve(t, http.StatusOK, nil, node)
	c := newClient(t, s.url)
	h := v1.HoldCreate{Reason: "why"}
	tests := map[string]struct {
		call               func() (int64, error)
		method, path, body string
	}{
		"hold": {func() (int64, error) {
			a, err := c.HoldNode(t.Context(), 5, h)
			return a.Value.Node.ID, err
		}, "POST", "/api/v1/nodes/5/hold", `{"reason":"why"}`},
		"release": {func() (int64, error) {
			a, err := c.ReleaseNode(t.Context(), 5)
			return a.Value.Node.ID, err
		}, "DELETE", "/api/v1/nodes/5/hold", ""},
		"workspace": {func() (int64, error) {
			a, err := c.OpenWorkspace(t.Context(), 5, h)
			if a.Value.Directory != "/data/workspaces/u" {
				t.Errorf("directory %q", a.Value.Directory)
			}
			return a.Value.Node.ID, err
		}, "POST", "/api/v1/nodes/5/workspace", `{"reason":"why"}`},
		"return": {func() (int64, error) {
			a, err := c.ReturnWorkspace(t.Context(), 5, false)
			return a.Value.Node.ID, err
		}, "DELETE", "/api/v1/nodes/5/workspace", ""},
		"return, discard": {func() (int64, error) {
			a, err := c.ReturnWorkspace(t.Context(), 5, true)
			return a.Value.Node.ID, err
		}, "DELETE", "/api/v1/nodes/5/workspace?discard=true", ""},
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
	refused := newClient(t, serve(t, http.StatusConflict, nil, `{"detail": "it is damaged", "code": "conflict", "hint": "mend it"}`).url)
	if _, err := refused.ReturnWorkspace(t.Context(), 5, false); err == nil || err.Error() != "it is damaged" {
		t.Errorf("got %v", err)
	}
}
