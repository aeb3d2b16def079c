package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/modules"
)

func TestModulesShow(t *testing.T) {
	noSettings(t)
	for _, m := range modules.All() {
		code, out, errOut := command(t, "modules", "show", m.Name)
		if code != 0 || !strings.Contains(out, "module = \"builtin:"+m.Name+"\"") || !strings.Contains(out, m.Description) || !strings.Contains(out, "ipaddr") {
			t.Errorf("%s: exit %d: %s%s", m.Name, code, out, errOut)
		}
	}
	code, out, errOut := command(t, "modules", "show", "builtin:local")
	for _, want := range []string{`  size  string, default "small"`, "boot_delay  number, default 0", "terraform  >= 1.4", "sweep      no"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, and not %q: %s%s", code, want, out, errOut)
		}
	}
	code, out, errOut = command(t, "modules", "show", "../../broker/brokertest/fakecloud/testdata/module")
	for _, want := range []string{"endpoint  string", "required", "fakecloud.test/duffy-broker/fakecloud"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("exit %d, and not %q: %s%s", code, want, out, errOut)
		}
	}
	for name, want := range map[string]string{"locl": "did you mean local?", "builtin:locl": "did you mean local?", "mainframe": "modules list", t.TempDir(): "no Terraform module"} {
		if code, _, errOut := command(t, "modules", "show", name); code != 1 || !strings.Contains(errOut, want) {
			t.Errorf("%s: exit %d: %s", name, code, errOut)
		}
	}
	if code, out, _ := command(t, "modules", "list"); code != 0 || !strings.Contains(strings.Join(strings.Fields(out), " "), "local A node without a hypervisor.") {
		t.Errorf("list: exit %d: %s", code, out)
	}
}

// A copy is what a checkout has, can be changed, and replaces nothing.
func TestModulesCopy(t *testing.T) {
	noSettings(t)
	dir := t.TempDir()
	t.Chdir(dir)
	code, out, errOut := command(t, "modules", "copy", "local", "modules/mine")
	if code != 0 || !strings.Contains(out, `module = "./modules/mine"`) {
		t.Fatalf("exit %d: %s%s", code, out, errOut)
	}
	entries, err := os.ReadDir("modules/mine")
	if err != nil || len(entries) < 4 {
		t.Errorf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm()&0o600 != 0o600 {
			t.Errorf("%s can't be changed: %v", e.Name(), err)
		}
	}
	writeFile(t, "pools.hcl", "pool \"a\" {\n  module = \"./modules/mine\"\n}\n")
	if code, _, errOut := command(t, "validate"); code != 0 {
		t.Errorf("validate: exit %d: %s", code, errOut)
	}
	for want, args := range map[string][]string{
		"is not empty":    {"local", "modules/mine"},
		"not a directory": {"local", "pools.hcl"},
		"did you mean":    {"locla", "other"},
		"are shipped":     {"./modules/mine", "other"},
	} {
		if code, _, errOut := command(t, append([]string{"modules", "copy"}, args...)...); code != 1 || !strings.Contains(errOut, want) {
			t.Errorf("%v: exit %d: %s", args, code, errOut)
		}
	}
	if code, _, errOut := command(t, "modules", "copy", "local", filepath.Join(dir, "modules", "other")); code != 0 {
		t.Errorf("exit %d: %s", code, errOut)
	}
}

// lockedModule is one with a provider of a mirror, also in sweep/.
const lockedModule = `
terraform {
  required_providers {
    fakecloud = {
      source = "` + fakecloud.ProviderSource + `"
    }
  }
}
`

