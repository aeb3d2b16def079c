package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/api"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// BenchmarkAPI prints what the API can do: everything is real, the disk too, but
// machines, which are made at once. It measures itself, whatever -benchtime says.
func BenchmarkAPI(b *testing.B) {
	b.Run("request-and-retire/clients=32", benchRequestAndRetire)
	b.Run("pools/clients=8", benchPools)
}

// apiWorld is a broker in this process, with nodes in stock.
type apiWorld struct {
	url    string
	key    string
	client *http.Client
}

func newAPIWorld(b *testing.B, pools, nodes int) apiWorld {
	b.Helper()
	dir := b.TempDir()
	store, err := bolt.Open(filepath.Join(dir, "broker.db"), bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		b.Fatal(err)
	}
	log, cloud, set := slog.New(slog.DiscardHandler), new(brokertest.Cloud), new(broker.PoolSet)
	var list []broker.Pool
	for i := range pools {
		list = append(list, broker.Pool{
			Name: fmt.Sprintf("pool-%03d", i), FillLevel: nodes / pools, MaxNodes: 2 * nodes / pools, Concurrency: 32,
			CreateTimeout: time.Minute, DestroyTimeout: time.Minute, Contextualize: broker.ContextualizeNone,
			Source: broker.Source{Template: "t", Generation: "g"},
		})
	}
	set.Set(list)
	var loop *reconcile.Loop
	br := broker.New(broker.Config{
		Store: store, Contextualizer: cloud, Keys: keys, Pools: set, Log: log, Now: time.Now, Wake: func() { loop.Wake() },
	})
	loop = reconcile.New(reconcile.Config{
		Store: store, Provisioner: cloud, Contextualizer: cloud, Pools: set, Serving: br.Serving, Runs: 32, Log: log, Now: time.Now,
	})
	w := apiWorld{key: broker.NewUUID(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	tenant := broker.NewTenant{Tenant: broker.Tenant{Name: "admin", IsAdmin: true}, APIKey: w.key}
	if err := br.CreateTenants(b.Context(), tenant); err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	for i := 0; i < nodes; i += 1000 {
		err := store.Update(b.Context(), func(tx broker.Tx) error {
			for j := i; j < min(i+1000, nodes); j++ {
				n := broker.NewNode(list[j%pools], now)
				n.State, n.Address = broker.NodeReady, "127.0.0.1"
				if err := tx.CreateNode(&n); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	w.url = "http://" + listener.Addr().String() + "/api/v1"
	server := api.NewServer(api.New(api.Config{Broker: br, Log: log}))
	ctx, cancel := context.WithCancel(context.Background())
	var parts sync.WaitGroup
	parts.Go(func() { _ = server.Serve(listener) })
	parts.Go(func() { loop.Run(ctx) })
	b.Cleanup(func() {
		w.client.CloseIdleConnections()
		if err := server.Close(); err != nil {
			b.Error(err)
		}
		cancel()
		parts.Wait()
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return w
}

func (w apiWorld) do(method, path, body string, into any) (status int, err error) {
	req, err := http.NewRequest(method, w.url+path, strings.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.SetBasicAuth("admin", w.key)
	req.Header.Set("Content-Type", "application/json")
	resp, err := w.client.Do(req)
	if err != nil {
		return 0, err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || into == nil {
		return resp.StatusCode, err
	}
	return resp.StatusCode, json.NewDecoder(bytes.NewReader(text)).Decode(into)
}

// latencies are durations of one kind of call, taken down by many.
type latencies struct {
	mu   sync.Mutex
	took []time.Duration
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.took = append(l.took, d)
}

func (l *latencies) at(percent int) time.Duration {
	slices.Sort(l.took)
	return l.took[min(len(l.took)-1, len(l.took)*percent/100)]
}

func benchRequestAndRetire(b *testing.B) {
	const clients, length = 32, 30 * time.Second
	w := newAPIWorld(b, 1, 30_000)
	var requests, retires latencies
	var broken atomic.Int64
	var mu sync.Mutex
	holder := make(map[int64]int64) // node to the session that had it
	var wg sync.WaitGroup
	began := time.Now()
	for range clients {
		wg.Go(func() {
			for time.Since(began) < length {
				var answer apiAnswer
				at := time.Now()
				status, err := w.do("POST", "/sessions", `{"nodes_specs": [{"pool": "pool-000", "quantity": 1}]}`, &answer)
				if err != nil || status >= 500 {
					broken.Add(1)
					continue
				}
				if status != 201 {
					continue // stock is used up
				}
				requests.add(time.Since(at))
				session := answer.Session
				mu.Lock()
				for _, n := range session.Nodes {
					if other, twice := holder[n.ID]; twice {
						b.Errorf("node %d was handed out to sessions %d and %d", n.ID, other, session.ID)
					}
					holder[n.ID] = session.ID
				}
				mu.Unlock()
				at = time.Now()
				status, err = w.do("PUT", fmt.Sprintf("/sessions/%d", session.ID), `{"active": false}`, nil)
				if err != nil || status != 200 {
					broken.Add(1)
				}
				retires.add(time.Since(at))
			}
		})
	}
	wg.Wait()
	seconds := time.Since(began).Seconds()
	if n := broken.Load(); n > 0 {
		b.Errorf("%d calls failed", n)
	}
	report(b, float64(len(requests.took))/seconds, "sessions/s")
	b.ReportMetric(float64(requests.at(50).Microseconds())/1000, "ms-request-p50")
	b.ReportMetric(float64(requests.at(99).Microseconds())/1000, "ms-request-p99")
	b.ReportMetric(float64(retires.at(99).Microseconds())/1000, "ms-retire-p99")
}

func benchPools(b *testing.B) {
	const clients, calls = 8, 4000
	w := newAPIWorld(b, 500, 10_000)
	var all latencies
	tickets := make(chan struct{}, calls)
	for range calls {
		tickets <- struct{}{}
	}
	close(tickets)
	var wg sync.WaitGroup
	began := time.Now()
	for range clients {
		wg.Go(func() {
			for range tickets {
				at := time.Now()
				var answer apiAnswer
				if status, err := w.do("GET", "/pools", "", &answer); err != nil || status != 200 || len(answer.Pools) != 500 {
					b.Errorf("status %d, %d pools, %v", status, len(answer.Pools), err)
					return
				}
				all.add(time.Since(at))
			}
		})
	}
	wg.Wait()
	report(b, float64(len(all.took))/time.Since(began).Seconds(), "calls/s")
	b.ReportMetric(float64(all.at(50).Microseconds())/1000, "ms-p50")
	b.ReportMetric(float64(all.at(99).Microseconds())/1000, "ms-p99")
}
