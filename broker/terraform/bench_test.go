package terraform

import (
	"encoding/json"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/secret"
)

// BenchmarkGate prints how long 100 creates that are asked for at once take, of
// which the cloud needs 3 s each, with the gate and without. It measures once,
// whatever -benchtime says.
func BenchmarkGate(b *testing.B) {
	for name, slots := range map[string]int{"with": 0, "without": 1 << 20} {
		var measured []time.Duration
		b.Run(name, func(b *testing.B) {
			if measured == nil {
				measured = benchCreates(b, 100, slots)
			}
			b.ReportMetric(0, "ns/op")
			for percent, unit := range map[int]string{1: "s-first", 50: "s-p50", 99: "s-last"} {
				b.ReportMetric(measured[len(measured)*percent/100].Seconds(), unit)
			}
		})
	}
}

// benchCreates gives the times from the demand to the result, sorted. 0 slots are
// the usual ones.
func benchCreates(b *testing.B, creates, slots int) []time.Duration {
	program := brokertest.NeedProgram(b, "terraform")
	b.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(b))
	c := fakecloud.Start(b, fakecloud.Config{Faults: fakecloud.Faults{
		Latency: map[fakecloud.Operation]time.Duration{fakecloud.Create: 3 * time.Second},
	}})
	dir := b.TempDir()
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		b.Fatal(err)
	}
	e := New(Config{Binary: Binary{Path: program}, Dir: dir, BrokerID: "bench", Keyring: keys, Log: slog.New(slog.DiscardHandler)})
	b.Cleanup(e.reapers.Wait)
	if slots > 0 {
		e.gate = newGate(slots)
	}
	variables, err := json.Marshal(map[string]any{"endpoint": c.URL()})
	if err != nil {
		b.Fatal(err)
	}
	pool := broker.Pool{Name: "bench", Module: "../brokertest/fakecloud/testdata/module", Variables: variables, CreateTimeout: time.Hour, DestroyTimeout: time.Hour}
	if pool.Source, err = e.Prepare(b.Context(), pool); err != nil {
		b.Fatal(err)
	}
	var (
		running sync.WaitGroup
		mu      sync.Mutex
		took    []time.Duration
	)
	began := time.Now()
	for range creates {
		n := broker.NewNode(pool, began)
		running.Go(func() {
			if _, err := e.Apply(b.Context(), n); err != nil {
				b.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			took = append(took, time.Since(began))
		})
	}
	running.Wait()
	slices.Sort(took)
	return took
}
