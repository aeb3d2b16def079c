package terraform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

// The tests in this file run the real Terraform against a cloud whose machines
// boot when the test says so.

type sharedCloud struct {
	*fakecloud.Cloud

	mu  sync.Mutex
	now time.Time
}

func newSharedCloud(t *testing.T) *sharedCloud {
	t.Helper()
	t.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(t))
	c := &sharedCloud{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	c.Cloud = fakecloud.Start(t, fakecloud.Config{Now: func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.now
	}})
	return c
}

// hold keeps new machines booting until release.
func (c *sharedCloud) hold() { c.SetFaults(fakecloud.Faults{BootTime: time.Minute}) }

func (c *sharedCloud) release() {
	c.SetFaults(fakecloud.Faults{})
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(time.Hour)
}

// waitForInstances waits until so many exist.
func (c *sharedCloud) waitForInstances(t *testing.T, n int) {
	t.Helper()
	waitFor(t, fmt.Sprintf("%d instances", n), func() bool { return len(c.Instances()) == n })
}

// owners gives the nodes whose tags the instances have, sorted.
func (c *sharedCloud) owners() []string {
	owners := []string{}
	for _, i := range c.Instances() {
		owners = append(owners, i.Tags["duffy:node-id"])
	}
	slices.Sort(owners)
	return owners
}

// pool gives a pool of a module of fakecloud's that shares providers.
func (c *sharedCloud) pool(t *testing.T, module string, variables map[string]any) broker.Pool {
	t.Helper()
	all := map[string]any{"endpoint": c.URL()}
	maps.Copy(all, variables)
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return broker.Pool{
		Name: "small", Module: filepath.Join("..", "brokertest", "fakecloud", "testdata", module), Variables: raw,
		CreateTimeout: time.Hour, DestroyTimeout: time.Hour, ProviderSharing: true,
	}
}

// sharingEngine gives an engine that can start provider hosts, and ends those
// that have nothing to do at the end of the test.
func sharingEngine(t *testing.T, change ...func(*Config)) *Engine {
	t.Helper()
	binary := brokertest.NeedProgram(t, "terraform")
	dir, err := os.MkdirTemp("/tmp", "duffy-") //nolint:usetesting // a socket's path must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		checkNoProcess(t, dir)
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return sharingEngineIn(t, dir, binary, change...)
}

func sharingEngineIn(t *testing.T, dir, binary string, change ...func(*Config)) *Engine {
	t.Helper()
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e := engineIn(t, dir, binary, append([]func(*Config){func(c *Config) { c.Executable = executable }}, change...)...)
	t.Cleanup(func() {
		if err := e.StopProviders(context.Background()); err != nil {
			t.Error(err)
		}
		if !t.Failed() {
			return
		}
		for _, dir := range e.hosts("") { // they may be at work for long
			if p := findProcess(context.Background(), dir); p != nil {
				_ = p.Kill()
			}
		}
	})
	return e
}

// providers lists the provider processes that work in the data directory: those
// of hosts, and those that runs have started for themselves.
func providers(e *Engine) (shared, private []int) {
	for _, pid := range pids() {
		program, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		cwd, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		switch {
		case !strings.HasPrefix(filepath.Base(program), "terraform-provider-"):
		case strings.HasPrefix(cwd, e.hostsDir()+"/"):
			shared = append(shared, pid)
		case strings.HasPrefix(cwd, e.Dir+"/"):
			private = append(private, pid)
		}
	}
	return shared, private
}

func wantProviders(t *testing.T, e *Engine, want int) []int {
	t.Helper()
	shared, private := providers(e)
	if len(shared) != want || len(private) > 0 {
		t.Errorf("%d shared and %d private providers, want %d and none", len(shared), len(private), want)
	}
	return shared
}

type applied struct {
	node   broker.Node
	result broker.Result
	err    error
}

// begin applies a node in the background.
func begin(t *testing.T, e *Engine, n broker.Node) <-chan applied {
	t.Helper()
	done := make(chan applied, 1)
	go func() {
		result, err := e.Apply(t.Context(), n)
		done <- applied{n, result, err}
	}()
	return done
}

