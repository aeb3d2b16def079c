package fakecloud_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// The tests in this file run the real Terraform.

// workspace is a directory in which Terraform works on one cloud.
type workspace struct {
	t       *testing.T
	cloud   *fakecloud.Cloud
	program string
	dir     string
	env     []string
}

// newWorkspace makes one. settings go into the provider block.
func newWorkspace(t *testing.T, c *fakecloud.Cloud, settings, resources string) workspace {
	t.Helper()
	program := brokertest.NeedProgram(t, "terraform")
	w := workspace{t: t, cloud: c, program: program, dir: t.TempDir()}
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "TF_") {
			w.env = append(w.env, entry)
		}
	}
	w.env = append(w.env, "TF_CLI_CONFIG_FILE="+fakecloud.Mirror(t), "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1")
	w.write(settings, resources)
	if out, err := w.command("init", "-input=false", "-no-color").CombinedOutput(); err != nil {
		t.Fatalf("terraform init: %v\n%s", err, out)
	}
	return w
}

func (w workspace) write(settings, resources string) {
	w.t.Helper()
	text := fmt.Sprintf(`
		terraform {
		  required_providers {
		    fakecloud = {
		      source  = %q
		      version = %q
		    }
		  }
		}
		provider "fakecloud" {
		  endpoint = %q
		  %s
		}
		%s`, fakecloud.ProviderSource, fakecloud.ProviderVersion, w.cloud.URL(), settings, resources)
	if err := os.WriteFile(filepath.Join(w.dir, "main.tf"), []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

func (w workspace) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), w.program, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

// diagnostic is an error of Terraform's JSON output.
type diagnostic struct {
	Summary, Detail, Address string
}

func errorsIn(output []byte) (list []diagnostic) {
	lines := bufio.NewScanner(bytes.NewReader(output))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var message struct {
			Diagnostic struct {
				diagnostic
				Severity string
			}
		}
		if json.Unmarshal(lines.Bytes(), &message) == nil && message.Diagnostic.Severity == "error" {
			list = append(list, message.Diagnostic.diagnostic)
		}
	}
	return list
}

// run runs apply or destroy and gives the errors in its JSON output.
func (w workspace) run(operation string, flags ...string) []diagnostic {
	w.t.Helper()
	out, err := w.command(append([]string{operation, "-auto-approve", "-input=false", "-json"}, flags...)...).CombinedOutput()
	list := errorsIn(out)
	if (err != nil) != (len(list) > 0) {
		w.t.Fatalf("terraform %s: %v\n%s", operation, err, out)
	}
	return list
}

// must runs apply or destroy, which must succeed.
func (w workspace) must(operation string, flags ...string) {
	w.t.Helper()
	if errs := w.run(operation, flags...); len(errs) > 0 {
		w.t.Fatalf("terraform %s: %v", operation, errs)
	}
}

// wantError checks that there is one error, of one class.
func (w workspace) wantError(got []diagnostic, class, detail string) {
	w.t.Helper()
	if len(got) != 1 || !strings.HasPrefix(got[0].Summary, class+": ") ||
		!strings.HasPrefix(got[0].Detail, class+": ") || !strings.Contains(got[0].Detail, detail) {
		w.t.Errorf("diagnostics %+v, want one with %s and %q", got, class, detail)
	}
}

// stateOf reads the instance of a resource, or an attribute map of nil.
func (w workspace) stateOf(address string) (attributes map[string]any, tainted bool) {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(w.dir, "terraform.tfstate"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.t.Fatal(err)
	}
	var state struct {
		Resources []struct {
			Mode, Type, Name string
			Instances        []struct {
				Status     string
				Attributes map[string]any
			}
		}
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &state); err != nil {
			w.t.Fatal(err)
		}
	}
	for _, r := range state.Resources {
		if r.Type+"."+r.Name == address && len(r.Instances) == 1 {
			return r.Instances[0].Attributes, r.Instances[0].Status == "tainted"
		}
	}
	return nil, false
}

func wantTruth(t *testing.T, c *fakecloud.Cloud, want ...string) {
	t.Helper()
	var got []string
	for _, i := range c.Instances() {
		got = append(got, i.Name)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("instances that exist (-want +got):\n%s", diff)
	}
}

const oneInstance = `resource "fakecloud_instance" "node" { name = "node" }`

