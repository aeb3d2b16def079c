package reconcile_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
)

// stock gives the nodes that are ready.
func (w *world) stock() []broker.Node {
	w.t.Helper()
	return slices.DeleteFunc(w.nodes(), func(n broker.Node) bool { return n.State != broker.NodeReady })
}

// provisioning counts the nodes on their way into stock.
func (w *world) provisioning() int {
	states := w.states()
	return states[broker.NodePlanned] + states[broker.NodeApplying] + states[broker.NodeChecking]
}

// Stock follows the windows through days in which the clocks change: no
// surprise at midnight, in the gap or in another zone. What is lent stays lent.
func TestStory24StockFollowsTheSchedule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		zone, err := time.LoadLocation("Europe/Prague")
		if err != nil {
			t.Fatal(err)
		}
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "apply" {
				return 2 * time.Minute
			}
			return time.Second
		}}
		p := testPool("a", 2, 6)
		p.Schedule = []broker.Window{
			{Name: "work", Cron: "0 8 * * 1-5", Duration: 10 * time.Hour, Timezone: "Europe/Prague", FillLevel: 10, MaxNodes: 20},
			{Name: "night", Cron: "30 22 * * *", Duration: 9 * time.Hour, Timezone: "Europe/Prague", FillLevel: 0, MaxNodes: 3},
			{Name: "gap", Cron: "30 2 * * *", Duration: 20 * time.Minute, Timezone: "Europe/Prague", FillLevel: 3, MaxNodes: 4},
		}
		// What a person would say, without a cron expression.
		want := func(at time.Time) int {
			at = at.In(zone)
			clock := at.Hour()*60 + at.Minute()
			gap := 2*60 + 30
			if at.Day() == 26 { // in 2000 the clocks went from 2 to 3 then
				gap = 3 * 60
			}
			switch weekday := at.Weekday() != time.Saturday && at.Weekday() != time.Sunday; {
			case clock >= gap && clock < gap+20:
				return 3
			case clock >= 22*60+30 || clock < 7*60+30:
				return 0
			case weekday && clock >= 8*60 && clock < 18*60:
				return 10
			}
			return 2
		}

		time.Sleep(time.Until(time.Date(2000, 3, 24, 11, 0, 0, 0, zone)))
		w := newWorld(t, cloud, p)
		w.outlook = reconcile.Outlook{}
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(30 * time.Minute)
		s, err := w.b.RequestSession(context.Background(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 5}}})
		if err != nil {
			t.Fatal(err)
		}
		forever := broker.Expiry{At: time.Now().Add(30 * 24 * time.Hour)}
		if _, err := w.b.UpdateSession(context.Background(), w.admin, s.ID, broker.SessionUpdate{Expires: &forever}); err != nil {
			t.Fatal(err)
		}
		changed, level, followed := time.Now(), want(time.Now()), 0
		const looks = 4 * 24 * 12 // Friday to Tuesday
		for range looks {
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			now := time.Now()
			if l := want(now); l != level {
				level, changed = l, now
			}
			states := w.states()
			if states[broker.NodeDeployed] != 5 {
				t.Fatalf("%s: %d nodes are lent, want 5", now.In(zone), states[broker.NodeDeployed])
			}
			shown, _, err := w.b.Pool(context.Background(), "a")
			if err != nil || shown.FillLevel != level {
				t.Errorf("%s: the fill level is shown as %d, want %d (%v)", now.In(zone), shown.FillLevel, level, err)
			}
			// Beside the five that are lent there may be no room to make more.
			most := map[int]int{0: 0, 2: 1, 3: 0, 10: 10}[level]
			if day := now.In(zone); level == 2 && day.Hour() >= 18 && day.Weekday() != time.Saturday && day.Weekday() != time.Sunday {
				most = 2 // they were there
			}
			ready, made := states[broker.NodeReady], states[broker.NodeReady]+w.provisioning()
			if made > max(most, ready) {
				t.Errorf("%s: %d nodes are ready and %d on their way, with room for %d", now.In(zone), ready, made-ready, most)
			}
			if now.Sub(changed) < 8*time.Minute { // ten creates, four at a time
				continue
			}
			followed++
			if ready != most {
				t.Errorf("%s: %d nodes are ready, want %d of the fill level %d", now.In(zone), ready, most, level)
			}
		}
		if followed < looks*9/10 {
			t.Errorf("stock was at rest in %d of %d looks only", followed, looks)
		}
		w.check()
	})
}

