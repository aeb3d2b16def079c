package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func TestHoldsAndWorkspaces(t *testing.T) {
	tests := map[string]struct {
		method, path, body string
		err                error
		status             int
		reason             string
		discard            bool
		directory          string
		detail             string
	}{
		"hold":                         {method: "POST", path: "/nodes/1/hold", body: `{"reason": "why"}`, status: 200, reason: "why"},
		"hold, without a word":         {method: "POST", path: "/nodes/1/hold", status: 200},
		"hold, with an empty object":   {method: "POST", path: "/nodes/1/hold", body: `{}`, status: 200},
		"hold, with nonsense":          {method: "POST", path: "/nodes/1/hold", body: `{`, status: 422, detail: "Expecting value"},
		"hold, with a reason of parts": {method: "POST", path: "/nodes/1/hold", body: `{"reason": [1]}`, status: 422, detail: "reason: str type expected"},
		"hold of nothing":              {method: "POST", path: "/nodes/x/hold", status: 422, detail: "id: value is not a valid integer"},
		"hold, lent":                   {method: "POST", path: "/nodes/1/hold", err: broker.Errorf(broker.CodeConflict, "node 1 is lent"), status: 409, detail: "node 1 is lent"},
		"hold, unknown":                {method: "POST", path: "/nodes/1/hold", err: broker.Errorf(broker.CodeNotFound, "there is no node 1"), status: 404, detail: "Not Found"},
		"hold, no admin":               {method: "POST", path: "/nodes/1/hold", err: broker.Errorf(broker.CodeForbidden, "admins only"), status: 403, detail: "Forbidden"},
		"hold, takes long":             {method: "POST", path: "/nodes/1/hold", err: broker.Errorf(broker.CodeUnavailable, "that takes a while"), status: 503, detail: "that takes a while"},
		"release":                      {method: "DELETE", path: "/nodes/1/hold", status: 200},
		"release, no admin":            {method: "DELETE", path: "/nodes/1/hold", err: broker.Errorf(broker.CodeForbidden, "admins only"), status: 403, detail: "Forbidden"},
		"workspace":                    {method: "POST", path: "/nodes/1/workspace", body: `{"reason": "why"}`, status: 201, reason: "why", directory: "/data/workspaces/1"},
		"workspace, no admin":          {method: "POST", path: "/nodes/1/workspace", err: broker.Errorf(broker.CodeForbidden, "admins only"), status: 403, detail: "Forbidden"},
		"return":                       {method: "DELETE", path: "/nodes/1/workspace", status: 200},
		"return, discard":              {method: "DELETE", path: "/nodes/1/workspace?discard=true", status: 200, discard: true},
		"return, no discard":           {method: "DELETE", path: "/nodes/1/workspace?discard=false", status: 200},
		"return, discard what":         {method: "DELETE", path: "/nodes/1/workspace?discard=perhaps", status: 422, detail: "discard: value could not be parsed to a boolean"},
		"return, damaged":              {method: "DELETE", path: "/nodes/1/workspace", err: broker.Errorf(broker.CodeConflict, "the state file is empty"), status: 409, detail: "the state file is empty"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := newFake()
			f.err = test.err
			url := start(t, Config{Broker: f})
			a := send(t, test.method, url+"/api/v1"+test.path, test.body, asDemo)
			if a.status != test.status {
				t.Fatalf("status %d, want %d: %s", a.status, test.status, a.body)
			}
			if test.detail != "" {
				if e := wireError(t, a); !strings.Contains(e.Detail, test.detail) {
					t.Errorf("detail %q, want %q", e.Detail, test.detail)
				}
				return
			}
			var got v1.WorkspaceAnswer
			if err := json.Unmarshal([]byte(a.body), &got); err != nil {
				t.Fatal(err)
			}
			action := map[string]v1.Action{"POST": v1.ActionPost, "DELETE": v1.ActionDelete}[test.method]
			if got.Node.ID != f.node.ID || got.Directory != test.directory || got.Action != action {
				t.Errorf("got %s", a.body)
			}
			if f.actor.Name != "demo" || f.reason != test.reason || f.discard != test.discard {
				t.Errorf("actor %s, reason %q, discard %t", f.actor.Name, f.reason, f.discard)
			}
			if a := send(t, test.method, url+"/api/v1"+test.path, test.body, nil); a.status != http.StatusUnauthorized {
				t.Errorf("without credentials: %d", a.status)
			}
		})
	}
}

// What only operators want to know is for admins, never for anonymous readers.
func TestNodeOperator(t *testing.T) {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	n := broker.Node{
		UID: "u", Since: at, Source: broker.Source{Generation: "g1"}, Variant: "spot", SessionID: 7, Attempts: 2, RetryAt: at, State: broker.NodeHeld,
		Hold: &broker.Hold{Reason: "why", By: "admin", Since: at, From: broker.NodeDestroying},
	}
	raw, err := encode(wireNode(broker.Tenant{ID: 1, IsAdmin: true}, n, nil))
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	now := "2026-11-24T12:00:00+00:00"
	want := map[string]any{
		"state": "deployed", "condition": "held", "uid": "u", "generation": "g1", "variant": "spot", "since": now, "session_id": 7.0, "attempts": 2.0, "retry_at": now,
		"hold": map[string]any{"reason": "why", "by": "admin", "since": now, "from": "destroying"},
	}
	for name := range want {
		if diff := cmp.Diff(want[name], got[name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	for _, actor := range []broker.Tenant{everybody(), {ID: 2}} {
		if raw, err := encode(wireNode(actor, n, nil)); err != nil || strings.Contains(string(raw), `"hold"`) || strings.Contains(string(raw), `"uid"`) {
			t.Errorf("%s gets %s, %v", actor.Name, raw, err)
		}
	}
}
