package openstack_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
)

func TestMain(m *testing.M) { os.Exit(live.Main(m)) }

// module gives the path of a copy of the module, where Terraform may write.
func module(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "openstack")
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(providers.Root(t), "modules", "openstack"))); err != nil {
		t.Fatal(err)
	}
	return dir
}

// terraform runs Terraform in a directory, and gives what it prints.
func terraform(t *testing.T, dir, config string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), brokertest.NeedProgram(t, "terraform"), args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "TF_CLI_CONFIG_FILE="+config, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "NO_COLOR=1")
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func TestModuleWithAProviderThatMakesNothing(t *testing.T) {
	brokertest.NeedProgram(t, "terraform")
	config, dir := providers.Config(t, "openstack"), module(t)
	for _, in := range []string{dir, filepath.Join(dir, "sweep")} {
		for _, args := range [][]string{{"init", "-no-color", "-input=false"}, {"validate", "-no-color"}} {
			if out, err := terraform(t, in, config, args...); err != nil {
				t.Fatalf("terraform %s in %s: %v\n%s", args[0], in, err, out)
			}
		}
	}
	out, err := terraform(t, dir, config, "test", "-no-color")
	if err != nil || !strings.Contains(out, "0 failed") {
		t.Errorf("terraform test: %v\n%s", err, out)
	}
}

// Provider 2.x and 3.x can't be had here: what they have dropped, by their upgrade
// guides, of what a module like this one could use.
func TestModuleUsesNothingThatLaterProvidersHaveDropped(t *testing.T) {
	dropped := regexp.MustCompile(`openstack_(compute_(floatingip|secgroup)|blockstorage_volume(_attach)?_v[12]|networking_floatingip_associate_v1)|` +
		`(?m)^\s*(use_octavia|sort_key|sort_direction|multiattach|dhcp_disabled|update_at|allocation_pools|external_gateway|personality|tenant_id|floating_ip)\s*=|^\s*volume\s*{`)
	files, err := filepath.Glob(filepath.Join(providers.Root(t), "modules", "openstack", "*.tf"))
	more, err2 := filepath.Glob(filepath.Join(providers.Root(t), "modules", "openstack", "sweep", "*.tf"))
	if err != nil || err2 != nil || len(files) < 4 || len(more) == 0 {
		t.Fatalf("files of the module: %v, %v, %v, %v", files, err, more, err2)
	}
	for _, path := range append(files, more...) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if found := dropped.FindString(string(text)); found != "" {
			t.Errorf("%s: %q", filepath.Base(path), found)
		}
	}
}
