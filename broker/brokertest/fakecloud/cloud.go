package fakecloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/time/rate"
)

// Config is how a [Cloud] begins. The zero value will do.
type Config struct {
	Faults Faults
	// Seed decides which calls failures with a rate hit.
	Seed uint64
	// Now is the cloud's clock, for boots, listings and the rate limit; nil is the
	// real one. Latencies are real in any case.
	Now func() time.Time

	// Boot starts the SSH server of an instance that wants one, and Shutdown ends
	// it. Boot's context ends when the instance is deleted meanwhile; Shutdown is
	// called once for each instance, after Boot has returned, even with an error.
	// Both must be set, or no instance can have SSH.
	Boot     func(ctx context.Context, i Instance) (address string, port int, err error)
	Shutdown func(ctx context.Context, i Instance) error
}

// Cloud is a cloud. Its methods may be called at once, but for Close.
type Cloud struct {
	cfg     Config
	server  *httptest.Server
	closing chan struct{}

	mu      sync.Mutex
	faults  Faults
	limiter *rate.Limiter // nil without a limit
	rng     *rand.Rand
	made    int
	records map[string]*record
	calls   map[Operation]int
	errs    []error // of Shutdown
}

// New starts a cloud on a free port of 127.0.0.1. The caller closes it.
func New(cfg Config) *Cloud {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Cloud{
		cfg: cfg, closing: make(chan struct{}), records: map[string]*record{}, calls: map[Operation]int{},
		rng: rand.New(rand.NewPCG(cfg.Seed, 0)), //nolint:gosec // failures that can be repeated
	}
	c.SetFaults(cfg.Faults)
	c.server = httptest.NewServer(c.routes())
	return c
}

// Start is [New] for a test, which closes the cloud at its end, and fails if an
// SSH server could not be ended.
func Start(t testing.TB, cfg Config) *Cloud {
	t.Helper()
	c := New(cfg)
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// Close ends the server, calls that hang, and every SSH server. It is called
// once. The error joins all that Shutdown gave in the cloud's life.
func (c *Cloud) Close() error {
	close(c.closing)
	c.server.Close()
	for _, i := range c.Instances() {
		c.Kill(i.ID)
	}
	return errors.Join(c.errs...)
}

// URL is the endpoint of the API, without a slash at its end.
func (c *Cloud) URL() string { return c.server.URL }

// Instances lists what exists, oldest first.
func (c *Cloud) Instances() []Instance {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.asOf(c.cfg.Now())
}

// asOf lists what existed then, oldest first, as it is now.
func (c *Cloud) asOf(then time.Time) []Instance {
	list := []Instance{}
	for _, id := range slices.Sorted(maps.Keys(c.records)) {
		if r := c.records[id]; r.existed(then) {
			list = append(list, r.at(c.cfg.Now()))
		}
	}
	return list
}

// Kill removes an instance behind everybody's back, and tells whether it existed.
func (c *Cloud) Kill(id string) bool {
	c.mu.Lock()
	r := c.existing(id)
	if r == nil {
		c.mu.Unlock()
		return false
	}
	now := c.cfg.Now()
	r.deletedAt = now
	// Forget what no listing shows any more.
	maps.DeleteFunc(c.records, func(_ string, r *record) bool {
		return !r.deletedAt.IsZero() && !r.existed(now.Add(-c.faults.ListingLag))
	})
	c.mu.Unlock()

	if r.booted == nil {
		return true
	}
	r.cancelBoot()
	<-r.booted
	// Not the caller's context: the server ends even if the caller has gone.
	if err := c.cfg.Shutdown(context.Background(), r.at(now)); err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.errs = append(c.errs, fmt.Errorf("shut down %s: %w", id, err))
	}
	return true
}

// existing gives the record of an instance that exists, or nil.
func (c *Cloud) existing(id string) *record {
	if r := c.records[id]; r != nil && r.deletedAt.IsZero() {
		return r
	}
	return nil
}

// Calls tells how many calls of an operation were received, whatever became of
// them.
func (c *Cloud) Calls(op Operation) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

// Faults gives what is set, with what is left of failures that are counted.
func (c *Cloud) Faults() Faults {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.faults.clone()
}

// SetFaults replaces all faults for calls from now on. A quota below what exists
// removes nothing. It panics if f names an operation or class that there is not.
func (c *Cloud) SetFaults(f Faults) {
	if err := f.check(); err != nil {
		panic("fakecloud: " + err.Error())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if f.RateLimit == 0 {
		c.limiter = nil
	} else if c.limiter == nil || f.RateLimit != c.faults.RateLimit || f.Burst != c.faults.Burst {
		c.limiter = rate.NewLimiter(rate.Limit(f.RateLimit), max(1, f.Burst))
	}
	c.faults = f.clone()
}

// begin counts a call and decides what becomes of it.
func (c *Cloud) begin(op Operation) (Failure, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[op]++
	if c.limiter != nil && !c.limiter.AllowN(c.cfg.Now(), 1) {
		return Failure{Class: Throttled}, 0
	}
	return c.faults.pick(op, c.rng.Float64), c.faults.Latency[op]
}

func (c *Cloud) create(req Request, neverBoots bool) (Instance, *Error) {
	if req.Name == "" {
		return Instance{}, &Error{InvalidConfiguration, "name is empty"}
	}
	if req.SSH && (c.cfg.Boot == nil || c.cfg.Shutdown == nil) {
		return Instance{}, &Error{InvalidConfiguration, "ssh: this cloud has no SSH servers"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.cfg.Now()
	if c.faults.Quota > 0 && len(c.asOf(now)) >= c.faults.Quota {
		return Instance{}, &Error{QuotaExceeded, fmt.Sprintf("the account may have %d instances", c.faults.Quota)}
	}
	c.made++
	r := &record{
		instance: Instance{
			Request: req, ID: fmt.Sprintf("i-%08d", c.made), SSHPort: 22, CreatedAt: now,
			Address: fmt.Sprintf("10.%d.%d.%d", c.made>>16&255, c.made>>8&255, c.made&255),
		},
		readyAt: now.Add(c.faults.BootTime), neverBoots: neverBoots,
	}
	if req.SSH {
		r.instance.Address, r.instance.SSHPort = "", 0
		ctx, cancel := context.WithCancel(context.Background())
		r.cancelBoot, r.booted = cancel, make(chan struct{})
		go c.boot(ctx, r, r.instance.clone()) // Kill waits for it
	}
	c.records[r.instance.ID] = r
	return r.at(now), nil
}

func (c *Cloud) boot(ctx context.Context, r *record, i Instance) {
	defer close(r.booted)
	address, port, err := c.cfg.Boot(ctx, i)
	c.mu.Lock()
	defer c.mu.Unlock()
	r.instance.Address, r.instance.SSHPort, r.bootErr = address, port, err
}

func (c *Cloud) read(id string) (Instance, *Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.existing(id); r != nil {
		return r.at(c.cfg.Now()), nil
	}
	return Instance{}, &Error{NotFound, "there is no instance " + id}
}

func (c *Cloud) list(tags map[string]string, after string, limit int, partial bool) Page {
	c.mu.Lock()
	defer c.mu.Unlock()
	list := slices.DeleteFunc(c.asOf(c.cfg.Now().Add(-c.faults.ListingLag)), func(i Instance) bool {
		return i.ID <= after || !i.matches(tags)
	})
	page := Page{Instances: list, Complete: true}
	if len(list) > limit {
		page.Instances, page.Next = list[:limit], list[limit-1].ID
	}
	if partial {
		page = Page{Instances: page.Instances[:len(page.Instances)/2]}
	}
	return page
}
