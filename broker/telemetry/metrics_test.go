package telemetry_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/telemetry"
	"github.com/duffy-broker/duffy-broker/store/fault"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

var update = flag.Bool("update", false, "write the table of metrics in docs anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type noKeys struct{}

func (noKeys) CurrentAPIKeyHash([]byte) bool            { return true }
func (noKeys) HashAPIKey(key string) []byte             { return []byte(key) }
func (noKeys) EqualAPIKey(key string, hash []byte) bool { return string(hash) == key }

// running is a provisioner whose calls report a run, as the engine's do.
type running struct{ *brokertest.Cloud }

func (r running) Apply(ctx context.Context, n broker.Node) (broker.Result, error) {
	began := time.Now()
	result, err := r.Cloud.Apply(ctx, n)
	result.Runs = runOf("apply", began, err)
	return result, err
}

func (r running) Destroy(ctx context.Context, n broker.Node, sealed []byte) (broker.Result, error) {
	began := time.Now()
	result, err := r.Cloud.Destroy(ctx, n, sealed)
	result.Runs = runOf("destroy", began, err)
	return result, err
}

func runOf(operation string, began time.Time, err error) []broker.Run {
	return []broker.Run{{Operation: operation, Began: began, Ended: time.Now(), Class: broker.FailureClassOf(err)}}
}

// failure is what calls of one kind end with.
type failure struct {
	op  string
	err error
}

// outlook adds to what pools have.
type outlook struct{ w *world }

func (o outlook) Effective(p broker.Pool, _ time.Time) broker.Effective {
	return broker.Effective{FillLevel: p.FillLevel + o.w.extra, MaxNodes: p.MaxNodes + o.w.extra}
}

func (outlook) Changes(broker.Pool, time.Time, int) []broker.ScheduleChange { return nil }

func (outlook) NextTry(broker.PoolHealth) time.Time { return time.Time{} }

// world is a broker with its loop and its sweeper, on a scripted cloud, and the
// metrics of all of them.
type world struct {
	t     *testing.T
	reg   *prometheus.Registry
	m     *telemetry.Metrics
	store *fault.Store
	cloud *brokertest.Cloud
	pools *broker.PoolSet
	b     *broker.Broker
	admin broker.Tenant
	start func() (stop func()) // loop and sweeper

	failing atomic.Pointer[failure]
	extra   int // that a window adds to the fill level and the maximum

	// proven are the metrics that a step has changed, by name.
	proven map[string]bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, reg: prometheus.NewRegistry(), store: fault.New(memory.New()), pools: new(broker.PoolSet), proven: make(map[string]bool),
		cloud: &brokertest.Cloud{Delay: func(op string) time.Duration {
			return map[string]time.Duration{"apply": 5 * time.Second, "destroy": 2 * time.Second}[op]
		}},
	}
	w.cloud.Fail = func(op string, _ broker.Node) error {
		if f := w.failing.Load(); f != nil && f.op == op {
			return f.err
		}
		return nil
	}
	w.pools.Set([]broker.Pool{{
		Name: "a", FillLevel: 2, MaxNodes: 4, Concurrency: 4, Contextualize: broker.ContextualizeNone, CreateTimeout: time.Minute,
		Source: broker.Source{Template: "t", Generation: "g", Sweeps: true}, Sweep: broker.Sweep{Interval: 10 * time.Minute, MaxDestroys: 5},
	}})
	var loop *reconcile.Loop
	log := slog.New(slog.DiscardHandler)
	w.b = broker.New(broker.Config{
		Store: w.store, Contextualizer: w.cloud, Keys: noKeys{}, Pools: w.pools, Log: log, Now: time.Now, Wake: func() { loop.Wake() },
	})
	var err error
	w.m, err = telemetry.New(w.reg, telemetry.Config{
		Store: w.store, Pools: w.pools, Outlook: outlook{w}, Unmet: w.b.Unmet, BreakerOpen: reconcile.BreakerOpen, Now: time.Now, Version: "v1.2.3",
	})
	if err != nil {
		t.Fatal(err)
	}
	sweeper := reconcile.NewSweeper(reconcile.SweeperConfig{
		Store: w.store, Lister: w.cloud, Pools: w.pools, Log: log, Now: time.Now, Wake: func() { loop.Wake() },
		Observe: func(s reconcile.SweepSeen) { w.m.Sweep(s.Pool, s.Result, s.Leaked, s.Vanished, s.Unresolved) },
	})
	loop = reconcile.New(reconcile.Config{
		Store: w.store, Provisioner: w.m.Provisioner(running{w.cloud}), Contextualizer: w.cloud, Pools: w.pools,
		Serving: w.b.Serving, Unmet: w.b.Unmet, Runs: 1, Log: log, Now: time.Now,
		ObservePass: func(p reconcile.Pass) { w.m.Pass(p.Took, p.Err, p.Creates, p.Destroys, p.Wrong) },
	})
	if err := w.b.CreateTenants(t.Context(), broker.NewTenant{Tenant: broker.Tenant{Name: "admin", IsAdmin: true}, APIKey: "a"}); err != nil {
		t.Fatal(err)
	}
	if w.admin, err = w.b.Authenticate(t.Context(), "admin", "a"); err != nil {
		t.Fatal(err)
	}
	w.start = func() (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		var parts sync.WaitGroup
		parts.Go(func() { loop.Run(ctx) })
		parts.Go(func() { sweeper.Run(ctx) })
		return func() {
			cancel()
			parts.Wait()
		}
	}
	return w
}

