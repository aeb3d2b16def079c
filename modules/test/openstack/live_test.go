package openstack_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/live"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
)

// The tests in this file need the OpenStack that cloud/up brings up: CLOUD is its
// directory. They see it as the user "ci", who has the role "member" alone.

// patience is how long a server may take, with a machine that does other things, too.
const patience = 10 * time.Minute

// openstack is that cloud.
type openstack struct {
	t              testing.TB
	dir            string
	token, project string
}

func cloud(t *testing.T) *openstack {
	t.Helper()
	c := &openstack{t: t, dir: os.Getenv("CLOUD")}
	if c.dir == "" {
		t.Skip("part of make test-openstack")
	}
	request := `{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "ci", "domain": {"id": "default"}, "password": "test"}}},
		"scope": {"project": {"name": "ci", "domain": {"id": "default"}}}}}`
	var answer struct {
		Token struct{ Project struct{ ID string } }
	}
	c.token = c.call(http.MethodPost, "http://127.0.0.1:5000/v3/auth/tokens", request, &answer).Get("X-Subject-Token")
	c.project = answer.Token.Project.ID
	return c
}

// call makes a request, decodes the answer, and gives its header.
func (c *openstack) call(method, url, body string, out any) http.Header {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, url, bytes.NewReader([]byte(body)))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Auth-Token", c.token)
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, text)
	}
	if err == nil && out != nil {
		err = json.Unmarshal(text, out)
	}
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, url, err)
	}
	return resp.Header
}

// thing is a resource of the project.
type thing struct {
	ID          string
	Name        string
	Status      string
	DeviceOwner string            `json:"device_owner"`
	Tags        []string          `json:"tags"`
	Metadata    map[string]string `json:"metadata"`
}

func (c *openstack) list(url, key string) []thing {
	c.t.Helper()
	var answer map[string]json.RawMessage
	c.call(http.MethodGet, url, "", &answer)
	var things []thing
	if err := json.Unmarshal(answer[key], &things); err != nil {
		c.t.Fatalf("%s: %v", url, err)
	}
	return things
}

func (c *openstack) servers() []thing {
	c.t.Helper()
	return c.list("http://127.0.0.1:8774/v2.1/servers/detail", "servers")
}

func (c *openstack) ports() []thing {
	c.t.Helper()
	return c.list("http://127.0.0.1:9696/v2.0/ports?project_id="+c.project, "ports")
}

func (c *openstack) volumes() []thing {
	c.t.Helper()
	return c.list("http://127.0.0.1:8776/v3/"+c.project+"/volumes/detail", "volumes")
}

// all gives what the project has, but for the security group that every project has.
func (c *openstack) all() (names []string) {
	c.t.Helper()
	network := func(kind string) []thing {
		return c.list("http://127.0.0.1:9696/v2.0/"+strings.ReplaceAll(kind, "_", "-")+"?project_id="+c.project, kind)
	}
	for kind, things := range map[string][]thing{
		"server": c.servers(), "port": c.ports(), "volume": c.volumes(), "group": network("security_groups"), "floating IP": network("floatingips"),
	} {
		for _, one := range things {
			if kind != "group" || one.Name != "default" {
				names = append(names, fmt.Sprintf("%s %s (%s) %s", kind, one.Name, one.ID, one.Status))
			}
		}
	}
	slices.Sort(names)
	return names
}

// empty checks that the project has nothing (any more).
func (c *openstack) empty() {
	c.t.Helper()
	if left := c.all(); len(left) > 0 {
		c.t.Errorf("left in OpenStack:\n%s", strings.Join(left, "\n"))
	}
}

// broker gives one with pools of the module, by their variables in HCL.
func (c *openstack) broker(t *testing.T, pools map[string]string) *live.Broker {
	t.Helper()
	var text strings.Builder
	fmt.Fprintf(&text, "defaults {\n  module = %q\n  max_nodes = 1\n  sweep {\n    interval = \"10s\"\n  }\n}\n",
		filepath.Join(providers.Root(t), "modules", "openstack"))
	for name, variables := range pools {
		fmt.Fprintf(&text, "pool %q {\n  fill_level = 1\n  variables = {\n    cloud = \"ci\"\n    network_name = \"public\"\n%s\n  }\n}\n", name, variables)
	}
	b := live.New(t, text.String())
	b.Env = append(b.Env, "TF_CLI_CONFIG_FILE="+providers.Config(t, "openstack"), "OS_CLIENT_CONFIG_FILE="+filepath.Join(c.dir, "clouds.yaml"))
	b.Start()
	return b
}

// noMore makes a broker make no more nodes; those that exist stay.
func noMore(t *testing.T, b *live.Broker) {
	t.Helper()
	text, err := os.ReadFile(b.Path)
	if err != nil {
		t.Fatal(err)
	}
	b.WritePools(strings.ReplaceAll(string(text), "fill_level = 1", "fill_level = 0"))
	b.Reload()
}

