package openstack_test

import (
	"cmp"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

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

// Messages as provider 1.54.1, gophercloud 1.8.0 and the services of OpenStack write them.
func TestErrorClasses(t *testing.T) {
	rules := errorRules(t)
	for _, c := range []struct{ message, want string }{
		{`Error creating OpenStack server: Request forbidden: [POST http://192.0.2.1:8774/v2.1/servers], error message: {"forbidden": {"code": 403, "message": "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances"}}`, "quota"},
		{`Error creating openstack_networking_port_v2: Expected HTTP response code [201] when accessing [POST http://192.0.2.1:9696/v2.0/ports], but got 409 instead` + "\n" + `{"NeutronError": {"type": "OverQuota", "message": "Quota exceeded for resources: ['port'].", "detail": ""}}`, "quota"},
		{`Error waiting for instance (8f3b) to become ready: Build of instance 8f3b aborted: VolumeLimitExceeded: Maximum number of volumes allowed (10) exceeded for quota 'volumes'.`, "quota"},
		{`Error waiting for instance (8f3b) to become ready: No valid host was found. There are not enough hosts available.`, "no_capacity"},
		{`Error waiting for instance (8f3b) to become ready: unexpected state 'ERROR', wanted target 'ACTIVE'. last error: %!s(<nil>)`, "no_capacity"},
		{`Error creating openstack_networking_port_v2: Expected HTTP response code [201] when accessing [POST http://192.0.2.1:9696/v2.0/ports], but got 409 instead` + "\n" + `{"NeutronError": {"type": "IpAddressGenerationFailure", "message": "No more IP addresses available on network 2a.", "detail": ""}}`, "no_capacity"},
		{`Error creating OpenStack server: Too many requests have been sent in a given amount of time. Pause requests, wait up to one minute, and try again.`, "throttled"},
		{`Error creating OpenStack server: Expected HTTP response code [200 202] when accessing [POST http://192.0.2.1:8774/v2.1/servers], but got 413 instead` + "\n" + `{"overLimit": {"code": 413, "message": "This request was rate-limited.", "retryAfter": "2"}}`, "throttled"},
		{`Error creating OpenStack server: Authentication failed`, "auth"},
		{`Error creating OpenStack image client: Request forbidden: [GET http://192.0.2.1:9292/v2/images], error message: {"forbidden": {"code": 403, "message": "Policy doesn't allow image:get to be performed."}}`, "auth"},
		{`Error creating OpenStack server: The service is currently unable to handle the request due to a temporary overloading or maintenance. This is a temporary condition. Try again later.`, "unreachable"},
		{`Your query returned no results. Please change your search criteria and try again.`, "configuration"},
		{`Error creating OpenStack server: Bad request with: [POST http://192.0.2.1:8774/v2.1/servers], error message: {"badRequest": {"code": 400, "message": "The requested availability zone is not available"}}`, "configuration"},
	} {
		got := ""
		for _, r := range rules {
			if r.expr.MatchString("Error: " + c.message) {
				got = r.class
				break
			}
		}
		if got != c.want {
			t.Errorf("class %q, want %q: %s", got, c.want, c.message)
		}
	}
}

type errorRule struct {
	class string
	expr  *regexp.Regexp
}

// errorRules reads the module's duffy.hcl, in its order.
func errorRules(t *testing.T) (rules []errorRule) {
	t.Helper()
	path := filepath.Join(providers.Root(t), "modules", "openstack", "duffy.hcl")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	file, diags := hclsyntax.ParseConfig(text, path, hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	for _, block := range file.Body.(*hclsyntax.Body).Blocks { //nolint:forcetypeassert // what hclsyntax parses to
		if block.Type != "errors" {
			continue
		}
		var attributes []*hclsyntax.Attribute
		for _, a := range block.Body.Attributes {
			attributes = append(attributes, a)
		}
		slices.SortFunc(attributes, func(a, b *hclsyntax.Attribute) int {
			return cmp.Compare(a.NameRange.Start.Byte, b.NameRange.Start.Byte)
		})
		for _, a := range attributes {
			list, diags := a.Expr.Value(nil)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			for _, v := range list.AsValueSlice() {
				rules = append(rules, errorRule{a.Name, regexp.MustCompile(v.AsString())})
			}
		}
	}
	return rules
}