// scrape gives the values of all series as they are written: name{label="value"}.
// Of a histogram it gives how much it has seen.
func (w *world) scrape() map[string]float64 {
	w.t.Helper()
	families, err := w.reg.Gather()
	if err != nil {
		w.t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			values[f.GetName()+labels(m)] = valueOf(m)
		}
	}
	return values
}

func valueOf(m *dto.Metric) float64 {
	switch {
	case m.GetHistogram() != nil:
		return float64(m.GetHistogram().GetSampleCount())
	case m.GetCounter() != nil:
		return m.GetCounter().GetValue()
	}
	return m.GetGauge().GetValue()
}

func labels(m *dto.Metric) string {
	var pairs []string
	for _, l := range m.GetLabel() {
		pairs = append(pairs, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
	}
	if pairs == nil {
		return ""
	}
	return "{" + strings.Join(pairs, ",") + "}"
}

// step does something, and says what series must be afterwards. That they were
// something else before proves them.
func (w *world) step(name string, do func(), want map[string]float64) {
	w.t.Helper()
	before := w.scrape()
	do()
	after := w.scrape()
	for series, value := range want {
		full := "duffy_broker_" + series
		if after[full] != value {
			w.t.Errorf("%s: %s is %v, want %v", name, series, after[full], value)
		}
		if before[full] != after[full] {
			metric, _, _ := strings.Cut(full, "{")
			w.proven[metric] = true
		}
	}
}

// must fails the test on an error.
func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) request(nodes int) (broker.Session, error) {
	s, err := w.b.RequestSession(w.t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: nodes}}})
	w.m.Handout(time.Millisecond, err)
	return s, err
}

