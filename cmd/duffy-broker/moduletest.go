package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/lmittmann/tint"
	"github.com/spf13/cobra"
	gossh "golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/ssh"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

const (
	// testFile is what is known of the node, in the directory of a test. It is written
	// before the node is made, so that it can be destroyed by another process.
	testFile = "test.json"
	// loginTimeout is how long the tenant's key may take to work.
	loginTimeout = 30 * time.Second
)

// testArgs are what test was asked for.
type testArgs struct {
	pool      string
	pools     string
	variant   string
	host      string
	tenantKey string
	terraform string
	keep      bool
	destroy   string
	format    string
}

func newModulesTestCommand(s streams) *cobra.Command {
	var a testArgs
	cmd := &cobra.Command{
		Annotations: map[string]string{ownFormats: "text, json"},
		Use:         "test [POOL]",
		Short:       "Make one node of a pool, use it, destroy it, and say how long that takes",
		Long: "Make one node of a pool, run its ready check, put a throw-away key on it and log in with that, and destroy it: what to try before a change\n" +
			"of a module is merged. It needs the cloud and the credentials that a broker would need, but no broker: it has an id of its own, with\n" +
			"which the node is tagged, and a directory of its own, in the one for temporary files.\n\n" +
			"The node is destroyed whatever happens: also after a failure, and after Ctrl-C, which waits for the create to end, since what Terraform is\n" +
			"killed over is lost to it; another Ctrl-C leaves it. What can't be destroyed keeps its directory, and --destroy goes on from there.",
		Example: "  duffy-broker modules test centos-9s --pools pools.hcl\n" +
			"  duffy-broker modules test centos-9s --variant spot --keep --tenant-key ~/.ssh/id_ed25519\n" +
			"  duffy-broker modules test --destroy /tmp/duffy-test-123456",
		Args: cobra.MaximumNArgs(1), ValidArgsFunction: completePoolOfFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				a.pool = args[0]
			}
			return a.run(cmd.Context(), s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&a.pools, "pools", "pools.hcl", "`path` of the file that declares the pools, or of a directory of such files (*.hcl)")
	f.StringVar(&a.variant, "variant", "", "`name` of the pool's variant to make the node from (default: the first one)")
	f.StringVar(&a.host, "host", "", "`name` of the host in the pool's inventory to make the node on; a broker that runs does not know of it")
	f.StringVar(&a.tenantKey, "tenant-key", "", "`file` with a private SSH key to play the tenant with (default: one is made and thrown away)")
	f.BoolVar(&a.keep, "keep", false, "leave the node, and say how to destroy it")
	f.StringVar(&a.destroy, "destroy", "", "`directory` of a test whose node is left: destroy that, and nothing else")
	f.StringVar(&a.terraform, "terraform", "", "Terraform `binary`: a path or a name such as tofu (default: terraform on PATH, else one is installed for the while)")
	f.StringVar(&a.format, "format", view.Text, "text, as it goes, or json, at the end")
	return cmd
}

func (a testArgs) check() error {
	switch {
	case a.format != view.Text && a.format != view.JSON:
		return broker.Errorf(broker.CodeInvalid, "there is no format %q", a.format).WithHint("choose one of text, json")
	case a.destroy != "" && a.pool != "":
		return broker.Errorf(broker.CodeInvalid, "a pool and --destroy were given").WithHint("--destroy takes all that it needs to know from the directory")
	case a.destroy == "" && a.pool == "":
		return broker.Errorf(broker.CodeInvalid, "no pool was named").WithHint("duffy-broker modules test POOL --pools pools.hcl")
	}
	return nil
}

func (a testArgs) run(ctx context.Context, s streams) error {
	if err := a.check(); err != nil {
		return err
	}
	syscall.Umask(0o077) // Terraform writes its state files readable for all
	t := &moduleTest{streams: s, args: a, log: slog.New(tint.NewTextHandler(s.err, &tint.Options{Level: slog.LevelWarn, NoColor: true}))}
	if a.destroy != "" {
		return t.resume(ctx)
	}
	return t.start(ctx)
}

// moduleTest is a node on trial.
type moduleTest struct {
	streams
	args   testArgs
	log    *slog.Logger
	dir    string
	record testRecord
	begun  bool // Terraform may have made something
	engine *terraform.Engine
	client *ssh.Client
	result testResult
}

