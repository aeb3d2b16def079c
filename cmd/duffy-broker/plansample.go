package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/localnode"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/ssh"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// sample asks Terraform for one node of each pool that is new or made from
// something else, in a directory of its own, and notes the answers in p. It tells
// whether all went well.
func (o planOptions) sample(ctx context.Context, file *config.File, p *plan.Plan) (good bool, err error) {
	pools := make(map[string]broker.Pool, len(file.Pools))
	for _, pool := range file.Pools {
		pools[pool.Name] = pool
	}
	var asked []*plan.Pool
	for i := range p.Pools {
		if pool := &p.Pools[i]; pool.Kind == plan.Added || pool.Generation != nil {
			asked = append(asked, pool)
		}
	}
	if len(asked) == 0 {
		return true, nil
	}
	dir, err := os.MkdirTemp("", "duffy-sample-")
	if err != nil {
		return false, fmt.Errorf("make a directory for samples: %w", err)
	}
	defer func() { err = errors.Join(err, fmtErr("remove the directory of samples", os.RemoveAll(dir))) }()
	engine, err := o.scratchFor(ctx, file, dir, "plan-sample")
	if err != nil {
		return false, err
	}
	good = true
	for _, pool := range asked {
		resources, err := sampleVariants(ctx, engine, pools[pool.Name])
		if ctx.Err() != nil {
			return false, ctx.Err()
		}
		pool.Sample = &plan.Sample{Resources: resources}
		if err != nil {
			good = false
			pool.Sample.Class, pool.Sample.Problem = broker.FailureClassOf(err), err.Error()
		}
	}
	return good, nil
}

// sampleVariants asks for one node of each variant of a pool, as far as the first
// that fails. The resources are those of the first one.
func sampleVariants(ctx context.Context, engine *terraform.Engine, p broker.Pool) (resources []string, err error) {
	for i, way := range p.Ways() {
		found, err := engine.Sample(ctx, way)
		if i == 0 {
			resources = found
		}
		if err != nil && len(p.Variants) > 0 {
			return resources, fmt.Errorf("variant %s: %w", p.Variants[i].Name, err)
		}
		if err != nil {
			return resources, err
		}
	}
	return resources, nil
}

// scratch says what a [scratchEngine] is like.
type scratch struct {
	terraform  string // path or name of the binary; "" for the one that serve would find
	constraint string // on its version
	dir        string
	id         string // of the broker that it plays
	log        *slog.Logger
}

// scratchEngine gives an engine with a data directory, a root key and an SSH key
// that nobody else knows.
func scratchEngine(ctx context.Context, s scratch) (*terraform.Engine, error) {
	binary, err := terraform.Find(ctx, terraform.FindOptions{
		Path: s.terraform, Constraint: s.constraint, InstallDir: filepath.Join(s.dir, "terraform"), Log: s.log,
	})
	if err != nil {
		return nil, err
	}
	keys, err := secret.Open(filepath.Join(s.dir, "keys"))
	if err != nil {
		return nil, err
	}
	_, publicKey, err := ssh.LoadOrCreateKey(filepath.Join(s.dir, "keys", "ssh_ed25519"))
	if err != nil {
		return nil, err
	}
	exe, err := executable()
	if err != nil {
		return nil, err
	}
	return terraform.New(terraform.Config{
		Binary: binary, Dir: s.dir, BrokerID: s.id, SSHPublicKeys: []string{publicKey}, Keyring: keys, Executable: exe, Log: s.log, Sweep: localnode.Stop,
	}), nil
}

// scratchFor is a scratchEngine for the pools of a file, that is silent.
func (o planOptions) scratchFor(ctx context.Context, file *config.File, dir, id string) (*terraform.Engine, error) {
	return scratchEngine(ctx, scratch{
		terraform: o.terraform, constraint: file.Terraform.RequiredVersion.String(), dir: dir, id: id, log: slog.New(slog.DiscardHandler),
	})
}