func TestApplyAndDestroy(t *testing.T) {
	t.Parallel()
	c := fakecloud.Start(t, fakecloud.Config{Faults: fakecloud.Faults{BootTime: 100 * time.Millisecond}})
	w := newWorkspace(t, c, `
		region       = "north"
		default_tags = { owner = "broker", kind = "node" }
	`, `
		resource "fakecloud_instance" "node" {
		  name = "one"
		  size = "large"
		  tags = { kind = "special", id = "1" }
		}
		resource "fakecloud_instance" "other" {
		  name       = "two"
		  depends_on = [fakecloud_instance.node]
		}
	`)
	w.must("apply")
	want := []fakecloud.Instance{
		{
			Request: fakecloud.Request{
				Name: "one", Size: "large", Region: "north", Tags: map[string]string{"owner": "broker", "kind": "special", "id": "1"},
			},
			ID: "i-00000001", State: fakecloud.Running, Address: "10.0.0.1", SSHPort: 22,
		},
		{
			Request: fakecloud.Request{Name: "two", Size: "small", Region: "north", Tags: map[string]string{"owner": "broker", "kind": "node"}},
			ID:      "i-00000002", State: fakecloud.Running, Address: "10.0.0.2", SSHPort: 22,
		},
	}
	if diff := cmp.Diff(want, c.Instances(), cmpopts.IgnoreFields(fakecloud.Instance{}, "CreatedAt")); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	attributes, tainted := w.stateOf("fakecloud_instance.node")
	wantAttributes := map[string]any{
		"id": "i-00000001", "name": "one", "size": "large", "region": "north", "tags": map[string]any{"kind": "special", "id": "1"},
		"ssh": false, "ssh_public_keys": nil, "address": "10.0.0.1", "ssh_port": 22.,
	}
	if diff := cmp.Diff(wantAttributes, attributes); diff != "" || tainted {
		t.Errorf("tainted %t, attributes (-want +got):\n%s", tainted, diff)
	}
	w.must("apply") // changes nothing
	if got := c.Calls(fakecloud.Create); got != 2 {
		t.Errorf("%d creates, want 2", got)
	}
	w.must("destroy")
	wantTruth(t, c)
}

func TestChangesMakeANewInstance(t *testing.T) {
	t.Parallel()
	c := fakecloud.Start(t, fakecloud.Config{})
	w := newWorkspace(t, c, "", `resource "fakecloud_instance" "node" { name = "old" }`)
	w.must("apply")
	for n, body := range []string{`name = "new"`, `size = "large"`, `tags = { a = "b" }`, `ssh_public_keys = ["key"]`} {
		if n > 0 {
			body = `name = "new"` + "\n" + body
		}
		w.write("", `resource "fakecloud_instance" "node" {`+"\n"+body+"\n}")
		w.must("apply")
		if got, all := c.Calls(fakecloud.Create), c.Instances(); got != n+2 || len(all) != 1 || all[0].Name != "new" {
			t.Errorf("%s: %d creates, %+v", body, got, all)
		}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	c := fakecloud.Start(t, fakecloud.Config{})
	i := create(t, c, "found", "special", "default")
	w := newWorkspace(t, c, `default_tags = { default = "yes" }`, `
		resource "fakecloud_instance" "node" {
		  name = "found"
		  tags = { special = "yes" }
		}
	`)
	out, err := w.command("import", "-input=false", "-no-color", "fakecloud_instance.node", "i-99").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "non-existent remote object") {
		t.Errorf("import of nothing: %v\n%s", err, out)
	}
	if out, err := w.command("import", "-input=false", "-no-color", "fakecloud_instance.node", i.ID).CombinedOutput(); err != nil {
		t.Fatalf("import: %v\n%s", err, out)
	}
	if out, err := w.command("plan", "-input=false", "-no-color", "-detailed-exitcode").CombinedOutput(); err != nil {
		t.Errorf("the plan after an import: %v\n%s", err, out)
	}
	w.must("destroy")
	wantTruth(t, c)
}

func TestVanished(t *testing.T) {
	t.Parallel()
	c := fakecloud.Start(t, fakecloud.Config{})
	w := newWorkspace(t, c, "", oneInstance)
	w.must("apply")
	c.Kill(c.Instances()[0].ID)
	w.must("apply")
	if all := c.Instances(); len(all) != 1 || all[0].ID != "i-00000002" {
		t.Errorf("a vanished instance was not replaced: %+v", all)
	}
	c.Kill(c.Instances()[0].ID)
	w.must("destroy", "-refresh=false")
	if attributes, _ := w.stateOf("fakecloud_instance.node"); attributes != nil {
		t.Errorf("the state still has %v", attributes)
	}
}