// testRecord is what it takes to destroy the node, beside what the engine keeps in
// the directory.
type testRecord struct {
	BrokerID  string      `json:"broker_id"`
	Module    string      `json:"module"`
	Terraform string      `json:"terraform"` // path of the binary
	Node      broker.Node `json:"node"`
	State     []byte      `json:"state,omitempty"` // sealed
}

// testResult is what a test prints as JSON.
type testResult struct {
	Pool      string     `json:"pool"`
	Module    string     `json:"module"`
	Variant   string     `json:"variant,omitempty"`
	Good      bool       `json:"good"`
	Node      *testNode  `json:"node,omitempty"`
	Steps     []testStep `json:"steps"`
	Seconds   float64    `json:"seconds"`
	Directory string     `json:"directory,omitempty"`    // where something is left
	Destroy   string     `json:"destroy_with,omitempty"` // the command for that
}

type testNode struct {
	UID      string `json:"uid"`
	Hostname string `json:"hostname"`
	Address  string `json:"ipaddr"`
	User     string `json:"ssh_user"`
	Port     int    `json:"ssh_port"`
}

type testStep struct {
	Step    string              `json:"step"`
	Seconds float64             `json:"seconds"`
	Good    bool                `json:"good"`
	Skipped bool                `json:"skipped,omitempty"`
	Note    string              `json:"note,omitempty"`
	Class   broker.FailureClass `json:"class,omitempty"`
	Problem string              `json:"problem,omitempty"`
}

// errSkipped says that a pool does without a step.
var errSkipped = errors.New("skipped")

// stopSignals are those that end a test early.
func stopSignals() []os.Signal { return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} }

// start makes a node and does all of it.
func (t *moduleTest) start(ctx context.Context) (err error) {
	file, err := loadPools(ctx, t.streams, t.args.pools)
	if err != nil {
		return err
	}
	p, host, err := t.args.choose(file)
	if err != nil {
		return err
	}
	if host != nil {
		t.say("the node is made on host %s: a broker that runs does not know of it, so see that it makes none there (duffy-broker node list)", host.Name)
	}
	t.result = testResult{Pool: p.Name, Module: p.Module, Steps: []testStep{}}
	if t.dir, err = os.MkdirTemp("", "duffy-test-"); err != nil {
		return fmt.Errorf("make a directory for the test: %w", err)
	}
	began := time.Now()
	stopped, stop := signal.NotifyContext(ctx, stopSignals()...)
	defer stop()
	good := t.use(stopped, file, p, host)
	interrupted := stopped.Err() != nil
	if t.args.keep && t.begun && !interrupted {
		t.keep()
	} else {
		stop()
		good = t.destroyed(ctx) && good
	}
	return t.finish(began, good && !interrupted, interrupted)
}

// use goes through the life of a node, as far as it gets.
func (t *moduleTest) use(ctx context.Context, file *config.File, p broker.Pool, host *broker.Host) bool {
	return t.step(ctx, "prepare", func(ctx context.Context) (string, error) { return t.prepare(ctx, file, p, host) }) &&
		t.step(ctx, "create", t.create) &&
		t.step(ctx, "check", t.ready) &&
		t.step(ctx, "contextualize", t.contextualize) &&
		t.step(ctx, "login", t.login)
}

// resume destroys what a test has left.
func (t *moduleTest) resume(ctx context.Context) (err error) {
	if t.dir, err = filepath.Abs(t.args.destroy); err != nil {
		return fmt.Errorf("--destroy %s: %w", t.args.destroy, err)
	}
	text, err := os.ReadFile(filepath.Join(t.dir, testFile))
	if err == nil {
		err = json.Unmarshal(text, &t.record)
	}
	if err != nil {
		return broker.Wrap(broker.CodeInvalid, err, "%s is not the directory of a test", t.args.destroy).WithHint("name one that `duffy-broker modules test` said it has kept")
	}
	t.begun = true
	t.result = testResult{Pool: t.record.Node.Pool, Module: t.record.Module, Variant: t.record.Node.Variant, Steps: []testStep{}}
	began := time.Now()
	t.engine, err = scratchEngine(ctx, scratch{terraform: cmp.Or(t.args.terraform, t.record.Terraform), dir: t.dir, id: t.record.BrokerID, log: t.log})
	if err != nil {
		return err
	}
	return t.finish(began, t.destroyed(ctx), false)
}

