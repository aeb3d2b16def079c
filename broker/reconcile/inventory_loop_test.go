package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// addHosts stores hosts of the inventory "i", with ids from 1 on.
func (w *world) addHosts(count int) {
	w.t.Helper()
	inventory := broker.Inventory{Name: "i"}
	for i := range count {
		inventory.Hosts = append(inventory.Hosts, broker.Host{
			Name: fmt.Sprintf("h%d", i+1), Hostname: fmt.Sprintf("h%d", i+1), Address: fmt.Sprintf("192.0.2.%d", i+1), Data: []byte(`{"arch":"x86_64"}`),
		})
	}
	b := broker.New(broker.Config{Store: w.store, Pools: w.pools, Now: time.Now, Wake: func() {}})
	if waiting, err := b.SyncInventories(context.Background(), []broker.Inventory{inventory}); err != nil || len(waiting) > 0 {
		w.t.Fatal(waiting, err)
	}
}

func (w *world) hosts() (hosts []broker.Host) {
	w.t.Helper()
	err := w.store.View(context.Background(), func(tx broker.ReadTx) (err error) {
		hosts, err = tx.Hosts(broker.HostQuery{})
		return err
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return hosts
}

// checkHosts proves that a host is in one node at most, both of which say so, and
// that no node of a pool that draws from an inventory is without one.
func (w *world) checkHosts() {
	w.t.Helper()
	owner := make(map[int64]int64)
	for _, n := range w.nodes() {
		p, _ := w.pools.Get(n.Pool)
		if n.State == broker.NodeGone || n.Host == nil && !p.Inventory.Draws() {
			continue
		}
		if n.Host == nil {
			w.t.Errorf("node %d of pool %s has no host", n.ID, n.Pool)
			continue
		}
		if other, taken := owner[n.Host.ID]; taken {
			w.t.Errorf("nodes %d and %d run on host %d", other, n.ID, n.Host.ID)
		}
		owner[n.Host.ID] = n.ID
	}
	for _, h := range w.hosts() {
		if h.NodeID != owner[h.ID] {
			w.t.Errorf("host %d says that node %d runs on it, and that is %d", h.ID, h.NodeID, owner[h.ID])
		}
	}
}

// hostStates tells of each host of the inventory, by name.
func (w *world) hostStates() string {
	var states []string
	for _, h := range w.hosts() {
		states = append(states, fmt.Sprintf("%s=%s", h.Name, h.State()))
	}
	return strings.Join(states, " ")
}

func hostPool(name string, fill, most int) broker.Pool {
	p := testPool(name, fill, most)
	p.Inventory = broker.HostSelector{Name: "i", Where: map[string]string{"arch": "x86_64"}}
	return p
}

// failingHosts makes creates fail by the host's name.
type failingHosts struct {
	mu  sync.Mutex
	bad map[string]error
}

func (f *failingHosts) set(host string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.bad == nil {
		f.bad = make(map[string]error)
	}
	f.bad[host] = err
}

func (f *failingHosts) fail(op string, n broker.Node) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if op != "apply" || n.Host == nil {
		return nil
	}
	return f.bad[n.Host.Name]
}

// Two pools share the hosts there are. What is lent and given back goes round, so
// that all are used alike.
func TestPoolsShareAnInventory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return time.Second }}
		w := newWorld(t, cloud, hostPool("a", 2, 9), hostPool("b", 2, 9))
		w.addHosts(5)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		w.rest()
		for range 10 {
			s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 2}}})
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.check()
			if got := w.states(); got[broker.NodeReady] != 3 || got[broker.NodeDeployed] != 2 {
				t.Errorf("%v, want 2 lent and 3 ready: there are 5 hosts", got)
			}
			if _, err := w.b.UpdateSession(t.Context(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.rest()
		}
		status, err := w.b.PoolStatus(t.Context(), w.admin, "a")
		if diff := cmp.Diff(&broker.PoolHosts{Free: 1, InUse: 4}, status.Hosts); diff != "" || err != nil {
			t.Errorf("hosts of the pool's status (-want +got), %v:\n%s", err, diff)
		}
		var uses []int
		for _, h := range w.hosts() {
			uses = append(uses, h.Uses)
		}
		// Those of b stay in its stock.
		slices.Sort(uses)
		// There is hardly a choice, with one free host: what is given back last is used next.
		if uses[4]-uses[2] > 4 {
			t.Errorf("the hosts were used %v times", uses)
		}
	})
}

