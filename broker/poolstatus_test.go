package broker_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

func TestPoolStatus(t *testing.T) {
	ctx := context.Background()
	p := testPool("small", broker.ContextualizeSSH)
	p.Description, p.MaxAge = "for tests", 24*time.Hour
	p.Schedule = []broker.Window{{Name: "noon", Cron: "0 12 * * *", Duration: time.Hour, FillLevel: 9, MaxNodes: 60}}
	pools := new(broker.PoolSet)
	pools.Set([]broker.Pool{p})
	store := memory.New()
	b := broker.New(broker.Config{
		Store: store, Keys: plainKeys{}, Pools: pools, Outlook: reconcile.Outlook{}, Now: func() time.Time { return t0 }, Wake: func() {},
	})
	health := broker.PoolHealth{Pool: "small", Generation: "g1", Failures: 4, LastFailure: t0.Add(-time.Second), Message: "no such image", Class: broker.FailureConfiguration}
	err := store.Update(ctx, func(tx broker.Tx) error {
		add := func(state broker.NodeState, change func(*broker.Node)) {
			n := broker.NewNode(p, t0.Add(-time.Hour))
			n.State = state
			if change != nil {
				change(&n)
			}
			if err := tx.CreateNode(&n); err != nil {
				t.Fatal(err)
			}
		}
		add(broker.NodeReady, func(n *broker.Node) { n.Data = []byte(`{"arch": "aarch64"}`) })
		add(broker.NodeReady, func(n *broker.Node) { n.CreatedAt = t0.Add(-2 * time.Hour) })
		add(broker.NodeReady, func(n *broker.Node) { n.CreatedAt = t0.Add(-30 * time.Hour) })
		add(broker.NodeReady, func(n *broker.Node) { n.Source.Generation = "g0" })
		add(broker.NodeApplying, nil)
		add(broker.NodeChecking, nil)
		add(broker.NodeDeployed, nil)
		add(broker.NodeHeld, nil)
		add(broker.NodeFailed, nil)
		add(broker.NodeDestroying, nil)
		add(broker.NodeDestroying, func(n *broker.Node) { n.RetryAt = t0.Add(time.Minute) })
		add(broker.NodeGone, nil)
		other := p
		other.Name = "other"
		n := broker.NewNode(other, t0)
		if err := tx.CreateNode(&n); err != nil {
			t.Fatal(err)
		}
		return tx.SetPoolHealth(health)
	})
	if err != nil {
		t.Fatal(err)
	}
	want := broker.PoolStatus{
		Pool: p, Now: broker.Effective{FillLevel: 9, MaxNodes: 60, Window: "noon"}, Arch: "aarch64",
		Levels: broker.PoolLevels{Provisioning: 2, Ready: 3, Deployed: 2, Deprovisioning: 2},
	}
	got, err := b.PoolStatus(ctx, broker.Tenant{ID: 2}, "small")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("as a tenant: %v (-want +got):\n%s", err, diff)
	}
	want.Operator = true
	want.Failed, want.Held, want.Stale, want.Expired, want.Creates, want.Destroys = 1, 1, 1, 1, 1, 1
	want.OldestReady, want.Health, want.NextTry = t0.Add(-2*time.Hour), health, health.LastFailure.Add(reconcile.BreakerPause(6)) // four, and of a kind that counts for more
	closes := t0.Add(time.Hour)
	for day := range 3 {
		opens := t0.AddDate(0, 0, day)
		if day > 0 {
			want.Changes = append(want.Changes, broker.ScheduleChange{At: opens, Effective: want.Now})
		}
		want.Changes = append(want.Changes, broker.ScheduleChange{At: closes.AddDate(0, 0, day), Effective: broker.Effective{FillLevel: 5, MaxNodes: 50}})
	}
	got, err = b.PoolStatus(ctx, broker.Tenant{ID: 1, IsAdmin: true}, "small")
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("as an admin: %v (-want +got):\n%s", err, diff)
	}
	if _, err := b.PoolStatus(ctx, broker.Tenant{}, "nowhere"); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("of no pool: %v", err)
	}
}

func TestPoolsShowWhatHoldsNow(t *testing.T) {
	p := testPool("small", broker.ContextualizeSSH)
	p.Schedule = []broker.Window{{Name: "noon", Cron: "0 12 * * *", Duration: time.Hour, FillLevel: 9, MaxNodes: 60}}
	pools := new(broker.PoolSet)
	pools.Set([]broker.Pool{p})
	now := t0
	b := broker.New(broker.Config{Store: memory.New(), Keys: plainKeys{}, Pools: pools, Outlook: reconcile.Outlook{}, Now: func() time.Time { return now }})
	for _, want := range []int{9, 5} {
		list, err := b.Pools(context.Background())
		one, _, errOne := b.Pool(context.Background(), "small")
		if err != nil || errOne != nil || list[0].FillLevel != want || one.FillLevel != want {
			t.Errorf("at %s the fill level is shown as %d and %d, want %d (%v, %v)", now, list[0].FillLevel, one.FillLevel, want, err, errOne)
		}
		now = now.Add(time.Hour)
	}
}