func TestLifecycles(t *testing.T) {
	c := cloud(t)
	c.empty()
	pools := map[string]struct{ variables, arch string }{
		"x86-64":  {"flavor_name = \"small\"\nimage_name = \"guest-x86_64\"", "x86_64"},
		"ppc64le": {"flavor_name = \"small\"\nimage_name_regex = \"^guest-ppc64le$\"\narch = \"ppc64le\"", "ppc64le"},
		"volume":  {"flavor_name = \"small\"\nimage_properties = { hw_architecture = \"x86_64\" }\nroot_volume = { size = 1 }\nsecurity_groups = [\"default\"]\nuser_data = \"#!/bin/sh\\necho it ran > /run/mine\\n\"", "x86_64"},
	}
	variables := map[string]string{}
	for name, p := range pools {
		variables[name] = p.variables
	}
	b := c.broker(t, variables)
	for name := range pools {
		b.Ready(name, 1, patience)
	}
	var sessions []live.Session
	for name, p := range pools {
		s := b.Request(name, 1)
		sessions = append(sessions, s)
		n := s.Nodes[0]
		if got := strings.TrimSpace(b.SSH(n, "uname -m")); got != p.arch {
			t.Errorf("pool %s: uname -m says %q", name, got)
		}
		if got := strings.TrimSpace(b.SSH(n, "hostname")); got != n.Hostname {
			t.Errorf("pool %s: the host name is %q, want %q", name, got, n.Hostname)
		}
		if name == "volume" {
			if got := b.SSH(n, "cat /run/mine"); got != "it ran\n" {
				t.Errorf("the pool's own user data: %q", got)
			}
		}
		for kind, things := range map[string][]thing{"server": c.servers(), "port": c.ports()} {
			i := slices.IndexFunc(things, func(one thing) bool { return strings.Contains(one.Name, n.UID()) })
			if i < 0 {
				t.Errorf("pool %s: no %s with the node's id", name, kind)
				continue
			}
			one := things[i]
			if got := one.Metadata["duffy:node-id"]; kind == "server" && got != n.UID() {
				t.Errorf("pool %s: the server's metadata is %v", name, one.Metadata)
			}
			if kind == "port" && (!slices.Contains(one.Tags, "duffy:node-id="+n.UID()) || !slices.Contains(one.Tags, "duffy:pool="+name)) {
				t.Errorf("pool %s: the port's tags are %v", name, one.Tags)
			}
		}
	}
	if got := len(c.volumes()); got != 1 {
		t.Errorf("%d volumes, want that of the pool that boots from one", got)
	}
	b.Eventually("all pools were swept with their node", time.Minute, func() error {
		for name := range pools {
			if !strings.Contains(b.Log(), `"msg":"swept","pool":"`+name+`","listed":1,"unknown":0,"missing":0`) {
				return errors.New("pool " + name + " was not")
			}
		}
		return nil
	})
	noMore(t, b)
	for _, s := range sessions {
		b.Retire(s)
	}
	b.Drain(patience)
	b.Stop()
	c.empty()
}

// A Terraform that is killed knows nothing of what it was making.
func TestKilledCreates(t *testing.T) {
	c := cloud(t)
	for name, begun := range map[string]func() bool{
		"while the port is made":   func() bool { return len(c.ports()) > 0 },
		"while the server is made": func() bool { return len(c.servers()) > 0 },
	} {
		t.Run(name, func(t *testing.T) {
			c := cloud(t)
			c.empty()
			b := c.broker(t, map[string]string{"p": "flavor_name = \"small\"\nimage_name = \"guest-x86_64\""})
			b.Eventually("it has begun", patience, func() error {
				if !begun() {
					return errors.New("nothing of that kind yet")
				}
				return nil
			})
			killTerraform(t)
			noMore(t, b)
			b.Drain(patience)
			if !strings.Contains(b.Log(), "the sweep has listed what it had made") {
				t.Error("nothing was found by the sweep: the test has killed too late or too early")
			}
			b.Stop()
			c.empty()
		})
	}
}

