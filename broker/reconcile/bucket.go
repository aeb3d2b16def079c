package reconcile

import (
	"math"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Tokens say how many Terraform runs may start against an account: each takes one.
type Tokens struct {
	Create, Destroy int // now
	// When there will be one more of each.
	NextCreate, NextDestroy time.Time
}

// bucket holds the tokens of one account, in two compartments: creates and
// destroys each get their share of the rate, so that a backlog of one never
// starves the other. What overflows one compartment flows into the other, so
// that a side with nothing to do lends its share. It is a value: time is an
// argument.
type bucket struct {
	account         broker.Account
	at              time.Time // until when it was filled
	create, destroy float64
}

// newBucket begins with one token each. A full one would let a broker that
// restarts again and again start a burst each time.
func newBucket(a broker.Account, now time.Time) bucket {
	return bucket{account: a, at: now, create: 1, destroy: 1}
}

// sizes of the compartments: together the burst, but one each at least.
func (b bucket) sizes() (create, destroy float64) {
	burst := float64(b.account.Burst)
	destroy = max(1, min(burst-1, math.Round(burst*b.account.DestroyShare)))
	return max(1, burst-destroy), destroy
}

// filled gives the bucket as it is at a time. A clock that was set back fills
// nothing, and counts from there.
func (b bucket) filled(now time.Time) bucket {
	drops := b.account.Rate * max(0, now.Sub(b.at).Seconds())
	create, destroy := b.sizes()
	b.at = now
	b.create += drops * (1 - b.account.DestroyShare)
	b.destroy += drops * b.account.DestroyShare
	if over := b.create - create; over > 0 {
		b.create, b.destroy = create, b.destroy+over
	}
	if over := b.destroy - destroy; over > 0 {
		b.destroy, b.create = destroy, min(create, b.create+over)
	}
	return b
}

// of gives the bucket under a changed definition of its account.
func (b bucket) of(a broker.Account) bucket {
	b.account = a
	create, destroy := b.sizes()
	b.create, b.destroy = min(b.create, create), min(b.destroy, destroy)
	return b
}

func (b bucket) take(create, destroy int) bucket {
	b.create -= float64(create)
	b.destroy -= float64(destroy)
	return b
}

// almost makes up for what adding up fractions loses.
const almost = 1e-9

func (b bucket) tokens() Tokens {
	createSize, destroySize := b.sizes()
	share := b.account.DestroyShare
	whole := func(level float64) int { return int(max(0, math.Floor(level+almost))) }
	t := Tokens{Create: whole(b.create), Destroy: whole(b.destroy)}
	t.NextCreate = b.next(b.create-float64(t.Create), 1-share, destroySize-b.destroy)
	t.NextDestroy = b.next(b.destroy-float64(t.Destroy), share, createSize-b.create)
	return t
}

// next says when a compartment at some level has a whole token, if nobody takes
// from the other one, which has some room left: once that is full, all of the
// rate flows here.
func (b bucket) next(level, share, otherRoom float64) time.Time {
	missing, rate := 1-level, b.account.Rate
	alone := max(0, otherRoom) / (rate * (1 - share)) // seconds until the other is full
	seconds := missing / (rate * share)
	if seconds > alone {
		seconds = alone + (missing-alone*rate*share)/rate
	}
	return b.at.Add(time.Duration(math.Ceil(seconds*float64(time.Second))) + 1)
}

// limits are the buckets of all accounts, by name. They live in memory only.
type limits map[string]bucket

// fill brings the buckets up to date with the file and the time, and gives their
// tokens. A changed account keeps what it had: a reload is no new burst.
func (l limits) fill(accounts []broker.Account, now time.Time) map[string]Tokens {
	tokens := make(map[string]Tokens, len(accounts))
	for _, a := range accounts {
		b, known := l[a.Name]
		if !known {
			b = newBucket(a, now)
		}
		b = b.filled(now).of(a)
		l[a.Name], tokens[a.Name] = b, b.tokens()
	}
	for name := range l {
		if _, known := tokens[name]; !known {
			delete(l, name)
		}
	}
	return tokens
}

// take notes that a run was started. Without such an account it changes nothing.
func (l limits) take(account string, kind Kind) {
	b, limited := l[account]
	switch {
	case !limited:
	case kind == DestroyNode:
		l[account] = b.take(0, 1)
	default:
		l[account] = b.take(1, 0)
	}
}
