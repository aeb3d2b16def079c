package terraform

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// hostModule tells what it knows of its host, and says the host's secret aloud.
const hostModule = `
variable "broker" {
  type = object({ node_id = string, host = optional(object({
    name = string, hostname = string, ipaddr = string, mac = optional(string),
    bmc  = optional(object({ address = string, kind = string })), attributes = map(string)
  })) })
}
resource "terraform_data" "machine" {
  input = var.broker.host
  provisioner "local-exec" {
    command = "echo made with $BMC_PASSWORD as $BMC_USER; printf %s \"$BMC_PASSWORD\" | sha256sum > \"$PROOF\""
  }
  provisioner "local-exec" {
    when    = destroy
    command = "echo destroyed with $BMC_PASSWORD; printf %s \"$BMC_PASSWORD\" | sha256sum >> \"$PROOF\""
  }
}
output "ipaddr" { value = var.broker.host == null ? "127.0.0.1" : var.broker.host.ipaddr }
output "data" { value = terraform_data.machine.output }
`

// A module is told of its host, and gets the host's credentials by the environment
// of each run. They are neither in its state nor in its log.
func TestHostOfANode(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	dir := t.TempDir()
	secret, proof := filepath.Join(dir, "password"), filepath.Join(dir, "proof")
	write(t, secret, "first-bmc-secret\n")
	p := modulePool(t, hostModule, nil)
	p.Environment = broker.Environment{Environ: map[string]string{"PROOF": proof}, Credentials: map[string]string{"BMC_USER": "env:HOME"}}
	p = prepared(t, e, p)
	n := broker.NewNode(p, time.Now())
	n.Host = &broker.NodeHost{
		ID: 5, Inventory: "rack1", Name: "n1", Hostname: "n1.example.net", Address: "192.0.2.1", MAC: "52:54:00:12:34:56",
		BMC: &broker.BMC{Address: "192.0.2.101", Kind: "redfish"}, Attributes: map[string]string{"arch": "x86_64", "rack": "4"},
		Credentials: map[string]string{"BMC_PASSWORD": "file:" + secret},
	}
	result := apply(t, e, n)
	var data any
	if err := json.Unmarshal(result.Outputs.Data, &data); err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"name": "n1", "hostname": "n1.example.net", "ipaddr": "192.0.2.1", "mac": "52:54:00:12:34:56",
		"bmc": map[string]any{"address": "192.0.2.101", "kind": "redfish"}, "attributes": map[string]any{"arch": "x86_64", "rack": "4"},
	}
	if diff := cmp.Diff(want, data); diff != "" || result.Outputs.Address != "192.0.2.1" {
		t.Errorf("address %s, data (-want +got):\n%s", result.Outputs.Address, diff)
	}
	check := func(what string, runs []broker.Run) {
		t.Helper()
		if len(runs) == 0 {
			t.Fatalf("no run to %s", what)
		}
		for _, r := range runs {
			log := openLog(t, e, n, r)
			if !strings.Contains(log, what+" with "+masked) || strings.Contains(log, "bmc-secret") {
				t.Errorf("the log does not say it masked:\n%s", log)
			}
		}
	}
	check("made", result.Runs)
	plain, err := e.unseal(n, result.State)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(plain.raw, []byte("bmc-secret")) {
		t.Error("the secret is in the state")
	}
	discard(t, e, n)
	if found := filesWith(t, e.Dir, "bmc-secret"); len(found) > 0 {
		t.Errorf("the secret is kept in %v", found)
	}
	write(t, secret, "second-bmc-secret\n") // it was changed meanwhile
	destroyed, err := e.Destroy(t.Context(), n, result.State)
	if err != nil || destroyed.State != nil {
		t.Fatalf("%+v, %v", destroyed, err)
	}
	check("destroyed", destroyed.Runs)
	text, err := os.ReadFile(proof)
	if err != nil {
		t.Fatal(err)
	}
	if lines := strings.Fields(string(text)); len(lines) != 4 || lines[0] == lines[2] {
		t.Errorf("the runs had the secrets of these sums: %s", text)
	}

	// A node without a host, of the same module.
	bare := broker.NewNode(p, time.Now())
	result = apply(t, e, bare)
	if result.Outputs.Address != "127.0.0.1" {
		t.Errorf("address %s", result.Outputs.Address)
	}
	destroy(t, e, bare, result.State)
}