// Each class of failure can be told from the diagnostics.
func TestFailuresReachTheDiagnostics(t *testing.T) {
	t.Parallel()
	c := fakecloud.Start(t, fakecloud.Config{})
	w := newWorkspace(t, c, `request_timeout = "1s"`, oneInstance)
	for _, test := range []struct{ class, detail string }{
		{"Throttled", "request rate exceeded"},
		{"InsufficientCapacity", "no host has room"},
		{"QuotaExceeded", "no more instances"},
		{"AuthFailure", "credentials"},
		{"InvalidConfiguration", "not valid"},
		{"Unreachable", "EOF"},
		{"Timeout", "no answer within 1s"},
	} {
		t.Run(test.class, func(t *testing.T) {
			w := w
			w.t = t
			for _, op := range []fakecloud.Operation{fakecloud.Create, fakecloud.Read, fakecloud.Delete} {
				operation := "apply"
				if op == fakecloud.Delete {
					operation = "destroy"
				}
				c.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: op, Class: fakecloud.Class(test.class)}}})
				errs := w.run(operation)
				w.wantError(errs, test.class, test.detail)
				// Terraform gives no address to the errors of a destroy.
				if op == fakecloud.Create && len(errs) == 1 && errs[0].Address != "fakecloud_instance.node" {
					t.Errorf("the address is %q", errs[0].Address)
				}
				attributes, tainted := w.stateOf("fakecloud_instance.node")
				if made := op != fakecloud.Create; (attributes != nil) != made || tainted {
					t.Errorf("%s: the state has %v, tainted %t", op, attributes, tainted)
				}
				c.SetFaults(fakecloud.Faults{})
				w.must(operation)
			}
			wantTruth(t, c)
		})
	}
	t.Run("DependencyViolation", func(t *testing.T) {
		w := w
		w.t = t
		w.must("apply")
		c.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Class: fakecloud.DependencyViolation, Times: 1}}})
		w.wantError(w.run("destroy"), "DependencyViolation", "still in use")
		w.must("destroy")
		wantTruth(t, c)
	})
	t.Run("real limits", func(t *testing.T) {
		w := w
		w.t = t
		i := create(t, c, "other")
		c.SetFaults(fakecloud.Faults{Quota: 1})
		w.wantError(w.run("apply"), "QuotaExceeded", "may have 1 instances")
		c.SetFaults(fakecloud.Faults{RateLimit: 1e-9})
		call(t, c, "GET", "/instances", nil, nil) // takes the one token
		w.wantError(w.run("apply"), "Throttled", "rate exceeded")
		c.SetFaults(fakecloud.Faults{})
		c.Kill(i.ID)
	})
	t.Run("no cloud", func(t *testing.T) {
		gone := fakecloud.New(fakecloud.Config{})
		w := w
		w.t, w.cloud = t, gone
		w.write("", oneInstance)
		if err := gone.Close(); err != nil {
			t.Fatal(err)
		}
		w.wantError(w.run("apply"), "Unreachable", "connection refused")
	})
	t.Run("bad settings", func(t *testing.T) {
		w := w
		w.t = t
		w.write(`boot_timeout = "soon"`, oneInstance)
		if errs := w.run("apply"); len(errs) != 1 || !strings.HasPrefix(errs[0].Summary, "InvalidConfiguration: ") ||
			!strings.Contains(errs[0].Detail, `boot_timeout must be a duration above 0, as 90s, and is "soon"`) {
			t.Errorf("diagnostics %+v", errs)
		}
	})
}

