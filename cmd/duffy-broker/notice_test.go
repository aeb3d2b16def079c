package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// spotPool is a pool whose nodes have their token in their directory, as those of a
// cloud have it in their user data.
func spotPool(t *testing.T, fill int) string {
	t.Helper()
	dir := t.TempDir()
	module := `
variable "broker" {
  type = object({ directory = string, url = optional(string), token = optional(string) })
}
resource "terraform_data" "node" {
  input = var.broker.directory
  provisioner "local-exec" {
    command     = "mkdir -p \"$DIR\" && printf '%s' \"$AT\" >\"$DIR/at\""
    environment = { DIR = self.input, AT = "${var.broker.url} ${var.broker.token}" }
  }
  provisioner "local-exec" {
    when        = destroy
    command     = "rm -rf \"$DIR\""
    environment = { DIR = self.input }
  }
}
output "ipaddr" { value = "192.0.2.7" }
`
	if err := os.WriteFile(filepath.Join(dir, "main.tf"), []byte(module), 0o600); err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("pool \"spot\" {\n  module = %q\n  fill_level = %d\n  max_nodes = 4\n  contextualize = \"none\"\n}\n", dir, fill)
}

// say has a node tell the broker that it will be interrupted.
func (s *server) say(uid, auth string) int {
	s.t.Helper()
	at, err := os.ReadFile(filepath.Join(s.data, "nodes", uid, "at"))
	if err != nil {
		s.t.Fatal(err)
	}
	url, token, _ := strings.Cut(string(at), " ")
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url+"/api/v1/notices",
		strings.NewReader(`{"kind":"interruption","action":"terminate","at":"2026-01-02T03:04:05Z"}`))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", fmt.Sprintf(auth, token))
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// Spot instances that are taken away: those in stock are replaced, and who has one
// is told.
func TestInterruptionNotices(t *testing.T) {
	t.Parallel()
	s := newServer(t, spotPool(t, 1))
	s.withNodeURL()
	s.start()
	s.full(time.Minute)
	lent := s.must(201, "demo", "POST", "/sessions", map[string]any{"nodes_specs": []map[string]any{{"pool": "spot", "quantity": 1}}}).Session
	s.full(time.Minute)
	uid := strings.TrimPrefix(lent.Nodes[0].Hostname, "node-")
	stock := ""
	for other, n := range s.knownNodes() {
		if n.State == "ready" {
			stock = other
		}
	}
	for _, wrong := range []string{"Bearer %sx", "Basic %s", "%s"} {
		if got := s.say(stock, wrong); got != 401 {
			t.Errorf("%s: %d", wrong, got)
		}
	}
	// The root key is another one by the time of the notice.
	s.stop()
	s.key("rotate")
	s.start()
	for _, node := range []string{uid, uid, stock} {
		if got := s.say(node, "Bearer %s"); got != 204 {
			t.Errorf("notice of %s: %d", node, got)
		}
	}
	s.eventually("the node in stock is replaced", time.Minute, func() error {
		known := s.knownNodes()
		if n, ok := known[stock]; ok && n.State != "done" {
			return fmt.Errorf("node %s is %s", stock, n.State)
		}
		for other, n := range known {
			if n.State == "ready" && other != stock {
				return nil
			}
		}
		return errors.New("no other is ready")
	})
	seen := s.readAs("demo", fmt.Sprintf("/api/v1/nodes/%d", lent.Nodes[0].ID)) + s.readAs("demo", fmt.Sprintf("/api/v1/sessions/%d/events", lent.ID))
	for _, want := range []string{`"interruption":"terminate"`, `"interrupted_at":"2026-01-02T03:04:05`, `"state":"deployed"`, "it will be interrupted (terminate) at 2026-01-02T03:04:05Z"} {
		if !strings.Contains(seen, want) {
			t.Errorf("the tenant does not see %s: %s", want, seen)
		}
	}
	if n := strings.Count(seen, "it will be interrupted"); n != 1 {
		t.Errorf("the tenant is told %d times", n)
	}
	if metrics := s.readAs("admin", "/metrics"); !strings.Contains(metrics, `duffy_broker_interruption_notices_total{pool="spot",state="deployed"} 1`) ||
		!strings.Contains(metrics, `duffy_broker_interruption_notices_total{pool="spot",state="ready"} 1`) {
		t.Error("the metrics do not count the notices")
	}
	if strings.Contains(s.log.String(), `"level":"ERROR"`) || !strings.Contains(s.log.String(), "a node will be interrupted") {
		t.Errorf("the log: %s", tail(s.log.String(), 3000))
	}
	s.must(200, "demo", "PUT", fmt.Sprintf("/sessions/%d", lent.ID), map[string]any{"active": false})
	s.writePools(spotPool(t, 0))
	s.reload()
	s.full(time.Minute)
	s.stop()
}
