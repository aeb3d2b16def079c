package ec2_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/ec2"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
)

// newBroker prepares a broker with the provider and the way into a cloud.
func newBroker(t *testing.T, cloud *ec2.Server, pools string) *live.Broker {
	t.Helper()
	config := providers.Config(t, "aws")
	b := live.New(t, pools)
	b.Env = append(append(b.Env, "TF_CLI_CONFIG_FILE="+config, "HOME="+t.TempDir()), cloud.Environment()...)
	return b
}

// What the module exists for, on demand, spot, metal and both architectures: stock,
// session, SSH with the host key that was known before the machine was, back, and
// nothing left.
func TestWholeLife(t *testing.T) {
	cloud := startCloud(t, ec2.Config{PageSize: 1})
	group := cloud.AddGroup("vpc-00000000000000001")
	pools := pool(t, "x86", cloud, nil, "") +
		pool(t, "arm", cloud, map[string]any{"arch": "aarch64", "instance_type": "c6g.large", "market": "spot", "public_ip": true, "availability_zone": "us-east-1c"}, "") +
		pool(t, "metal", cloud, map[string]any{"instance_type": "c5n.metal", "security_group_ids": []string{group}, "ssh_cidr_blocks": []string{}}, "create_timeout = \"45m\"\n  ready {\n    timeout = \"30m\"\n  }\n")
	b := newBroker(t, cloud, pools)
	b.Start()
	for _, name := range []string{"x86", "arm", "metal"} {
		b.Ready(name, 1, 5*time.Minute)
	}
	// What a session of each pool gives.
	for name, want := range map[string]map[string]any{
		"x86":   {"instance_type": "c5.large", "arch": "x86_64", "zone": "us-east-1a", "image": "ami-00000000000000862", "image_name": "CentOS Stream 9 x86_64 20260201", "market": "on-demand"},
		"arm":   {"instance_type": "c6g.large", "arch": "aarch64", "zone": "us-east-1c", "image": "ami-00000000000000642", "image_name": "CentOS Stream 9 aarch64 20260201", "market": "spot"},
		"metal": {"instance_type": "c5n.metal", "arch": "x86_64", "zone": "us-east-1a", "image": "ami-00000000000000862", "image_name": "CentOS Stream 9 x86_64 20260201", "market": "on-demand"},
	} {
		s := b.Request(name, 1)
		n := s.Nodes[0]
		if got := strings.TrimSpace(b.SSH(n, `echo "$DUFFY_NODE"`)); got != n.Hostname {
			t.Errorf("%s: over SSH it calls itself %q, want %q", name, got, n.Hostname)
		}
		at := slices.IndexFunc(cloud.Running(), func(i ec2.Instance) bool { return i.Tags["duffy:node-id"] == n.UID() })
		if at < 0 {
			t.Fatalf("%s: no instance of node %s", name, n.UID())
		}
		i := cloud.Running()[at]
		if address := max(i.Public, i.Private); name != "arm" && n.Address != address || name == "arm" && n.Address != i.Public {
			t.Errorf("%s: the session names %s, the instance has %s and %s", name, n.Address, i.Private, i.Public)
		}
		told, err := ec2.ParseUserData(i.UserData)
		if err != nil {
			t.Fatal(err)
		}
		signer, err := ssh.ParsePrivateKey([]byte(told.HostKey))
		if err != nil {
			t.Fatalf("%s: the host key in the user data: %v", name, err)
		}
		if want := []string{strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))}; !slices.Equal(n.HostKeys, want) {
			t.Errorf("%s: the session names the host keys %q, the broker made %q", name, n.HostKeys, want)
		}
		var data struct{ Provision map[string]any }
		if err := json.Unmarshal(n.Data, &data); err != nil {
			t.Fatal(err)
		}
		maps.DeleteFunc(data.Provision, func(key string, _ any) bool { // besides what the broker tells of every node
			_, ours := want[key]
			return !ours && key != "instance_id"
		})
		want["instance_id"] = i.ID
		if diff := cmp.Diff(want, data.Provision); diff != "" {
			t.Errorf("%s: data (-want +got):\n%s", name, diff)
		}
		b.Retire(s)
	}
	b.Drain(5 * time.Minute)
	wantNothing(t, cloud)
	b.Stop()
	wantPolicy(t, cloud.Actions())
}

// wantPolicy fails the test if the README's policy does not allow what was called.
func wantPolicy(t *testing.T, actions []string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(module(t), "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?s)```json\n(.*?)```").FindSubmatch(text)
	if found == nil {
		t.Fatal("the README has no policy")
	}
	var policy struct{ Statement []struct{ Action []string } }
	if err := json.Unmarshal(found[1], &policy); err != nil {
		t.Fatal(err)
	}
	var allowed []string
	for _, statement := range policy.Statement {
		allowed = append(allowed, statement.Action...)
	}
	for _, action := range actions {
		if action != "sts:GetCallerIdentity" && !slices.Contains(allowed, action) { // nobody needs leave for that
			t.Errorf("the policy of the README lacks %s", action)
		}
	}
}