// The lock files of a module are written once, with the checksums of the platforms
// that were named, and nothing else is.
func TestModulesLock(t *testing.T) {
	noSettings(t)
	brokertest.NeedProgram(t, "terraform")
	if other := os.Getenv(brokertest.TerraformVariable); other != "" {
		t.Skip("lock files of another program name another registry")
	}
	mirror := filepath.Join(filepath.Dir(fakecloud.Mirror(t)), "mirror")
	t.Chdir(t.TempDir())
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	writeFile(t, "cloud/main.tf", lockedModule+"variable \"broker\" {}\nmodule \"below\" { source = \"./below\" }\noutput \"ipaddr\" { value = \"127.0.0.1\" }\n")
	writeFile(t, "cloud/below/main.tf", "variable \"x\" { default = 1 }\n")
	writeFile(t, "cloud/sweep/main.tf", lockedModule+"variable \"broker\" {}\noutput \"nodes\" { value = [] }\noutput \"complete\" { value = true }\n")
	writeFile(t, "pools.hcl", "pool \"a\" {\n  module = \"./cloud\"\n}\npool \"b\" {\n  module = \"./cloud\"\n}\npool \"c\" {\n  module = \"builtin:local\"\n}\n")
	platform := runtime.GOOS + "_" + runtime.GOARCH
	var answer struct {
		Locks []struct {
			Path, Change string
			Platforms    []string
			Providers    []struct {
				Address   string
				Checksums int
			}
		} `json:"locks"`
	}
	lock := func(args ...string) (changes []string) {
		t.Helper()
		code, out, errOut := command(t, append([]string{"modules", "lock", "--format", "json", "--fs-mirror", mirror}, args...)...)
		if err := json.Unmarshal([]byte(out), &answer); err != nil || code != 0 {
			t.Fatalf("exit %d: %v\n%s%s", code, err, out, errOut)
		}
		for _, l := range answer.Locks {
			changes = append(changes, l.Path+" "+l.Change)
		}
		return changes
	}
	if diff := cmp.Diff([]string{"cloud/.terraform.lock.hcl written", "cloud/sweep/.terraform.lock.hcl written"}, lock()); diff != "" {
		t.Error(diff)
	}
	for _, l := range answer.Locks {
		if len(l.Providers) != 1 || l.Providers[0].Address != fakecloud.ProviderSource || l.Providers[0].Checksums == 0 || len(l.Platforms) != 1 || l.Platforms[0] != platform {
			t.Errorf("%+v", l)
		}
	}
	if diff := cmp.Diff([]string{"cloud/.terraform.lock.hcl unchanged", "cloud/sweep/.terraform.lock.hcl unchanged"}, lock("cloud", "--platform", platform)); diff != "" {
		t.Error(diff)
	}
	if code, out, _ := command(t, "validate"); code != 0 || strings.Contains(out, "arning") {
		t.Errorf("validate: exit %d: %s", code, out)
	}
	// Nothing of what Terraform needed is left.
	if _, err := os.Stat("cloud/.terraform"); err == nil {
		t.Error("the module is initialised")
	}
	if left, _ := filepath.Glob(filepath.Join(tmp, "duffy-*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	// A module without providers needs no lock file.
	writeFile(t, "plain/main.tf", planModule)
	if diff := cmp.Diff([]string{"plain/.terraform.lock.hcl none"}, lock("plain")); diff != "" {
		t.Error(diff)
	}
	if _, err := os.Stat("plain/.terraform.lock.hcl"); err == nil {
		t.Error("an empty lock file")
	}
	for _, format := range []string{"yaml", "flat", "table"} {
		code, out, errOut := command(t, "modules", "lock", "cloud", "--fs-mirror", mirror, "--format", format)
		if code != 0 || !strings.Contains(out, "unchanged") || !strings.Contains(out, fakecloud.ProviderSource) {
			t.Errorf("%s: exit %d: %s%s", format, code, out, errOut)
		}
	}
	for want, args := range map[string][]string{
		"terraform providers lock": {"cloud", "--fs-mirror", mirror, "--platform", "plan9_386"},
		"no Terraform module":      {t.TempDir()},
		"give one of them":         {"cloud", "--pools", "pools.hcl"},
		"can't be locked":          {"cloud", "--net-mirror", "https://127.0.0.1:1/"},
	} {
		if code, _, errOut := command(t, append([]string{"modules", "lock"}, args...)...); code != 1 || !strings.Contains(errOut, want) {
			t.Errorf("%v: exit %d: %s", args, code, errOut)
		}
	}
	writeFile(t, "pools.hcl", "pool \"c\" {\n  module = \"builtin:local\"\n}\n")
	if code, _, errOut := command(t, "modules", "lock"); code != 1 || !strings.Contains(errOut, "no pool of pools.hcl has a directory") {
		t.Errorf("exit %d: %s", code, errOut)
	}
}
