package main

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// sweepInterval is the shortest that pools.hcl takes.
const sweepInterval = 10 * time.Second

// cloudPools are two pools in a cloud, one of which shares its providers.
func cloudPools(t *testing.T, url string) string {
	t.Helper()
	text := fmt.Sprintf(`
defaults {
  contextualize   = "none"
  variables       = { endpoint = %q }
  concurrency     = 6
  create_timeout  = "20s"
  destroy_timeout = "20s"
  sweep {
    interval     = %q
    max_destroys = 50
  }
}
`, url, sweepInterval)
	for pool, module := range map[string]string{"private": "module", "shared": "shared"} {
		path, err := filepath.Abs("../../broker/brokertest/fakecloud/testdata/" + module)
		if err != nil {
			t.Fatal(err)
		}
		text += fmt.Sprintf(`
pool %q {
  module           = %q
  fill_level       = 3
  max_nodes        = 10
  provider_sharing = %t
}
`, pool, path, pool == "shared")
	}
	return text
}

// victims finds the processes of this broker's Terraform runs, by their kind.
func (s *server) victims() map[string][]int {
	found := map[string][]int{}
	entries, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, path := range entries {
		text, err := os.ReadFile(path)
		pid, bad := strconv.Atoi(strings.Split(path, "/")[2])
		if err != nil || bad != nil {
			continue
		}
		cwd, err := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if err != nil || !strings.HasPrefix(cwd+" "+string(text), s.data) && !strings.Contains(string(text), s.data) {
			continue
		}
		args := strings.Split(string(text), "\x00")
		switch name := filepath.Base(args[0]); {
		case strings.HasPrefix(name, "terraform-provider-"):
			found["provider"] = append(found["provider"], pid)
		case strings.HasPrefix(name, "terraform"):
			found["terraform"] = append(found["terraform"], pid)
		case slices.Contains(args, "provider-host"):
			found["host"] = append(found["host"], pid)
		}
	}
	return found
}

// TestCrashMatrix kills the broker, Terraform, providers and provider hosts at
// random moments of a busy life in a cloud. What is lent is never destroyed; in
// the end, and two sweeps later at most, the cloud has what the store knows and
// nothing else, and stock is full.
func TestCrashMatrix(t *testing.T) {
	t.Parallel()
	rounds, seed := chaosRounds(t), chaosSeed(t)
	t.Logf("CHAOS_ROUNDS=%d CHAOS_SEED=%d", rounds, seed)
	random := rand.New(rand.NewPCG(seed, 1))
	cloud := fakecloud.Start(t, fakecloud.Config{Faults: fakecloud.Faults{Latency: map[fakecloud.Operation]time.Duration{
		fakecloud.Create: 400 * time.Millisecond, fakecloud.Delete: 200 * time.Millisecond,
	}}})
	s := newServer(t, cloudPools(t, cloud.URL()))
	s.environment = []string{"TF_CLI_CONFIG_FILE=" + fakecloud.Mirror(t)}
	s.start()
	s.full(2 * time.Minute)
	killed := map[string]int{}
	var restart sync.RWMutex // held by clients while they call
	for round := range rounds {
		stop := make(chan struct{})
		var clients sync.WaitGroup
		for client := range 2 {
			r := rand.New(rand.NewPCG(seed, uint64(round*100+client+1)))
			clients.Go(func() { s.churn(r, stop, &restart) })
		}
		for range 1 + random.IntN(4) {
			time.Sleep(time.Duration(random.IntN(700)) * time.Millisecond)
			kind := []string{"terraform", "provider", "host", "broker"}[random.IntN(4)]
			if kind == "broker" {
				s.kill()
				killed[kind]++
				time.Sleep(time.Duration(random.IntN(300)) * time.Millisecond) // runs go on meanwhile
				restart.Lock()
				s.start()
				restart.Unlock()
				continue
			}
			if pids := s.victims()[kind]; len(pids) > 0 {
				_ = syscall.Kill(pids[random.IntN(len(pids))], syscall.SIGKILL)
				killed[kind]++
			}
		}
		close(stop)
		clients.Wait()
		s.lentExist(cloud)
		if t.Failed() || (round+1)%20 == 0 || round+1 == rounds {
			s.settle(cloud)
		}
		if t.Failed() {
			t.Fatalf("round %d of seed %d failed", round+1, seed)
		}
	}
	t.Logf("%d rounds, killed: %v", rounds, killed)
	s.writePools(plainPool(t, 0)) // everything goes
	s.reload()
	s.eventually("the cloud is empty", 3*time.Minute, func() error {
		for _, session := range s.must(200, "admin", "GET", "/sessions", nil).Sessions {
			s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
		}
		if left := cloud.Instances(); len(left) > 0 {
			return fmt.Errorf("%d instances: %v", len(left), uids(cloud))
		}
		return nil
	})
	s.stop()
}

// churn asks for sessions and gives most of them back.
func (s *server) churn(r *rand.Rand, stop <-chan struct{}, restart *sync.RWMutex) {
	call := func(method, path string, body any) (int, apiAnswer, error) {
		restart.RLock()
		defer restart.RUnlock()
		return s.call("admin", method, path, body)
	}
	for {
		select {
		case <-stop:
			return
		default:
		}
		pool := []string{"private", "shared"}[r.IntN(2)]
		status, answer, err := call("POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": pool, "quantity": 1}}})
		if err != nil || status != 201 {
			time.Sleep(time.Duration(20+r.IntN(100)) * time.Millisecond)
			continue
		}
		time.Sleep(time.Duration(r.IntN(300)) * time.Millisecond)
		if r.IntN(8) > 0 {
			_, _, _ = call("PUT", fmt.Sprintf("/sessions/%d", answer.Session.ID), map[string]any{"active": false})
		}
	}
}

// uids gives what the cloud has: instances by the node that they are tagged with.
func uids(cloud *fakecloud.Cloud) map[string]int {
	found := map[string]int{}
	for _, i := range cloud.Instances() {
		found[i.Tags["duffy:node-id"]]++
	}
	return found
}

// lentExist fails if something was destroyed that is lent, and gives most
// sessions back, so that stock does not run out.
func (s *server) lentExist(cloud *fakecloud.Cloud) {
	s.t.Helper()
	exists := uids(cloud)
	sessions := s.must(200, "admin", "GET", "/sessions", nil).Sessions
	for _, session := range sessions {
		for _, n := range session.Nodes {
			if exists[strings.TrimPrefix(n.Hostname, "node-")] == 0 {
				s.t.Errorf("node %s of active session %d (%s) is not in the cloud", n.Hostname, session.ID, n.State)
			}
		}
	}
	for _, session := range sessions[:max(0, len(sessions)-2)] {
		s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
	}
}

// settle waits until stock is full and the cloud has one instance for each node of
// the store, and no other.
func (s *server) settle(cloud *fakecloud.Cloud) {
	s.t.Helper()
	s.full(3 * time.Minute)
	s.eventually("the cloud has what the store knows", 3*sweepInterval+30*time.Second, func() error {
		want := map[string]int{}
		for uid := range s.knownNodes() {
			want[uid] = 1
		}
		if got := uids(cloud); !maps.Equal(got, want) {
			return fmt.Errorf("the cloud has %v, the store %v", got, want)
		}
		return nil
	})
	s.full(3 * time.Minute)
}
