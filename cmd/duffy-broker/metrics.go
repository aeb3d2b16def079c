package main

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/duffy-broker/duffy-broker/api"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/telemetry"
)

// meters are the daemon's metrics and what serves them.
type meters struct {
	*telemetry.Metrics

	handler  http.Handler
	listener net.Listener // of their own; nil for none
}

// newMeters prepares the metrics; pools.hcl has been taken over at this point.
func (d *daemon) newMeters(store broker.Store, listener net.Listener) error {
	registry := prometheus.NewRegistry()
	m, err := telemetry.New(registry, telemetry.Config{
		Store: store, Pools: d.pools, Outlook: reconcile.Outlook{}, Unmet: d.broker.Unmet, BreakerOpen: reconcile.BreakerOpen, Now: time.Now, Version: version(),
	})
	if err != nil {
		return err
	}
	m.Reload(true)
	d.meters = meters{Metrics: m, handler: telemetry.Handler(registry, d.log), listener: listener}
	return nil
}

// observePass counts a pass of the loop.
func (m meters) observePass(p reconcile.Pass) { m.Pass(p.Took, p.Err, p.Creates, p.Destroys, p.Wrong) }

// observeSweep counts a leak sweep.
func (m meters) observeSweep(s reconcile.SweepSeen) {
	m.Sweep(s.Pool, s.Result, s.Leaked, s.Vanished, s.Unresolved)
}

// observeRequest counts a request to the API.
func (m meters) observeRequest(s api.Seen) {
	m.Request(s.Route, s.Method, s.Status, s.Took)
	if s.Legacy {
		m.LegacyCall(s.Route, s.Tenant, s.Result)
	}
}

// server serves the metrics alone, to everybody who reaches the listener.
func (m meters) server() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", m.handler)
	return api.NewServer(mux)
}

// timedBroker is the broker with its hand-outs timed.
type timedBroker struct {
	*broker.Broker

	meters meters
}

// RequestSession is [broker.Broker.RequestSession].
func (b timedBroker) RequestSession(ctx context.Context, actor broker.Tenant, req broker.SessionRequest) (broker.Session, error) {
	began := time.Now()
	s, err := b.Broker.RequestSession(ctx, actor, req)
	b.meters.Handout(time.Since(began), err)
	return s, err
}

// Notify is [broker.Broker.Notify].
func (b timedBroker) Notify(ctx context.Context, n broker.Node, notice broker.Notice) (bool, error) {
	first, err := b.Broker.Notify(ctx, n, notice)
	if first {
		b.meters.Interrupted(n.Pool, n.State.Wire())
	}
	return first, err
}

// ready tells whether the broker can do its work.
func (d *daemon) ready(ctx context.Context) error {
	if err := d.broker.Writable(ctx); err != nil {
		return err
	}
	return d.loop.Ready(time.Now())
}
