package api

import (
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestRollouts(t *testing.T) {
	at := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	f := newFake()
	f.rollout = broker.RolloutStatus{
		Rollout: broker.Rollout{
			Pool: "small", Generation: "g1", State: broker.RolloutPaused, Now: true, Stale: 9, StartedAt: at, ChangedAt: at.Add(time.Hour), Reason: "by admin",
		},
		Fill: 8, Ready: 7, ReadyNew: 3, Making: 1, StaleNow: 4, StaleOut: 2, Failures: 5, Failure: "create: no such image",
	}
	url := start(t, Config{Broker: f})
	want := map[string]any{
		"pool": "small", "generation": "g1", "state": "paused", "now": true, "reason": "by admin",
		"started_at": "2026-11-24T08:00:00+00:00", "changed_at": "2026-11-24T09:00:00+00:00", "stale": 9.0, "left": 4.0, "lent": 2.0,
		"fill_level": 8.0, "ready": 7.0, "ready_new": 3.0, "making": 1.0, "failures": 5.0, "failure": "create: no such image",
	}
	a := send(t, http.MethodGet, url+"/api/v1/rollouts", "", asDemo)
	if diff := cmp.Diff(map[string]any{"action": "get", "rollouts": []any{want}}, decoded(t, []byte(a.body))); diff != "" {
		t.Errorf("list (-want +got):\n%s", diff)
	}
	a = send(t, http.MethodPost, url+"/api/v1/rollouts/small", `{"order": "pause", "reason": "why"}`, asDemo)
	if diff := cmp.Diff(map[string]any{"action": "post", "rollout": want}, decoded(t, []byte(a.body))); a.status != 200 || diff != "" {
		t.Errorf("order: %d (-want +got):\n%s", a.status, diff)
	}
	if diff := cmp.Diff([]string{"small", "pause", "why"}, f.ordered); diff != "" {
		t.Errorf("ordered (-want +got):\n%s", diff)
	}
	for body, status := range map[string]int{`{}`: 422, `{"order": "now"}`: 200, `{"order": "now", "reason": null}`: 200} {
		if a := send(t, http.MethodPost, url+"/api/v1/rollouts/small", body, asDemo); a.status != status {
			t.Errorf("%s: %d, want %d: %s", body, a.status, status, a.body)
		}
	}
}