// A pool that was filled at once is renewed bit by bit before its nodes are too
// old: stock never falls below the fill level, no node is ever lent that is older,
// and they don't all go in the same hour.
func TestMaxAgeRenewsStock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const maxAge = 24 * time.Hour
		var creates []time.Time
		cloud := &brokertest.Cloud{Delay: func(op string) time.Duration {
			if op == "apply" {
				creates = append(creates, time.Now())
				return 2 * time.Minute
			}
			return time.Second
		}}
		p := testPool("a", 20, 25)
		p.MaxAge = maxAge
		w := newWorld(t, cloud, p)
		w.runs = 1 // so that calls come one at a time
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(2 * time.Hour)
		filled := len(creates)
		for range 26 * 20 {
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			stock := w.stock()
			if len(stock) < 20 {
				t.Fatalf("%s: %d nodes are ready, want 20", time.Now(), len(stock))
			}
			if making := w.provisioning(); making > 1 {
				t.Fatalf("%s: %d nodes are replaced at once", time.Now(), making)
			}
			for _, n := range stock {
				if age := time.Since(n.CreatedAt); age > maxAge*7/8+20*4*time.Minute {
					t.Fatalf("node %d is %s old, and in stock", n.ID, age)
				}
			}
		}
		w.check()
		if renewed := len(creates) - filled; renewed != 20 {
			t.Errorf("%d nodes were made in 28 hours to renew 20 once", renewed)
		}
		byHour := map[time.Time]int{}
		for _, at := range creates[filled:] {
			byHour[at.Truncate(time.Hour)]++
		}
		for hour, n := range byHour {
			if n > 10 {
				t.Errorf("%d of 20 nodes were renewed in the hour of %s", n, hour)
			}
		}
	})
}

// What can't be renewed is not lent: not older nodes, and not by mistake. When
// creates work again, the pool gets full again.
func TestMaxAgeWithoutNewNodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var broken atomic.Bool
		cloud := &brokertest.Cloud{
			Delay: func(string) time.Duration { return time.Second },
			Fail: func(op string, _ broker.Node) error {
				if broken.Load() && op == "apply" {
					return errors.New("out of order")
				}
				return nil
			},
		}
		p := testPool("a", 4, 6)
		p.MaxAge = 24 * time.Hour
		w := newWorld(t, cloud, p)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Minute)
		broken.Store(true)
		request := func() error {
			s, err := w.b.RequestSession(context.Background(), w.admin, broker.SessionRequest{Specs: []broker.NodesSpec{{Pool: "a", Quantity: 4}}})
			if err == nil {
				_, err = w.b.UpdateSession(context.Background(), w.admin, s.ID, broker.SessionUpdate{Retire: true})
			}
			return err
		}
		time.Sleep(23 * time.Hour)
		if _, levels, err := w.b.Pool(context.Background(), "a"); err != nil || levels.Ready != 4 {
			t.Errorf("%d nodes are ready after 23 hours, want 4: they can still be lent (%v)", levels.Ready, err)
		}
		time.Sleep(58 * time.Minute) // and the first minute
		if len(w.stock()) != 4 {
			t.Errorf("%d nodes are in stock just before they are too old", len(w.stock()))
		}
		time.Sleep(3 * time.Minute)
		if err := request(); broker.CodeOf(err) != broker.CodeCapacity {
			t.Errorf("a request for nodes that are too old: %v", err)
		}
		time.Sleep(time.Hour)
		if n := len(cloud.Machines()); n != 0 {
			t.Errorf("%d machines that can't be lent are kept", n)
		}
		broken.Store(false)
		time.Sleep(time.Hour)
		w.rest()
		if err := request(); err != nil {
			t.Errorf("a request for new nodes: %v", err)
		}
	})
}

// A pool at its maximum gives up one node at a time to renew it.
func TestMaxAgeAtTheMaximum(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cloud := &brokertest.Cloud{Delay: func(string) time.Duration { return time.Minute }}
		p := testPool("a", 5, 5)
		p.MaxAge = 24 * time.Hour
		w := newWorld(t, cloud, p)
		w.start()
		defer func() { w.stopLoop() }()
		time.Sleep(time.Hour)
		lowest := 5
		for range 28 * 30 {
			time.Sleep(2 * time.Minute)
			synctest.Wait()
			lowest = min(lowest, len(w.stock()))
			w.check()
		}
		if lowest != 4 {
			t.Errorf("stock fell to %d of 5, want 4", lowest)
		}
		for _, n := range w.stock() {
			if age := time.Since(n.CreatedAt); age >= p.MaxAge {
				t.Errorf("node %d is %s old", n.ID, age)
			}
		}
	})
}
