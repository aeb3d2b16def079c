package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
)

const legacyPool = `
pool "a" {
  module = "./module"
}

pool "metal" {
  module = "./module"
  legacy = false
}
`

// duffyMap is the map of Duffy v3's own metaclient.
const duffyMap = `
legacy {
  map {
    arch = "/^(aarch64|ppc64|ppc64le)$/"
    pool = "virtual-centos${replace(ver, "-", "")}-${arch}-${flavor == "" ? "medium" : flavor}"
  }
  map {
    arch   = "x86_64"
    flavor = "/^(small|large)$/"
    pool   = "virtual-centos${replace(ver, "-", "")}-${arch}-${flavor}"
  }
  map {
    arch = "x86_64"
    pool = "physical-centos${replace(ver, "-", "")}-${arch}"
  }
}
`

func TestLegacy_pool(t *testing.T) {
	l := load(t, write(t, legacyPool+duffyMap)).Legacy
	for _, test := range []struct{ ver, arch, flavor, want string }{
		{"7", "x86_64", "", "physical-centos7-x86_64"},
		{"8-stream", "x86_64", "", "physical-centos8stream-x86_64"},
		{"9-stream", "x86_64", "small", "virtual-centos9stream-x86_64-small"},
		{"9-stream", "x86_64", "smallish", "physical-centos9stream-x86_64"},
		{"8", "ppc64le", "tiny", "virtual-centos8-ppc64le-tiny"},
		{"8", "aarch64", "", "virtual-centos8-aarch64-medium"},
		{"7", "s390x", "", ""},
		{"7", "notx86_64", "", ""},
	} {
		got, ok := l.Pool(test.ver, test.arch, test.flavor)
		if got != test.want || ok != (test.want != "") {
			t.Errorf("ver %s, arch %s, flavor %s: pool %q, %t, want %q", test.ver, test.arch, test.flavor, got, ok, test.want)
		}
	}
}

// A rule whose template fails at a request leads to no pool, and to no panic.
func TestLegacy_templateFails(t *testing.T) {
	l := load(t, write(t, legacyPool+`legacy {
  map {
    pool = "a${split("-", ver)[1]}"
  }
}`)).Legacy
	if got, ok := l.Pool("7", "x86_64", ""); ok || got != "" {
		t.Errorf("pool %q, %t", got, ok)
	}
	if got, ok := l.Pool("8-stream", "x86_64", ""); !ok || got != "astream" {
		t.Errorf("pool %q, %t", got, ok)
	}
}