// choose gives the pool that is asked for, with the variant, and its host.
func (a testArgs) choose(file *config.File) (p broker.Pool, host *broker.Host, err error) {
	var names []string
	for _, p := range file.Pools {
		names = append(names, p.Name)
	}
	i := slices.Index(names, a.pool)
	if i < 0 {
		return p, nil, unknown("pool", a.pool, "in "+a.pools, names)
	}
	p = file.Pools[i]
	ways := p.Ways()
	p = ways[0]
	if a.variant != "" {
		names = nil
		for _, v := range file.Pools[i].Variants {
			names = append(names, v.Name)
		}
		j := slices.Index(names, a.variant)
		if j < 0 {
			return p, nil, unknown("variant", a.variant, fmt.Sprintf("of pool %q", a.pool), names)
		}
		p = ways[j]
	}
	host, err = a.chooseHost(file, p)
	return p, host, err
}

// chooseHost gives the host of an inventory that the node is to run on. None is
// taken that was not named: only a running broker knows which are free.
func (a testArgs) chooseHost(file *config.File, p broker.Pool) (*broker.Host, error) {
	if !p.Inventory.Draws() {
		if a.host != "" {
			return nil, broker.Errorf(broker.CodeInvalid, "pool %q draws from no inventory: its nodes need no host", p.Name).WithHint("leave out --host")
		}
		return nil, nil
	}
	var names []string
	for _, inventory := range file.Inventories {
		for _, h := range inventory.Hosts {
			h.Inventory = inventory.Name // a store gives it else
			if !p.Inventory.Selects(h) {
				continue
			}
			if h.Name == a.host {
				return &h, nil
			}
			names = append(names, h.Name)
		}
	}
	if a.host != "" {
		return nil, unknown("host", a.host, fmt.Sprintf("that pool %q can take", p.Name), names)
	}
	problem := broker.Errorf(broker.CodeInvalid, "pool %q makes its nodes on hosts of the inventory %q: name one", p.Name, p.Inventory.Name)
	if len(names) == 0 {
		return nil, problem.WithHint("there is none in the file; those that were posted to the API can't be taken")
	}
	return nil, problem.WithHint("--host with one of %s, which must be free", strings.Join(names, ", "))
}

// unknown says that there is no such thing, and what was probably meant.
func unknown(kind, name, where string, names []string) error {
	problem := broker.Errorf(broker.CodeNotFound, "there is no %s %q %s", kind, name, where)
	if meant := closest(name, names); meant != "" {
		return problem.WithHint("did you mean %s?", meant)
	}
	if len(names) == 0 {
		return problem.WithHint("there are none")
	}
	return problem.WithHint("there is %s", strings.Join(names, ", "))
}

// step does one step, and tells of it.
func (t *moduleTest) step(ctx context.Context, name string, do func(context.Context) (string, error)) bool {
	t.say("%s ...", name)
	began := time.Now()
	note, err := do(ctx)
	s := testStep{Step: name, Seconds: seconds(time.Since(began)), Good: err == nil, Note: note}
	switch {
	case errors.Is(err, errSkipped):
		s.Good, s.Skipped = true, true
	case err != nil && ctx.Err() != nil:
		s.Class, s.Problem = broker.FailureInterrupted, "stopped by a signal"
	case err != nil:
		s.Class, s.Problem = broker.FailureClassOf(err), err.Error()
		if hint := hintOf(err); hint != "" {
			s.Problem += "\nwhat to do: " + hint
		}
	}
	t.result.Steps = append(t.result.Steps, s)
	if t.args.format == view.Text {
		_, _ = io.WriteString(t.out, s.text()) // who doesn't read it has the exit code
	}
	return s.Good
}

func (s testStep) text() string {
	outcome := "ok"
	switch {
	case s.Skipped:
		outcome = "not done"
	case !s.Good:
		outcome = "failed"
	}
	if s.Note != "" {
		outcome += ": " + s.Note
	}
	line := fmt.Sprintf("%-14s %8.1fs  %s\n", s.Step, s.Seconds, outcome)
	if !s.Good {
		if s.Class != "" {
			line = strings.TrimSuffix(line, "\n") + " (" + string(s.Class) + ")\n"
		}
		for part := range strings.Lines(s.Problem) {
			line += "    " + strings.TrimRight(part, "\n") + "\n"
		}
	}
	return line
}

