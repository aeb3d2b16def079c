package terraform

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/terraform/duffyprovider"
)

func TestWithOwnMirror(t *testing.T) {
	const list = `"registry.terraform.io/duffy-broker/duffy", "registry.opentofu.org/duffy-broker/duffy"`
	const own = "\n  filesystem_mirror {\n    path    = \"/data/plugins\"\n    include = [" + list + "]\n  }\n"
	for name, tt := range map[string]struct{ text, want string }{
		"none": {"disable_checkpoint = true\n", ""},
		"direct": {
			"provider_installation {\n  direct {}\n}\n",
			"provider_installation {\n  direct {\n    exclude = [" + list + "]\n  }\n" + own + "}\n",
		},
		"exclusions": {
			"provider_installation {\n  direct {\n    exclude = [\"a/b\"]\n  }\n  network_mirror {\n    url = \"https://x/\"\n    exclude = []\n  }\n}",
			"provider_installation {\n  direct {\n    exclude = [" + list + ", \"a/b\"]\n  }\n  network_mirror {\n    url = \"https://x/\"\n    exclude = [" + list + "]\n  }\n" + own + "}",
		},
		"overrides": {
			"provider_installation {\n  dev_overrides {\n    \"a/b\" = \"/x\"\n  }\n}\ncredentials \"h\" {\n  token = \"t\"\n}\n",
			"provider_installation {\n  dev_overrides {\n    \"a/b\" = \"/x\"\n  }\n" + own + "}\ncredentials \"h\" {\n  token = \"t\"\n}\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, has, err := withOwnMirror(tt.text, "/data/plugins")
			want := tt.want
			if want == "" {
				want = tt.text
			}
			if err != nil || has != (tt.want != "") {
				t.Errorf("has one: %t, %v", has, err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again, _, err := withOwnMirror(got, "/data/plugins"); err != nil {
				t.Errorf("the result can't be read: %v\n%s", err, again)
			}
		})
	}
}

func TestCLIConfigFiles(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	t.Setenv("TERRAFORM_CONFIG", "")
	for _, name := range []string{".terraformrc", ".tofurc", ".terraform.d/a.tfrc"} {
		writeTestFile(t, filepath.Join(home, name), "")
	}
	for product, want := range map[Product][]string{
		Terraform: {filepath.Join(home, ".terraformrc"), filepath.Join(home, ".terraform.d", "a.tfrc")},
		OpenTofu:  {filepath.Join(home, ".tofurc"), filepath.Join(home, ".terraform.d", "a.tfrc")},
	} {
		if diff := cmp.Diff(want, cliConfigFiles(product)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", product, diff)
		}
	}
	t.Setenv(cliConfigVariable, "/x")
	if diff := cmp.Diff([]string{"/x"}, cliConfigFiles(Terraform)); diff != "" {
		t.Errorf("the environment's (-want +got):\n%s", diff)
	}
}

func writeTestFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ownModule uses the broker's provider, and needs no machine.
const ownModule = `
terraform {
  required_providers {
    duffy = {
      source = "duffy-broker/duffy"
    }
  }
}
variable "broker" {
  type = object({ id = string, node_id = string, directory = string, host = optional(object({ name = string, ipaddr = string })) })
}
resource "duffy_claim" "machine" {
  count     = var.broker.host == null ? 0 : 1
  broker_id = var.broker.id
  node_id   = var.broker.node_id
}
resource "terraform_data" "node" {}
output "ipaddr" {
  value = "127.0.0.1"
}
`

// TestOwnProvider: a module that uses the broker's provider needs no registry and no
// lock file, whatever the CLI configuration says, and a new broker makes nothing stale.
func TestOwnProvider(t *testing.T) {
	program := brokertest.NeedProgram(t, "terraform")
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for name, config := range map[string]string{
		"no CLI configuration":       "",
		"no provider_installation":   "disable_checkpoint = true\n",
		"a provider_installation":    "provider_installation {\n  filesystem_mirror {\n    path = \"" + t.TempDir() + "\"\n  }\n}\n",
		"providers from the network": "provider_installation {\n  network_mirror {\n    url = \"https://127.0.0.1:1/\"\n  }\n}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("HOME", t.TempDir())
			if config != "" {
				rc := filepath.Join(t.TempDir(), "rc")
				writeTestFile(t, rc, config)
				t.Setenv(cliConfigVariable, rc)
			}
			module := t.TempDir()
			writeTestFile(t, filepath.Join(module, "main.tf"), ownModule)
			// Somebody has locked it, with the provider of an earlier broker.
			writeTestFile(t, filepath.Join(module, lockFileName),
				"provider \"registry.terraform.io/duffy-broker/duffy\" {\n  version = \"1.0.0\"\n  hashes = [\n    \"h1:uzchQKBiDhYJoZdX8cDGCVdmp5+vhnuT4y4qCXTT1fo=\",\n  ]\n}\n")
			var log bytes.Buffer
			e := testEngine(t, program, func(c *Config) {
				c.Executable = executable
				c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
			})
			pool := broker.Pool{Name: "metal", Module: module, CreateTimeout: time.Minute, DestroyTimeout: time.Minute}
			if pool.Source, err = e.Prepare(t.Context(), pool); err != nil {
				t.Fatal(err)
			}
			if log.Len() > 0 {
				t.Errorf("the module has a warning: %s", &log)
			}
			template := filepath.Join(e.templatesDir(), pool.Source.Template)
			for _, left := range []string{"terraform.d", filepath.Join(ownDir, "cli.tfrc")} {
				if exists(filepath.Join(template, left)) {
					t.Errorf("%s is left in the kept module", left)
				}
			}
			installed := filepath.Join(template, ".terraform", "providers", ownPackage(defaultHosts[0]), duffyprovider.FileName())
			if got, err := filepath.EvalSymlinks(installed); err != nil || got != executable {
				t.Errorf("installed is %s, %v; want %s", got, err, executable)
			}
			if target, err := os.Readlink(filepath.Dir(installed)); err != nil || filepath.IsAbs(target) {
				t.Errorf("the data directory can't be moved: %s, %v", target, err)
			}
			// A sample plans a claim: the provider answers.
			sample, err := e.Sample(t.Context(), broker.Pool{
				Name: "metal", Module: module, CreateTimeout: time.Minute, DestroyTimeout: time.Minute,
				Inventory: broker.HostSelector{Name: "rack"},
			})
			if diff := cmp.Diff([]string{"duffy_claim.machine[0]", "terraform_data.node"}, sample); err != nil || diff != "" {
				t.Errorf("sample: %v (-want +got):\n%s", err, diff)
			}

			// A new broker, elsewhere.
			moved := filepath.Join(t.TempDir(), "duffy-broker")
			if err := os.Link(executable, moved); err != nil {
				if moved, err = copyOf(executable, moved); err != nil {
					t.Fatal(err)
				}
			}
			e.Executable = moved
			again, err := e.Prepare(t.Context(), pool)
			if err != nil || again.Template != pool.Source.Template || again.Generation != pool.Source.Generation {
				t.Errorf("a new broker makes nodes stale: %v, %v", again, err)
			}
			n := broker.NewNode(pool, time.Now())
			result, err := e.Apply(t.Context(), n)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := filepath.EvalSymlinks(installed); err != nil || got != moved {
				t.Errorf("installed is %s, %v; want that of the new broker, %s", got, err, moved)
			}
			if err := e.Discard(n); err != nil {
				t.Fatal(err)
			}
			if _, err := e.Destroy(t.Context(), n, result.State); err != nil {
				t.Fatal(err)
			}
			if err := e.Discard(n); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func copyOf(from, to string) (string, error) {
	text, err := os.ReadFile(from)
	if err != nil {
		return "", err
	}
	return to, os.WriteFile(to, text, 0o700)
}

// TestOwnProviderIsNotMissed: no lock file need have it.
func TestOwnProviderIsNotMissed(t *testing.T) {
	module := t.TempDir()
	writeTestFile(t, filepath.Join(module, "main.tf"), ownModule)
	if problems := checkLockFile(module, neededProviders(module)); len(problems) > 0 {
		t.Errorf("got %v", problems)
	}
	if !strings.HasPrefix(ownSource, duffyprovider.Namespace) || !isOwn("registry.opentofu.org/"+ownSource) || isOwn("example.com/"+ownSource) || isOwn("hashicorp/duffy") {
		t.Error("another provider is taken for the broker's")
	}
}