// Each metric changes when that happens of which it tells, and no other way of
// changing it is left untried.
func TestEachMetricChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		stop := func() {}
		defer func() { stop() }()
		wait := func(d time.Duration) func() { return func() { time.Sleep(d); synctest.Wait() } }
		w.step("start", func() {
			w.m.Reload(true)
			stop = w.start()
			wait(time.Second)()
		}, map[string]float64{
			`pool_fill_level{pool="a"}`: 2, `pool_max_nodes{pool="a"}`: 4, `config_last_reload_successful`: 1,
			`terraform_runs_in_flight{action="apply",pool="a"}`: 1, `terraform_runs_waiting{action="apply",pool="a"}`: 1,
			`nodes{condition="applying",pool="a",state="provisioning"}`: 1, `nodes{condition="ready",pool="a",state="ready"}`: 0,
			`pool_breaker_open{pool="a"}`: 0, `pool_unmet_nodes{pool="a"}`: 0, `handouts_total{pool="a"}`: 0,
		})
		// Those that say when something last was, and how often a thing that goes on by itself.
		before := w.scrape()
		wait(time.Minute)()
		w.m.Reload(true)
		after := w.scrape()
		for _, name := range []string{"config_last_reload_success_timestamp_seconds", "reconcile_last_pass_timestamp_seconds", "reconcile_pass_duration_seconds"} {
			if after["duffy_broker_"+name] <= before["duffy_broker_"+name] {
				t.Errorf("%s was %v and is %v", name, before["duffy_broker_"+name], after["duffy_broker_"+name])
			}
			w.proven["duffy_broker_"+name] = true
		}
		w.step("full", func() {}, map[string]float64{
			`nodes{condition="ready",pool="a",state="ready"}`: 2, `terraform_runs_waiting{action="apply",pool="a"}`: 0,
			`terraform_runs_in_flight{action="apply",pool="a"}`:         0,
			`terraform_runs_total{action="apply",pool="a",result="ok"}`: 2, `terraform_run_duration_seconds{action="apply",pool="a"}`: 2,
		})
		w.step("too much is asked for", func() {
			_, err := w.request(3)
			if broker.CodeOf(err) != broker.CodeCapacity {
				t.Fatal(err)
			}
		}, map[string]float64{`pool_unmet_nodes{pool="a"}`: 3, `handout_duration_seconds{result="no_stock"}`: 1})
		var lent broker.Session
		w.step("a session", func() {
			var err error
			lent, err = w.request(2)
			w.must(err)
			wait(time.Minute)()
		}, map[string]float64{
			`sessions_active`: 1, `handouts_total{pool="a"}`: 2, `handout_duration_seconds{result="ok"}`: 1, `pool_unmet_nodes{pool="a"}`: 0,
			`nodes{condition="deployed",pool="a",state="deployed"}`: 2, `nodes{condition="ready",pool="a",state="ready"}`: 2,
			`terraform_runs_total{action="apply",pool="a",result="ok"}`: 4,
		})
		w.step("it ends", func() {
			w.store.FailUpdate(2, fault.Before, errors.New("the disk hiccups")) // the loop's
			_, err := w.b.UpdateSession(t.Context(), w.admin, lent.ID, broker.SessionUpdate{Retire: true})
			w.must(err)
			wait(time.Minute)()
		}, map[string]float64{
			`sessions_active`: 0, `nodes{condition="deployed",pool="a",state="deployed"}`: 0, `reconcile_pass_failures_total`: 1,
			`terraform_runs_total{action="destroy",pool="a",result="ok"}`: 2, `terraform_run_duration_seconds{action="destroy",pool="a"}`: 2,
		})
		w.step("the cloud has nothing", func() {
			w.failing.Store(&failure{"apply", &broker.Failure{Class: broker.FailureNoCapacity, Err: errors.New("no hosts")}})
			_, err := w.request(1)
			w.must(err)
			wait(20 * time.Second)()
		}, map[string]float64{
			`pool_breaker_open{pool="a"}`: 1, `terraform_runs_total{action="apply",pool="a",result="no_capacity"}`: 3,
		})
		w.step("it has again", func() {
			w.failing.Store(nil)
			wait(20 * time.Minute)()
		}, map[string]float64{`pool_breaker_open{pool="a"}`: 0, `nodes{condition="ready",pool="a",state="ready"}`: 2})
		w.step("leaks", func() {
			w.cloud.Appear("00000000000000aa", "a")
			w.cloud.Appear("not-one-of-ours", "a")
			w.cloud.Vanish(w.readyNode())
			wait(time.Hour)()
		}, map[string]float64{
			`sweep_findings_total{pool="a",result="leaked"}`: 1, `sweep_findings_total{pool="a",result="vanished"}`: 1, `sweep_unresolved{pool="a"}`: 1,
		})
		if after := w.scrape(); after[`duffy_broker_sweeps_total{pool="a",result="ok"}`] < 5 {
			t.Errorf("sweeps: %v", after[`duffy_broker_sweeps_total{pool="a",result="ok"}`])
		}
		w.step("no listing", func() {
			w.failing.Store(&failure{"list", errors.New("no answer")})
			wait(10 * time.Minute)()
			w.failing.Store(nil)
		}, map[string]float64{`sweeps_total{pool="a",result="failed"}`: 1, `sweep_unresolved{pool="a"}`: 1})
		w.step("requests", func() {
			w.m.Request("/api/v1/pools/:name", http.MethodGet, 200, time.Millisecond)
			w.m.Request("/api/v1/pools/:name", http.MethodGet, 201, time.Millisecond)
			w.m.Request("", "BREW", 404, time.Millisecond)
			w.m.LegacyCall("/Node/get", "ci", "capacity")
			w.m.Interrupted("a", "deployed")
			w.m.Reload(false)
			w.m.Pass(time.Millisecond, nil, nil, nil, 3)
		}, map[string]float64{
			`http_request_duration_seconds{method="GET",route="/api/v1/pools/:name",status="2xx"}`: 2,
			`http_request_duration_seconds{method="other",route="none",status="4xx"}`:              1,
			`legacy_calls_total{endpoint="/Node/get",result="capacity",tenant="ci"}`:               1,
			`interruption_notices_total{pool="a",state="deployed"}`:                                1,
			`reconcile_mirror_errors_total`:                                                        3,
			`config_last_reload_successful`:                                                        0,
		})
		w.step("a window opens", func() { w.extra = 10 }, map[string]float64{`pool_fill_level{pool="a"}`: 12, `pool_max_nodes{pool="a"}`: 14})
		w.step("its pool leaves the file", func() {
			w.pools.Set(nil)
			w.failing.Store(&failure{"destroy", &broker.Failure{Class: broker.FailureAuth, Err: errors.New("who are you?")}})
			wait(2 * time.Minute)()
		}, map[string]float64{
			`pool_fill_level{pool="a"}`: 0, `nodes{condition="ready",pool="a",state="ready"}`: 0, `nodes{condition="destroying",pool="a",state="deprovisioning"}`: 2,
		})
		w.proven["duffy_broker_build_info"] = true // it never changes
		for name := range w.families() {
			if !w.proven[name] {
				t.Errorf("no step has changed %s", name)
			}
		}
	})
}

