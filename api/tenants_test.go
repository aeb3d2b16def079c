package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestParseDuration(t *testing.T) {
	tests := map[string]time.Duration{ // 0: refused
		`"4h"`: 4 * time.Hour, `"1d 2h"`: 26 * time.Hour, `"1w2d"`: 9 * 24 * time.Hour, `"+3h"`: 3 * time.Hour, `" 90M "`: 90 * time.Minute,
		`3600`: time.Hour, `"7200"`: 2 * time.Hour, `1.5`: 1500 * time.Millisecond, `"0.5"`: time.Second / 2, `1e3`: 1000 * time.Second, `"10ms"`: 10 * time.Millisecond,
		`0`: 0, `-5`: 0, `"-1h"`: 0, `"0h"`: 0, `"2h1d"`: 0, `""`: 0, `"+"`: 0, `"soon"`: 0, `true`: 0, `[]`: 0, `{}`: 0, `1e30`: 0, `1e400`: 0, `"99999999999w"`: 0, `"nan"`: 0, `"1h\n"`: time.Hour,
	}
	for text, want := range tests {
		v, err := decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseDuration(v)
		if got != want || (err == nil) != (want > 0) {
			t.Errorf("%s: %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestTenantUpdate(t *testing.T) {
	no, yes, key, three, hour := false, true, "new", 3, time.Hour
	const uuid = "11111111-1111-4111-8111-111111111111"
	tests := map[string]struct {
		want   broker.TenantUpdate
		places []string // that are wrong
	}{
		`{"active": false}`: {want: broker.TenantUpdate{Active: &no}},
		`{"active": "yes"}`: {want: broker.TenantUpdate{Active: &yes}},
		`{"ssh_key": "new", "active": false, "other": 1}`: {want: broker.TenantUpdate{SSHKey: &key}},
		`{"ssh_key": null}`:                                   {},
		`{"api_key": "reset"}`:                                {want: broker.TenantUpdate{ResetKey: true}},
		`{"api_key": "reset", "previous_api_key": "keep"}`:    {want: broker.TenantUpdate{ResetKey: true, KeepKey: true}},
		`{"previous_api_key": "drop"}`:                        {want: broker.TenantUpdate{DropKey: true}},
		`{"api_key": "` + uuid + `"}`:                         {want: broker.TenantUpdate{APIKey: uuid}},
		`{"api_key": "{11111111-1111411181111111-11111111}"}`: {want: broker.TenantUpdate{APIKey: uuid}},
		`{"node_quota": 3, "session_lifetime": "1h", "session_lifetime_max": null}`: {want: broker.TenantUpdate{
			NodeQuota: broker.Override[int]{Set: true, Value: &three}, SessionLifetime: broker.Override[time.Duration]{Set: true, Value: &hour},
			SessionLifetimeMax: broker.Override[time.Duration]{Set: true},
		}},
		`{}`:                           {places: []string{"__root__", "active"}},
		`{"active": null}`:             {places: []string{"__root__", "active"}},
		`{"api_key": 5}`:               {places: []string{"api_key", "api_key", "active"}},
		`{"api_key": "reset "}`:        {places: []string{"api_key", "api_key", "active"}},
		`{"previous_api_key": "keep"}`: {places: []string{"previous_api_key", "active"}},
		`{"previous_api_key": []}`:     {places: []string{"previous_api_key", "active"}},
		`{"node_quota": -1}`:           {places: []string{"node_quota", "active"}},
		// Duffy takes this for a retirement.
		`{"node_quota": "x", "active": false}`: {places: []string{"node_quota"}},
		`{"session_lifetime": "x"}`:            {places: []string{"session_lifetime", "active"}},
		`{"ssh_key": []}`:                      {places: []string{"ssh_key", "active"}},
	}
	for body, test := range tests {
		v, err := decode([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		var k checker
		got := k.tenantUpdate(v.(map[string]any))
		var places []string
		for _, f := range k.fields {
			places = append(places, place(f.Loc))
		}
		if diff := cmp.Diff(test.places, places); diff != "" {
			t.Errorf("%s: wrong places (-want +got):\n%s", body, diff)
		}
		if diff := cmp.Diff(test.want, got); diff != "" && test.places == nil {
			t.Errorf("%s (-want +got):\n%s", body, diff)
		}
	}
}

// Keys are shown once: when they are made.
func TestTenantAnswersShowNoKeys(t *testing.T) {
	f := newFake()
	url := start(t, Config{Broker: f})
	sent := []struct {
		method, path, body string
		shows              bool
	}{
		{http.MethodGet, "/tenants", "", false},
		{http.MethodGet, "/tenants/2", "", false},
		{http.MethodPut, "/tenants/2", `{"api_key": "11111111-1111-4111-8111-111111111111"}`, false},
		{http.MethodPut, "/tenants/2", `{"ssh_key": "x"}`, false},
		{http.MethodPut, "/tenants/2", `{"api_key": "reset"}`, true},
		{http.MethodPost, "/tenants", `{"name": "x", "ssh_key": "ssh-ed25519 AAAAtenant"}`, true},
	}
	for _, s := range sent {
		a := send(t, s.method, url+"/api/v1"+s.path, s.body, asDemo)
		if a.status >= 300 || !json.Valid([]byte(a.body)) {
			t.Errorf("%s %s: %d %s", s.method, s.path, a.status, a.body)
		}
		if got := strings.Contains(a.body, goodKey); got != s.shows {
			t.Errorf("%s %s %s shows the API key: %t, want %t", s.method, s.path, s.body, got, s.shows)
		}
		created := s.method == http.MethodPost
		if got := strings.Contains(a.body, "AAAAtenant"); got != created || strings.Contains(a.body, "key_hash") {
			t.Errorf("%s %s shows the ssh key: %t, want %t: %s", s.method, s.path, got, created, a.body)
		}
	}
}

// Duffy's client refuses every answer that shows a tenant with a quota below 1.
func TestTenantQuota(t *testing.T) {
	url := start(t, Config{Broker: newFake()})
	for quota, status := range map[string]int{"1": 200, `"7"`: 200, "null": 200, "0": 422, "-1": 422, "0.9": 422, `"x"`: 422} {
		if a := send(t, http.MethodPut, url+"/api/v1/tenants/2", `{"node_quota": `+quota+`}`, asDemo); a.status != status {
			t.Errorf("quota %s: %d, want %d: %s", quota, a.status, status, a.body)
		}
	}
}