// A host on which a create fails is left alone for a while, and the next one is
// taken. A second failure breaks it, until an admin puts it back to use.
func TestHostsThatFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bad failingHosts
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return time.Second }, Fail: bad.fail}
		bad.set("h1", &broker.Failure{Class: broker.FailureUnreachable, Err: errors.New("its BMC is silent")})
		w := newWorld(t, cloud, hostPool("a", 2, 9))
		w.addHosts(3)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		w.rest()
		if got := w.hostStates(); got != "h1=quarantined h2=occupied h3=occupied" {
			t.Errorf("after a failure: %s", got)
		}
		// In the meantime there is nothing to try it for. A second failure needs a
		// node that is missing.
		time.Sleep(time.Hour)
		lend := func() {
			t.Helper()
			if _, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Minute)
			w.check()
		}
		lend()
		if got := w.hostStates(); got != "h1=broken h2=occupied h3=occupied" {
			t.Errorf("after two failures: %s", got)
		}
		time.Sleep(2 * time.Hour)
		if got := cloud.Calls("apply"); got != 4 {
			t.Errorf("%d creates, want 4: a broken host is not tried", got)
		}
		h, err := w.b.Host(t.Context(), w.admin, 1)
		if err != nil || h.Failures != 2 || h.Failure != "create: its BMC is silent" || h.FailureClass != broker.FailureUnreachable || h.Wire() != "failed" {
			t.Errorf("broken: %+v, %v", h, err)
		}
		bad.set("h1", nil)
		if h, err = w.b.RepairHost(t.Context(), w.admin, 1); err != nil || h.State() != broker.HostFree || h.Failures != 0 || h.Failure != "" {
			t.Errorf("repaired: %+v, %v", h, err)
		}
		time.Sleep(time.Minute)
		w.check()
		if got := w.states(); got[broker.NodeReady] != 2 || got[broker.NodeDeployed] != 1 {
			t.Errorf("%v, want 2 ready and 1 lent", got)
		}
		events, _, err := w.b.Events(t.Context(), w.admin, 0)
		if err != nil {
			t.Fatal(err)
		}
		var told []string
		for _, e := range events {
			if e.Kind == broker.EventHost && e.NodeID == 1 {
				told = append(told, e.From+" -> "+e.To+": "+strings.TrimPrefix(e.Message, "host 'h1' (192.0.2.1) of inventory 'i' "))
			}
		}
		quarantine := ""
		for _, text := range told {
			if strings.Contains(text, "quarantine until") {
				quarantine = text
			}
		}
		want := []string{
			" -> unused: declared by pools.hcl",
			"unused -> occupied: given to node 4 of pool 'a'",
			quarantine,
			"occupied -> quarantined: given back by node 4",
			"quarantined -> occupied: given to node 7 of pool 'a'",
			"occupied -> occupied: is broken: 2 creates in a row failed on it, of pool 'a'",
			"occupied -> broken: given back by node 7",
			"broken -> unused: put back to use by admin",
			"unused -> occupied: given to node 8 of pool 'a'",
		}
		if diff := cmp.Diff(want, told); diff != "" || !strings.Contains(quarantine, "a create of pool 'a' failed on it") {
			t.Errorf("events of h1 (-want +got):\n%s", diff)
		}
	})
}