func TestLegacy_settings(t *testing.T) {
	day := func(s string) time.Time {
		at, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return at
	}
	for _, test := range []struct {
		name, block string
		want        *config.Legacy
		hostname    string // of n1.example.net
	}{
		{"none", "", nil, ""},
		{
			"defaults", `legacy {
  map {
    pool = "a"
  }
}`,
			&config.Legacy{
				MainPort: true, Version: "7", Arch: "x86_64", Flavors: map[string]string{"aarch64": "tiny", "ppc64le": "tiny"},
				PlainWhenEmpty: true, MaxWait: 30 * time.Second, SessionWindow: 5 * time.Minute, KeepFor: 6 * time.Hour,
				Inventory: config.InventoryAuto, AnonymousInventory: true,
			},
			"n1.example.net",
		},
		{
			"all", `legacy {
  main_port           = false
  default_ver         = "9"
  default_arch        = "aarch64"
  default_flavor      = {}
  hostname            = split(".", hostname)[0]
  when_empty          = "v3"
  max_wait            = "0s"
  session_limit       = 5
  session_window      = "10m"
  keep_for            = "1h"
  kept_nodes          = 5
  inventory           = "rows"
  anonymous_inventory = false
  deprecated          = "2027-01-01"
  sunset              = "2027-07-01"
  link                = "https://example.org/moving"
  map {
    pool = "a"
  }
}`,
			&config.Legacy{
				Version: "9", Arch: "aarch64", Flavors: map[string]string{}, SessionLimit: 5, SessionWindow: 10 * time.Minute,
				KeepFor: time.Hour, KeptNodes: 5, Inventory: config.InventoryRows,
				Deprecated: day("2027-01-01"), Sunset: day("2027-07-01"), Link: "https://example.org/moving",
			},
			"n1",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := load(t, write(t, legacyPool+test.block))
			if diff := cmp.Diff(test.want, f.Legacy, cmpopts.IgnoreUnexported(config.Legacy{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if test.want != nil {
				if got := f.Legacy.Hostname(broker.LentNode{Outputs: broker.Outputs{Hostname: "n1.example.net"}}); got != test.hostname {
					t.Errorf("host name %q, want %q", got, test.hostname)
				}
			}
			if f.Pools[0].NoLegacy || !f.Pools[1].NoLegacy {
				t.Errorf("pool a is closed to the legacy API: %t; metal: %t", f.Pools[0].NoLegacy, f.Pools[1].NoLegacy)
			}
		})
	}
}

// The settings are what a plan compares: all that decides how old jobs are answered,
// and what else is no pool's.
func TestFileSettings(t *testing.T) {
	settings := func(text string) map[string]string {
		t.Helper()
		path := filepath.Join(t.TempDir(), "pools.hcl")
		if err := os.WriteFile(filepath.Join(filepath.Dir(path), "main.tf"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"pool \"a\" {\n  module = \".\"\n}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		f, diags := config.Load(path)
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		all := make(map[string]string)
		for name, value := range f.Settings() {
			all[name] = strings.NewReplacer(`\u0026`, "&", `\u003e`, ">").Replace(string(value))
		}
		return all
	}
	if got := settings(""); len(got) != 0 {
		t.Errorf("without a block: %v", got)
	}
	got := settings(`
locals {
  os   = { name = "centos" }
  gone = "x"
  most = 200
}
terraform {
  runs = 3
}
environment {
  allow = ["ZONE", "REGION"]
}
reload {
  confirm_above = 0.25
}
policy {
  deny "too-large" {
    condition = new != null && new.max_nodes > local.most
  }
  warn "all" {
    condition = sum([for p in pools.new : p.max_nodes]) > 500
  }
}
legacy {
  hostname = upper(hostname)
  sunset   = "2027-06-30"
  deprecated = "2027-01-31"
  when_empty = "v3"
  map {
    arch = "/^(aarch64|ppc64le)$/"
    pool = "virtual-${local.os.name}-${ver}"
  }
  map {
    ver  = "8"
    pool = local.gone
  }
}
`)
	want := map[string]string{
		"main_port": "true", "default_ver": `"7"`, "default_arch": `"x86_64"`, "default_flavor.aarch64": `"tiny"`, "default_flavor.ppc64le": `"tiny"`,
		"when_empty": `"v3"`, "max_wait": `"30s"`, "session_limit": "0", "session_window": `"5m"`, "keep_for": `"6h"`, "kept_nodes": "0",
		"inventory": `"auto"`, "anonymous_inventory": "true", "deprecated": `"2027-01-31"`, "sunset": `"2027-06-30"`,
		"hostname": `"upper(hostname)"`, "map[0].arch": `"/^(aarch64|ppc64le)$/"`, "map[0].pool": `"virtual-${local.os.name}-${ver}"`,
		"map[0].pool.local.os.name": `"centos"`, "map[1].ver": `"8"`, "map[1].pool": `"local.gone"`, "map[1].pool.local.gone": `"x"`,
	}
	others := map[string]string{
		"legacy": "true", "reload.confirm_above": "0.25", "terraform.runs": "3", "policy.deny.too-large.condition": `"new != null && new.max_nodes > local.most"`,
		"policy.deny.too-large.condition.local.most": "200", "environment.allow": `["REGION","ZONE"]`, "policy.warn.all.condition": `"sum([for p in pools.new : p.max_nodes]) > 500"`,
	}
	for name, value := range want {
		others["legacy."+name] = value
	}
	want = others
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("settings (-want +got):\n%s", diff)
	}
}
