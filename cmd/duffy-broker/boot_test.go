package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const bootMAC = "52:54:00:12:34:56"

// bootPool is a pool whose module boots a machine from the broker: it writes what
// the machine is to fetch, and waits until it calls home.
func bootPool(t *testing.T, fill int) string {
	t.Helper()
	dir := t.TempDir()
	module := `
variable "broker" {
  type = object({
    directory    = string
    host         = optional(object({ ipaddr = string }))
    url          = string
    token        = string
    ssh_host_key = object({ private_key = string, public_key = string })
  })
}
resource "terraform_data" "boot" {
  input = var.broker.directory
  provisioner "local-exec" {
    command     = <<-EOT
      mkdir -p "$DIR/boot/keys"
      printf '#!ipxe\nkernel %s/boot/%s/vmlinuz\n' "$URL" "$TOKEN" | tee "$DIR/boot/boot.ipxe.new"
      printf '%s' "$KEY" >"$DIR/boot/keys/ed25519"
      printf kernel >"$DIR/boot/vmlinuz"
      ln -s ../../../broker.db "$DIR/boot/link"
      mv "$DIR/boot/boot.ipxe.new" "$DIR/boot/boot.ipxe"
      until test -s "$DIR/boot-done.json"; do sleep 0.1; done
    EOT
    environment = { DIR = self.input, URL = var.broker.url, TOKEN = var.broker.token, KEY = var.broker.ssh_host_key.private_key }
  }
  provisioner "local-exec" {
    when        = destroy
    command     = "rm -rf \"$DIR\""
    environment = { DIR = self.input }
  }
}
output "ipaddr" { value = var.broker.host.ipaddr }
output "ssh_host_keys" {
  value = concat(try(jsondecode(file("${terraform_data.boot.output}/boot-done.json")).ssh_host_keys, []), [var.broker.ssh_host_key.public_key])
}
output "data" { value = { all = var.broker } }
`
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`
inventory "rack" {
  host "n1" {
    ipaddr = "192.0.2.1"
    mac    = %q
  }
}
pool "metal" {
  module        = %q
  fill_level    = %d
  max_nodes     = 1
  contextualize = "none"
  inventory     = { name = "rack" }
}
`, bootMAC, dir, fill)
}

// withNodeURL gives a server a port of its own, on which nodes reach it.
func (s *server) withNodeURL() {
	s.t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.extra = append(s.extra, "--listen", l.Addr().String(), "--node-url", "http://"+l.Addr().String()+"/")
}

