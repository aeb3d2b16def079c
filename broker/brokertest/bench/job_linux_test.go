package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

const jobArgument = "bench-job"

// strategy is a way to make and destroy nodes.
type strategy string

const (
	// fresh is today's habit: a directory for each node, with an init of its own.
	fresh strategy = "fresh directory, init, apply"
	// private is the engine, whose runs start providers of their own.
	private strategy = "engine, private provider"
	// shared is the engine, whose runs attach to a provider that goes on.
	shared strategy = "engine, shared provider"
)

// strategies are compared with the first.
var strategies = []strategy{fresh, private, shared}

// job is work of one strategy, done in a process of its own so that all that it
// costs can be told.
type job struct {
	Strategy  strategy
	Dir       string // its own, empty
	Module    string // absolute
	Terraform string
	Variables json.RawMessage // of the pool
	Nodes     int
	Parallel  int
}

// figures are what a job took. CPU is that of all processes, for all nodes.
type figures struct {
	CreateCPU, DestroyCPU time.Duration
	Wall                  time.Duration
}

// worker makes and destroys nodes; calls for different nodes run at once.
type worker interface {
	create(ctx context.Context, n broker.Node) error
	destroy(ctx context.Context, n broker.Node) error
}

// run does the job. What is done once for any number of nodes is left out: the
// engine's init.
func (j job) run(ctx context.Context) (figures, error) {
	if err := adoptOrphans(); err != nil {
		return figures{}, err
	}
	pool := broker.Pool{
		Name: "bench", Module: j.Module, Variables: j.Variables, CreateTimeout: time.Hour, DestroyTimeout: time.Hour,
		ProviderSharing: j.Strategy == shared,
	}
	if j.Strategy == fresh {
		return j.measure(ctx, pool, habit{j})
	}
	o, err := j.engine(ctx, &pool)
	if err != nil {
		return figures{}, err
	}
	f, err := j.measure(ctx, pool, o)
	hosts, _ := os.ReadDir(filepath.Join(j.Dir, "providers")) // none there: none shared
	if j.Strategy == shared && len(hosts) == 0 {
		err = errors.Join(err, errors.New("no run had a shared provider"))
	}
	return f, errors.Join(err, o.StopProviders(ctx))
}

// measure makes nodes of a pool and destroys them again.
func (j job) measure(ctx context.Context, pool broker.Pool, w worker) (f figures, err error) {
	nodes := make([]broker.Node, j.Nodes)
	for i := range nodes {
		nodes[i] = broker.NewNode(pool, time.Now())
	}
	began := time.Now()
	if f.CreateCPU, err = j.each(ctx, nodes, w.create); err != nil {
		return f, err
	}
	if f.DestroyCPU, err = j.each(ctx, nodes, w.destroy); err != nil {
		return f, err
	}
	f.Wall = time.Since(began)
	return f, nil
}

// each does something to all nodes, some at once, and gives the CPU time that it
// took.
func (j job) each(ctx context.Context, nodes []broker.Node, do func(context.Context, broker.Node) error) (time.Duration, error) {
	before, err := cpu()
	if err != nil {
		return 0, err
	}
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		queue = make(chan broker.Node)
		errs  []error
	)
	for range j.Parallel {
		wg.Go(func() {
			for n := range queue {
				if err := do(ctx, n); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
				}
			}
		})
	}
	for _, n := range nodes {
		queue <- n
	}
	close(queue)
	wg.Wait()
	after, err := cpu()
	return after - before, errors.Join(append(errs, err)...)
}

// habit is how it is done by hand and in scripts.
type habit struct{ job }

func (h habit) dir(n broker.Node) string { return filepath.Join(h.Dir, n.UID) }

func (h habit) create(ctx context.Context, n broker.Node) error {
	if err := os.CopyFS(h.dir(n), os.DirFS(h.Module)); err != nil {
		return err
	}
	variables := map[string]any{}
	if err := json.Unmarshal(h.Variables, &variables); err != nil {
		return err
	}
	variables["broker"] = map[string]any{"hostname": n.Hostname, "tags": map[string]string{"duffy:node-id": n.UID}}
	text, err := json.Marshal(variables)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(h.dir(n), "terraform.tfvars.json"), text, 0o600); err != nil {
		return err
	}
	if err := h.terraform(ctx, n, "init", "-input=false"); err != nil {
		return err
	}
	return h.terraform(ctx, n, "apply", "-auto-approve", "-input=false")
}

func (h habit) destroy(ctx context.Context, n broker.Node) error {
	if err := h.terraform(ctx, n, "destroy", "-auto-approve", "-input=false"); err != nil {
		return err
	}
	return os.RemoveAll(h.dir(n))
}

func (h habit) terraform(ctx context.Context, n broker.Node, args ...string) error {
	cmd := exec.CommandContext(ctx, h.Terraform, args...)
	cmd.Dir = h.dir(n)
	cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("terraform %s: %w\n%s", args[0], err, &out)
	}
	return nil
}

// ours is the engine, used as the reconcile loop does.
type ours struct {
	*terraform.Engine

	mu     sync.Mutex
	states map[string][]byte // sealed
}

// engine makes an engine and lets it accept the pool.
func (j job) engine(ctx context.Context, p *broker.Pool) (*ours, error) {
	keys, err := secret.Open(filepath.Join(j.Dir, "keys"))
	if err != nil {
		return nil, err
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	e := terraform.New(terraform.Config{
		Binary: terraform.Binary{Path: j.Terraform}, Dir: j.Dir, BrokerID: "bench", Keyring: keys, Executable: executable,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	p.Source, err = e.Prepare(ctx, *p)
	return &ours{Engine: e, states: map[string][]byte{}}, err
}

func (o *ours) create(ctx context.Context, n broker.Node) error {
	result, err := o.Apply(ctx, n)
	if err != nil {
		return err
	}
	o.mu.Lock()
	o.states[n.UID] = result.State
	o.mu.Unlock()
	return o.Discard(n)
}

func (o *ours) destroy(ctx context.Context, n broker.Node) error {
	o.mu.Lock()
	state := o.states[n.UID]
	o.mu.Unlock()
	if _, err := o.Destroy(ctx, n, state); err != nil {
		return err
	}
	return o.Discard(n)
}
