// Package ec2_test proves modules/aws-ec2 against brokertest/ec2, with the provider that
// the module names and through the real broker. What needs the provider runs with
// `make test-aws` only: it takes minutes to build.
package ec2_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/ec2"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
)

func TestMain(m *testing.M) { os.Exit(live.Main(m)) }

// startCloud gives a region whose instances are SSH nodes.
func startCloud(t *testing.T, cfg ec2.Config) *ec2.Server {
	t.Helper()
	cfg.Boot, cfg.Shutdown = ec2.SSHNodes(t.TempDir(), live.Binary())
	return ec2.Start(t, cfg)
}

// module gives the folder of the module.
func module(t *testing.T) string {
	t.Helper()
	return filepath.Join(providers.Root(t), "modules", "aws-ec2")
}

// endpoints are the module's variable for a cloud.
func endpoints(cloud *ec2.Server) map[string]string {
	return map[string]string{"ec2": cloud.URL(), "sts": cloud.URL(), "resourcegroupstaggingapi": cloud.URL()}
}

// sshPort is where nodes of modules/local listen.
func sshPort(t *testing.T) int {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.77.77.77:22")
	if err != nil {
		return 2222 // not root, or the machine's own sshd has it
	}
	_ = l.Close()
	return 22
}

// workspace is one directory with the module, as a broker's run has it.
type workspace struct {
	t         *testing.T
	terraform string
	dir       string
	env       []string
	cloud     *ec2.Server
}

const nodeID = "00c0ffee00c0ffee"

// hostKey gives a host key as the broker makes them.
func hostKey(t *testing.T) (private, public string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(block)), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))
}

// newWorkspace makes a workspace whose variables are those of a small node, changed.
func newWorkspace(t *testing.T, cloud *ec2.Server, change map[string]any) *workspace {
	t.Helper()
	config := providers.Config(t, "aws")
	w := &workspace{t: t, terraform: brokertest.NeedProgram(t, "terraform"), dir: filepath.Join(t.TempDir(), "module"), cloud: cloud}
	w.env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+config, "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "HOME="+w.dir)
	w.env = append(w.env, cloud.Environment()...)
	if err := os.CopyFS(w.dir, os.DirFS(module(t))); err != nil {
		t.Fatal(err)
	}
	w.vary(change)
	w.must("init", "-input=false")
	return w
}

// vary writes the variables of a small node, changed; nil takes one away.
func (w *workspace) vary(change map[string]any) {
	w.t.Helper()
	private, public := hostKey(w.t)
	variables := map[string]any{
		"broker": map[string]any{
			"id": "b", "node_id": nodeID, "pool": "p", "hostname": "node-" + nodeID, "tags": map[string]string{"duffy:broker-id": "b", "duffy:node-id": nodeID, "duffy:pool": "p"},
			"ssh_public_keys": []string{public}, "ssh_host_key": map[string]string{"private_key": private, "public_key": public},
			"url": "http://broker.example", "token": "secret-of-the-node",
		},
		"endpoints": endpoints(w.cloud), "instance_type": "c5.large", "image_owner": "125523088429", "image_name": "CentOS Stream 9 *",
		"ssh_cidr_blocks": []string{"192.0.2.0/24", "2001:db8::/32"},
	}
	for name, value := range change {
		if value == nil {
			delete(variables, name)
		} else {
			variables[name] = value
		}
	}
	text, err := json.Marshal(variables)
	if err == nil {
		err = os.WriteFile(filepath.Join(w.dir, "terraform.tfvars.json"), text, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *workspace) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(w.t.Context(), w.terraform, args...)
	cmd.Dir, cmd.Env = w.dir, w.env
	return cmd
}

// run gives what Terraform prints, and the code that it exits with.
func (w *workspace) run(args ...string) (string, int) {
	w.t.Helper()
	cmd := w.command(args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if cmd.ProcessState == nil {
		w.t.Fatal(err)
	}
	// Frames and line breaks follow the width of a terminal.
	words := strings.Fields(strings.ReplaceAll(out.String(), "│", " "))
	return strings.Join(words, " "), cmd.ProcessState.ExitCode()
}

func (w *workspace) must(args ...string) string {
	w.t.Helper()
	out, code := w.run(args...)
	if code != 0 {
		w.t.Fatalf("terraform %s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

func (w *workspace) apply() string {
	w.t.Helper()
	return w.must("apply", "-auto-approve", "-input=false", "-no-color")
}

func (w *workspace) destroy() {
	w.t.Helper()
	w.must("destroy", "-auto-approve", "-input=false", "-no-color")
}

// outputs gives the values of all outputs.
func (w *workspace) outputs() map[string]any {
	w.t.Helper()
	cmd := w.command("output", "-json", "-no-color")
	text, err := cmd.Output()
	var all map[string]struct{ Value any }
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	values := map[string]any{}
	for name, output := range all {
		values[name] = output.Value
	}
	return values
}

// wantNothing fails the test if anything is left in the cloud.
func wantNothing(t *testing.T, cloud *ec2.Server) {
	t.Helper()
	if left := cloud.Left(); len(left) > 0 {
		t.Errorf("left in the cloud: %v", left)
	}
}

// pool writes a pool of the module.
func pool(t *testing.T, name string, cloud *ec2.Server, variables map[string]any, more string) string {
	t.Helper()
	all := map[string]any{
		"endpoints": endpoints(cloud), "image_owner": "125523088429", "image_name": "CentOS Stream 9 *", "instance_type": "c5.large", "ssh_cidr_blocks": []string{"127.0.0.0/8"}, "ssh_port": sshPort(t),
	}
	maps.Copy(all, variables)
	text, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("pool %q {\n  module = %q\n  fill_level = 1\n  variables = jsondecode(%q)\n%s\n}\n", name, module(t), text, more)
}