func (w *world) readyNode() (uid string) {
	w.t.Helper()
	w.must(w.store.View(w.t.Context(), func(tx broker.ReadTx) error {
		nodes, err := tx.Nodes(broker.NodeQuery{States: []broker.NodeState{broker.NodeReady}})
		if err == nil {
			uid = nodes[0].UID
		}
		return err
	}))
	return uid
}

// families gives the metrics of ours, by name.
func (w *world) families() map[string]*dto.MetricFamily {
	w.t.Helper()
	families, err := w.reg.Gather()
	w.must(err)
	ours := make(map[string]*dto.MetricFamily)
	for _, f := range families {
		if strings.HasPrefix(f.GetName(), "duffy_broker_") {
			ours[f.GetName()] = f
		}
	}
	return ours
}

// everything makes each metric appear.
func (w *world) everything() {
	w.m.Request("/api/v1/pools", http.MethodGet, 200, time.Millisecond)
	w.m.LegacyCall("/Node/get", "ci", "ok")
	w.m.Interrupted("a", "ready")
	w.m.Handout(time.Millisecond, nil)
	w.m.Reload(true)
	w.m.Sweep("a", "ok", 1, 1, 1)
	w.m.Pass(time.Millisecond, nil, nil, nil, 0)
	p := w.m.Provisioner(running{new(brokertest.Cloud)})
	n := broker.Node{Pool: "a", UID: broker.NewUID()}
	_, err := p.Apply(w.t.Context(), n)
	w.must(err)
	_, err = p.Destroy(w.t.Context(), n, nil)
	w.must(err)
}

// Names and texts are as Prometheus wants them.
func TestLint(t *testing.T) {
	w := newWorld(t)
	w.everything()
	problems, err := testutil.GatherAndLint(w.reg)
	w.must(err)
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "duffy_broker_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	all, err := w.reg.Gather()
	w.must(err)
	if !slices.ContainsFunc(all, func(f *dto.MetricFamily) bool { return f.GetName() == "process_start_time_seconds" }) {
		t.Error("the process itself is left out")
	}
}

