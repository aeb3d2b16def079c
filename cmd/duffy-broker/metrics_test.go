package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/store/fault"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

// scrape reads metrics as tenant, or as nobody for "": by series as it is written.
func (s *server) scrape(url, tenant string) (int, map[string]float64) {
	s.t.Helper()
	req, err := http.NewRequest(http.MethodGet, url+"/metrics", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if tenant != "" {
		req.SetBasicAuth(tenant, s.profile.Tenants[tenant].APIKey)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	values := make(map[string]float64)
	for line := range strings.Lines(string(body)) {
		i := strings.LastIndexByte(strings.TrimSpace(line), ' ')
		if v, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64); err == nil && !strings.HasPrefix(line, "#") {
			values[line[:i]] = v
		}
	}
	return resp.StatusCode, values
}

// logged gives the address of the line of the log with this message.
func (s *server) logged(message string) string {
	for line := range strings.Lines(s.log.String()) {
		var entry struct{ Msg, Address string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == message {
			return entry.Address
		}
	}
	return ""
}

// poolWith is a pool with a module of its own, of these files.
func poolWith(t *testing.T, name string, fill int, files map[string]string, more string) string {
	t.Helper()
	dir := t.TempDir()
	for file, text := range files {
		path := filepath.Join(dir, file)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return fmt.Sprintf("\npool %q {\n  module = %q\n  fill_level = %d\n  max_nodes = %[3]d\n  contextualize = \"none\"\n%s\n}\n", name, dir, fill, more)
}

// The real program counts what it does, and shows it to admins and on the port
// that is for metrics only. Its health is for everybody.
func TestMetrics(t *testing.T) {
	t.Parallel()
	const legacyKey = "4140e563-278f-5432-bc48-55c08191fbac"
	record := `
variable "broker" { type = any }
resource "terraform_data" "node" {
  input = "127.0.0.1"
  lifecycle {
    precondition {
      condition     = %s
      error_message = "this module is broken"
    }
  }
}
output "ipaddr" { value = terraform_data.node.output }
`
	good := plainPool(t, 2) +
		poolWith(t, "broken", 1, map[string]string{"main.tf": fmt.Sprintf(record, `var.broker == null`)}, "") +
		poolWith(t, "swept", 1, map[string]string{
			"main.tf": fmt.Sprintf(record, "var.broker != null"),
			"sweep/main.tf": `
variable "broker" { type = any }
output "complete" { value = true }
output "nodes" { value = [] }
`,
		}, "  sweep {\n    interval = \"10s\"\n  }") + `
legacy {
  hostname = hostname
  max_wait = "0s"
  map {
    ver  = "7"
    pool = "plain"
  }
}
`
	s := newServer(t, good)
	s.extra = []string{"--metrics-listen", "127.0.0.1:0"}
	s.start()
	own := "http://" + s.logged("serving metrics")
	for tenant, want := range map[string]int{"": 401, "demo": 403, "admin": 200} {
		if got, _ := s.scrape(s.url, tenant); got != want {
			t.Errorf("metrics as %q: %d, want %d", tenant, got, want)
		}
	}
	for path, want := range map[string]int{"/metrics": 200, "/api/v1/pools": 404, "/": 404} {
		resp, err := http.Get(own + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s on the port of the metrics: %d, want %d", path, resp.StatusCode, want)
		}
	}
	s.admin("legacy", "key", "add", "2", "--key", legacyKey, "--note", "jenkins")
	// The same on both ports, whatever they were asked before.
	expect := func(what string, want map[string]float64, least map[string]float64) {
		t.Helper()
		s.eventually(what, time.Minute, func() error {
			for url, tenant := range map[string]string{s.url: "admin", own: ""} {
				_, got := s.scrape(url, tenant)
				for series, value := range want {
					if v, ok := got["duffy_broker_"+series]; !ok || v != value {
						return fmt.Errorf("%s is %v (%t), want %v", series, v, ok, value)
					}
				}
				for series, value := range least {
					if got["duffy_broker_"+series] < value {
						return fmt.Errorf("%s is %v, want %v or more", series, got["duffy_broker_"+series], value)
					}
				}
			}
			return nil
		})
	}
	expect("stock is shown", map[string]float64{
		`nodes{condition="ready",pool="plain",state="ready"}`: 2, `pool_fill_level{pool="plain"}`: 2, `pool_max_nodes{pool="plain"}`: 2,
		`terraform_runs_total{action="apply",pool="plain",result="ok"}`: 2, `terraform_run_duration_seconds_count{action="apply",pool="plain"}`: 2,
		`terraform_runs_in_flight{action="apply",pool="plain"}`: 0, `terraform_runs_waiting{action="apply",pool="plain"}`: 0,
		`pool_breaker_open{pool="plain"}`: 0, `pool_breaker_open{pool="broken"}`: 1,
		`config_last_reload_successful`: 1,
	}, map[string]float64{
		`terraform_runs_total{action="apply",pool="broken",result="configuration"}`: 1,
		`sweeps_total{pool="swept",result="distrusted"}`:                            1, `reconcile_pass_duration_seconds_count`: 3,
		`reconcile_last_pass_timestamp_seconds`: float64(time.Now().Add(-time.Minute).Unix()),
	})
	specs := map[string]any{"nodes_specs": []map[string]any{{"pool": "plain", "quantity": 1}}}
	session := s.must(201, "demo", "POST", "/sessions", specs).Session
	s.must(403, "demo", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "plain", "quantity": 1000}}})
	s.old(s.url, "/Node/get?key="+legacyKey)
	s.old(s.url, "/Node/get?key="+legacyKey)
	expect("hand-outs are counted", map[string]float64{
		`sessions_active`: 2, `handouts_total{pool="plain"}`: 2, `pool_unmet_nodes{pool="plain"}`: 1,
		`handout_duration_seconds_count{result="ok"}`: 2, `handout_duration_seconds_count{result="quota"}`: 1, `handout_duration_seconds_count{result="no_stock"}`: 1,
		`legacy_calls_total{endpoint="/Node/get",result="ok",tenant="demo"}`:                       1,
		`legacy_calls_total{endpoint="/Node/get",result="capacity",tenant="demo"}`:                 1,
		`http_request_duration_seconds_count{method="POST",route="/api/v1/sessions",status="2xx"}`: 1,
		`http_request_duration_seconds_count{method="GET",route="/Node/get",status="2xx"}`:         2,
	}, nil)
	s.must(200, "demo", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
	expect("a node is destroyed", map[string]float64{
		`sessions_active`: 1, `terraform_runs_total{action="destroy",pool="plain",result="ok"}`: 1,
	}, nil)
	s.writePools(strings.Replace(good, "fill_level", "fil_level", 1))
	s.reload()
	expect("a bad file is noticed", map[string]float64{`config_last_reload_successful`: 0}, nil)
	s.writePools(good)
	s.reload()
	expect("a good file is noticed", map[string]float64{`config_last_reload_successful`: 1}, nil)

	for _, path := range []string{"/healthz", "/readyz"} {
		s.eventually(path+" is well", time.Minute, func() error {
			if answer := s.old(s.url, path); answer != `{"status":"ok"}` {
				return errors.New(answer)
			}
			return nil
		})
	}
	s.stop()
	// What is counted in the store goes on, the rest begins anew.
	s.start()
	_, got := s.scrape(s.url, "admin")
	if got[`duffy_broker_handouts_total{pool="plain"}`] != 2 || got[`duffy_broker_handout_duration_seconds_count{result="ok"}`] != 0 {
		t.Errorf("after a restart: %v hand-outs", got[`duffy_broker_handouts_total{pool="plain"}`])
	}
	s.stop()
}

// Whether the broker is ready depends on the store and on the loop.
func TestReadyAsksAll(t *testing.T) {
	store := fault.New(memory.New())
	now := time.Now()
	b := broker.New(broker.Config{Store: store, Keys: new(secret.Keyring), Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	err := store.Update(t.Context(), func(tx broker.Tx) error { return tx.SetIdentity(broker.Identity{ID: broker.NewUUID()}) })
	if err != nil {
		t.Fatal(err)
	}
	loop := reconcile.New(reconcile.Config{
		Store: store, Pools: new(broker.PoolSet), Log: slog.New(slog.DiscardHandler), Now: time.Now, Serving: b.Serving,
	})
	d := daemon{broker: b, loop: loop}
	if err := d.ready(t.Context()); broker.CodeOf(err) != broker.CodeUnavailable || !strings.Contains(err.Error(), "has not looked") {
		t.Errorf("before a pass: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); loop.Run(ctx) }()
	for loop.Ready(time.Now()) != nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	<-done
	if err := d.ready(t.Context()); err != nil {
		t.Errorf("after a pass: %v", err)
	}
	store.FailUpdate(1, fault.Before, errors.New("full"))
	now = now.Add(time.Minute)
	if err := d.ready(t.Context()); broker.CodeOf(err) != broker.CodeUnavailable || !strings.Contains(err.Error(), "takes no changes") {
		t.Errorf("on a full disk: %v", err)
	}
}
