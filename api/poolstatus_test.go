package api

import (
	"maps"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestPoolStatus(t *testing.T) {
	at := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	f := newFake()
	f.status = broker.PoolStatus{
		Pool: broker.Pool{Description: "for tests", FillLevel: 2, MaxNodes: 4, MaxAge: 24 * time.Hour, Source: broker.Source{Generation: "g1"}},
		Now:  broker.Effective{FillLevel: 20, MaxNodes: 40, Window: "work"}, Arch: "x86_64",
		Levels: broker.PoolLevels{Provisioning: 1, Ready: 2, Contextualizing: 3, Deployed: 4, Deprovisioning: 5},
	}
	url := start(t, Config{Broker: f})
	want := map[string]any{
		"name": "small", "description": "for tests", "arch": "x86_64", "fill_level": 20.0,
		"levels": map[string]any{"provisioning": 1.0, "ready": 2.0, "contextualizing": 3.0, "deployed": 4.0, "deprovisioning": 5.0},
	}
	a := send(t, http.MethodGet, url+"/api/v1/pools/small/status", "", asDemo)
	if diff := cmp.Diff(map[string]any{"action": "get", "pool_status": want}, decoded(t, []byte(a.body))); diff != "" {
		t.Errorf("as a tenant (-want +got):\n%s", diff)
	}

	f.status.Operator = true
	f.status.Failed, f.status.Held, f.status.Stale, f.status.Expired = 6, 7, 8, 9
	f.status.Creates, f.status.Destroys, f.status.Unmet = 10, 11, 12
	f.status.OldestReady, f.status.NextTry = at, at.Add(time.Hour)
	f.status.Health = broker.PoolHealth{Failures: 13, LastFailure: at.Add(time.Minute), Message: "create: no such image", Class: broker.FailureConfiguration}
	f.status.Changes = []broker.ScheduleChange{{At: at.Add(2 * time.Hour), Effective: broker.Effective{FillLevel: 2, MaxNodes: 4}}}
	f.status.Rollout = broker.RolloutPaused
	f.status.Variants = []broker.VariantStatus{
		{Name: "spot", Ready: 1, Nodes: 2, Cools: at.Add(time.Hour), Failure: broker.VariantHealth{FailedAt: at, Class: broker.FailureNoCapacity, Message: "create: no room"}},
		{Name: "on-demand"},
	}
	f.status.Pool.Follow.Outputs = []string{"image"}
	f.status.Pool.Followed = broker.Followed{Base: "x", Variant: "spot", First: map[string]string{"image": `"a"`}, Values: map[string]string{"image": `"b"`, "gone": "1"}, At: at}
	maps.Copy(want, map[string]any{
		"max_nodes": 40.0, "window": "work", "base": map[string]any{"fill_level": 2.0, "max_nodes": 4.0}, "generation": "g1",
		"failed": 6.0, "held": 7.0, "stale": 8.0, "expired": 9.0, "creates": 10.0, "destroys": 11.0, "unmet": 12.0,
		"oldest_ready": "2026-11-24T08:00:00+00:00", "max_age": 86400.0, "rollout": "paused",
		"failures": 13.0, "failure": "create: no such image", "failure_class": "configuration",
		"last_failure": "2026-11-24T08:01:00+00:00", "next_try": "2026-11-24T09:00:00+00:00",
		"variants": []any{
			map[string]any{
				"name": "spot", "ready": 1.0, "nodes": 2.0, "cools_until": "2026-11-24T09:00:00+00:00",
				"failure": "create: no room", "failure_class": "no_capacity", "last_failure": "2026-11-24T08:00:00+00:00",
			},
			map[string]any{
				"name": "on-demand", "ready": 0.0, "nodes": 0.0, "cools_until": nil, "failure": "", "failure_class": "", "last_failure": nil,
			},
		},
		"followed": []any{map[string]any{"variant": "spot", "output": "image", "value": "b", "at": "2026-11-24T08:00:00+00:00", "new": true}},
		"changes":  []any{map[string]any{"at": "2026-11-24T10:00:00+00:00", "fill_level": 2.0, "max_nodes": 4.0, "window": ""}},
	})
	a = send(t, http.MethodGet, url+"/api/v1/pools/small/status", "", asDemo)
	if diff := cmp.Diff(map[string]any{"action": "get", "pool_status": want}, decoded(t, []byte(a.body))); diff != "" {
		t.Errorf("as an admin (-want +got):\n%s", diff)
	}
}
