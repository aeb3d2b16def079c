package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func newSSHCommand(s streams, o *clientOptions) *cobra.Command {
	var identity string
	cmd := &cobra.Command{
		Use:   "ssh SESSION [NODE] [-- COMMAND]",
		Short: "Open a shell, or run a command, on a node of a session",
		Long: "Open a shell, or run a command, on a node of a session: with the node's user, port and key, and its host key checked against\n" +
			"the one that the broker recorded. NODE is a host name, an address or an id; without it the session's first node is taken.",
		Example: "  duffy-broker client ssh 12\n  duffy-broker client ssh 12 node-0001 -- uname -a",
		RunE: func(cmd *cobra.Command, args []string) error {
			id, name, command, err := parseSSHArgs(cmd, args)
			if err != nil {
				return err
			}
			c, key, err := o.client()
			if err != nil {
				return err
			}
			answer, err := c.Session(cmd.Context(), id)
			if err != nil {
				return err
			}
			if !answer.Value.Session.Active {
				return broker.Errorf(broker.CodeInvalid, "session %d is retired: its nodes are gone", id).
					WithHint("client list-sessions shows those that go on; client request-session asks for new nodes")
			}
			node, err := findNode(answer.Value.Session, name)
			if err != nil {
				return err
			}
			if identity != "" {
				key = identity
			}
			return runSSH(cmd.Context(), s, node, key, command)
		},
	}
	cmd.Flags().StringVarP(&identity, "identity", "i", "", "private key `file` (default: the tenant's, from the profile, else what ssh finds by itself)")
	return cmd
}

// runSSH runs OpenSSH's client. The node's host keys are the only ones that it
// accepts. Its exit status becomes ours.
func runSSH(ctx context.Context, s streams, n v1.SessionNode, key string, command []string) error {
	config, err := newSSHConfig([]v1.SessionNode{n}, key)
	if err != nil {
		return err
	}
	defer config.remove()
	// Ctrl-C reaches ssh by itself, which knows what to do with it; we must
	// outlive it, to clean up. Watched, not ignored: ssh would inherit that.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	cmd := exec.CommandContext(ctx, config.program, config.args(n, command)...) //nolint:gosec // ssh, with the user's own command
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.in, s.out, s.err
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exitError{max(1, exit.ExitCode())}
	}
	if err != nil {
		return fmt.Errorf("run ssh: %w", err)
	}
	return nil
}

// knownHostsOf gives the node's host keys as known_hosts lines, in the form that
// ssh looks up: with the port unless it is 22.
func knownHostsOf(n v1.SessionNode) string {
	host := n.IPAddr
	if n.SSHPort != 22 {
		host = "[" + n.IPAddr + "]:" + strconv.Itoa(n.SSHPort)
	}
	var lines strings.Builder
	for _, key := range n.SSHHostKeys {
		fmt.Fprintf(&lines, "%s %s\n", host, key)
	}
	return lines.String()
}
