package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// benchStock is how many nodes are lent in one measurement: enough for a 99th
// percentile that is not the single slowest, with a stock that two cores make in
// under a minute.
const benchStock = 128

// BenchmarkBroker prints what an operator and a CI job wait for, on the real
// program. It measures itself, whatever -benchtime says; machines are noisy, so
// read the ratios.
func BenchmarkBroker(b *testing.B) {
	b.Run("first-node", benchFirstNode)
	var plain time.Duration
	b.Run("hand-out/no-ssh", func(b *testing.B) {
		plain = benchHandOut(b, strings.Replace(plainPool(b, benchStock), "plain", "bench", 1))
	})
	b.Run("hand-out/ssh", func(b *testing.B) {
		ssh := benchHandOut(b, sshPool(b))
		if plain > 0 {
			b.Logf("one client: with SSH contextualization p50 is %.0f times that without", float64(ssh)/float64(plain))
		}
	})
	var small float64
	b.Run("memory/nodes=10", func(b *testing.B) { small = benchMemory(b, 10) })
	b.Run("memory/nodes=1000", func(b *testing.B) {
		large := benchMemory(b, 1000)
		if small > 0 {
			b.Logf("1,000 nodes take %.2f times the memory of 10", large/small)
		}
	})
}

func benchFirstNode(b *testing.B) {
	var took []time.Duration
	for range 3 {
		s := newServer(b, localPools(b))
		began := time.Now()
		s.start()
		served := time.Since(began)
		s.eventually("the first node is ready", time.Minute, func() error {
			if !strings.Contains(s.out.String(), "ready: node") {
				return fmt.Errorf("no line says so")
			}
			return nil
		})
		took = append(took, time.Since(began))
		b.Logf("from start: serving after %v, first node ready after %v", served.Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
		s.full(time.Minute)
		s.kill()
		s.sweepNodes()
	}
	slices.Sort(took)
	report(b, took[len(took)/2].Seconds()*1000, "ms/first-node")
}

// report sets a figure and silences the one that makes no sense here.
func report(b *testing.B, value float64, unit string) {
	b.ReportMetric(value, unit)
	b.ReportMetric(0, "ns/op")
}

func sshPool(b *testing.B) string {
	text := localPools(b)
	return text[:strings.Index(text, "pool ")] + fmt.Sprintf(`
pool "bench" {
  extends     = "local"
  fill_level  = %d
  max_nodes   = %[1]d
  concurrency = 8
}
`, benchStock)
}

// benchHandOut lends the whole stock, one node a request, for each number of
// clients. The pool is at its maximum meanwhile, so no Terraform runs beside it.
// It gives the median for one client.
func benchHandOut(b *testing.B, pools string) (single time.Duration) {
	s := newServer(b, pools)
	s.start()
	for _, clients := range []int{1, 8, 32} {
		s.full(10 * time.Minute)
		tickets := make(chan struct{}, benchStock)
		for range benchStock {
			tickets <- struct{}{}
		}
		close(tickets)
		var (
			wg   sync.WaitGroup
			mu   sync.Mutex
			took []time.Duration
		)
		began := time.Now()
		for range clients {
			wg.Go(func() {
				for range tickets {
					at := time.Now()
					status, answer, err := s.call("admin", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "bench", "quantity": 1}}})
					if err != nil || status != 201 {
						b.Errorf("status %d, %s, %v", status, answer.Detail, err)
						return
					}
					mu.Lock()
					took = append(took, time.Since(at))
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		all := time.Since(began)
		slices.Sort(took)
		p50, p99 := took[len(took)/2], took[len(took)*99/100]
		single = cmp.Or(single, p50)
		b.Logf("%2d clients: p50 %7.1f ms  p99 %7.1f ms  %6.1f hand-outs/s  (p50 is %.1f times that of one client; %d samples)",
			clients, ms(p50), ms(p99), float64(len(took))/all.Seconds(), float64(p50)/float64(single), len(took))
		report(b, ms(p50), fmt.Sprintf("ms-p50/%d-clients", clients))
		report(b, ms(p99), fmt.Sprintf("ms-p99/%d-clients", clients))
		for _, session := range s.must(200, "admin", "GET", "/sessions", nil).Sessions {
			s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
		}
	}
	s.stop()
	return single
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// benchMemory gives the resident memory of a broker whose store holds so many
// nodes, lent so that the loop has nothing to do with them but look.
func benchMemory(b *testing.B, nodes int) float64 {
	s := newServer(b, plainPool(b, 0))
	s.start()
	s.stop()
	store, err := bolt.Open(s.data+"/broker.db", bolt.Options{})
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	err = store.Update(context.Background(), func(tx broker.Tx) error {
		for range nodes / 10 {
			session := broker.Session{TenantID: 1, State: broker.SessionActive, CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
			if err := tx.CreateSession(&session); err != nil {
				return err
			}
			for range 10 {
				n := broker.NewNode(broker.Pool{Name: "plain", Source: broker.Source{Template: "t", Generation: "g", Variables: []byte(`{"size":"small"}`)}}, now)
				n.State, n.SessionID, n.Address, n.SSHUser, n.SSHPort = broker.NodeDeployed, session.ID, "127.0.0.1", "root", 22
				if err := tx.CreateNode(&n); err != nil {
					return err
				}
				session.Nodes = append(session.Nodes, broker.LentNode{ID: n.ID, Pool: n.Pool, Outputs: n.Outputs})
			}
			if err := tx.UpdateSession(broker.SessionActive, session); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if err := store.Close(); err != nil {
		b.Fatal(err)
	}
	s.start()
	for range 20 { // as a busy day would
		s.must(200, "admin", "GET", "/sessions", nil)
		s.must(200, "admin", "GET", "/nodes", nil)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
	if err != nil {
		b.Skipf("resident memory is read from /proc: %v", err)
	}
	var kib float64
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "VmRSS: %f kB", &kib); err == nil {
			break
		}
	}
	report(b, kib/1024, "MiB-RSS")
	s.stop()
	return kib / 1024
}