// What exists is in the state, tainted, however its boot ended.
func TestFailedBoots(t *testing.T) {
	t.Parallel()
	noBoot := func(c *fakecloud.Config) { c.Faults.Failures = []fakecloud.Failure{{Class: fakecloud.NeverBoots}} }
	for _, test := range []struct {
		name, class, detail string
		change              func(*fakecloud.Config)
	}{
		{"never boots", "Timeout", "still pending after 200ms", noBoot},
		{"read fails meanwhile", "AuthFailure", "credentials", func(c *fakecloud.Config) {
			noBoot(c)
			c.Faults.Failures = append(c.Faults.Failures, fakecloud.Failure{Operation: fakecloud.Read, Class: fakecloud.AuthFailure, Times: 1})
		}},
		{"one connection is lost meanwhile", "Unreachable", "EOF", func(c *fakecloud.Config) {
			noBoot(c)
			c.Faults.Failures = append(c.Faults.Failures, fakecloud.Failure{Operation: fakecloud.Read, Class: fakecloud.Unreachable, Times: 1})
		}},
		{"boot fails", "BootFailed", "its state is failed", func(c *fakecloud.Config) {
			c.Boot = func(_ context.Context, _ fakecloud.Instance) (string, int, error) {
				return "", 0, errors.New("no kernel")
			}
			c.Shutdown = func(context.Context, fakecloud.Instance) error { return nil }
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			var config fakecloud.Config
			test.change(&config)
			c := fakecloud.Start(t, config)
			w := newWorkspace(t, c, `boot_timeout = "200ms"`, fmt.Sprintf(`
				resource "fakecloud_instance" "node" {
				  name = "node"
				  ssh  = %t
				}`, config.Boot != nil))
			w.wantError(w.run("apply"), test.class, test.detail)
			attributes, tainted := w.stateOf("fakecloud_instance.node")
			if attributes["id"] != "i-00000001" || !tainted {
				t.Errorf("the state has %v, tainted %t", attributes, tainted)
			}
			wantTruth(t, c, "node")
			w.must("destroy")
			wantTruth(t, c)
		})
	}
}

// An interrupted create reports what it made: during the call that makes it, and
// while it waits for the boot.
func TestInterruptedCreate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name   string
		faults fakecloud.Faults
		ready  func(c *fakecloud.Cloud) bool
	}{
		{
			"in the call",
			fakecloud.Faults{BootTime: time.Hour, Latency: map[fakecloud.Operation]time.Duration{fakecloud.Create: 3 * time.Second}},
			func(c *fakecloud.Cloud) bool { return c.Calls(fakecloud.Create) > 0 },
		},
		{"in the boot", fakecloud.Faults{BootTime: time.Hour}, func(c *fakecloud.Cloud) bool { return c.Calls(fakecloud.Read) > 0 }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := fakecloud.Start(t, fakecloud.Config{Faults: test.faults})
			w := newWorkspace(t, c, "", oneInstance)
			var out bytes.Buffer
			cmd := w.command("apply", "-auto-approve", "-input=false", "-json")
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the create", func() bool { return test.ready(c) })
			if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			if err := cmd.Wait(); err == nil {
				t.Error("an interrupted apply succeeded")
			}
			var interrupted bool
			for _, e := range errorsIn(out.Bytes()) {
				interrupted = interrupted || strings.HasPrefix(e.Summary, "Interrupted: instance i-00000001 ")
			}
			attributes, tainted := w.stateOf("fakecloud_instance.node")
			if !interrupted || attributes["id"] != "i-00000001" || !tainted {
				t.Errorf("the state has %v, tainted %t; output:\n%s", attributes, tainted, out.String())
			}
			w.must("destroy")
			wantTruth(t, c)
		})
	}
}

// A killed Terraform knows nothing of what it made. The listing finds it.
func TestKilledTerraform(t *testing.T) {
	t.Parallel()
	brokertest.NeedProgram(t, "terraform") // before there is a cloud that this test closes itself
	c := fakecloud.New(fakecloud.Config{Faults: fakecloud.Faults{Latency: map[fakecloud.Operation]time.Duration{fakecloud.Create: time.Hour}}})
	w := newWorkspace(t, c, `request_timeout = "24h"`, `
		resource "fakecloud_instance" "node" {
		  name = "leaked"
		  tags = { broker = "b1" }
		}`)
	cmd := w.command("apply", "-auto-approve", "-input=false")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the create", func() bool { return len(c.Instances()) == 1 })
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	if attributes, _ := w.stateOf("fakecloud_instance.node"); attributes != nil {
		t.Errorf("the state has %v", attributes)
	}
	wantTruth(t, c, "leaked")

	c.SetFaults(fakecloud.Faults{})
	create(t, c, "of somebody else", "broker")
	sweep := newWorkspace(t, c, "", listing(`tags = { broker = "b1" }`))
	sweep.must("apply")
	if names, complete := sweep.found(); strings.Join(names, " ") != "leaked" || !complete {
		t.Errorf("the listing has %v, complete %t", names, complete)
	}
	// The provider that was left ends with its call.
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the end of all processes", func() bool {
		all, _ := filepath.Glob("/proc/[0-9]*/cwd")
		for _, cwd := range all {
			if dir, _ := os.Readlink(cwd); dir == w.dir {
				return false
			}
		}
		return true
	})
}

