package main

import (
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker/localnode"
)

// newLocalNodeCommand is what modules/local calls: nodes without a hypervisor.
func newLocalNodeCommand(s streams) *cobra.Command {
	cmd := &cobra.Command{Use: "local-node", Short: "Start and stop the nodes of modules/local", Hidden: true, RunE: group}
	cmd.AddCommand(newLocalNodeStartCommand(s), newLocalNodeStopCommand(), newLocalNodeServeCommand())
	return cmd
}

func newLocalNodeStartCommand(s streams) *cobra.Command {
	var o localnode.Options
	var keys string
	answers := true
	cmd := &cobra.Command{
		Use:   "start",
		Short: "Start a node, and wait until it listens",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Executable, err = executable(); err != nil {
				return err
			}
			o.Keys = strings.Split(keys, "\n")
			o.Silent = !answers
			if err := localnode.Start(cmd.Context(), o); err != nil {
				return err
			}
			_, err = fmt.Fprintln(s.out, "started")
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Dir, "dir", "", "the node's `directory`, absolute")
	f.StringVar(&o.UID, "uid", "", "the node's uid")
	f.StringVar(&o.Hostname, "hostname", "", "the node's host `name`")
	f.StringVar(&keys, "keys", "", "public `keys` that may log in, one a line")
	f.StringVar(&o.Server, "server", localnode.ServerAuto, "auto, openssh or builtin")
	f.DurationVar(&o.BootDelay, "boot-delay", 0, "how long before it listens")
	f.BoolVar(&answers, "answers", true, "whether it ever says a word")
	f.DurationVar(&o.DiesAfter, "dies-after", 0, "how long until it ends by itself; 0: never")
	return cmd
}

func newLocalNodeStopCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "stop",
		Short: "Stop a node, and remove its directory",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return localnode.Stop(cmd.Context(), dir) },
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the node's `directory`, absolute")
	return cmd
}

func newLocalNodeServeCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Be a node's server",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			syscall.Umask(0o022) // the broker's own is stricter than a node's users expect
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			return localnode.Serve(ctx, dir)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "the node's `directory`, absolute")
	return cmd
}
