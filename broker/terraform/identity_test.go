package terraform

import (
	"crypto/ed25519"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// texts is what a node gets to see of its identity.
type texts struct{ token, private, public string }

func identityOf(t *testing.T, e *Engine, n broker.Node) texts {
	t.Helper()
	i, err := e.identity(n)
	if err != nil {
		t.Fatal(err)
	}
	private, public := i.hostKey()
	return texts{i.token(), private, public}
}

func TestIdentity(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	n.Identity = e.NewIdentity(n.UID)
	own := identityOf(t, e, n)
	if again := identityOf(t, e, n); again != own {
		t.Error("the second time it is another")
	}
	hex, ok := strings.CutPrefix(own.token, n.UID+"-")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		t.Errorf("token %q of node %s", own.token, n.UID)
	}

	raw, err := ssh.ParseRawPrivateKey([]byte(own.private))
	if err != nil {
		t.Fatal(err)
	}
	key, ok := raw.(*ed25519.PrivateKey)
	if !ok {
		t.Fatalf("the host key is a %T", raw)
	}
	public, err := ssh.NewPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if want := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(public))); own.public != want || !strings.HasPrefix(want, "ssh-ed25519 AAAA") {
		t.Errorf("public key %q, want %q", own.public, want)
	}

	other := n
	other.UID = broker.NewUID()
	other.Identity = e.NewIdentity(other.UID)
	if got := identityOf(t, e, other); got.private == own.private || got.token[17:] == own.token[17:] {
		t.Error("two nodes have the same identity")
	}
	other.Identity = n.Identity // moved from one record to another
	if _, err := e.identity(other); err == nil {
		t.Error("the identity of a node can be used for another one")
	}
	if e.VerifyToken(other, identityOf(t, e, n).token) {
		t.Error("and so can its token")
	}

	if !e.VerifyToken(n, own.token) {
		t.Error("its own token is refused")
	}
	for _, bad := range []string{"", n.UID, n.UID + "-", own.token[:len(own.token)-1], own.token + "0", strings.ToUpper(own.token), " " + own.token, n.UID + "-" + strings.Repeat("0", 64)} {
		if e.VerifyToken(n, bad) {
			t.Errorf("token %q is accepted", bad)
		}
	}
	n.Identity = nil
	if e.VerifyToken(n, "") || e.VerifyToken(n, own.token) {
		t.Error("a node without an identity has a token")
	}
}

// The key is one that OpenSSH takes.
func TestIdentityHostKeyInOpenSSH(t *testing.T) {
	program := brokertest.NeedProgram(t, "ssh-keygen")
	e, n := fakeEngine(t, "", "")
	n.Identity = e.NewIdentity(n.UID)
	own := identityOf(t, e, n)
	path := filepath.Join(t.TempDir(), "ssh_host_ed25519_key")
	write(t, path, own.private)
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "-y", "-f", path).CombinedOutput()
	if got := strings.TrimSpace(string(out)); err != nil || got != own.public {
		t.Errorf("ssh-keygen: %q, %v, want %q", got, err, own.public)
	}
}

// What a node is told of itself is the same in each run, whatever becomes of the
// root key between them.
func TestIdentityInTheVariables(t *testing.T) {
	const url = "https://broker.example.org/duffy"
	e, n := fakeEngine(t, "", "")
	about := func(e *Engine) map[string]any {
		t.Helper()
		text, err := e.variables(n)
		if err != nil {
			t.Fatal(err)
		}
		var all struct {
			Broker map[string]any `json:"broker"`
		}
		if err := json.Unmarshal(text, &all); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"url": all.Broker["url"], "token": all.Broker["token"], "ssh_host_key": all.Broker["ssh_host_key"]}
	}
	if diff := cmp.Diff(map[string]any{"url": nil, "token": nil, "ssh_host_key": nil}, about(e)); diff != "" {
		t.Errorf("a node without an identity (-want +got):\n%s", diff)
	}
	n.Identity = e.NewIdentity(n.UID)
	own := identityOf(t, e, n)
	key := map[string]any{"private_key": own.private, "public_key": own.public}
	if diff := cmp.Diff(map[string]any{"url": nil, "token": nil, "ssh_host_key": key}, about(e)); diff != "" {
		t.Errorf("a broker without a URL for nodes (-want +got):\n%s", diff)
	}
	e.NodeURL = url
	want := map[string]any{"url": url, "token": own.token, "ssh_host_key": key}
	if diff := cmp.Diff(want, about(e)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	e = rotated(t, e)
	e.NodeURL = url
	if diff := cmp.Diff(want, about(e)); diff != "" {
		t.Errorf("after a rotation (-want +got):\n%s", diff)
	}
	resealed, _, err := e.Reseal(n, nil)
	if err != nil {
		t.Fatal(err)
	}
	n = resealed
	if ids := e.SealedWith(n, nil); len(ids) != 1 || ids[0] != keyring(t, e).Current().ID() {
		t.Errorf("it is sealed with %v", ids)
	}
	if diff := cmp.Diff(want, about(e)); diff != "" {
		t.Errorf("after it was sealed anew (-want +got):\n%s", diff)
	}
	if !e.VerifyToken(n, own.token) {
		t.Error("and its token is refused")
	}
}

// No log, error or output shows what only the node may know, whatever the module
// does with it; and Terraform sees no change between two runs.
func TestIdentityIsMasked(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"), func(c *Config) { c.NodeURL = "http://192.0.2.1:8080" })
	n := broker.NewNode(prepared(t, e, modulePool(t, `
variable "broker" {
  type = object({
    node_id      = string
    url          = optional(string)
    token        = optional(string)
    ssh_host_key = optional(object({ private_key = string, public_key = string }))
  })
}
resource "terraform_data" "node" {
  input = var.broker
  provisioner "local-exec" {
    command     = "printf '%s\\n' \"$URL\" \"$TOKEN\" \"$KEY\" \"$WRAPPED\" visible"
    environment = { URL = self.input.url, TOKEN = self.input.token, KEY = self.input.ssh_host_key.private_key, WRAPPED = base64encode(self.input.ssh_host_key.private_key) }
  }
}
output "ipaddr" { value = "192.0.2.7" }
output "data" { value = var.broker }
`, nil)), time.Now())
	n.Identity = e.NewIdentity(n.UID)
	own := identityOf(t, e, n)
	result := apply(t, e, n)
	log := openLog(t, e, n, result.Runs[0])
	for what, text := range map[string]string{"log": log, "output": string(result.Outputs.Data)} {
		if strings.Contains(text, own.token) || strings.Contains(text, "BEGIN OPENSSH") || strings.Contains(text, own.private[100:130]) {
			t.Errorf("the %s holds a secret:\n%s", what, text)
		}
		if !strings.Contains(text, masked) {
			t.Errorf("the %s lacks what is masked:\n%s", what, text)
		}
	}
	if !strings.Contains(log, "visible") || !strings.Contains(string(result.Outputs.Data), own.public) || !json.Valid(result.Outputs.Data) {
		t.Errorf("too much is masked:\n%s\n%s", log, result.Outputs.Data)
	}
	destroy(t, e, n, result.State)
}