// A zone without capacity is left for the next one, spot for on demand.
func TestVariants(t *testing.T) {
	cloud := startCloud(t, ec2.Config{})
	variants := `
  variant "spot-a" {
    variables = { market = "spot", subnet_id = "subnet-0000000000000000a" }
  }
  variant "a" {
    variables = { subnet_id = "subnet-0000000000000000a" }
  }
  variant "b" {
    variables = { subnet_id = "subnet-0000000000000000b" }
  }
`
	cloud.SetFailures(
		ec2.Failure{Action: "RunInstances", Code: "MaxSpotInstanceCountExceeded", Spot: true},
		ec2.Failure{Action: "RunInstances", Code: "InsufficientInstanceCapacity", Zone: "us-east-1a"},
	)
	b := newBroker(t, cloud, pool(t, "p", cloud, nil, variants))
	b.Start()
	b.Eventually("a node is ready", 5*time.Minute, func() error {
		for _, n := range b.Nodes("p") {
			if n.State == "ready" {
				if n.Variant != "b" {
					return live.Final(fmt.Errorf("it was made from variant %q", n.Variant))
				}
				return nil
			}
		}
		return errors.New("none")
	})
	if running := cloud.Running(); len(running) != 1 || running[0].Zone != "us-east-1b" || running[0].Spot != "" {
		t.Errorf("instances %+v", running)
	}
	shown := b.Run("pool", "show", "p")
	if !strings.Contains(shown, "spot-a") {
		t.Errorf("pool show: %s", shown)
	}
	cloud.SetFailures()
	b.Drain(5 * time.Minute)
	wantNothing(t, cloud)
	b.Stop()
}

// Terraform is killed while EC2 makes an instance, of which nobody learns the id. The
// sweep finds it, also where the node's own security group can't go before it.
func TestKilledCreateIsSweptUp(t *testing.T) {
	for name, own := range map[string]bool{"in a group that exists": false, "in a group of its own": true} {
		t.Run(name, func(t *testing.T) {
			cloud := startCloud(t, ec2.Config{PageSize: 1})
			variables := map[string]any{}
			if !own {
				variables = map[string]any{"security_group_ids": []string{cloud.AddGroup("vpc-00000000000000001")}, "ssh_cidr_blocks": []string{}}
			}
			cloud.SetLatency("RunInstances", time.Hour)
			b := newBroker(t, cloud, pool(t, "p", cloud, variables, "  create_timeout = \"1m\"\n  sweep {\n    interval = \"10s\"\n  }\n"))
			b.Start()
			b.Eventually("the instance runs", 3*time.Minute, func() error {
				if running := cloud.Running(); len(running) != 1 || running[0].Private == "" {
					return fmt.Errorf("instances: %+v", running)
				}
				return nil
			})
			lost := cloud.Running()[0]
			killTerraform(t, b.Data)
			cloud.SetLatency("RunInstances", 0)
			b.WritePools(strings.Replace(mustRead(t, b.Path), "fill_level = 1", "fill_level = 0", 1))
			b.Reload()
			b.Eventually("nothing is left", 12*time.Minute, func() error {
				if left := cloud.Left(); len(left) > 0 {
					return fmt.Errorf("left: %v", left)
				}
				return nil
			})
			if state := cloud.Instances()[0]; state.ID != lost.ID || state.State != "terminated" {
				t.Errorf("instance %+v", state)
			}
			b.Drain(time.Minute)
			b.Stop()
			wantPolicy(t, cloud.Actions())
		})
	}
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// killTerraform kills the Terraform that works below a data directory.
func killTerraform(t *testing.T, data string) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip("this test finds processes in /proc")
	}
	killed := 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		at, _ := os.Readlink(filepath.Join("/proc", entry.Name(), "cwd"))
		line, _ := os.ReadFile(filepath.Join("/proc", entry.Name(), "cmdline"))
		if strings.HasPrefix(at, data) && strings.Contains(string(line), "\x00apply\x00") && strings.Contains(strings.SplitN(string(line), "\x00", 2)[0], "terraform") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			killed++
		}
	}
	if killed != 1 {
		t.Fatalf("%d Terraforms are applying below %s, want 1", killed, data)
	}
}