// fetch is what a machine can do: one request without any account.
func fetch(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// A bare machine boots from the broker, once, and nobody else gets to see what it
// boots with.
func TestBootFromTheBroker(t *testing.T) {
	t.Parallel()
	s := newServer(t, bootPool(t, 1))
	s.withNodeURL()
	s.start()
	status := func(want int, method, url string) string {
		t.Helper()
		got, body := fetch(t, method, url, "")
		if got != want {
			t.Errorf("%s %s: %d %s, want %d", method, url, got, body, want)
		}
		return body
	}

	// The firmware's iPXE knows its card, and nothing else.
	var chain string
	s.eventually("the machine gets its script", time.Minute, func() error {
		code, script := fetch(t, http.MethodGet, s.url+"/boot/mac/"+strings.ReplaceAll(bootMAC, ":", "-"), "")
		first, rest, _ := strings.Cut(script, "\n")
		var ok bool
		if chain, ok = strings.CutPrefix(strings.TrimSpace(rest), "chain --replace "); code != 200 || first != "#!ipxe" || !ok {
			return fmt.Errorf("%d %q", code, script)
		}
		return nil
	})
	at, ok := strings.CutSuffix(chain, "/boot.ipxe")
	if !ok || !strings.HasPrefix(at, s.url+"/boot/") {
		t.Fatalf("the script chains to %q", chain)
	}
	token := strings.TrimPrefix(at, s.url+"/boot/")
	if got := status(200, http.MethodGet, s.url+"/boot/mac/52:54:00:12:34:57"); got != "#!ipxe\nexit\n" {
		t.Errorf("another machine gets %q", got)
	}
	s.eventually("the module has written the files", time.Minute, func() error {
		code, script := fetch(t, http.MethodGet, chain, "")
		if code != 200 || script != "#!ipxe\nkernel "+at+"/vmlinuz\n" {
			return fmt.Errorf("%d %q", code, script)
		}
		return nil
	})
	if got := status(200, http.MethodGet, at+"/vmlinuz"); got != "kernel" {
		t.Errorf("the kernel is %q", got)
	}
	key := status(200, http.MethodGet, at+"/keys/ed25519")
	if !strings.HasPrefix(key, "-----BEGIN OPENSSH PRIVATE KEY-----\n") {
		t.Errorf("the host key is %q", key)
	}
	status(200, http.MethodHead, chain)
	status(404, http.MethodGet, at+"/link")
	status(404, http.MethodGet, at+"/keys")
	status(404, http.MethodGet, at+"/..%2f..%2f..%2fbroker.db")
	status(401, http.MethodGet, at[:len(at)-1]+"x/vmlinuz")
	if got := s.must(200, "admin", "GET", "/nodes?pool=metal", nil).Nodes; len(got) != 1 || got[0].State != "provisioning" {
		t.Errorf("nodes while the machine boots: %+v", got)
	}

	// It calls home with the simplest of clients.
	for range 2 {
		if code, body := fetch(t, http.MethodPost, at+"/done", `{"ssh_host_keys": ["ssh-rsa AAAAB3Nza root@n1"]}`); code != 204 {
			t.Errorf("calling home: %d %s", code, body)
		}
	}
	s.full(time.Minute)
	n := s.must(200, "admin", "GET", "/nodes?pool=metal", nil).Nodes[0]
	if len(n.HostKeys) != 2 || n.HostKeys[0] != "ssh-rsa AAAAB3Nza" || !strings.HasPrefix(n.HostKeys[1], "ssh-ed25519 AAAA") {
		t.Errorf("host keys %q", n.HostKeys)
	}
	over := func() {
		t.Helper()
		status(403, http.MethodGet, chain)
		if got := status(200, http.MethodGet, s.url+"/boot/mac/"+bootMAC); got != "#!ipxe\nexit\n" {
			t.Errorf("the machine that has booted gets %q", got)
		}
	}
	over()

	// A new root key changes nothing for the node.
	s.stop()
	log := s.log.String()
	s.key("rotate")
	for _, again := range []bool{false, true} {
		s.start()
		s.logs("sealed anew")
		over()
		s.stop()
		log += s.log.String()
		if !again {
			s.key("rotate")
		}
	}
	s.start()
	over()

	// Nobody has heard of the secrets but the node.
	stored := fmt.Sprintf("%+v", s.must(200, "admin", "GET", "/nodes", nil))
	for _, path := range []string{"/nodes/", "/nodes/1", "/nodes/2", "/nodes/1/logs", "/nodes/2/logs", "/snapshot", "/events?after=0"} {
		stored += s.readAs("admin", "/api/v1"+path)
	}
	for what, text := range map[string]string{"log": log + s.log.String() + s.out.String(), "API": stored} {
		if strings.Contains(text, token) || strings.Contains(text, "BEGIN OPENSSH") || strings.Contains(text, strings.Split(key, "\n")[1]) {
			t.Errorf("the %s holds a secret of the node", what)
		}
	}
	for _, want := range []string{"it has booted, and calls home from 127.0.0.1", "**********"} {
		if !strings.Contains(stored, want) {
			t.Errorf("the API says nothing of %q", want)
		}
	}
	if !strings.Contains(log, `"file":"boot.ipxe"`) || !strings.Contains(log, `"path":"/boot/*/boot.ipxe"`) {
		t.Error("the log tells of no fetch")
	}

	s.writePools(bootPool(t, 0))
	s.reload()
	s.eventually("the node is gone", time.Minute, func() error {
		if code, body := fetch(t, http.MethodGet, chain, ""); code != 401 {
			return fmt.Errorf("%d %s", code, body)
		}
		return nil
	})
	s.stop()
}

// readAs gives an answer as it is; a stream as far as it goes in a second.
func (s *server) readAs(tenant, path string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.SetBasicAuth(tenant, s.profile.Tenants[tenant].APIKey)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		s.t.Fatal(err)
	}
	return string(text)
}