// terraformOf finds the Terraform of a node's apply.
func terraformOf(t *testing.T, e *Engine, n broker.Node) *os.Process {
	t.Helper()
	r, err := e.run(n, opApply)
	if err != nil {
		t.Fatal(err)
	}
	p := findProcess(t.Context(), "-var-file="+r.variables())
	if p == nil {
		t.Fatal("there is no terraform")
	}
	return p
}

func TestSharedLife(t *testing.T) {
	c := newSharedCloud(t)
	e := sharingEngine(t)
	p := prepared(t, e, c.pool(t, "shared", nil))
	c.hold()
	var runs []<-chan applied
	var uids []string
	for range 8 {
		n := broker.NewNode(p, time.Now())
		uids = append(uids, n.UID)
		runs = append(runs, begin(t, e, n))
	}
	slices.Sort(uids)
	c.waitForInstances(t, 8)
	pid := wantProviders(t, e, 1)
	if diff := cmp.Diff(uids, c.owners()); diff != "" {
		t.Errorf("owners of the instances (-want +got):\n%s", diff)
	}
	c.release()

	var destroys sync.WaitGroup
	for _, run := range runs {
		a := <-run
		if a.err != nil {
			t.Error(a.err)
			continue
		}
		discard(t, e, a.node)
		destroys.Go(func() {
			if _, err := e.Destroy(t.Context(), a.node, a.result.State); err != nil {
				t.Error(err)
			}
			if err := e.Discard(a.node); err != nil {
				t.Error(err)
			}
		})
	}
	destroys.Wait()
	if diff := cmp.Diff([]string{}, c.owners()); diff != "" {
		t.Errorf("owners of what is left (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(pid, wantProviders(t, e, 1)); diff != "" {
		t.Errorf("provider process (-before +after):\n%s", diff)
	}
	waitFor(t, "the host to let go of its runs", func() bool {
		if err := e.StopProviders(t.Context()); err != nil {
			t.Fatal(err)
		}
		left, _ := os.ReadDir(e.hostsDir())
		return len(left) == 0
	})
}

func TestSharedTwoConfigs(t *testing.T) {
	c := newSharedCloud(t)
	e := sharingEngine(t)
	c.hold()
	var runs []<-chan applied
	want := map[string]string{}
	for _, region := range []string{"north", "south"} {
		p := prepared(t, e, c.pool(t, "shared", map[string]any{"region": region}))
		for range 2 {
			n := broker.NewNode(p, time.Now())
			want[n.UID] = region
			runs = append(runs, begin(t, e, n))
		}
	}
	c.waitForInstances(t, 4)
	wantProviders(t, e, 2)
	got := map[string]string{}
	for _, i := range c.Instances() {
		got[i.Tags["duffy:node-id"]] = i.Region
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("regions of the nodes (-want +got):\n%s", diff)
	}
	c.release()
	for _, run := range runs {
		if a := <-run; a.err != nil {
			t.Error(a.err)
		} else {
			destroy(t, e, a.node, a.result.State)
		}
	}
}

// What the look at the module does not see, the host does.
func TestSharedMismatch(t *testing.T) {
	c := newSharedCloud(t)
	e := sharingEngine(t)
	p := c.pool(t, "module", nil) // its default_tags are the node's
	p.ProviderSharing = false
	p = prepared(t, e, p)
	p.ProviderSharing = true
	first, second, third := broker.NewNode(p, time.Now()), broker.NewNode(p, time.Now()), broker.NewNode(p, time.Now())

	c.hold()
	run := begin(t, e, first)
	c.waitForInstances(t, 1)
	_, err := e.Apply(t.Context(), second)
	wantError(t, err, "Invalid configuration of a shared provider", "Remove provider_sharing from the pool")
	if class := broker.FailureClassOf(err); class != broker.FailureConfiguration {
		t.Errorf("the class of the error is %s, want %s", class, broker.FailureConfiguration)
	}
	if diff := cmp.Diff([]string{first.UID}, c.owners()); diff != "" {
		t.Errorf("owners (-want +got):\n%s", diff)
	}
	wantProviders(t, e, 1)
	destroy(t, e, second, nil)
	c.release()
	a := <-run
	if a.err != nil {
		t.Fatal(a.err)
	}

	// The next one gets another host, which the first can't be destroyed with; so
	// it is destroyed without.
	result := apply(t, e, third)
	if owners := c.owners(); len(owners) != 2 || !slices.Contains(owners, third.UID) {
		t.Errorf("owners %v, want %s and %s", owners, first.UID, third.UID)
	}
	destroy(t, e, first, a.result.State)
	waitFor(t, "the end of the second host, after which there is no third", func() bool {
		shared, _ := providers(e)
		return len(shared) == 0
	})
	destroy(t, e, third, result.State)
	if diff := cmp.Diff([]string{}, c.owners()); diff != "" {
		t.Errorf("owners of what is left (-want +got):\n%s", diff)
	}
}

func TestSharedInterrupt(t *testing.T) {
	c := newSharedCloud(t)
	e := sharingEngine(t)
	p := prepared(t, e, c.pool(t, "shared", nil))
	interrupted, neighbour := broker.NewNode(p, time.Now()), broker.NewNode(p, time.Now())
	c.hold()
	runs := []<-chan applied{begin(t, e, interrupted), begin(t, e, neighbour)}
	c.waitForInstances(t, 2)
	wantProviders(t, e, 1)
	if err := terraformOf(t, e, interrupted).Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	r, _ := e.run(interrupted, opApply)
	waitFor(t, "terraform to say that it stops", func() bool {
		return strings.Contains(read(t, r.output()), "Interrupt received") || strings.Contains(read(t, r.output()), "Stopping operation")
	})
	c.release()
	if a := <-runs[1]; a.err != nil {
		t.Errorf("the neighbour of an interrupted run: %v", a.err)
	} else {
		destroy(t, e, a.node, a.result.State)
	}
	a := <-runs[0]
	if a.result.State == nil {
		t.Fatalf("the interrupted run has no state: %v", a.err)
	}
	destroy(t, e, a.node, a.result.State)
	if diff := cmp.Diff([]string{}, c.owners()); diff != "" {
		t.Errorf("owners of what is left (-want +got):\n%s", diff)
	}
}

func TestSharedDeadProvider(t *testing.T) {
	c := newSharedCloud(t)
	var logged bytes.Buffer
	e := sharingEngine(t, func(c *Config) { c.Log = logTo(&logged) })
	p := prepared(t, e, c.pool(t, "shared", nil))
	c.hold()
	runs := []<-chan applied{begin(t, e, broker.NewNode(p, time.Now())), begin(t, e, broker.NewNode(p, time.Now()))}
	c.waitForInstances(t, 2)
	pid := wantProviders(t, e, 1)[0]
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, run := range runs {
		wantError(t, (<-run).err, "Plugin did not respond", "something may be left that must be removed by hand", "fakecloud_instance.node[0]")
	}
	c.release()
	n := broker.NewNode(p, time.Now())
	result := apply(t, e, n)
	destroy(t, e, n, result.State)
	if now := wantProviders(t, e, 1)[0]; now == pid {
		t.Errorf("process %d is still there", pid)
	}
	waitFor(t, "the failed host's log", func() bool {
		if err := e.PruneTemplates(map[string]bool{p.Source.Template: true}); err != nil {
			t.Fatal(err)
		}
		return exists(filepath.Join(e.hostsDir(), failedLog))
	})
	if text := read(t, filepath.Join(e.hostsDir(), failedLog)); !strings.Contains(text, "has died") {
		t.Errorf("the log of the host is\n%s", text)
	}
	if !strings.Contains(logged.String(), "a provider host has failed") {
		t.Errorf("nothing was logged of the failed host:\n%s", logged.String())
	}
}

// A machine exists and no state says so, since Terraform was killed while it made
// it: with shared providers it is in the state all the same.
func TestStory1KilledCreateIsRecorded(t *testing.T) {
	for _, next := range []bool{false, true} {
		t.Run(map[bool]string{false: "same", true: "next"}[next], func(t *testing.T) {
			c := newSharedCloud(t)
			e := sharingEngine(t)
			n := broker.NewNode(prepared(t, e, c.pool(t, "shared", map[string]any{"instances": 2})), time.Now())
			c.hold()
			run := begin(t, e, n)
			c.waitForInstances(t, 2)
			if err := terraformOf(t, e, n).Kill(); err != nil {
				t.Fatal(err)
			}
			r, _ := e.run(n, opApply)
			waitFor(t, "the end of terraform", func() bool { alive, _ := provider.Locked(r.output()); return !alive })
			if err := e.Discard(n); broker.CodeOf(err) != broker.CodeConflict {
				t.Errorf("Discard while a create goes on: %v, want %s", err, broker.CodeConflict)
			}
			select {
			case a := <-run:
				t.Fatalf("Apply did not wait for the creates: %v", a.err)
			default:
			}
			c.release()
			a := <-run
			wantError(t, a.err, "run was interrupted")
			if strings.Contains(fmt.Sprint(a.err), "something may be left") {
				t.Errorf("Apply says that something may be left: %v", a.err)
			}
			s, err := e.unseal(n, a.result.State)
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"fakecloud_instance.node[0]", "fakecloud_instance.node[1]"}
			got := s.resources()
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("resources in the state (-want +got):\n%s", diff)
			}
			if next { // the broker died before it could commit
				e, a.result.State = sharingEngineIn(t, e.Dir, e.Binary.Path), nil
			}
			destroy(t, e, n, a.result.State)
			if diff := cmp.Diff([]string{}, c.owners()); diff != "" {
				t.Errorf("owners of what is left (-want +got):\n%s", diff)
			}
		})
	}
}

