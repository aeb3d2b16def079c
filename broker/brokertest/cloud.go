package brokertest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Cloud is a scripted stand-in for Terraform and SSH at once: it keeps the
// ground truth of which machines exist and whose keys are on them. The zero
// value works at once and never fails. The functions, where set, decide the fate
// of each call; they may be called at once.
type Cloud struct {
	// Delay is how long a call takes, by operation ("apply", "destroy", "settle",
	// "check", "contextualize", "decontextualize", "list").
	Delay func(op string) time.Duration
	// Fail gives the error of a call, or nil.
	Fail func(op string, n broker.Node) error
	// Blind makes a failing destroy give no state: not known what is left.
	Blind bool
	// Partial tells whether a failing apply leaves a machine behind.
	Partial func(n broker.Node) bool

	mu       sync.Mutex
	machines map[string]*machine
	calls    map[string]int
}

type machine struct {
	pool string
	keys string
}

// HostKey is what every machine of a Cloud shows.
const HostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHUrQ0W2rU0m2Ccp0bHn0WcJb0hQXUe9M7g1Yb0cloud"

var errNotThere = errors.New("no such machine")

func (c *Cloud) call(ctx context.Context, op string, n broker.Node) error {
	c.mu.Lock()
	if c.calls == nil {
		c.calls, c.machines = make(map[string]int), make(map[string]*machine)
	}
	c.calls[op]++
	c.mu.Unlock()
	if c.Delay != nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(c.Delay(op)):
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if c.Fail != nil {
		return c.Fail(op, n)
	}
	return nil
}

// Apply implements [broker.Provisioner].
func (c *Cloud) Apply(ctx context.Context, n broker.Node) (broker.Result, error) {
	err := c.call(ctx, "apply", n)
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		// As the contract says: the caller has gone, the run goes on.
		c.mu.Lock()
		c.machines[n.UID] = &machine{pool: n.Pool}
		c.mu.Unlock()
		return broker.Result{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		if c.Partial == nil || !c.Partial(n) {
			return broker.Result{}, err
		}
		c.machines[n.UID] = &machine{pool: n.Pool}
		return broker.Result{State: []byte("state of " + n.UID)}, err
	}
	if c.machines[n.UID] == nil {
		c.machines[n.UID] = &machine{pool: n.Pool}
	}
	return broker.Result{
		State: []byte("state of " + n.UID),
		Outputs: broker.Outputs{
			Address: fmt.Sprintf("127.1.%d.%d", n.ID/250%250, n.ID%250+1), Hostname: n.Hostname, SSHUser: "root", SSHPort: 22,
		},
	}, nil
}

// Destroy implements [broker.Provisioner].
func (c *Cloud) Destroy(ctx context.Context, n broker.Node, sealed []byte) (broker.Result, error) {
	if err := c.call(ctx, "destroy", n); err != nil {
		if c.Blind {
			sealed = nil
		}
		return broker.Result{State: sealed}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.machines, n.UID)
	return broker.Result{}, nil
}

// Settle implements [broker.Provisioner].
func (c *Cloud) Settle(ctx context.Context, n broker.Node) error { return c.call(ctx, "settle", n) }

// Discard implements [broker.Provisioner].
func (c *Cloud) Discard(broker.Node) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls["discard"]++
	return nil
}

// List implements [broker.Lister]: it gives all machines, of every pool.
func (c *Cloud) List(ctx context.Context, p broker.Pool) (broker.Listing, error) {
	if err := c.call(ctx, "list", broker.Node{Pool: p.Name}); err != nil {
		return broker.Listing{}, err
	}
	listing := broker.Listing{Complete: true}
	for _, uid := range c.Machines() {
		listing.Nodes = append(listing.Nodes, broker.ListedNode{UID: uid, Resources: map[string]string{"machine.node": uid}})
	}
	return listing, nil
}

// Check implements [broker.Contextualizer].
func (c *Cloud) Check(ctx context.Context, n broker.Node) ([]string, error) {
	if err := c.call(ctx, "check", n); err != nil {
		return nil, err
	}
	return []string{HostKey}, c.with(n, func(*machine) {})
}

// Contextualize implements [broker.Contextualizer].
func (c *Cloud) Contextualize(ctx context.Context, n broker.Node, keys string) error {
	if err := c.call(ctx, "contextualize", n); err != nil {
		return err
	}
	return c.with(n, func(m *machine) { m.keys = keys })
}

// Decontextualize implements [broker.Contextualizer].
func (c *Cloud) Decontextualize(ctx context.Context, n broker.Node) error {
	if err := c.call(ctx, "decontextualize", n); err != nil {
		return err
	}
	return c.with(n, func(m *machine) { m.keys = "" })
}

func (c *Cloud) with(n broker.Node, fn func(*machine)) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	m := c.machines[n.UID]
	if m == nil {
		return fmt.Errorf("node %s: %w", n.UID, errNotThere)
	}
	fn(m)
	return nil
}

// Machines gives the uids of what exists, sorted.
func (c *Cloud) Machines() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.machines))
}

// Keys gives the tenant's keys on a machine, "" for none.
func (c *Cloud) Keys(uid string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.machines[uid]; m != nil {
		return m.keys
	}
	return ""
}

// Calls tells how often an operation was called.
func (c *Cloud) Calls(op string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls[op]
}

// Appear makes a machine behind everybody's back.
func (c *Cloud) Appear(uid, pool string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.machines == nil {
		c.calls, c.machines = make(map[string]int), make(map[string]*machine)
	}
	c.machines[uid] = &machine{pool: pool}
}

// Vanish removes a machine behind everybody's back.
func (c *Cloud) Vanish(uid string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.machines, uid)
}