func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}

// say tells people what goes on.
func (t *moduleTest) say(format string, args ...any) {
	_, _ = fmt.Fprintf(t.err, format+"\n", args...)
}

func (t *moduleTest) prepare(ctx context.Context, file *config.File, p broker.Pool, host *broker.Host) (note string, err error) {
	t.record = testRecord{BrokerID: broker.NewUUID(), Module: p.Module}
	t.engine, err = scratchEngine(ctx, scratch{terraform: t.args.terraform, constraint: file.Terraform.RequiredVersion.String(), dir: t.dir, id: t.record.BrokerID, log: t.log})
	if err != nil {
		return "", err
	}
	signer, _, err := ssh.LoadOrCreateKey(filepath.Join(t.dir, "keys", "ssh_ed25519"))
	if err != nil {
		return "", err
	}
	t.client = ssh.New(signer, t.log)
	if p.ModuleDir, err = t.engine.Locate(ctx, p); err != nil {
		return "", err
	}
	if p.Source, err = t.engine.Prepare(ctx, p); err != nil {
		return "", err
	}
	p.ProviderSharing = false // nothing is to go on when the test is over
	n := broker.NewNode(p, time.Now().UTC())
	n.ID = 1 // it is the only one
	n.Identity = t.engine.NewIdentity(n.UID)
	if host != nil {
		n.Host = host.ForNode()
	}
	t.record.Node, t.record.Terraform, t.result.Variant = n, t.engine.Binary.Path, n.Variant
	return "node " + n.UID, nil
}

// save keeps the record, for who destroys the node.
func (t *moduleTest) save() error {
	text, err := json.Marshal(t.record)
	if err == nil {
		err = writePrivate(filepath.Join(t.dir, testFile), text)
	}
	return fmtErr("keep what is known of the node", err)
}

func (t *moduleTest) create(ctx context.Context) (string, error) {
	n := &t.record.Node
	n.State = broker.NodeApplying
	if err := t.save(); err != nil {
		return "", err
	}
	t.begun = true
	defer context.AfterFunc(ctx, func() {
		t.say("stopping: the create is let end, and then all of it is destroyed. Once more leaves it as it is")
	})()
	result, err := t.engine.Apply(ctx, *n)
	if ctx.Err() != nil {
		return "", ctx.Err() // it goes on by itself
	}
	t.record.State = result.State
	if err == nil {
		name := n.Hostname
		n.Outputs = result.Outputs
		n.Hostname = cmp.Or(n.Hostname, name)
		t.result.Node = &testNode{UID: n.UID, Hostname: n.Hostname, Address: n.Address, User: n.SSHUser, Port: n.SSHPort}
	}
	if err := errors.Join(err, t.save()); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s at %s port %d", n.Hostname, n.Address, n.SSHPort), nil
}

func (t *moduleTest) ready(ctx context.Context) (string, error) {
	n := &t.record.Node
	if !n.Ready.SSH {
		return "the pool's ready check asks for no SSH", errSkipped
	}
	verified := len(n.HostKeys) > 0
	keys, err := t.client.Check(ctx, *n)
	if err != nil {
		return "", err
	}
	if len(keys) > 0 {
		n.HostKeys = keys
	}
	if verified {
		return "by the host key that the module gives", nil
	}
	return "the module gives no host key: the first one shown was taken", nil
}

func (t *moduleTest) contextualize(ctx context.Context) (string, error) {
	if t.record.Node.Contextualize == broker.ContextualizeNone {
		return `contextualize = "none"`, errSkipped
	}
	_, line, err := t.tenant()
	if err != nil {
		return "", err
	}
	return "", t.client.Contextualize(ctx, t.record.Node, line)
}

// tenant gives the key of the tenant who is played.
func (t *moduleTest) tenant() (gossh.Signer, string, error) {
	if t.args.tenantKey != "" {
		return ssh.LoadKey(t.args.tenantKey)
	}
	return ssh.LoadOrCreateKey(filepath.Join(t.dir, "keys", "tenant_ed25519"))
}