// A spot instance that EC2 takes away is noticed by the sweep, though its launch
// template and its security group are still there. There are two: nothing follows from
// a listing that has less than half.
func TestInterruptedInstanceVanishes(t *testing.T) {
	cloud := startCloud(t, ec2.Config{PageSize: 1})
	more := "  create_timeout = \"1m\"\n  sweep {\n    interval = \"10s\"\n  }\n"
	b := newBroker(t, cloud, strings.Replace(pool(t, "p", cloud, map[string]any{"market": "spot"}, more), "fill_level = 1", "fill_level = 2", 1))
	b.Start()
	first := b.Ready("p", 2, 5*time.Minute)
	before := strings.Count(b.Log(), `"msg":"swept"`)
	// What goes within its create timeout has not vanished: it may not be listed yet.
	b.Eventually("sweeps have listed both for a minute", 3*time.Minute, func() error {
		if strings.Count(b.Log(), `"msg":"swept"`) < before+7 {
			return errors.New("no such line in the log")
		}
		return nil
	})
	if !cloud.Terminate(cloud.Running()[0].ID) {
		t.Fatal("no instance to end")
	}
	b.Eventually("another node is ready", 5*time.Minute, func() error {
		for _, n := range b.Nodes("p") {
			if n.State == "ready" && n.ID != first[0].ID && n.ID != first[1].ID {
				return nil
			}
		}
		return fmt.Errorf("nodes: %+v", b.Nodes("p"))
	})
	b.Drain(5 * time.Minute)
	wantNothing(t, cloud)
	b.Stop()
}

// What a spot instance is told to run tells the broker: the script, the address and the
// token are those of its user data.
func TestWatcherOfANodeTellsTheBroker(t *testing.T) {
	cloud := startCloud(t, ec2.Config{})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	b := newBroker(t, cloud, pool(t, "p", cloud, map[string]any{"market": "spot"}, ""))
	b.Args = []string{"--listen", address, "--node-url", "http://" + address}
	b.Start()
	b.Ready("p", 1, 5*time.Minute)
	s := b.Request("p", 1)
	n := s.Nodes[0]
	at := slices.IndexFunc(cloud.Running(), func(i ec2.Instance) bool { return i.Tags["duffy:node-id"] == n.UID() })
	told, err := ec2.ParseUserData(cloud.Running()[at].UserData)
	if err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "watcher")
	if err := os.WriteFile(script, []byte(told.Files["/usr/local/lib/duffy/interruption-watcher"]), 0o600); err != nil {
		t.Fatal(err)
	}
	watcher := exec.CommandContext(t.Context(), "/bin/sh", script)
	watcher.Env = append(os.Environ(), strings.Split(strings.TrimSpace(told.Files["/etc/duffy/interruption-watcher.env"]), "\n")...)
	watcher.Env = append(watcher.Env, "DUFFY_IMDS="+startMetadata(t, "--time", "2026-01-02T03:04:05Z"), "DUFFY_INTERVAL=0.2")
	if out, err := watcher.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("the watcher: %v\n%s", err, out)
	}
	var answer struct {
		Node struct {
			Interruption  string
			InterruptedAt time.Time `json:"interrupted_at"`
		}
	}
	if status := b.Call("demo", http.MethodGet, fmt.Sprintf("/nodes/%d", n.ID), nil, &answer); status != http.StatusOK || answer.Node.Interruption != "terminate" {
		t.Errorf("what the tenant sees of the node: status %d, %+v", status, answer)
	}
	b.Retire(s)
	b.Drain(5 * time.Minute)
	wantNothing(t, cloud)
	b.Stop()
}

// A newer image makes stock of the older one stale, in a pool that follows it.
func TestFollowsTheImage(t *testing.T) {
	cloud := startCloud(t, ec2.Config{})
	b := newBroker(t, cloud, pool(t, "p", cloud, nil, "  follow {\n    outputs = [\"image\"]\n    every = \"1m\"\n  }\n"))
	b.Start()
	b.Ready("p", 1, 5*time.Minute)
	b.Eventually("the image is known", 2*time.Minute, func() error {
		var answer json.RawMessage
		if status := b.Call("admin", http.MethodGet, "/pools/p/status", nil, &answer); status != http.StatusOK || !strings.Contains(string(answer), "ami-00000000000000862") {
			return fmt.Errorf("status %d: %s", status, answer)
		}
		return nil
	})
	newer := ec2.Images()[1]
	newer.ID, newer.Name, newer.Created = "ami-00000000000000863", "CentOS Stream 9 x86_64 20260301", "2026-03-01T00:00:00.000Z"
	cloud.AddImage(newer)
	b.Eventually("the stock has the newer image", 5*time.Minute, func() error {
		running := cloud.Running()
		if len(running) != 1 || running[0].Image != newer.ID {
			return fmt.Errorf("instances: %+v", running)
		}
		return nil
	})
	b.Drain(5 * time.Minute)
	wantNothing(t, cloud)
	b.Stop()
}
