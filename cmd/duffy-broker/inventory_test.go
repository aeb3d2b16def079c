package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// rackPool is a pool whose nodes run on machines of an inventory. Its module fails
// on those that stand in the file "bad".
func rackPool(t *testing.T, bad, inventory string) string {
	t.Helper()
	dir := t.TempDir()
	module := `
variable "broker" { type = any }
resource "terraform_data" "node" {
  input = var.broker.host.ipaddr
  provisioner "local-exec" {
    command     = "if grep -qx \"$NAME\" \"$BAD\"; then echo no answer; exit 1; fi"
    environment = { NAME = var.broker.host.name, BAD = "` + bad + `" }
  }
}
output "ipaddr" { value = terraform_data.node.output }
output "data" { value = { arch = var.broker.host.attributes.arch } }
`
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
%s
pool "metal" {
  module        = %q
  fill_level    = 1
  max_nodes     = 5
  contextualize = "none"
  inventory     = { name = "rack", where = { arch = "x86_64" } }
}
`, inventory, dir)
}

// Machines of the file are used, shown, quarantined, repaired, and retired with it.
func TestInventory(t *testing.T) {
	t.Parallel()
	bad := filepath.Join(t.TempDir(), "bad")
	if err := os.WriteFile(bad, []byte("n1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	host := func(name, address, arch string) string {
		return fmt.Sprintf("  host %q {\n    ipaddr     = %q\n    attributes = { arch = %q }\n  }\n", name, address, arch)
	}
	first := "inventory \"rack\" {\n" + host("n1", "192.0.2.1", "x86_64") + host("n2", "192.0.2.2", "x86_64") + host("n3", "192.0.2.3", "ppc64le") + "}\n"
	pools := rackPool(t, bad, first)
	s := newServer(t, pools)
	s.start()
	s.full(2 * time.Minute)
	cli := func(args ...string) string {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		out, err := s.command(ctx, append(args, "--url", s.url)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	has := func(text string, wanted ...string) {
		t.Helper()
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				t.Errorf("%q is not in: %s", want, text)
			}
		}
	}
	has(cli("node", "list", "--inventory", "rack"), "n1 192.0.2.1 - - failed quarantined", "n2 192.0.2.2 - - ready occupied", "n3 192.0.2.3 - - unused unused")
	has(cli("pool", "show", "metal"), "hosts 0 free, 1 in use, 1 in quarantine, 0 broken")
	if nodes := s.must(200, "admin", "GET", "/nodes?state=ready", nil).Nodes; len(nodes) != 1 || nodes[0].Address != "192.0.2.2" {
		t.Errorf("in stock: %+v", nodes)
	}
	if err := os.WriteFile(bad, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	has(cli("node", "show", "1"), "failure_class other", "no answer", "host_failures 1")
	has(cli("node", "repair", "1"), "condition unused")

	// n2 leaves the file while a node in stock runs on it: n1 takes over.
	// The plan has said so, of this host and its node.
	s.writePools(strings.Replace(pools, host("n2", "192.0.2.2", "x86_64"), "", 1))
	p, code, errOut := s.plan("--pools", s.pools, "--server")
	if code != 3 || p.Summary.StockDestroyed != 1 || p.Pools[0].Hosts == nil || len(p.Pools[0].Hosts.Replaced) != 1 || p.Pools[0].Hosts.Usable() != 1 {
		t.Errorf("plan: exit %d, %+v\n%s", code, p.Pools, errOut)
	}
	s.reload()
	s.logs("pools reloaded")
	s.eventually("n1 has taken over", 2*time.Minute, func() error {
		nodes := s.must(200, "admin", "GET", "/nodes?inventory=rack", nil).Nodes
		if len(nodes) != 2 || nodes[0].State != "ready" || nodes[0].Address != "192.0.2.1" {
			return errors.New(fmt.Sprint(nodes))
		}
		return nil
	})
	s.full(time.Minute)
	if p, code, errOut := s.plan("--pools", s.pools, "--server"); code != 0 || len(p.Actions) > 0 {
		t.Errorf("plan of what runs: exit %d, settings %+v, actions %+v\n%s", code, p.Settings, p.Actions, errOut)
	}
	s.stop()
}