func TestSharedRecycling(t *testing.T) {
	c := newSharedCloud(t)
	e := sharingEngine(t, func(c *Config) { c.ProviderLimits = provider.Limits{Runs: 2, Idle: time.Second} })
	p := prepared(t, e, c.pool(t, "shared", nil))
	c.hold()
	var runs []<-chan applied
	for range 3 {
		runs = append(runs, begin(t, e, broker.NewNode(p, time.Now())))
	}
	c.waitForInstances(t, 3)
	wantProviders(t, e, 2)
	c.release()
	for _, run := range runs {
		if a := <-run; a.err != nil {
			t.Error(a.err)
		} else {
			destroy(t, e, a.node, a.result.State)
		}
	}
	// By themselves.
	waitFor(t, "the end of the hosts", func() bool {
		shared, _ := providers(e)
		left, _ := os.ReadDir(e.hostsDir())
		return len(shared) == 0 && len(left) == 0
	})
}

func TestSharedNextBroker(t *testing.T) {
	c := newSharedCloud(t)
	e := sharingEngine(t)
	p := prepared(t, e, c.pool(t, "shared", nil))
	n := broker.NewNode(p, time.Now())
	c.hold()
	ctx, cancel := context.WithCancel(t.Context())
	stopped := make(chan error)
	go func() {
		_, err := e.Apply(ctx, n)
		stopped <- err
	}()
	c.waitForInstances(t, 1)
	pid := wantProviders(t, e, 1)
	cancel()
	if err := <-stopped; !errors.Is(err, context.Canceled) {
		t.Fatalf("Apply: %v, want %v", err, context.Canceled)
	}
	if err := e.StopProviders(t.Context()); err != nil { // the ordinary end of a broker
		t.Fatal(err)
	}

	next := sharingEngineIn(t, e.Dir, e.Binary.Path)
	run := begin(t, next, n)
	other := broker.NewNode(p, time.Now())
	otherRun := begin(t, next, other)
	c.waitForInstances(t, 2)
	if diff := cmp.Diff(pid, wantProviders(t, next, 1)); diff != "" {
		t.Errorf("provider process (-before +after):\n%s", diff)
	}
	c.release()
	for _, run := range []<-chan applied{run, otherRun} {
		if a := <-run; a.err != nil {
			t.Error(a.err)
		} else {
			destroy(t, next, a.node, a.result.State)
		}
	}
}

