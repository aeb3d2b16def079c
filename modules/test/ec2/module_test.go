package ec2_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/ec2"
)

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
