// Package telemetry counts what the broker does, for Prometheus.
//
// Levels, such as nodes by state, are read from the store at each scrape, so that
// they are true whatever has happened. All else is counted where it happens, by
// the methods of [Metrics]. Labels have few values: pools, states, actions,
// results, patterns of routes, and the names of tenants where old clients are to
// be found.
package telemetry

import (
	"fmt"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// namespace begins the names of all metrics of ours.
const namespace = "duffy_broker"

// The values of the label action.
const (
	actionApply   = "apply"
	actionDestroy = "destroy"
)

// resultOK is the value of the label result for what succeeded.
const resultOK = "ok"

// Config says where levels are read. All fields but Version are required.
type Config struct {
	Store broker.Store
	Pools *broker.PoolSet
	// Outlook gives the numbers of nodes that pools have at the moment.
	Outlook broker.Outlook
	// Unmet gives the nodes that requests wait for: [broker.Broker.Unmet].
	Unmet func(now time.Time) map[string]int
	// BreakerOpen tells whether a pool rests after failures.
	BreakerOpen func(broker.Pool, broker.PoolHealth) bool
	Now         func() time.Time
	Version     string // of the broker
}

// Metrics are the metrics of one broker. Make them with [New]. Methods may be
// called at once.
type Metrics struct {
	cfg     Config
	waiting atomic.Pointer[waiting]

	requests   *prometheus.HistogramVec
	handouts   *prometheus.HistogramVec
	legacy     *prometheus.CounterVec
	inFlight   *prometheus.GaugeVec
	runs       *prometheus.CounterVec
	runTimes   *prometheus.HistogramVec
	reloaded   prometheus.Gauge
	reloadedAt prometheus.Gauge
	notices    *prometheus.CounterVec
	sweeps     *prometheus.CounterVec
	findings   *prometheus.CounterVec
	unresolved *prometheus.GaugeVec
	passes     prometheus.Histogram
	passErrors prometheus.Counter
	passedAt   prometheus.Gauge
	mirror     prometheus.Counter
}

// waiting are the Terraform runs that a pass of the loop could not start, by pool.
type waiting struct{ applies, destroys map[string]int }

// New registers the metrics of a broker, and those of its process.
func New(reg prometheus.Registerer, cfg Config) (*Metrics, error) {
	m := &Metrics{
		cfg: cfg,
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "http_request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, by route, method and class of the status.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 30},
		}, []string{"route", "method", "status"}),
		handouts: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "handout_duration_seconds",
			Help:    "Time that a request for a session took, SSH included; result is ok, no_stock, quota, refused (the request's own fault) or failed.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"result"}),
		legacy: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "legacy_calls_total",
			Help: "Calls of the legacy API; result is ok or the code of the error, tenant is empty if the key is not known.",
		}, []string{"endpoint", "tenant", "result"}),
		inFlight: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "terraform_runs_in_flight",
			Help: "Terraform runs in progress.",
		}, []string{"pool", "action"}),
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "terraform_runs_total",
			Help: "Terraform runs that have ended; action is apply, import or destroy, result is ok or the class of the failure.",
		}, []string{"pool", "action", "result"}),
		runTimes: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: namespace, Name: "terraform_run_duration_seconds",
			Help:    "Time that Terraform runs took.",
			Buckets: []float64{1, 3, 10, 30, 60, 120, 300, 600, 1200, 3600},
		}, []string{"pool", "action"}),
		reloaded: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "config_last_reload_successful",
			Help: "1 if pools.hcl was taken over when it was last read, else 0: then the one before is in force.",
		}),
		reloadedAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "config_last_reload_success_timestamp_seconds",
			Help: "When a pools.hcl was last taken over.",
		}),
		notices: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "interruption_notices_total",
			Help: "Nodes that have said that they will be interrupted; state is the one that they were in.",
		}, []string{"pool", "state"}),
		sweeps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "sweeps_total",
			Help: "Leak sweeps; result is ok, failed, or distrusted (nothing followed from the listing).",
		}, []string{"pool", "result"}),
		findings: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "sweep_findings_total",
			Help: "Nodes that leak sweeps took over to be destroyed, or gave up; result is leaked or vanished.",
		}, []string{"pool", "result"}),
		unresolved: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "sweep_unresolved",
			Help: "Things that the last leak sweep found and can't remove: somebody must do it by hand.",
		}, []string{"pool"}),
		passes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: namespace, Name: "reconcile_pass_duration_seconds",
			Help:    "Time that passes of the reconcile loop took.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10},
		}),
		passErrors: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "reconcile_pass_failures_total",
			Help: "Passes of the reconcile loop that failed because the store did.",
		}),
		passedAt: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "reconcile_last_pass_timestamp_seconds",
			Help: "When a pass of the reconcile loop last succeeded.",
		}),
		mirror: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "reconcile_mirror_errors_total",
			Help: "Records that were wrong in the loop's copy of the store when the two were compared: defects of the broker.",
		}),
	}
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "1; the labels say which broker this is.",
		ConstLabels: prometheus.Labels{"version": cfg.Version, "go_version": runtime.Version()},
	})
	info.Set(1)
	for _, c := range []prometheus.Collector{
		m.requests, m.handouts, m.legacy, m.inFlight, m.runs, m.runTimes, m.reloaded, m.reloadedAt, m.notices, m.sweeps, m.findings,
		m.unresolved, m.passes, m.passErrors, m.passedAt, m.mirror, info, newLevels(m),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register a metric: %w", err)
		}
	}
	return m, nil
}

