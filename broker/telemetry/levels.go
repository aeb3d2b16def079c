package telemetry

import (
	"context"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/duffy-broker/duffy-broker/broker"
)

// levels reads at each scrape what the store knows: keys only, no records of nodes.
type levels struct {
	m *Metrics

	nodes, fillLevel, maxNodes, breaker, unmet, sessions, handouts, waiting *prometheus.Desc
}

func newLevels(m *Metrics) *levels {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &levels{
		m: m,
		nodes: desc("nodes", "Nodes that exist; condition is the exact step of which state is Duffy's word.",
			"pool", "state", "condition"),
		fillLevel: desc("pool_fill_level", "Ready nodes that the pool is to have at the moment.", "pool"),
		maxNodes:  desc("pool_max_nodes", "Nodes that the pool may have at the moment.", "pool"),
		breaker:   desc("pool_breaker_open", "1 while the pool rests because its creates fail one after the other, else 0.", "pool"),
		unmet:     desc("pool_unmet_nodes", "Nodes that requests of the last minute asked for and did not get.", "pool"),
		sessions:  desc("sessions_active", "Sessions whose nodes are lent."),
		handouts:  desc("handouts_total", "Nodes ever lent. It goes on counting after a restart.", "pool"),
		waiting:   desc("terraform_runs_waiting", "Terraform runs that are due and wait for a slot or for their account.", "pool", "action"),
	}
}

// Describe implements [prometheus.Collector].
func (l *levels) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{l.nodes, l.fillLevel, l.maxNodes, l.breaker, l.unmet, l.sessions, l.handouts, l.waiting} {
		to <- d
	}
}

// stock is what the levels of one scrape are made of, all of one moment.
type stock struct {
	nodes    map[string]map[broker.NodeState]int
	health   map[string]broker.PoolHealth
	handouts map[string]int64
	sessions int
}

func (l *levels) read(ctx context.Context) (s stock, err error) {
	err = l.m.cfg.Store.View(ctx, func(tx broker.ReadTx) error {
		s = stock{health: make(map[string]broker.PoolHealth), handouts: make(map[string]int64)}
		if s.nodes, err = tx.CountNodesByPool(); err != nil {
			return err
		}
		if s.sessions, err = tx.CountSessions(broker.SessionActive); err != nil {
			return err
		}
		healths, err := tx.PoolHealths()
		for _, h := range healths {
			s.health[h.Pool] = h
		}
		if err != nil {
			return err
		}
		handouts, err := tx.Handouts()
		for _, h := range handouts {
			s.handouts[h.Pool] += h.Nodes
		}
		return err
	})
	return s, err
}

// Collect implements [prometheus.Collector].
func (l *levels) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value int, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
	}
	s, err := l.read(context.Background()) // a scrape has none to hand on
	if err != nil {
		to <- prometheus.NewInvalidMetric(l.nodes, fmt.Errorf("levels: %w", err))
		return
	}
	gauge(l.sessions, s.sessions)
	waits := l.m.waiting.Load()
	if waits == nil {
		waits = new(waiting)
	}
	now := l.m.cfg.Now()
	unmet := l.m.cfg.Unmet(now)
	known := make(map[string]bool)
	for _, p := range l.m.cfg.Pools.All() {
		known[p.Name] = true
		numbers := l.m.cfg.Outlook.Effective(p, now)
		gauge(l.fillLevel, numbers.FillLevel, p.Name)
		gauge(l.maxNodes, numbers.MaxNodes, p.Name)
		open := 0
		if l.m.cfg.BreakerOpen(p, s.health[p.Name]) {
			open = 1
		}
		gauge(l.breaker, open, p.Name)
		gauge(l.unmet, unmet[p.Name], p.Name)
		gauge(l.waiting, waits.applies[p.Name], p.Name, actionApply)
		gauge(l.waiting, waits.destroys[p.Name], p.Name, actionDestroy)
		l.count(to, p.Name, s.nodes[p.Name], true)
		if _, ok := s.handouts[p.Name]; !ok {
			s.handouts[p.Name] = 0
		}
	}
	for pool, counts := range s.nodes {
		if !known[pool] { // it has left the file, and is being emptied
			l.count(to, pool, counts, false)
		}
	}
	for pool, n := range waits.destroys {
		if !known[pool] {
			gauge(l.waiting, n, pool, actionDestroy)
		}
	}
	for pool, n := range s.handouts {
		to <- prometheus.MustNewConstMetric(l.handouts, prometheus.CounterValue, float64(n), pool)
	}
}

// count gives a pool's nodes, of the states that have none too if zeros is set.
func (l *levels) count(to chan<- prometheus.Metric, pool string, counts map[broker.NodeState]int, zeros bool) {
	for _, state := range broker.LiveNodeStates() {
		if n := counts[state]; n > 0 || zeros {
			to <- prometheus.MustNewConstMetric(l.nodes, prometheus.GaugeValue, float64(n), pool, state.Wire(), string(state))
		}
	}
}
