package duffyprovider_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/ipmi"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/redfish"
	"github.com/duffy-broker/duffy-broker/broker/terraform/duffyprovider"
)

// The test binary is the provider, too, as the broker's is.
func TestMain(m *testing.M) {
	if duffyprovider.Invoked(os.Args[0]) {
		err := duffyprovider.Serve(context.Background(), duffyprovider.Options{ClaimDelay: 20 * time.Millisecond, Poll: 10 * time.Millisecond})
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// Two brokers.
const (
	brokerA = "0e7b1c52-93a1-4b57-a9c5-8a8f27a7b0c1"
	brokerB = "b0b0b0b0-b0b0-4b57-a9c5-8a8f27a7b0c1"
)

func nodeID(n int) string { return fmt.Sprintf("%016x", n) }

// module is what modules/bare-metal comes down to.
const module = `
terraform {
  required_providers {
    duffy = {
      source = "duffy-broker/duffy"
    }
  }
}
variable "broker_id" {}
variable "node_id" {}
variable "address" {}
variable "kind" {}
variable "directory" {}
variable "asset_tag" { default = true }
variable "boot" { default = { source = "pxe" } }
variable "wait" { default = { until = "call_home" } }
variable "wipe" { default = null }
variable "files" { default = { "boot.ipxe" = "#!ipxe\n" } }
provider "duffy" {
  bmc = {
    address = var.address
    kind    = var.kind
  }
}
resource "duffy_claim" "machine" {
  broker_id = var.broker_id
  node_id   = var.node_id
  asset_tag = var.asset_tag
}
resource "duffy_machine" "node" {
  name      = "n1"
  claim     = duffy_claim.machine.tag
  directory = var.directory
  boot      = merge({ source = null, url = null, firmware = null }, var.boot)
  files     = var.files
  wait      = merge({ until = null, timeout = null, address = null, port = null }, var.wait)
  wipe      = var.wipe == null ? null : merge({ source = null, url = null, firmware = null, timeout = null }, var.wipe)
}
output "ssh_host_keys" { value = duffy_machine.node.ssh_host_keys }
`

// initialised has the lock file of the module, once init has made one.
var initialised struct {
	sync.Mutex

	lock string
}

// workspace is a node of the module.
type workspace struct {
	t    *testing.T
	dir  string
	env  []string
	vars map[string]any

	mu      sync.Mutex
	running *exec.Cmd
}

// newWorkspace gives one for a machine, whose controller has this address.
func newWorkspace(t *testing.T, m machine, brokerID, node string) *workspace {
	t.Helper()
	w := &workspace{t: t, dir: t.TempDir(), env: m.env(t), vars: map[string]any{"broker_id": brokerID, "node_id": node}}
	w.vars["address"], w.vars["kind"] = m.address()
	w.vars["directory"] = filepath.Join(w.dir, "nodes", node)
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	plugins := filepath.Join(w.dir, "terraform.d", "plugins", "registry.terraform.io", "duffy-broker", "duffy", duffyprovider.Version, runtime.GOOS+"_"+runtime.GOARCH)
	if err := os.MkdirAll(plugins, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(executable, filepath.Join(plugins, duffyprovider.FileName())); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "main.tf"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	// Init hashes the whole test binary, so its result is used again.
	initialised.Lock()
	defer initialised.Unlock()
	lockFile := filepath.Join(w.dir, ".terraform.lock.hcl")
	if initialised.lock == "" {
		w.must("init")
		lock, err := os.ReadFile(lockFile)
		if err != nil {
			t.Fatal(err)
		}
		before, rest, _ := strings.Cut(string(lock), "  hashes")
		_, after, _ := strings.Cut(rest, "]")
		initialised.lock = before + after
	}
	if err := os.WriteFile(lockFile, []byte(initialised.lock), 0o600); err != nil {
		t.Fatal(err)
	}
	installed := filepath.Join(w.dir, ".terraform", "providers", "registry.terraform.io", "duffy-broker", "duffy", duffyprovider.Version)
	if err := os.MkdirAll(installed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(installed, runtime.GOOS+"_"+runtime.GOARCH)); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(plugins, filepath.Join(installed, runtime.GOOS+"_"+runtime.GOARCH)); err != nil {
		t.Fatal(err)
	}
	return w
}

// run runs Terraform, and gives what it says.
func (w *workspace) run(args ...string) (string, error) {
	w.t.Helper()
	text, err := json.Marshal(w.vars)
	if err != nil {
		w.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "terraform.tfvars.json"), text, 0o600); err != nil {
		w.t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), brokertest.NeedProgram(w.t, "terraform"), append(args, "-no-color")...)
	cmd.Dir = w.dir
	cmd.Env = append(append(os.Environ(), "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE="+os.DevNull, "GORACE=atexit_sleep_ms=0"), w.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	w.mu.Lock()
	err = cmd.Start()
	w.running = cmd
	w.mu.Unlock()
	if err == nil {
		err = cmd.Wait()
	}
	w.mu.Lock()
	w.running = nil
	w.mu.Unlock()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what a killed Terraform has left
	return out.String(), err
}

// kill kills Terraform and the provider, as a crash of the machine would.
func (w *workspace) kill() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running != nil {
		_ = syscall.Kill(-w.running.Process.Pid, syscall.SIGKILL)
	}
}

func (w *workspace) must(args ...string) string {
	w.t.Helper()
	out, err := w.run(args...)
	if err != nil {
		w.t.Fatalf("terraform %s: %v\n%s", args[0], err, out)
	}
	return out
}

func (w *workspace) apply() (string, error) { w.t.Helper(); return w.run("apply", "-auto-approve") }
func (w *workspace) destroy() string {
	w.t.Helper()
	return w.must("destroy", "-auto-approve", "-refresh=false")
}

// callsHome does what the broker's boot server does when the machine calls home. It
// gives the content of the file that the machine has booted.
func (w *workspace) callsHome(answer string) (script string, err error) {
	dir := w.vars["directory"].(string)
	text, err := os.ReadFile(filepath.Join(dir, "boot", "boot.ipxe"))
	if err != nil {
		return "", err
	}
	return string(text), os.WriteFile(filepath.Join(dir, "boot-done.json"), []byte(answer), 0o600)
}

// machine is a machine with a controller of either kind.
type machine interface {
	On() bool
	Switch(on bool)
	Tag() string
	SetTag(tag string)
	address() (address, kind string)
	env(t *testing.T) []string
	// onPower sets what the machine does, onChange what is called before anything
	// about it changes.
	onPower(do func(on bool, source string))
	onChange(do func(what string))
}

type fish struct {
	*redfish.Server

	mu     sync.Mutex
	power  func(on bool, source string)
	change func(what string)
}

func newFish(t *testing.T, o redfish.Options) *fish {
	t.Helper()
	f := &fish{}
	o.OnPower = func(on bool, b redfish.Boot) {
		f.mu.Lock()
		do := f.power
		f.mu.Unlock()
		if do != nil {
			do(on, strings.ToLower(b.Target))
		}
	}
	f.Server = redfish.New(t, o)
	f.Fail(func(r *http.Request) (int, string) {
		if r.Method == http.MethodGet || strings.Contains(r.URL.Path, "Session") {
			return 0, ""
		}
		f.mu.Lock()
		do := f.change
		f.mu.Unlock()
		if do != nil {
			do(r.Method + " " + r.URL.Path)
		}
		return 0, ""
	})
	return f
}

func (f *fish) address() (address, kind string) { return f.URL(), "redfish" }
func (f *fish) env(*testing.T) []string {
	return []string{"REDFISH_USERNAME=" + f.Username, "REDFISH_PASSWORD=" + f.Password}
}

func (f *fish) onPower(do func(on bool, source string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.power = do
}

func (f *fish) onChange(do func(what string)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.change = do
}

type lan struct {
	*ipmi.Server

	mu     sync.Mutex
	power  func(on bool, source string)
	change func(what string)
}

func newLAN(t *testing.T, o ipmi.Options) *lan {
	t.Helper()
	l := &lan{}
	o.OnPower = func(on bool, boot string) {
		l.mu.Lock()
		do := l.power
		l.mu.Unlock()
		if do != nil {
			do(on, boot)
		}
	}
	o.OnCall = func(call string) {
		l.mu.Lock()
		do := l.change
		l.mu.Unlock()
		if do != nil {
			do(call)
		}
	}
	l.Server = ipmi.New(t, o)
	return l
}

func (l *lan) address() (address, kind string) { return l.Address(), "ipmi" }
func (l *lan) env(*testing.T) []string {
	return []string{
		"IPMI_USERNAME=" + ipmi.Username, "IPMI_PASSWORD=" + ipmi.Password,
		"PATH=" + filepath.Dir(l.Tool()) + string(filepath.ListSeparator) + os.Getenv("PATH"),
	}
}

func (l *lan) onPower(do func(on bool, source string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.power = do
}

func (l *lan) onChange(do func(what string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.change = do
}

// machines starts one machine of each kind for a test.
func machines(t *testing.T, test func(t *testing.T, m machine)) {
	t.Run("redfish", func(t *testing.T) { t.Parallel(); test(t, newFish(t, redfish.Options{})) })
	t.Run("ipmi", func(t *testing.T) { t.Parallel(); test(t, newLAN(t, ipmi.Options{})) })
}

// interrupt sends Terraform the signal that the broker sends at a timeout.
func (w *workspace) interrupt() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running != nil {
		_ = w.running.Process.Signal(syscall.SIGINT)
	}
}
