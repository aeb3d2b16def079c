package fakecloud_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

const lockFile = ".terraform.lock.hcl"

// engineIn gives an engine on a data directory.
func engineIn(t *testing.T, dir string, binary terraform.Binary, log io.Writer) *terraform.Engine {
	t.Helper()
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	return terraform.New(terraform.Config{
		Binary: binary, Dir: dir, BrokerID: "broker-1", SSHPublicKeys: []string{"ssh-ed25519 AAAA test"},
		Keyring: keys, Log: slog.New(slog.NewTextHandler(log, nil)),
	})
}

// modulePool gives a pool on a copy of the test module.
func modulePool(t *testing.T, name, endpoint string) broker.Pool {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "module")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("testdata", "module"))); err != nil {
		t.Fatal(err)
	}
	variables, err := json.Marshal(map[string]any{"endpoint": endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return broker.Pool{Name: name, Module: dir, Variables: variables, CreateTimeout: time.Hour, DestroyTimeout: time.Hour}
}

// A lock file that is missing, or lacks this platform, is warned of at every
// Prepare with the command that mends it, and that command does.
func TestLockFileWarnings(t *testing.T) {
	program := brokertest.NeedProgram(t, "terraform")
	cliConfig := fakecloud.Mirror(t)
	t.Setenv("TF_CLI_CONFIG_FILE", cliConfig)
	binary, err := terraform.Find(t.Context(), terraform.FindOptions{Path: program, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	name, platform := strings.ToLower(string(binary.Product)), runtime.GOOS+"_"+runtime.GOARCH
	if binary.Product == terraform.OpenTofu {
		name = "tofu"
	}
	p := modulePool(t, "small", "http://127.0.0.1:1")
	mend := fmt.Sprintf("%s -chdir=%s providers lock -platform=%s", name, p.Module, platform)
	path := filepath.Join(p.Module, lockFile)

	var logged bytes.Buffer
	dir := t.TempDir()
	want := func(warning string) {
		t.Helper()
		for i := range 2 { // the second is a new broker, on a module that is kept
			logged.Reset()
			if _, err := engineIn(t, dir, binary, &logged).Prepare(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			lines := strings.Count(logged.String(), "level=WARN")
			switch {
			case warning == "":
				if lines != 0 {
					t.Errorf("time %d logged:\n%s", i+1, &logged)
				}
			case lines != 1, !strings.Contains(logged.String(), warning), !strings.Contains(logged.String(), "pool=small"),
				!strings.Contains(logged.String(), "mend_with=\""+mend+"\""):
				t.Errorf("time %d logged:\n%swant one warning with %q and the command %q", i+1, &logged, warning, mend)
			}
		}
	}
	want("it has no " + lockFile)

	// The command as it is, but for a registry that is not there.
	args := append(strings.Fields(mend)[1:], "-fs-mirror="+filepath.Join(filepath.Dir(cliConfig), "mirror"))
	if out, err := exec.Command(program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", mend, err, out)
	}
	want("")

	complete, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	change := func(from, to string) {
		t.Helper()
		text := strings.Replace(string(complete), from, to, 1)
		if text == string(complete) {
			t.Fatalf("there is no %q in\n%s", from, complete)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	change("provider \""+fakecloud.ProviderSource, "provider \"fakecloud.test/duffy-broker/other")
	want("its " + lockFile + " does not have the provider " + fakecloud.ProviderSource)
	_, hash, _ := strings.Cut(string(complete), "\"h1:")
	hash, _, _ = strings.Cut(hash, "\"")
	change("  hashes = [\n    \"h1:"+hash+"\",\n  ]\n", "")
	want("its " + lockFile + " lacks checksums of the provider " + fakecloud.ProviderSource + " for " + platform)

	// Checksums of other platforms only: Terraform refuses.
	change(hash, strings.Repeat("A", 43)+"=")
	_, err = engineIn(t, dir, binary, &logged).Prepare(t.Context(), p)
	if err == nil || broker.CodeOf(err) != broker.CodeUnavailable || !strings.Contains(broker.HintOf(err), mend) || !strings.Contains(err.Error(), "match") {
		t.Errorf("with checksums of another platform: %v, hint %q; want the hint %q", err, broker.HintOf(err), mend)
	}
}

// Pools that share a module and nodes that are made meanwhile need one init, and
// nothing that they share is changed by any of them.
func TestStory12PluginCacheUnderParallelInit(t *testing.T) {
	const parallel = 20
	program := brokertest.NeedProgram(t, "terraform")
	cliConfig := fakecloud.Mirror(t)
	t.Setenv("TF_CLI_CONFIG_FILE", cliConfig)
	c := fakecloud.Start(t, fakecloud.Config{})
	calls := filepath.Join(t.TempDir(), "calls")
	script := filepath.Join(t.TempDir(), "terraform")
	text := fmt.Sprintf("#!/bin/sh\necho \"$1\" >> '%s'\nexec '%s' \"$@\"\n", calls, program)
	if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	e := engineIn(t, dir, terraform.Binary{Path: script}, t.Output())
	base := modulePool(t, "", c.URL())

	states := make([][]byte, parallel)
	nodes := make([]broker.Node, parallel)
	var wg sync.WaitGroup
	for i := range parallel {
		wg.Go(func() {
			p := base
			p.Name = fmt.Sprintf("pool-%d", i)
			p.Variables = json.RawMessage(fmt.Sprintf(`{"endpoint":%q,"size":"size-%d"}`, c.URL(), i))
			var err error
			if p.Source, err = e.Prepare(t.Context(), p); err != nil {
				t.Error(err)
				return
			}
			nodes[i] = broker.NewNode(p, time.Now())
			result, err := e.Apply(t.Context(), nodes[i])
			if err != nil {
				t.Error(err)
				return
			}
			states[i] = result.State
			if err := e.Discard(nodes[i]); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	log, err := os.ReadFile(calls)
	if err != nil {
		t.Fatal(err)
	}
	// One for the module, and one for its sweep configuration.
	for call, want := range map[string]int{"init": 2, "validate": 2, "apply": parallel} {
		if got := strings.Count(string(log), call+"\n"); got != want {
			t.Errorf("terraform %s was run %d times, want %d", call, got, want)
		}
	}
	for i, n := range nodes {
		found := false
		for _, instance := range c.Instances() {
			found = found || instance.Name == broker.DefaultHostname(n.UID) && instance.Size == fmt.Sprintf("size-%d", i)
		}
		if !found {
			t.Errorf("there is no instance of node %s with its own size", n.UID)
		}
	}
	if got := len(c.Instances()); got != parallel {
		t.Errorf("%d instances, want %d", got, parallel)
	}

	templates, err := os.ReadDir(filepath.Join(dir, "templates"))
	if err != nil || len(templates) != 1 {
		t.Fatalf("kept modules: %v, %v, want one", templates, err)
	}
	wantSameProvider(t, cliConfig, filepath.Join(dir, "templates", templates[0].Name()))
	for i, n := range nodes {
		wg.Go(func() {
			if left, err := e.Destroy(t.Context(), n, states[i]); err != nil || left.State != nil {
				t.Errorf("destroy: %v", err)
			}
			if err := e.Discard(n); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	wantTruth(t, c)
}

// wantSameProvider compares the provider of an initialised module with the one in
// the mirror.
func wantSameProvider(t *testing.T, cliConfig, module string) {
	t.Helper()
	in := filepath.FromSlash(fakecloud.ProviderSource + "/" + fakecloud.ProviderVersion + "/" + runtime.GOOS + "_" + runtime.GOARCH +
		"/terraform-provider-fakecloud_v" + fakecloud.ProviderVersion)
	want, err := os.ReadFile(filepath.Join(filepath.Dir(cliConfig), "mirror", in))
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(module, ".terraform", "providers", in))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the kept module has another provider than the mirror: %v", err)
	}
}