// With two pools it takes one failure in each: the host may be fit for one of them.
func TestHostFailsInOnePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inA := errors.New("no such image for this machine")
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return time.Second }, Fail: func(op string, n broker.Node) error {
			if op == "apply" && n.Pool == "a" {
				return inA
			}
			return nil
		}}
		w := newWorld(t, cloud, hostPool("a", 1, 9), hostPool("b", 0, 9))
		w.addHosts(1)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(3 * 24 * time.Hour)
		w.check()
		h := w.hosts()[0]
		if h.State() == broker.HostBroken || h.Failures < 5 || h.Failures > 14 || !slices.Equal(h.FailedPools, []string{"a"}) {
			t.Errorf("after three days of failures in one pool of two: %s, %d failures in %v", h.State(), h.Failures, h.FailedPools)
		}
		// It works in the other one, which clears it.
		w.pools.Set([]broker.Pool{hostPool("a", 0, 9), hostPool("b", 1, 9)})
		w.loop.Wake()
		time.Sleep(13 * time.Hour)
		w.rest()
		if h := w.hosts()[0]; h.State() != broker.HostOccupied || h.Failures != 0 || h.FailedPools != nil {
			t.Errorf("a host that works has %d failures in %v", h.Failures, h.FailedPools)
		}
		w.pools.Set([]broker.Pool{hostPool("a", 1, 9), hostPool("b", 0, 9)})
		w.loop.Wake()
		time.Sleep(time.Minute)
		if got := w.hostStates(); got != "h1=quarantined" {
			t.Errorf("after a failure in a: %s", got)
		}
		inB := cloud.Fail
		w.stopLoop()
		cloud.Fail = func(op string, n broker.Node) error {
			if op == "check" {
				return inA
			}
			return inB(op, n)
		}
		w.pools.Set([]broker.Pool{hostPool("a", 0, 9), hostPool("b", 1, 9)})
		w.start()
		time.Sleep(13 * time.Hour)
		if got := w.hostStates(); got != "h1=broken" {
			t.Errorf("after a failure in b, too: %s", got)
		}
	})
}

// A module that is wrong, or an account that is throttled, is no fault of the hosts.
func TestHostsAreNotBlamedForModules(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Fail: func(op string, _ broker.Node) error {
			if op == "apply" {
				return &broker.Failure{Class: broker.FailureConfiguration, Err: errors.New("no such variable")}
			}
			return nil
		}}
		w := newWorld(t, cloud, hostPool("a", 1, 9))
		w.addHosts(2)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Hour)
		if got := w.hostStates(); got != "h1=unused h2=unused" {
			t.Error(got)
		}
	})
}

// A destroy that fails keeps the host: something may be left on it.
func TestHostIsKeptWhileADestroyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken sync.Map
		broken.Store("destroy", true)
		cloud := &brokertest.Cloud{Fail: func(op string, _ broker.Node) error {
			if _, fails := broken.Load(op); fails {
				return errors.New("no answer")
			}
			return nil
		}}
		w := newWorld(t, cloud, hostPool("a", 1, 9))
		w.addHosts(1)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		s, err := w.b.RequestSession(t.Context(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.b.UpdateSession(t.Context(), w.admin, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		w.check()
		if got := w.hostStates(); got != "h1=occupied" || cloud.Calls("apply") != 1 {
			t.Errorf("%s after %d creates", got, cloud.Calls("apply"))
		}
		broken.Delete("destroy")
		time.Sleep(time.Hour)
		w.rest()
	})
}

// Records that contradict each other, as of two backups, are mended.
func TestHostsAreMended(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, new(brokertest.Cloud), hostPool("a", 1, 9))
		w.addHosts(2)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		w.rest()
		w.stopLoop()
		err := w.store.Update(t.Context(), func(tx broker.Tx) error {
			for _, h := range w.hostsOf(tx) {
				before := h.State()
				h.NodeID = 77 - h.NodeID // the one in use by somebody else, the other by nobody
				if before == broker.HostOccupied {
					h.NodeID = 0
				}
				if err := tx.UpdateHost(before, h); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		w.start()
		time.Sleep(time.Minute)
		w.rest()
	})
}

func (w *world) hostsOf(tx broker.ReadTx) []broker.Host {
	hosts, err := tx.Hosts(broker.HostQuery{})
	if err != nil {
		w.t.Fatal(err)
	}
	return hosts
}
