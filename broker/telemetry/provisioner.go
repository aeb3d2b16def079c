package telemetry

import (
	"context"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Provisioner gives p with its runs counted.
func (m *Metrics) Provisioner(p broker.Provisioner) broker.Provisioner {
	return provisioner{Provisioner: p, m: m}
}

type provisioner struct {
	broker.Provisioner

	m *Metrics
}

// Apply implements [broker.Provisioner].
func (p provisioner) Apply(ctx context.Context, n broker.Node) (broker.Result, error) {
	defer p.m.begin(n.Pool, actionApply)()
	result, err := p.Provisioner.Apply(ctx, n)
	p.m.ended(n.Pool, result.Runs)
	return result, err
}

// Destroy implements [broker.Provisioner].
func (p provisioner) Destroy(ctx context.Context, n broker.Node, sealed []byte) (broker.Result, error) {
	defer p.m.begin(n.Pool, actionDestroy)()
	result, err := p.Provisioner.Destroy(ctx, n, sealed)
	p.m.ended(n.Pool, result.Runs)
	return result, err
}

func (m *Metrics) begin(pool, action string) (end func()) {
	gauge := m.inFlight.WithLabelValues(pool, action)
	gauge.Inc()
	return gauge.Dec
}

func (m *Metrics) ended(pool string, runs []broker.Run) {
	for _, r := range runs {
		result := string(r.Class)
		if r.Class == "" {
			result = resultOK
		}
		m.runs.WithLabelValues(pool, r.Operation, result).Inc()
		m.runTimes.WithLabelValues(pool, r.Operation).Observe(r.Ended.Sub(r.Began).Seconds())
	}
}
