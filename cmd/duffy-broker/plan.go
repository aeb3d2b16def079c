package main

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/modulesource"
	"github.com/duffy-broker/duffy-broker/broker/plan"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// planOptions are the arguments of plan.
type planOptions struct {
	pools   string
	server  bool
	client  clientOptions
	dataDir string
	keyFile string
	base    string
	view    view.PlanOptions

	withSample bool
	terraform  string
}

func newPlanCommand(s streams) *cobra.Command {
	o := planOptions{client: clientOptions{admin: true}}
	cmd := &cobra.Command{
		Annotations: map[string]string{ownFormats: "text, json, markdown"},
		Use:         "plan",
		Short:       "Say what a changed pools.hcl would do to the stock",
		Long: "Say what a changed pools.hcl would do to the stock: which nodes turn stale and when they are replaced, how many are ready meanwhile,\n" +
			"what it costs. It is played with the function that then runs, so that is what happens. Nothing is changed, and no cloud is asked\n" +
			"(but with --sample). Modules from elsewhere are fetched with Terraform.\n\n" +
			"The file is compared with what a running broker has (--server), with the data directory of a stopped one (--data-dir), or else with a\n" +
			"revision in git: with what the default branch and the present one have in common, unless --base names another. Then all stock counts as full.\n\n" +
			"Exit codes: 0 no changes, 2 changes, 3 changes that destroy stock or that a policy denies, 1 an error (also of a sample).",
		Example: "  duffy-broker plan\n" +
			"  duffy-broker plan --server\n" +
			"  duffy-broker plan --base origin/main --format markdown > comment.md\n" +
			"  duffy-broker plan --sample",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if f, ok := s.out.(*os.File); ok && os.Getenv("NO_COLOR") == "" {
				o.view.Color = term.IsTerminal(int(f.Fd()))
			}
			p, good, err := makePlan(cmd.Context(), s, o)
			if err != nil {
				return err
			}
			if err := view.Plan(s.out, p, o.view); err != nil {
				return err
			}
			if !good {
				return broker.Errorf(broker.CodeUnavailable, "a node of a changed pool can't be planned").WithHint("the plan says of which, and why")
			}
			switch p.ExitCode() {
			case plan.ExitChanges:
				return exitError{exitChanges}
			case plan.ExitDanger:
				return exitError{exitFound}
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.pools, "pools", "pools.hcl", "`file` that declares the pools, as they are to be")
	f.BoolVar(&o.server, "server", false, "compare with what a running broker has; needs the key of an admin, which is looked for as `client` does")
	f.StringVar(&o.client.url, "url", "", "`URL` of the API of that broker, for --server")
	f.StringVar(&o.client.authName, "auth-name", "", "`name` of the admin, for --server")
	f.StringVar(&o.client.authKey, "auth-key", "", "API `key` of the admin, for --server (better in DUFFY_BROKER_AUTH_KEY: other users see command lines)")
	f.StringVar(&o.client.profile, "profile", "", "`id` of the broker whose profile to use, for --server (default: the one started last)")
	f.StringVar(&o.dataDir, "data-dir", "", "compare with the data `directory` of a broker that is stopped")
	f.StringVar(&o.keyFile, "key-file", "", "`file` with the root key, for --data-dir (default: as serve finds it)")
	f.StringVar(&o.base, "base", "", "compare with this `revision` in git")
	f.BoolVar(&o.withSample, "sample", false, "have Terraform plan one node of each pool that is new or made from something else; needs network and credentials")
	f.StringVar(&o.terraform, "terraform", "", "Terraform `binary` for --sample, and for modules from elsewhere: a path or a name such as tofu (default: as serve finds it)")
	f.StringVar(&o.view.Format, "format", view.Text, "text, json or markdown")
	f.IntVar(&o.view.MaxSize, "max-size", 65_000, "`bytes` of markdown at most: what is too much is left out from the start; 0: any number")
	return cmd
}

func (o planOptions) check() error {
	if err := view.CheckPlan(o.view); err != nil {
		return err
	}
	sources := 0
	for _, given := range []bool{o.server, o.dataDir != "", o.base != ""} {
		if given {
			sources++
		}
	}
	if sources > 1 {
		return broker.Errorf(broker.CodeInvalid, "a plan compares with one thing").WithHint("choose one of --server, --data-dir and --base")
	}
	return nil
}

// makePlan compares and looks ahead. It tells whether all samples could be planned.
func makePlan(ctx context.Context, s streams, o planOptions) (p plan.Plan, good bool, err error) {
	file, err := loadPools(ctx, s, o.pools)
	if err != nil {
		return p, false, err
	}
	modules := &locator{kept: o.dataDir, engine: func(ctx context.Context, dir string) (*terraform.Engine, error) {
		return o.scratchFor(ctx, file, dir, "plan")
	}}
	defer func() { err = errors.Join(err, modules.close()) }()
	if err := modules.locate(ctx, file); err != nil {
		return p, false, explain(file, err)
	}
	c, err := o.comparison(ctx, s, file, modules)
	if err != nil {
		return p, false, err
	}
	dir := absoluteDir(o.pools)
	after, err := configOf(file, c.maskKey, dir, func(p broker.Pool) broker.Pool {
		p.Followed = broker.FollowedIn(c.before.Pools, file.Moves, p.Name)
		return broker.Rebased(p, dir, c.root)
	})
	if err != nil {
		return p, false, err
	}
	if err := after.Declare(c.now, c.world, file.Inventories); err != nil {
		return p, false, err
	}
	p = plan.Compute(c.now, c.before, after, c.world, plan.Options{
		Against: c.against, MaskKey: c.maskKey, Observed: c.observed, Policy: c.policy(file, after), Tenants: c.tenants,
	})
	if !o.withSample {
		return p, true, nil
	}
	good, err = o.sample(ctx, file, &p)
	return p, good, err
}

// policy asks the policy of a file about the change, as a reload does: with modules
// where they lie for that file.
func (c comparison) policy(file *config.File, after plan.Config) []plan.PolicyResult {
	located := func(pools []broker.Pool) []broker.Pool {
		pools = slices.Clone(pools)
		for i := range pools {
			if m := filepath.FromSlash(pools[i].Module); !filepath.IsAbs(m) && !modulesource.Is(m) {
				pools[i].Module = filepath.Join(file.Root, m)
			}
		}
		return pools
	}
	old, pools := located(c.before.Pools), located(after.Pools)
	stock := make(map[string]config.Stock, len(c.before.Pools))
	for _, n := range c.world.Nodes {
		s := stock[n.Pool]
		s.Total++
		switch n.State.Wire() {
		case broker.NodeReady.Wire():
			s.Ready++
		case broker.NodeDeployed.Wire(), broker.NodeContextualizing.Wire():
			s.Lent++
		}
		stock[n.Pool] = s
	}
	var results []plan.PolicyResult
	for _, o := range file.CheckPolicy(poolChanges(old, pools, file.Moves, stock), old, pools) {
		results = append(results, plan.PolicyResult{Rule: o.Rule, Pool: o.Pool, Deny: o.Deny, Message: o.Message})
	}
	return results
}

// comparison is what a file is compared with.
type comparison struct {
	now      time.Time
	against  plan.Against
	before   plan.Config
	world    reconcile.World
	observed map[string]reconcile.Durations
	tenants  []broker.SnapshotTenant // none where there is no telling
	// root is the directory that pools.hcl lies in there.
	root    string
	maskKey []byte
}

func (o planOptions) comparison(ctx context.Context, s streams, file *config.File, modules *locator) (comparison, error) {
	switch {
	case o.server:
		return o.withServer(ctx)
	case o.dataDir != "":
		return o.withDataDir(ctx)
	}
	return o.withBase(ctx, s, file, modules)
}

// withServer compares with what a broker runs.
func (o planOptions) withServer(ctx context.Context) (comparison, error) {
	c, _, err := o.client.client()
	if err != nil {
		return comparison{}, err
	}
	snapshot, err := c.Snapshot(ctx)
	if err != nil {
		if broker.CodeOf(err) == broker.CodeNotFound {
			return comparison{}, broker.Wrap(broker.CodeUnavailable, err, "the broker at %s can't say what it runs with", c.Name()).
				WithHint("it is older than this program: plan against a revision in git (--base REV)")
		}
		return comparison{}, err
	}
	return ofSnapshot(snapshot, true, plan.Against{Kind: "server", Name: c.Name()}), nil
}

// ofSnapshot compares with what a snapshot shows.
func ofSnapshot(s broker.Snapshot, running bool, against plan.Against) comparison {
	return comparison{
		now: s.At, against: against, before: plan.Running(s), world: plan.World(s, running),
		observed: plan.Durations(s), tenants: s.Tenants, root: s.Root, maskKey: s.MaskKey,
	}
}

// configOf gives what a file in dir says as one side of a comparison. rebase makes
// paths in the pools what they are where the other side is.
func configOf(file *config.File, maskKey []byte, dir string, rebase func(broker.Pool) broker.Pool) (plan.Config, error) {
	c := plan.Config{Accounts: file.Accounts, TenantDefaults: file.TenantDefaults, Settings: file.Settings(), Moves: file.Moves, Modules: make(map[string]broker.Module)}
	var inspector terraform.Inspector
	var errs []error
	for _, p := range file.Pools {
		p = rebase(p)
		var module broker.Module
		p, err := withSources(p, func(way broker.Pool) (source broker.Source, err error) {
			source, module, err = inspector.Inspect(way)
			return source, err
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.Modules[p.Source.Template] = module
		if p, err = broker.Described(p, dir, maskKey, module); err != nil {
			return c, err
		}
		c.Pools = append(c.Pools, p)
	}
	return c, errors.Join(errs...)
}

// newMaskKey makes a key for masks that are compared with each other only.
func newMaskKey() []byte {
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails: it ends the program instead (crypto/rand)
	return key
}

// shown gives a path as short as it can be.
func shown(path string) string {
	here, err := os.Getwd()
	if err != nil {
		return path
	}
	if inside, err := filepath.Rel(here, path); err == nil && filepath.IsLocal(inside) {
		return inside
	}
	return path
}
