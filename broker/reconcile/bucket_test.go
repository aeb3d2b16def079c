package reconcile

import (
	"math"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/duffy-broker/duffy-broker/broker"
)

// drawAccount makes any account that pools.hcl can declare, within reason.
func drawAccount(t *rapid.T) broker.Account {
	return broker.Account{
		Name: "x", Rate: rapid.Float64Range(0.01, 50).Draw(t, "rate"), Burst: rapid.IntRange(1, 40).Draw(t, "burst"),
		DestroyShare: rapid.Float64Range(0.01, 0.99).Draw(t, "share"),
	}
}

// Whatever is asked for and when, no more starts than the rate and the burst
// allow; one create and one destroy may always be had at once.
func TestBucketNeverExceedsItsRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAccount(t)
		l, now := limits{}, t0
		var starts []time.Time
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20_000).Draw(t, "pause")) * time.Millisecond)
			tokens := l.fill([]broker.Account{a}, now)["x"]
			for range min(tokens.Create, rapid.IntRange(0, 50).Draw(t, "creates")) {
				l.take("x", CreateNode)
				starts = append(starts, now)
			}
			for range min(tokens.Destroy, rapid.IntRange(0, 50).Draw(t, "destroys")) {
				l.take("x", DestroyNode)
				starts = append(starts, now)
			}
		}
		burst := float64(max(2, a.Burst))
		for i, from := range starts {
			for j, to := range starts[i:] {
				if allowed := burst + a.Rate*to.Sub(from).Seconds(); float64(j+1) > allowed+almost {
					t.Fatalf("%d runs started within %s, %.2f were allowed by %+v", j+1, to.Sub(from), allowed, a)
				}
			}
		}
		if within := 2 + a.Rate*now.Sub(t0).Seconds(); float64(len(starts)) > within+almost {
			t.Fatalf("%d runs since the start, %.2f were allowed: it began full", len(starts), within)
		}
	})
}

// Where both sides always want more, each gets its share; a side that is alone
// gets all of the rate.
func TestBucketShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAccount(t)
		wants := rapid.SampledFrom([]string{"both", "creates", "destroys"}).Draw(t, "wants")
		l, now := limits{}, t0
		creates, destroys := 0.0, 0.0
		end := t0.Add(time.Duration(1000 / a.Rate * float64(time.Second))) // for 1,000 tokens
		for now.Before(end) {
			tokens := l.fill([]broker.Account{a}, now)["x"]
			var next []time.Time
			if wants != "destroys" {
				for range tokens.Create {
					l.take("x", CreateNode)
					creates++
				}
				next = append(next, tokens.NextCreate)
			}
			if wants != "creates" {
				for range tokens.Destroy {
					l.take("x", DestroyNode)
					destroys++
				}
				next = append(next, tokens.NextDestroy)
			}
			soonest := next[0]
			if len(next) > 1 && next[1].Before(soonest) {
				soonest = next[1]
			}
			if !soonest.After(now) {
				t.Fatalf("at %s the next token is due at %s", now, soonest)
			}
			now = soonest
		}
		slack := float64(a.Burst) + 3
		share := map[string]float64{"both": a.DestroyShare, "creates": 0, "destroys": 1}[wants]
		if math.Abs(destroys-1000*share) > slack || math.Abs(creates-1000*(1-share)) > slack {
			t.Fatalf("%v creates and %v destroys for 1,000 tokens of %+v while %s wait", creates, destroys, a, wants)
		}
	})
}

// When a token is said to come, it is there, and not long before.
func TestBucketSaysWhenTheNextComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAccount(t)
		b := newBucket(a, t0).filled(t0.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "quiet")) * time.Second))
		had := b.tokens()
		b = b.take(rapid.IntRange(0, had.Create).Draw(t, "creates"), rapid.IntRange(0, had.Destroy).Draw(t, "destroys"))
		now := b.tokens()
		createSize, destroySize := b.sizes()
		if float64(now.Create) < math.Floor(createSize) {
			if got := b.filled(now.NextCreate).tokens().Create; got != now.Create+1 {
				t.Errorf("%d create tokens when the next is due, want %d", got, now.Create+1)
			}
			if got := b.filled(now.NextCreate.Add(-time.Millisecond)).tokens().Create; got != now.Create && now.NextCreate.Sub(b.at) > time.Millisecond {
				t.Errorf("%d create tokens before the next is due, want %d", got, now.Create)
			}
		}
		if float64(now.Destroy) < math.Floor(destroySize) {
			if got := b.filled(now.NextDestroy).tokens().Destroy; got != now.Destroy+1 {
				t.Errorf("%d destroy tokens when the next is due, want %d", got, now.Destroy+1)
			}
		}
	})
}

func TestBucketOverTime(t *testing.T) {
	a := broker.Account{Name: "x", Rate: 1, Burst: 6, DestroyShare: 0.5}
	l := limits{}
	check := func(what string, now time.Time, create, destroy int) {
		t.Helper()
		if got := l.fill([]broker.Account{a}, now)["x"]; got.Create != create || got.Destroy != destroy {
			t.Errorf("%s: tokens for %d creates and %d destroys, want %d and %d", what, got.Create, got.Destroy, create, destroy)
		}
	}
	check("a new one is nearly empty", t0, 1, 1)
	check("after 2 s", t0.Add(2*time.Second), 2, 2)
	check("after an hour it is full", t0.Add(time.Hour), 3, 3)
	check("a clock set back takes nothing", t0, 3, 3)
	for range 3 {
		l.take("x", CreateNode)
	}
	check("all creates begun", t0, 0, 3)
	check("destroys have nothing to do, so creates get all of the rate", t0.Add(2*time.Second), 2, 3)
	a.Rate = 100
	check("a changed account keeps its level", t0.Add(2*time.Second), 2, 3)
	a.Burst = 2
	check("but not above its burst", t0.Add(2*time.Second), 1, 1)
	l.take("nobody's", CreateNode)
	if l.fill(nil, t0); len(l) != 0 {
		t.Errorf("accounts that have left the file are kept: %v", l)
	}
}
