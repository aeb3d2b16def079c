package config_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// A host says the same in a block and in an expression.
func TestInventories(t *testing.T) {
	f, diags := loadText(t, `
inventory "rack1" {
  hosts = { n2 = { ipaddr = "2001:DB8::2", mac = "52-54-00-AB-CD-EF", attributes = { arch = "x86_64", rack = 4, ssd = true, gone = null } } }
  host "n1" {
    hostname    = "n1.example.net"
    ipaddr      = "192.0.2.1"
    bmc         = { address = "192.0.2.9", kind = "ipmi" }
    credentials = { IPMI_PASSWORD = "env:RACK1" }
    comment     = "loud"
  }
}
inventory "list" {
  hosts = [{ name = "n1", ipaddr = "192.0.2.3" }]
}
inventory "none" {}
defaults { inventory = { name = "rack1", where = { rack = 4 } } }
pool "a" { module = "module" }
pool "b" {
  module    = "module"
  inventory = "none"
}
pool "c" {
  module    = "module"
  inventory = "api"
}
pool "d" {
  module    = "module"
  inventory = ""
}
`)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	host := func(h broker.Host) broker.Host {
		h.Reusable = true
		if h.Data == nil {
			h.Data, h.Attributes = json.RawMessage("{}"), map[string]string{}
		}
		return h
	}
	want := []broker.Inventory{
		{Name: "rack1", Hosts: []broker.Host{
			host(broker.Host{
				Name: "n2", Hostname: "n2", Address: "2001:db8::2", MAC: "52:54:00:ab:cd:ef", Data: json.RawMessage(`{"arch":"x86_64","rack":4,"ssd":true}`),
				Attributes: map[string]string{"arch": "x86_64", "rack": "4", "ssd": "true"},
			}),
			host(broker.Host{
				Name: "n1", Hostname: "n1.example.net", Address: "192.0.2.1", BMC: &broker.BMC{Address: "192.0.2.9", Kind: "ipmi"},
				Credentials: map[string]string{"IPMI_PASSWORD": "env:RACK1"}, Comment: "loud",
			}),
		}},
		{Name: "list", Hosts: []broker.Host{host(broker.Host{Name: "n1", Hostname: "n1", Address: "192.0.2.3"})}},
		{Name: "none", Hosts: []broker.Host{}},
	}
	if diff := cmp.Diff(want, f.Inventories); diff != "" {
		t.Errorf("inventories (-want +got):\n%s", diff)
	}
	wanted := []broker.HostSelector{{Name: "rack1", Where: map[string]string{"rack": "4"}}, {Name: "none"}, {Name: "api"}, {}}
	for i, p := range f.Pools {
		if diff := cmp.Diff(wanted[i], p.Inventory); diff != "" {
			t.Errorf("pool %s (-want +got):\n%s", p.Name, diff)
		}
	}
}

// Fixed machines are not for old jobs, unless their pool says so.
func TestInventoryAndLegacy(t *testing.T) {
	f, diags := loadText(t, `
inventory "rack1" {}
template "fixed" { inventory = "rack1" }
pool "vm" { module = "module" }
pool "metal" {
  module  = "module"
  extends = "fixed"
}
pool "offered" {
  module    = "module"
  inventory = "rack1"
  legacy    = true
}
pool "api" {
  module    = "module"
  inventory = "api"
}
`)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	got := make(map[string]bool)
	for _, p := range f.Pools {
		got[p.Name] = !p.NoLegacy
	}
	if diff := cmp.Diff(map[string]bool{"vm": true, "metal": false, "offered": true, "api": false}, got); diff != "" {
		t.Errorf("offered to the legacy API (-want +got):\n%s", diff)
	}
}