// A killed host leaves its providers behind.
func TestSharedDeadHost(t *testing.T) {
	c := newSharedCloud(t)
	e := sharingEngine(t)
	p := prepared(t, e, c.pool(t, "shared", nil))
	n := broker.NewNode(p, time.Now())
	result := apply(t, e, n)
	pid := wantProviders(t, e, 1)[0]
	host := findProcess(t.Context(), e.hosts("")[0])
	if err := host.Kill(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the end of the host", func() bool { alive, _ := provider.Alive(e.hosts("")[0]); return !alive })
	destroy(t, e, n, result.State)
	waitFor(t, "the end of the provider", func() bool { return !lives(pid) })
	wantProviders(t, e, 1)
}

// Sharing saves work. Where it can't be had, the work is done without.
func TestSharedOrNot(t *testing.T) {
	c := newSharedCloud(t)
	var logged bytes.Buffer
	e := sharingEngine(t, func(c *Config) {
		c.Executable = "/nonexistent/duffy-broker"
		c.Log = logTo(&logged)
	})
	n := broker.NewNode(prepared(t, e, c.pool(t, "shared", nil)), time.Now())
	result := apply(t, e, n)
	if !strings.Contains(logged.String(), "no shared provider for a terraform run") {
		t.Errorf("nothing was logged:\n%s", logged.String())
	}
	destroy(t, e, n, result.State)
	wantProviders(t, e, 0)
	if left := e.hosts(""); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestPrepareRefusesSharing(t *testing.T) {
	c := newSharedCloud(t)
	e := sharingEngine(t)
	p := c.pool(t, "module", nil)
	_, err := e.Prepare(t.Context(), p)
	wantError(t, err, `pool "small"`, "main.tf:12", `provider "fakecloud" depends on var.broker`)
	if hint := broker.HintOf(err); !strings.Contains(hint, "remove provider_sharing") || !strings.Contains(hint, "tag the resources themselves") {
		t.Errorf("the hint is %q", hint)
	}
	p.ProviderSharing = false
	prepared(t, e, p)
}

func TestSharingKey(t *testing.T) {
	e := testEngine(t, "terraform")
	node := func(template, variables string) broker.Node {
		t.Helper()
		sealed, err := e.sealVariables("g", []byte(variables))
		if err != nil {
			t.Fatal(err)
		}
		return broker.Node{UID: broker.NewUID(), Source: broker.Source{Template: template, Variables: sealed, Generation: "g"}}
	}
	key := func(n broker.Node) string {
		t.Helper()
		k, err := e.sharingKey(n)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	t.Setenv("CLOUD_TOKEN", "1")
	first := key(node("t1", `{"region":"a"}`))
	if again := key(node("t1", `{"region":"a"}`)); again != first {
		t.Error("two nodes of one configuration have two keys")
	}
	t.Setenv("INVOCATION_ID", "another")
	if again := key(node("t1", `{"region":"a"}`)); again != first {
		t.Error("the key depends on how the broker was started")
	}
	for what, other := range map[string]broker.Node{"template": node("t2", `{"region":"a"}`), "variables": node("t1", `{"region":"b"}`)} {
		if key(other) == first {
			t.Errorf("another %s has the same key", what)
		}
	}
	t.Setenv("CLOUD_TOKEN", "2")
	if key(node("t1", `{"region":"a"}`)) == first {
		t.Error("another environment has the same key")
	}
}

func TestHostsNeedShortPaths(t *testing.T) {
	e := testEngine(t, "terraform")
	e.Dir = filepath.Join(e.Dir, strings.Repeat("x", maxSocketPath))
	_, err := e.attach(t.Context(), run{node: broker.Node{UID: "u", Source: broker.Source{Template: "t"}}, operation: opApply, dir: e.Dir})
	wantError(t, err, "the path of a socket would be longer than 103 bytes")
}