// The table in docs/metrics.md is what there is. Dashboards and alerts rely on it:
// a name that goes, or a label, is a change that users see.
func TestDocumented(t *testing.T) {
	const path, begin, end = "../../docs/metrics.md", "<!-- metrics: written by go test ./broker/telemetry -update -->\n", "<!-- end of metrics -->\n"
	w := newWorld(t)
	w.everything()
	var table strings.Builder
	table.WriteString(begin + "| metric | kind | labels | |\n|---|---|---|---|\n")
	families := w.families()
	for _, name := range slices.Sorted(maps.Keys(families)) {
		f := families[name]
		var names []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			names = append(names, l.GetName())
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", name, strings.ToLower(f.GetType().String()), strings.Join(names, ", "), f.GetHelp())
	}
	table.WriteString(end)
	doc, err := os.ReadFile(path)
	w.must(err)
	before, rest, found := bytes.Cut(doc, []byte(begin))
	_, after, found2 := bytes.Cut(rest, []byte(end))
	if !found || !found2 {
		t.Fatalf("%s has no place for the table", path)
	}
	want := string(before) + table.String() + string(after)
	if *update {
		w.must(os.WriteFile(path, []byte(want), 0o644))
		return
	}
	if diff := cmp.Diff(want, string(doc)); diff != "" {
		t.Errorf("%s is not up to date: run go test ./broker/telemetry -update (-want +got):\n%s", path, diff)
	}
}

// What a request for a session came to is one of a few words.
func TestHandoutResults(t *testing.T) {
	w := newWorld(t)
	for code, result := range map[broker.Code]string{
		broker.CodeCapacity: "no_stock", broker.CodeQuota: "quota", broker.CodeInvalid: "refused", broker.CodeForbidden: "refused",
		broker.CodeUnavailable: "failed", broker.CodeInternal: "failed", broker.CodeConflict: "refused",
	} {
		before := w.scrape()[`duffy_broker_handout_duration_seconds{result="`+result+`"}`]
		w.m.Handout(time.Second, broker.Errorf(code, "no"))
		if after := w.scrape()[`duffy_broker_handout_duration_seconds{result="`+result+`"}`]; after != before+1 {
			t.Errorf("%s does not count as %s", code, result)
		}
	}
	before := w.scrape()[`duffy_broker_handout_duration_seconds{result="failed"}`]
	w.m.Handout(time.Second, errors.New("unheard of"))
	if after := w.scrape()[`duffy_broker_handout_duration_seconds{result="failed"}`]; after != before+1 {
		t.Error("an unknown error does not count as failed")
	}
}

// A store that fails costs the levels, not the scrape.
func TestHandler(t *testing.T) {
	w := newWorld(t)
	w.everything()
	var log bytes.Buffer
	handler := telemetry.Handler(w.reg, slog.New(slog.NewTextHandler(&log, nil)))
	get := func() string {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodGet, "/metrics", nil))
		if answer.Code != http.StatusOK {
			t.Errorf("status %d: %s", answer.Code, answer.Body)
		}
		return answer.Body.String()
	}
	if text := get(); !strings.Contains(text, "duffy_broker_nodes{") || !strings.Contains(text, "go_goroutines") {
		t.Errorf("%s", text)
	}
	w.must(w.store.Close())
	if text := get(); strings.Contains(text, "duffy_broker_nodes{") || !strings.Contains(text, "duffy_broker_terraform_runs_total") {
		t.Errorf("%s", text)
	}
	if text := get(); !strings.Contains(text, `promhttp_metric_handler_errors_total{cause="gathering"} 1`) || !strings.Contains(log.String(), "store is closed") {
		t.Errorf("nobody hears of it: %s", log.String())
	}
}

// Another broker in the same registry would count into the same metrics.
func TestNew_twice(t *testing.T) {
	w := newWorld(t)
	if _, err := telemetry.New(w.reg, telemetry.Config{}); err == nil {
		t.Error("no error")
	}
}