// Handler serves metrics, to a few scrapes at once. What can't be read is left
// out, counted, and logged.
func Handler(reg *prometheus.Registry, log *slog.Logger) http.Handler {
	return promhttp.HandlerFor(reg, promhttp.HandlerOpts{
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelError), ErrorHandling: promhttp.ContinueOnError,
		Registry: reg, MaxRequestsInFlight: 4,
	})
}

// Request counts an answered request. route is the pattern, "" if none fitted.
func (m *Metrics) Request(route, method string, status int, took time.Duration) {
	if route == "" {
		route = "none"
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete:
	default:
		method = "other" // clients may call it anything
	}
	m.requests.WithLabelValues(route, method, fmt.Sprintf("%dxx", status/100)).Observe(took.Seconds())
}

// LegacyCall counts a call of the legacy API. tenant is "" for a caller that is
// not known.
func (m *Metrics) LegacyCall(endpoint, tenant, result string) {
	m.legacy.WithLabelValues(endpoint, tenant, result).Inc()
}

// Interrupted counts a node that will be interrupted, by the state that it was in.
func (m *Metrics) Interrupted(pool, state string) {
	m.notices.WithLabelValues(pool, state).Inc()
}

// Handout notes how [broker.Broker.RequestSession] ended.
func (m *Metrics) Handout(took time.Duration, err error) {
	m.handouts.WithLabelValues(handoutResult(err)).Observe(took.Seconds())
}

func handoutResult(err error) string {
	if err == nil {
		return resultOK
	}
	switch broker.CodeOf(err) {
	case broker.CodeCapacity:
		return "no_stock"
	case broker.CodeQuota:
		return "quota"
	case broker.CodeInvalid, broker.CodeNotFound, broker.CodeConflict, broker.CodeForbidden, broker.CodeUnauthorized:
		return "refused"
	case broker.CodeUnavailable, broker.CodeInternal:
	}
	return "failed"
}

// Reload notes whether pools.hcl was taken over, at the start too.
func (m *Metrics) Reload(ok bool) {
	if !ok {
		m.reloaded.Set(0)
		return
	}
	m.reloaded.Set(1)
	m.reloadedAt.Set(seconds(m.cfg.Now()))
}

// Sweep counts a leak sweep of a pool. result is ok, failed or distrusted; the
// rest is how many nodes it took over or gave up, and how many things it left for
// a person.
func (m *Metrics) Sweep(pool, result string, leaked, vanished, unresolved int) {
	m.sweeps.WithLabelValues(pool, result).Inc()
	m.findings.WithLabelValues(pool, "leaked").Add(float64(leaked))
	m.findings.WithLabelValues(pool, "vanished").Add(float64(vanished))
	if result == resultOK { // else nothing is known that is new
		m.unresolved.WithLabelValues(pool).Set(float64(unresolved))
	}
}

// Pass notes a pass of the reconcile loop, with the Terraform runs that it could
// not start yet, by pool, and how many records of its copy of the store were wrong.
func (m *Metrics) Pass(took time.Duration, err error, applies, destroys map[string]int, wrong int) {
	m.passes.Observe(took.Seconds())
	m.mirror.Add(float64(wrong))
	if err != nil {
		m.passErrors.Inc()
		return
	}
	m.passedAt.Set(seconds(m.cfg.Now()))
	m.waiting.Store(&waiting{applies, destroys})
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