func listing(arguments string) string {
	return `
		data "fakecloud_instances" "all" {
		` + arguments + `
		}
		resource "terraform_data" "names" { input = data.fakecloud_instances.all.instances[*].name }`
}

// found gives what an applied listing has, from the state.
func (w workspace) found() (names []string, complete bool) {
	w.t.Helper()
	attributes, _ := w.stateOf("fakecloud_instances.all")
	complete, _ = attributes["complete"].(bool)
	instances, _ := attributes["instances"].([]any)
	for _, i := range instances {
		names = append(names, fmt.Sprint(i.(map[string]any)["name"]))
	}
	return names, complete
}

func TestListingDataSource(t *testing.T) {
	t.Parallel()
	clock := newClock()
	c := fakecloud.Start(t, fakecloud.Config{Now: clock.Now})
	for _, name := range []string{"1", "2", "3", "4", "5"} {
		create(t, c, name, "broker")
	}
	last := create(t, c, "6", "broker", "special")
	w := newWorkspace(t, c, "", listing("page_size = 2"))
	step := func(what, arguments, want string, wantComplete bool) {
		t.Helper()
		w.write("", listing(arguments))
		w.must("apply")
		if names, complete := w.found(); strings.Join(names, " ") != want || complete != wantComplete {
			t.Errorf("%s: %v, complete %t; want %q", what, names, complete, want)
		}
	}
	step("pages", "page_size = 2", "1 2 3 4 5 6", true)
	if got := c.Calls(fakecloud.List); got < 3 {
		t.Errorf("%d calls", got)
	}
	step("one tag", `tags = { special = "yes" }`, "6", true)
	attributes, _ := w.stateOf("fakecloud_instances.all")
	want := map[string]any{
		"id": last.ID, "name": "6", "size": "small", "region": "", "state": "running", "address": "10.0.0.6",
		"tags": map[string]any{"broker": "yes", "special": "yes"}, "created_at": "2030-01-02T03:04:05Z",
	}
	if diff := cmp.Diff([]any{want}, attributes["instances"]); diff != "" {
		t.Errorf("instances (-want +got):\n%s", diff)
	}
	step("two tags", `tags = { special = "yes", broker = "no" }`, "", true)

	partial := []fakecloud.Failure{{Class: fakecloud.PartialListing}}
	c.SetFaults(fakecloud.Faults{Failures: partial})
	step("partial", "", "1 2 3", false)
	c.SetFaults(fakecloud.Faults{ListingLag: time.Minute})
	step("too new", "", "", true)
	clock.advance(time.Minute)
	c.Kill(last.ID)
	step("killed just now", `tags = { special = "yes" }`, "6", true)
	clock.advance(time.Minute)
	step("killed a while ago", `tags = { special = "yes" }`, "", true)

	c.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: fakecloud.List, Class: fakecloud.AuthFailure}}})
	w.wantError(w.run("apply"), "AuthFailure", "credentials")
}

// mirrorChild makes the test binary a process that has built a mirror.
const mirrorChild = "FAKECLOUD_TEST_MIRROR_CHILD"

func TestMirrorGoesWithItsProcess(t *testing.T) {
	if os.Getenv(mirrorChild) != "" {
		path := fakecloud.Mirror(t)
		if path != fakecloud.Mirror(t) {
			path = "built twice"
		}
		fmt.Fprintln(os.Stderr, path)
		select {}
	}
	t.Parallel()
	brokertest.NeedProgram(t, "go")
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), executable, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), mirrorChild+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(stderr).ReadString('\n')
	path := strings.TrimSpace(line)
	if _, statErr := os.Stat(path); err != nil || statErr != nil {
		t.Errorf("the child says %q: %v, %v", line, err, statErr)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	eventually(t, "the end of the mirror", func() bool {
		_, err := os.Stat(filepath.Dir(path))
		return errors.Is(err, os.ErrNotExist)
	})
}
