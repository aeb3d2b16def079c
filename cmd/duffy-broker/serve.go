package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/duffy-broker/duffy-broker/api"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/localnode"
	"github.com/duffy-broker/duffy-broker/broker/reconcile"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/ssh"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// drainTimeout is how long requests in progress may take after a signal to stop.
const drainTimeout = 30 * time.Second

type serveOptions struct {
	pools string
	poll  time.Duration
	// webhookSecret is a file.
	webhookSecret string
	data          string
	keyFile       string
	listen        string
	nodeURL       string
	tlsCert       string
	tlsKey        string
	legacy        string
	metrics       string
	terraform     string
	anonymous     bool
	rate          float64
	proxies       []string
	logFormat     string
	logLevel      slog.Level
}

func newServeCommand(s streams) *cobra.Command {
	var o serveOptions
	var level string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Run the broker",
		Long: "Run the broker: keep the pools of pools.hcl filled, and lend their nodes over the API.\n" +
			"SIGHUP reads the pools again, and so does `duffy-broker reload`; a file with mistakes changes nothing. SIGTERM and Ctrl-C stop the broker; Terraform runs in\n" +
			"flight go on, and the next start adopts them.",
		Example: "  duffy-broker serve\n  duffy-broker serve --pools /etc/duffy-broker/pools.hcl --data-dir /var/lib/duffy-broker --listen :8080",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.logLevel.UnmarshalText([]byte(level)); err != nil {
				return broker.Errorf(broker.CodeInvalid, "--log-level %s is not a level", level).WithHint("one of debug, info, warn, error")
			}
			err := serve(cmd.Context(), s, o)
			if errors.Is(err, context.Canceled) {
				return broker.Errorf(broker.CodeUnavailable, "stopped before it served")
			}
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.pools, "pools", "pools.hcl", "`path` of the file that declares the pools, or of a directory of such files (*.hcl), or git::URL//PATH?ref=BRANCH")
	addDataDirFlag(cmd, &o.data, "`directory` that holds all state; made if it does not exist")
	f.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` to serve the API on: HOST:PORT (port 0 takes a free one) or unix:PATH")
	f.StringVar(&o.nodeURL, "node-url", "", "`URL` at which nodes reach the API, for those that boot from the broker or tell it things (also "+nodeURLVariable+"): see docs/nodes.md")
	f.StringVar(&o.tlsCert, "tls-cert", "", "PEM `file` with the certificate to serve TLS with; read again when it is renewed")
	f.StringVar(&o.tlsKey, "tls-key", "", "PEM `file` with the key of that certificate")
	f.StringVar(&o.keyFile, "key-file", "", "`file` with the root key (also "+keyFileVariable+", or base64 in "+keyVariable+"; default: one in the data directory)")
	f.StringVar(&o.legacy, "legacy-listen", "", "`address` to serve the legacy API alone on, once more; pools.hcl needs a legacy block")
	f.StringVar(&o.metrics, "metrics-listen", "", "`address` to serve /metrics on without authentication, once more; the API has it for admins")
	f.StringVar(&o.terraform, "terraform", "", "Terraform `binary`: a path or a name such as tofu (default: terraform on PATH, else one is installed)")
	f.BoolVar(&o.anonymous, "anonymous-read", false, "let callers without credentials list all sessions, nodes and pools, as Duffy does")
	f.DurationVar(&o.poll, "poll", 0, "how often to look whether the pools or their modules have changed, and read them again; 0: only at SIGHUP and when asked")
	f.StringVar(&o.webhookSecret, "webhook-secret-file", "", "`file` with the secret of webhooks at /api/v1/reload/webhook, by which a repository tells of a push")
	f.Float64Var(&o.rate, "tenant-rate", 50, "requests a second that a tenant may make on average, and four times as many at once; 0: any number. Admins have no limit")
	f.StringArrayVar(&o.proxies, "trusted-proxy", nil, "`network` (CIDR) of a proxy that names its clients in X-Forwarded-For; may be repeated")
	f.StringVar(&o.logFormat, "log-format", "", "text or json (default: text on a terminal, else json)")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}

// serve runs the broker until ctx ends or a signal comes. Parts start in the
// order in which the later need the earlier, cheap checks first, and stop in the
// opposite order: no new requests, then the loop, then the store.
func serve(ctx context.Context, s streams, o serveOptions) (err error) {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	// From the beginning: unwatched, SIGHUP would end the process.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	// Terraform writes its state files readable for all, secrets and all.
	syscall.Umask(0o077)
	log, err := newLogger(s, o)
	if err != nil {
		return err
	}
	proxies, err := parseProxies(o.proxies)
	if err != nil {
		return err
	}
	if o.nodeURL, err = nodeURL(o.nodeURL); err != nil {
		return err
	}
	if err := checkPoll(o.poll); err != nil {
		return err
	}
	webhookSecret, err := readWebhookSecret(o.webhookSecret)
	if err != nil {
		return err
	}
	var file *config.File
	if !strings.HasPrefix(o.pools, gitPrefix) { // a repository is kept in the data directory
		if file, err = loadPools(ctx, s, o.pools); err != nil {
			return err
		}
	}
	dir, err := openDataDir(o.data, time.Now())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	source, err := newPoolSource(o.pools, dir)
	if err != nil {
		return err
	}
	_, revision, err := source.fetch(ctx)
	if file == nil {
		file, revision, err = firstPools(ctx, s, log, source.(*gitSource))
	}
	if err != nil {
		return err
	}
	listener, err := listen(ctx, o.listen)
	if err != nil {
		return err
	}
	defer func() { _ = listener.Close() }() // closed already after an ordinary end
	if listener, err = withTLS(listener, o.tlsCert, o.tlsKey, log); err != nil {
		return err
	}

	var legacyListener net.Listener
	if o.legacy != "" {
		if legacyListener, err = listen(ctx, o.legacy); err != nil {
			return err
		}
		defer func() { _ = legacyListener.Close() }() // closed already after an ordinary end
	}

	var metricsListener net.Listener
	if o.metrics != "" {
		if metricsListener, err = listen(ctx, o.metrics); err != nil {
			return err
		}
		defer func() { _ = metricsListener.Close() }() // closed already after an ordinary end
	}

	keys, err := dir.openKeys(ctx, log, o.keyFile)
	if err != nil {
		return err
	}
	store, err := bolt.Open(dir.join("broker.db"), bolt.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fmtErr("close the store", store.Close())) }()

	d := daemon{secure: o.tlsCert != "", streams: s, log: log, dir: dir, listener: listener, pools: new(broker.PoolSet), hangups: hangups, pushes: make(chan struct{}, 1), poll: o.poll, terraform: file.Terraform, legacyListener: legacyListener, proxies: proxies}
	d.legacy.Store(legacySettings(file.Legacy))
	d.reloadRules.Store(&file.Reload)
	d.reloader = &reloader{source: source, apply: d.applyPools, note: d.noteReload, now: time.Now}
	signer, publicKey, err := ssh.LoadOrCreateKey(dir.join("keys", "ssh_ed25519"))
	if err != nil {
		return err
	}
	contextualizer := ssh.New(signer, log)
	workspaces, nodes := new(engineWorkspaces), new(engineNodes)
	runs := terraformRuns(ctx, log, file.Terraform)
	d.broker = broker.New(broker.Config{
		Modules: keptModules{dir.path}, Runs: runs, Turns: func() map[string]broker.PoolTurn { return d.loop.Turns() },
		Store: store, Contextualizer: contextualizer, Keys: keys, ImportedKeys: secret.Bcrypt{}, Pools: d.pools, Log: log, Now: time.Now,
		Identities: nodes, BootFiles: nodes,
		Logs: engineLogs{&d}, Workspaces: workspaces, Reloader: d.reloader, Outlook: reconcile.Outlook{}, Wake: func() { d.loop.Wake() },
	})
	d.broker.SetTenantDefaults(file.TenantDefaults)
	id, err := d.broker.Identity(ctx)
	if err != nil {
		return err
	}
	d.engine, err = newEngine(ctx, log, o, file, dir, id, keys, publicKey)
	if err != nil {
		return err
	}
	workspaces.Workspacer = d.engine
	nodes.Engine = d.engine
	d.reseal = &resealer{store: store, nodes: d.engine, keys: keys, dir: dir, log: log}
	if err := d.engine.TidyLookUps(); err != nil {
		return err
	}
	if err := locateModules(file, func(p broker.Pool) (string, error) { return d.engine.Locate(ctx, p) }); err != nil {
		return explain(file, err)
	}
	pools, err := d.broker.WithFollowed(ctx, file.Pools, file.Moves)
	if err != nil {
		return err
	}
	if pools, err = preparePools(ctx, d.engine, pools); err != nil {
		return explain(file, err)
	}
	if err := d.broker.MovePools(ctx, file.Moves); err != nil {
		return err
	}
	if err := d.declareHosts(ctx, file.Inventories); err != nil {
		return err
	}
	if err := d.broker.ForgetFollowed(ctx, nil, pools); err != nil {
		return err
	}
	d.pools.Set(pools, file.Accounts...)
	d.broker.SetPoolsDir(file.Root)
	d.broker.SetFileSettings(file.Settings())
	if err := source.accept(revision); err != nil {
		return err
	}
	d.reloader.started(revision, len(pools))
	d.keys = keys
	d.noteRunning(ctx)
	d.prune = func(ctx context.Context) error {
		d.reloader.mu.Lock() // a reload makes what its pools don't use yet
		defer d.reloader.mu.Unlock()
		return errors.Join(pruneTemplates(ctx, store, d.engine, d.pools.All()), d.engine.PruneTrees(d.pools.All()), d.broker.TidyWorkspaces(ctx))
	}
	if err := d.prune(ctx); err != nil {
		return err
	}
	if err := d.newMeters(store, metricsListener); err != nil {
		return err
	}
	d.sweeper = reconcile.NewSweeper(reconcile.SweeperConfig{
		Observe: d.meters.observeSweep,
		Store:   store, Lister: d.engine, Pools: d.pools, Log: log, Now: time.Now, Wake: func() { d.loop.Wake() },
	})
	d.loop = reconcile.New(reconcile.Config{
		Identity: d.engine.NewIdentity,
		Soon:     d.sweeper.Soon, ObservePass: d.meters.observePass,
		Store: store, Provisioner: d.meters.Provisioner(d.engine), Contextualizer: contextualizer, Pools: d.pools,
		Serving: d.broker.Serving, Unmet: d.broker.Unmet, Runs: runs, Log: log, Now: time.Now, Observe: d.observe,
	})
	if err := d.introduce(ctx, id); err != nil {
		return err
	}
	if err := dir.serves(d.url()); err != nil {
		return err
	}
	return d.run(ctx, stop, o, webhookSecret)
}

// engineLogs are the logs of the daemon's engine, which needs the broker's
// identity and so comes into being after it.
type engineLogs struct{ d *daemon }

func (l engineLogs) OpenLog(r broker.Run, sealed []byte) ([]byte, error) {
	return l.d.engine.OpenLog(r, sealed)
}

func (l engineLogs) WatchRun(ctx context.Context, n broker.Node, write func(operation string, line []byte) error) error {
	return l.d.engine.WatchRun(ctx, n, write)
}

// daemon is what runs after everything has been opened.
type daemon struct {
	streams
	log      *slog.Logger
	dir      *dataDir
	listener net.Listener
	secure   bool // listener speaks TLS
	// legacyListener may be nil; legacy holds nil without a legacy block.
	legacyListener net.Listener
	legacy         atomic.Pointer[api.Legacy]
	reloadRules    atomic.Pointer[config.Reload]
	pools          *broker.PoolSet
	broker         *broker.Broker
	loop           *reconcile.Loop
	sweeper        *reconcile.Sweeper
	engine         *terraform.Engine
	meters         meters

	proxies   []netip.Prefix
	terraform config.Terraform // as it was at the start
	hangups   <-chan os.Signal
	pushes    chan struct{} // a webhook came
	poll      time.Duration // how often to look for changed pools; 0: never
	reloader  *reloader
	reseal    *resealer
	keys      *secret.Keyring
	prune     func(context.Context) error // removes module copies and workspaces that nobody needs any more

	// inventories are those of the file, and waitingHosts what is not stored of them.
	inventories  atomic.Pointer[[]broker.Inventory]
	waitingHosts atomic.Pointer[[]string]

	mu     sync.Mutex
	filled bool // the pools were full once, and the user was told
}

// run serves until ctx ends, then stops in order. A second signal, which stop
// makes deadly again, cuts that short.
func (d *daemon) run(ctx context.Context, stop func(), o serveOptions, webhookSecret []byte) error {
	cfg := api.Config{Broker: timedBroker{d.broker, d.meters}, Log: d.log, Version: version(), AnonymousRead: o.anonymous, Legacy: d.legacy.Load, TenantRate: o.rate, TrustedProxies: d.proxies, Webhook: d.push, WebhookSecret: webhookSecret}
	streams, endStreams := context.WithCancel(ctx)
	defer endStreams()
	cfg.Stopping = streams.Done()
	cfg.Observe, cfg.Metrics, cfg.Ready = d.meters.observeRequest, d.meters.handler, d.ready
	server := api.NewServer(api.New(cfg))
	servers := []*http.Server{server}
	failed := make(chan error, 3)
	var parts sync.WaitGroup
	parts.Go(func() { failed <- server.Serve(d.listener) })
	if d.legacyListener != nil {
		legacy := api.NewServer(api.NewLegacy(cfg))
		servers = append(servers, legacy)
		parts.Go(func() { failed <- legacy.Serve(d.legacyListener) })
		d.log.InfoContext(ctx, "serving the legacy API", "address", d.legacyListener.Addr().String())
	}
	if l := d.meters.listener; l != nil {
		metrics := d.meters.server()
		servers = append(servers, metrics)
		parts.Go(func() { failed <- metrics.Serve(l) })
		d.log.InfoContext(ctx, "serving metrics", "address", l.Addr().String())
	}
	loopCtx, stopLoop := context.WithCancel(context.WithoutCancel(ctx))
	defer stopLoop()
	parts.Go(func() { d.loop.Run(loopCtx) })
	parts.Go(func() { d.sweeper.Run(loopCtx) })
	parts.Go(func() { d.followPools(loopCtx) })
	parts.Go(func() { d.newFollower().run(loopCtx) })
	parts.Go(func() { d.reseal.run(loopCtx) })
	parts.Go(func() { d.flushUse(loopCtx) })
	d.log.InfoContext(ctx, "serving", "address", d.listener.Addr().String(), "data", d.dir.path)
	d.announce(ctx)

	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
		d.log.InfoContext(ctx, "stopping: requests in progress are finished, Terraform runs in flight go on by themselves")
	}
	stop()
	endStreams() // or draining would wait for them
	drainCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	for _, s := range servers {
		if shutdownErr := s.Shutdown(drainCtx); shutdownErr != nil {
			d.log.WarnContext(ctx, "requests cut short", "error", shutdownErr)
		}
	}
	if flushErr := d.broker.FlushUse(drainCtx); flushErr != nil {
		d.log.WarnContext(ctx, "use of keys can't be written down", "error", flushErr)
	}
	stopLoop()
	parts.Wait()
	if stopErr := d.engine.StopProviders(drainCtx); stopErr != nil {
		d.log.WarnContext(ctx, "shared providers that have nothing to do go on: they end by themselves in some minutes", "error", stopErr)
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the API: %w", err)
	}
	return nil
}

// url is where clients of this machine reach the API.
func (d *daemon) url() string { return urlOf(d.listener, d.secure) }

// introduce makes the first tenants, and keeps the client profile pointing here.
// The profile is written first: a crash in between leaves keys of no use, never
// tenants without keys.
func (d *daemon) introduce(ctx context.Context, id broker.Identity) error {
	known, err := d.broker.Tenants(ctx)
	if err != nil {
		return err
	}
	if len(known) > 0 {
		d.updateProfile(ctx, id)
		return nil
	}
	tenants, p, err := newTenants(id.ID, d.url())
	if err != nil {
		return broker.Wrap(broker.CodeInternal, err, "the client profile can't be prepared").
			WithHint("set XDG_CONFIG_HOME to a directory that can be written")
	}
	if err := p.write(p.path); err != nil {
		return broker.Wrap(broker.CodeInternal, err, "the client profile %s can't be written", p.path).
			WithHint("set XDG_CONFIG_HOME to a directory that can be written")
	}
	if err := d.broker.CreateTenants(ctx, tenants...); err != nil {
		return err
	}
	for _, t := range tenants {
		d.print("created tenant %-5s  API key %s", t.Name, t.APIKey)
	}
	d.print("These keys are shown this once. The client finds them in %s", p.path)
	return nil
}

// updateProfile keeps the address in the profile up to date, and makes this
// broker the one that was started last. A profile that is missing is no fault:
// its user may have moved elsewhere.
func (d *daemon) updateProfile(ctx context.Context, id broker.Identity) {
	path, err := profilePath(id.ID)
	if err != nil {
		return
	}
	p, err := readProfile(path)
	if err != nil {
		d.log.WarnContext(ctx, "no client profile of this broker here: the client must be told tenant and key", "path", path, "error", err)
		return
	}
	p.URL = d.url()
	if err := p.write(path); err != nil {
		d.log.WarnContext(ctx, "client profile can't be updated", "path", path, "error", err)
	}
}

func (d *daemon) print(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	_, _ = fmt.Fprintf(d.out, format+"\n", args...)
}

// observe tells the user of each node that becomes ready.
func (d *daemon) observe(n broker.Node) {
	d.log.Debug("node", "node_id", n.ID, "node_uid", n.UID, "pool", n.Pool, "state", string(n.State))
	if n.State != broker.NodeReady {
		return
	}
	if p, levels, err := d.broker.Pool(context.Background(), n.Pool); err == nil {
		d.print("ready: node %d of pool %s (%d of %d)  %s  %s@%s port %d",
			n.ID, n.Pool, levels.Ready, p.FillLevel, n.Hostname, n.SSHUser, n.Address, n.SSHPort)
	}
	d.announce(context.Background())
}

// announce says what to try, once, as soon as the pools are full.
func (d *daemon) announce(ctx context.Context) {
	d.mu.Lock()
	filled := d.filled
	d.mu.Unlock()
	if filled { // what follows counts the nodes of all pools
		return
	}
	pools := d.pools.All()
	nodes, example := 0, ""
	for _, defined := range pools {
		p, levels, err := d.broker.Pool(ctx, defined.Name)
		if err != nil || levels.Ready < p.FillLevel {
			return
		}
		nodes += levels.Ready
		if example == "" && p.FillLevel > 0 {
			example = fmt.Sprintf("pool=%s,quantity=%d", p.Name, min(2, p.FillLevel))
		}
	}
	d.mu.Lock()
	first := !d.filled
	d.filled = true
	d.mu.Unlock()
	if first && example != "" {
		d.print("%s in %s ready. Try: %[3]s client request-session %[4]s   then: %[3]s client ssh SESSION   then: %[3]s client retire-session SESSION",
			count(nodes, "node"), count(len(pools), "pool"), os.Args[0], example)
	}
}

func newLogger(s streams, o serveOptions) (*slog.Logger, error) {
	terminal := false
	if f, ok := s.err.(*os.File); ok {
		terminal = term.IsTerminal(int(f.Fd()))
	}
	format := o.logFormat
	if format == "" {
		format = "json"
		if terminal {
			format = "text"
		}
	}
	switch format {
	case "text":
		return slog.New(tint.NewTextHandler(s.err, &tint.Options{Level: o.logLevel, TimeFormat: time.TimeOnly, NoColor: !terminal})), nil
	case "json":
		return slog.New(slog.NewJSONHandler(s.err, &slog.HandlerOptions{Level: o.logLevel})), nil
	}
	return nil, broker.Errorf(broker.CodeInvalid, "--log-format %s is not known", format).WithHint("one of text, json")
}

// loadPools reads the file and prints every mistake in it, and in the modules of its
// pools.
func loadPools(ctx context.Context, s streams, path string) (*config.File, error) {
	file, diags := config.Load(path)
	modules, err := checkKnownModules(ctx, file)
	if err != nil {
		return nil, err
	}
	if modules.HasErrors() { // the engine logs mere warnings
		diags = append(diags, modules...)
	}
	return withoutMistakes(s, path, file, diags)
}

// readPools is loadPools for who makes no nodes of the pools: it leaves the modules
// alone.
func readPools(s streams, path string) (*config.File, error) {
	file, diags := config.Load(path)
	return withoutMistakes(s, path, file, diags)
}

func withoutMistakes(s streams, path string, file *config.File, diags hcl.Diagnostics) (*config.File, error) {
	if len(diags) > 0 {
		if err := writeDiagnostics(s, file, diags); err != nil {
			return nil, err
		}
	}
	if diags.HasErrors() {
		return nil, broker.Errorf(broker.CodeInvalid, "%s has mistakes: nothing was changed", path)
	}
	return file, nil
}

func newEngine(ctx context.Context, log *slog.Logger, o serveOptions, file *config.File, dir *dataDir, id broker.Identity, keys *secret.Keyring, publicKey string) (*terraform.Engine, error) {
	binary, err := terraform.Find(ctx, terraform.FindOptions{
		Path: o.terraform, Constraint: file.Terraform.RequiredVersion.String(), InstallDir: dir.join("terraform"), Log: log,
	})
	if err != nil {
		return nil, err
	}
	log.InfoContext(ctx, "using", "product", string(binary.Product), "version", binary.Version, "path", binary.Path)
	exe, err := executable()
	if err != nil {
		return nil, err
	}
	return terraform.New(terraform.Config{
		Binary: binary, Dir: dir.path, BrokerID: id.ID, SSHPublicKeys: []string{publicKey},
		NodeURL: o.nodeURL,
		Keyring: keys, Executable: exe, Log: log, Sweep: localnode.Stop,
	}), nil
}

// preparePools has the engine accept each pool's module; the errors of all pools
// come together.
func preparePools(ctx context.Context, engine *terraform.Engine, pools []broker.Pool) ([]broker.Pool, error) {
	var errs []error
	prepared := make([]broker.Pool, 0, len(pools))
	for _, p := range pools {
		p, err := withSources(p, func(way broker.Pool) (broker.Source, error) { return engine.Prepare(ctx, way) })
		if err != nil {
			errs = append(errs, err)
			continue
		}
		prepared = append(prepared, p)
	}
	return prepared, errors.Join(errs...)
}

// pruneTemplates removes the module copies that no pool and no node is made from.
func pruneTemplates(ctx context.Context, store broker.Store, engine *terraform.Engine, pools []broker.Pool) error {
	keep := make(map[string]bool)
	for _, p := range pools {
		for _, way := range p.Ways() {
			keep[way.Source.Template] = true
		}
	}
	err := store.View(ctx, func(tx broker.ReadTx) error {
		nodes, err := tx.Nodes(broker.NodeQuery{States: broker.LiveNodeStates()})
		for _, n := range nodes {
			keep[n.Source.Template] = true
		}
		return err
	})
	if err != nil {
		return err
	}
	return engine.PruneTemplates(keep)
}