func (t *moduleTest) login(ctx context.Context) (string, error) {
	n := t.record.Node
	if n.Contextualize == broker.ContextualizeNone {
		return "no key was put on it", errSkipped
	}
	signer, _, err := t.tenant()
	if err != nil {
		return "", err
	}
	n.Ready = broker.ReadyCheck{SSH: true, Timeout: loginTimeout}
	_, err = ssh.New(signer, t.log).Check(ctx, n)
	return "as " + n.SSHUser, err
}

// keep says how to go on with a node that stays.
func (t *moduleTest) keep() {
	t.result.Directory, t.result.Destroy = t.dir, t.destroyCommand()
	n := t.record.Node
	if t.result.Node == nil {
		t.say("what was made of node %s stays. Destroy it with: %s", n.UID, t.result.Destroy)
		return
	}
	key := cmp.Or(t.args.tenantKey, filepath.Join(t.dir, "keys", "tenant_ed25519"))
	t.say("node %s stays: ssh -i %s -p %d %s@%s\nDestroy it with: %s", n.UID, key, n.SSHPort, n.SSHUser, n.Address, t.result.Destroy)
}

func (t *moduleTest) destroyCommand() string { return "duffy-broker modules test --destroy " + t.dir }

// destroyed destroys whatever was made, and tells whether nothing is left. A signal
// makes it leave that.
func (t *moduleTest) destroyed(ctx context.Context) bool {
	good := true
	if t.begun {
		ctx, stop := signal.NotifyContext(ctx, stopSignals()...)
		defer stop()
		good = t.step(ctx, "destroy", t.destroy)
	}
	if !good {
		t.result.Directory, t.result.Destroy = t.dir, t.destroyCommand()
		return false
	}
	if err := os.RemoveAll(t.dir); err != nil {
		t.say("%s can't be removed, and is not needed any more: %v", t.dir, err)
	}
	return true
}

func (t *moduleTest) destroy(ctx context.Context) (string, error) {
	n := &t.record.Node
	n.State = broker.NodeDestroying
	result, err := t.engine.Destroy(ctx, *n, t.record.State)
	if ctx.Err() != nil {
		return "", ctx.Err() // it goes on by itself
	}
	if err == nil {
		return "", t.engine.Discard(*n)
	}
	if result.State != nil { // else what is known stays
		t.record.State = result.State
		if saveErr := t.save(); saveErr != nil {
			return "", errors.Join(err, saveErr)
		}
		err = errors.Join(err, t.engine.Discard(*n)) // or it would not be tried again
	}
	return "", err
}

// finish says how it went.
func (t *moduleTest) finish(began time.Time, good, interrupted bool) error {
	t.result.Good, t.result.Seconds = good, seconds(time.Since(began))
	if t.args.format == view.JSON {
		text, err := json.MarshalIndent(map[string]any{"test": t.result}, "", "  ")
		if err == nil {
			_, err = fmt.Fprintf(t.out, "%s\n", text)
		}
		if err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	if !good || interrupted {
		return t.failure(interrupted)
	}
	if t.args.format == view.Text {
		_, err := fmt.Fprintf(t.out, "%-14s %8.1fs\n", "all", t.result.Seconds)
		return fmtErr("print", err)
	}
	return nil
}

// failure gives the error of a test that went wrong.
func (t *moduleTest) failure(interrupted bool) error {
	left := t.result.Destroy
	if interrupted {
		if left != "" {
			t.say("something may be left. Destroy it with: %s", left)
		}
		return exitError{exitInterrupted}
	}
	var failed []string
	for _, s := range t.result.Steps {
		if !s.Good {
			failed = append(failed, s.Step)
		}
	}
	err := broker.Errorf(broker.CodeUnavailable, "pool %q: %s failed", t.result.Pool, strings.Join(failed, " and "))
	switch {
	case left != "":
		return err.WithHint("what is left is destroyed by: %s", left)
	case !t.begun:
		return err.WithHint("nothing was made")
	}
	return err.WithHint("what was made is destroyed again; --keep leaves it for a look")
}

// completePoolOfFile completes the pools of the file that --pools names.
func completePoolOfFile(cmd *cobra.Command, args []string, toComplete string) ([]cobra.Completion, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	file, _ := config.Load(cmd.Flag("pools").Value.String())
	var found []cobra.Completion
	for _, p := range file.Pools {
		if strings.HasPrefix(p.Name, toComplete) {
			found = append(found, p.Name)
		}
	}
	return found, cobra.ShellCompDirectiveNoFileComp
}
