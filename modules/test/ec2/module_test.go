package ec2_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/ec2"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
)

// The README has every variable of the module, in the module's order.
func TestReadmeHasEveryVariable(t *testing.T) {
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(module(t), name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var declared, told []string
	for _, found := range regexp.MustCompile(`(?m)^variable "(\w+)"`).FindAllStringSubmatch(read("variables.tf"), -1) {
		declared = append(declared, found[1])
	}
	_, table, _ := strings.Cut(read("README.md"), "## Variables")
	table, _, _ = strings.Cut(table, "\n## ")
	told = append(told, "broker") // it stands above the table
	for _, found := range regexp.MustCompile("(?m)^\\| `(\\w+)`").FindAllStringSubmatch(table, -1) {
		told = append(told, found[1])
	}
	if diff := cmp.Diff(declared, told); diff != "" {
		t.Errorf("variables (-variables.tf +README.md):\n%s", diff)
	}
}

// What the README shows is a file that the broker takes, and so is the module, as far as
// that is to be seen without its provider.
func TestReadmeExampleIsValid(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(module(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```hcl\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("the README has no example")
	}
	pools := filepath.Join(t.TempDir(), "pools.hcl")
	if err := os.WriteFile(pools, found[1], 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), live.Binary(), "validate", pools).CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), live.Binary(), "fmt", "--check", pools).CombinedOutput(); err != nil {
		t.Errorf("it is not formatted: %v\n%s", err, out)
	}
}

// The service runs what the cloud-config puts there.
func TestWatcherIsInstalledWhereItsServiceLooks(t *testing.T) {
	config, err := os.ReadFile(filepath.Join(module(t), "user-data.tf"))
	if err != nil {
		t.Fatal(err)
	}
	service, err := os.ReadFile(filepath.Join(module(t), "interruption-watcher.service"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range regexp.MustCompile(`/(usr|etc)/[\w./-]+`).FindAllString(string(service), -1) {
		if !strings.Contains(string(config), `"`+path+`"`) {
			t.Errorf("the service names %s, which nobody writes", path)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-n", filepath.Join(module(t), "interruption-watcher.sh")).CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// `terraform validate` and the module's own tests.
func TestTerraformTest(t *testing.T) {
	w := newWorkspace(t, startCloud(t, ec2.Config{}), nil)
	w.must("validate", "-no-color")
	if out := w.must("test", "-no-color"); !strings.Contains(out, "Success!") {
		t.Error(out)
	}
	w.dir = filepath.Join(w.dir, "sweep")
	w.must("init", "-input=false", "-no-color")
	w.must("validate", "-no-color")
}