// killTerraform kills the Terraform that applies, with its providers. It is alone in
// this namespace of processes.
func killTerraform(t *testing.T) {
	t.Helper()
	paths, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	killed := 0
	for _, path := range paths {
		text, err := os.ReadFile(path)
		words := strings.Split(string(text), "\x00")
		if err != nil || len(words) < 2 || filepath.Base(words[0]) != "terraform" || words[1] != "apply" {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		if err != nil {
			t.Fatal(err)
		}
		if group, err := syscall.Getpgid(pid); err == nil && syscall.Kill(-group, syscall.SIGKILL) == nil {
			killed++
		}
	}
	if killed != 1 {
		t.Fatalf("killed %d runs of Terraform, want one", killed)
	}
}

func TestNoRoom(t *testing.T) {
	c := cloud(t)
	c.empty()
	classes := map[string]string{"huge": "no_capacity", "dear": "quota"} // by flavor
	pools := map[string]string{}
	for flavor := range classes {
		pools[flavor] = fmt.Sprintf("flavor_name = %q\nimage_name = \"guest-x86_64\"", flavor)
	}
	b := c.broker(t, pools)
	for flavor, want := range classes {
		b.Eventually("a server of the flavor "+flavor+" is refused", patience, func() error { return refused(b, flavor, want) })
	}
	noMore(t, b)
	b.Drain(patience)
	b.Stop()
	c.empty()
}

// refused tells whether a node of a pool has failed, with the class that is wanted.
func refused(b *live.Broker, pool, want string) error {
	var answer struct {
		Status struct {
			Failure string
			Class   string `json:"failure_class"`
		} `json:"pool_status"`
	}
	b.Call("admin", http.MethodGet, "/pools/"+pool+"/status", nil, &answer)
	status := answer.Status
	switch status.Class {
	case want:
		return nil
	case "":
		return errors.New("pool " + pool + " has not failed yet")
	}
	return live.Final(fmt.Errorf("pool %s has failed with the class %q, want %q: %s", pool, status.Class, want, status.Failure))
}

// All of the module at once, without a broker: floating IPs lead nowhere in this
// cloud, which has no agent for routers.
func TestApplyTwiceChangesNothing(t *testing.T) {
	c := cloud(t)
	c.empty()
	dir, config := module(t), providers.Config(t, "openstack")
	t.Setenv("OS_CLIENT_CONFIG_FILE", filepath.Join(c.dir, "clouds.yaml"))
	variables := map[string]any{
		"broker": map[string]any{
			"id": "5f0c1d4e-0000-4000-8000-000000000001", "node_id": "0123456789abcdef", "pool": "p", "hostname": "node-0123456789abcdef",
			"tags":            map[string]string{"duffy:broker-id": "5f0c1d4e-0000-4000-8000-000000000001", "duffy:node-id": "0123456789abcdef", "duffy:pool": "p"},
			"ssh_public_keys": []string{"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDWwpzBEltaDhRSsdFSJaHeZ03kfV0lq2P2HNp8bZt5Y"},
		},
		"cloud": "ci", "region": "RegionOne", "image_name": "guest-x86_64", "flavor_name": "small", "network_name": "public", "root_volume": map[string]any{"size": 1, "type": "__DEFAULT__"},
		"floating_ip_pool": "floating", "availability_zone": "nova", "tags": map[string]string{"team": "ci/cd"},
		"ingress": []map[string]any{{"protocol": "tcp", "port_min": 22, "port_max": 22, "cidr": "192.0.2.0/24"}, {"cidr": "2001:db8::/32"}, {"protocol": "icmp", "cidr": "0.0.0.0/0"}},
	}
	text, err := json.Marshal(variables)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "terraform.tfvars.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := terraform(t, dir, config, args...)
		if err != nil {
			t.Errorf("terraform %s: %v\n%s", args[0], err, out)
		}
		return out
	}
	run("init", "-input=false")
	run("apply", "-input=false", "-auto-approve")
	run("plan", "-input=false", "-detailed-exitcode") // 2 if there is anything to do
	if out := run("apply", "-input=false", "-auto-approve"); !strings.Contains(out, "0 added, 0 changed, 0 destroyed") {
		t.Errorf("the second apply:\n%s", out)
	}
	if out := run("output", "-json", "ipaddr"); !strings.Contains(out, "198.51.100.") {
		t.Errorf("the address is %s, want a floating IP", out)
	}
	run("destroy", "-input=false", "-auto-approve")
	c.empty()
}

// What can't be is refused before anything is made.
func TestNothingIsMadeForWhatDoesNotExist(t *testing.T) {
	c := cloud(t)
	c.empty()
	b := c.broker(t, map[string]string{
		"image":   "flavor_name = \"small\"\nimage_name = \"gest\"",
		"flavor":  "flavor_name = \"smal\"\nimage_name = \"guest-x86_64\"",
		"group":   "flavor_name = \"small\"\nimage_name = \"guest-x86_64\"\nsecurity_groups = [\"defalt\"]",
		"machine": "flavor_name = \"small\"\nimage_name = \"guest-x86_64\"\narch = \"ppc64le\"",
	})
	for _, name := range []string{"image", "flavor", "group", "machine"} {
		b.Eventually("pool "+name+" is refused", patience, func() error { return refused(b, name, "configuration") })
	}
	noMore(t, b)
	b.Drain(patience)
	b.Stop()
	c.empty()
}
