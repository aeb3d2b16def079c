package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// sshConfig is a private directory with all that ssh and Ansible need to reach
// the nodes of a session: their names, users, ports and keys, and the host keys
// that the broker recorded, the only ones that are accepted.
type sshConfig struct {
	program   string // ssh
	dir       string
	path      string // for ssh -F
	inventory string // for ansible -i
}

// newSSHConfig writes the files. key is the private key to log in with, "" where
// ssh has to find one by itself. The caller removes the directory.
func newSSHConfig(nodes []v1.SessionNode, key string) (c sshConfig, err error) {
	program, err := exec.LookPath("ssh")
	if err != nil {
		return c, broker.Wrap(broker.CodeUnavailable, err, "ssh is not installed").WithHint("install OpenSSH's client (Debian: openssh-client)")
	}
	for _, n := range nodes {
		if len(n.SSHHostKeys) == 0 {
			return c, broker.Errorf(broker.CodeUnavailable, "the broker has recorded no host key of node %s, so nothing would be checked", describe(n)).
				WithHint("if you trust the network: ssh -p %d %s@%s", n.SSHPort, n.SSHUser, n.IPAddr)
		}
	}
	dir, err := os.MkdirTemp("", "duffy-broker-ssh-")
	if err != nil {
		return c, fmt.Errorf("make a directory for the host keys: %w", err)
	}
	c = sshConfig{program: program, dir: dir, path: filepath.Join(dir, "ssh_config"), inventory: filepath.Join(dir, "inventory.ini")}
	knownHosts := filepath.Join(dir, "known_hosts")
	var config, keys strings.Builder
	for _, n := range nodes {
		keys.WriteString(knownHostsOf(n))
		// By its address as well: that is how Ansible calls it.
		fmt.Fprintf(&config, "Host %s %s\n  HostName %s\n  Port %d\n  User %s\n", sshName(n), n.IPAddr, n.IPAddr, n.SSHPort, n.SSHUser)
		if key != "" {
			fmt.Fprintf(&config, "  IdentityFile %q\n  IdentitiesOnly yes\n", key)
		}
	}
	// The first value that ssh meets counts: the user's own files come last.
	fmt.Fprintf(&config, "Host *\n  UserKnownHostsFile %q\n  GlobalKnownHostsFile /dev/null\n  StrictHostKeyChecking yes\n"+
		"  UpdateHostKeys no\n  LogLevel ERROR\n  Include ~/.ssh/config\n  Include /etc/ssh/ssh_config\n", knownHosts)
	for path, text := range map[string]string{c.path: config.String(), knownHosts: keys.String(), c.inventory: inventoryOf(nodes, c.path)} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			c.remove()
			return sshConfig{}, fmt.Errorf("write the host keys: %w", err)
		}
	}
	return c, nil
}

func (c sshConfig) remove() { _ = os.RemoveAll(c.dir) }

// args are ssh's arguments to run a command on a node; no command opens a shell.
func (c sshConfig) args(n v1.SessionNode, command []string) []string {
	args := []string{"-F", c.path, sshName(n)}
	if len(command) > 0 {
		args = append(append(args, "--"), command...)
	}
	return args
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// sshName is how a node is called in the configuration: by its host name, unless
// that has characters that would mean something else there.
func sshName(n v1.SessionNode) string {
	if plainName.MatchString(n.Hostname) {
		return n.Hostname
	}
	return n.IPAddr
}

// inventoryOf writes an Ansible inventory: a group for each pool.
func inventoryOf(nodes []v1.SessionNode, sshConfig string) string {
	var b strings.Builder
	groups := make(map[string][]v1.SessionNode)
	var names []string
	for _, n := range nodes {
		name := regexp.MustCompile(`\W`).ReplaceAllString(n.Pool, "_") // what Ansible takes for a group
		if groups[name] == nil {
			names = append(names, name)
		}
		groups[name] = append(groups[name], n)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "[%s]\n", name)
		for _, n := range groups[name] {
			fmt.Fprintf(&b, "%s ansible_host=%s ansible_port=%d ansible_user=%s\n", sshName(n), n.IPAddr, n.SSHPort, n.SSHUser)
		}
		b.WriteString("\n")
	}
	fmt.Fprintf(&b, "[all:vars]\nansible_ssh_common_args='-F \"%s\"'\n", sshConfig)
	return b.String()
}
