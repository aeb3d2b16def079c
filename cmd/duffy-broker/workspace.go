package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

func newNodeWorkspaceCommand(s streams, o *clientOptions) *cobra.Command {
	var h v1.HoldCreate
	var giveBack, discard bool
	cmd := &cobra.Command{
		Use:   "workspace NODE DIR",
		Short: "Work on a node with Terraform by hand",
		Long: "Work on a node with Terraform by hand: hold it as `node hold` does, and make DIR a link to a directory in which plain\n" +
			"`terraform plan`, `state` and `destroy` work. Its state is the only one that counts until it is returned.\n" +
			"The directory is in the broker's data directory: the command must run on the broker's machine, as the broker's user.\n\n" +
			"--return takes the state back and removes the link. A node that came from stock, and of which something is left, is checked\n" +
			"and returns there; any other is destroyed.",
		Example: "  duffy-broker node workspace 12 ./node-12 --reason 'security group is in use'\n  duffy-broker node workspace --return 12 ./node-12",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			id, err := nodeID(args[0])
			if err != nil {
				return err
			}
			dir := ""
			if len(args) > 1 {
				dir = args[1]
			}
			if !giveBack && dir == "" {
				return broker.Errorf(broker.CodeInvalid, "node workspace takes NODE and DIR").
					WithHint("for example: duffy-broker node workspace %d ./node-%d", id, id)
			}
			if discard && !giveBack {
				return broker.Errorf(broker.CodeInvalid, "--discard goes with --return").WithHint("add --return, which ends the hold; without it there is nothing to forget")
			}
			if err := checkLink(dir, id); err != nil {
				return err
			}
			c, err := o.connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			defer func() { err = c.end(err) }()
			if giveBack {
				err = returnWorkspace(cmd.Context(), s, o, c.Client, id, dir, discard)
			} else {
				err = openWorkspace(cmd.Context(), s, o, c.Client, id, dir, h)
			}
			if err != nil {
				return o.refused(s, err)
			}
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&h.Reason, "reason", "", "`text` for others to read")
	f.BoolVar(&giveBack, "return", false, "take the state of the workspace back, and end the hold")
	f.BoolVar(&discard, "discard", false, "with --return: forget what was done there, and keep the state from before")
	return cmd
}

// checkLink refuses a path at which something is that can't be the link to a
// node's workspace.
func checkLink(path string, node int64) error {
	info, err := os.Lstat(path)
	if path == "" || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return broker.Errorf(broker.CodeInvalid, "%v", err).WithHint("name a path in a directory of yours")
	}
	taken := broker.Errorf(broker.CodeConflict, "%s is there, and is not the link to the workspace of node %d", path, node).
		WithHint("name a path that does not exist yet")
	if info.Mode()&fs.ModeSymlink == 0 {
		return taken
	}
	switch w, err := terraform.ReadWorkspace(path); {
	case err == nil && w.NodeID == node:
		return nil
	case errors.Is(err, fs.ErrNotExist) && dangles(path):
		return nil // of a workspace that was returned in another way
	}
	return taken
}

func dangles(link string) bool {
	_, err := os.Stat(link)
	return errors.Is(err, fs.ErrNotExist)
}

func openWorkspace(ctx context.Context, s streams, o *clientOptions, c *client.Client, id int64, dir string, h v1.HoldCreate) error {
	a, err := c.OpenWorkspace(ctx, id, h)
	if err != nil {
		return err
	}
	target := a.Value.Directory
	w, err := terraform.ReadWorkspace(target)
	if err != nil {
		return broker.Errorf(broker.CodeUnavailable, "node %d is held, and its workspace %s is not to be seen from here: %v", id, target, err).
			WithHint("repeat the command on the broker's machine, as the broker's user, or give the node back: duffy-broker node workspace --return %d", id)
	}
	if err := link(target, dir); err != nil {
		return broker.Errorf(broker.CodeInvalid, "node %d is held, and its workspace is %s, but %s can't be made a link to it: %v", id, target, dir, err).
			WithHint("work there, or repeat the command with another path")
	}
	if o.format != view.Table {
		return view.Format(s.out, o.format, a.Raw)
	}
	_, err = fmt.Fprintf(s.out, "node %[1]d is held, and %[2]s has its state. What Terraform does there is not undone by the broker.\n\n"+
		"  cd %[3]s\n  export DUFFY_BROKER=%[4]s\n  %[5]s plan\n\n"+
		"Terraform needs the broker's credentials, too. To give the node back:\n\n  duffy-broker node workspace --return %[1]d %[3]s\n",
		id, dir, shellWord(dir), shellWord(w.Executable), shellWord(w.Terraform))
	return err
}

// link makes path a symbolic link to target, in place of an older link.
func link(target, path string) error {
	if at, err := os.Readlink(path); err == nil {
		if at == target {
			return nil
		}
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return os.Symlink(target, path)
}

func returnWorkspace(ctx context.Context, s streams, o *clientOptions, c *client.Client, id int64, dir string, discard bool) error {
	a, err := c.ReturnWorkspace(ctx, id, discard)
	if err != nil {
		return err
	}
	if dir != "" {
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			_, _ = fmt.Fprintf(s.err, "duffy-broker: the workspace was returned; the link to it stays: %v\n", err)
		}
	}
	if o.format != view.Table {
		return view.Format(s.out, o.format, a.Raw)
	}
	what := "it is destroyed"
	if a.Value.Node.Condition == string(broker.NodeChecking) {
		what = "it is checked, and returns to stock"
	}
	_, err = fmt.Fprintf(s.out, "node %d is %s: %s\n", id, a.Value.Node.Condition, what)
	return err
}

// shellWord quotes what a shell would not take as one word.
func shellWord(text string) string {
	if !strings.ContainsAny(text, " \t\n\"'`$&|;<>()*?[]~#\\!") {
		return text
	}
	return "'" + strings.ReplaceAll(text, "'", `'\''`) + "'"
}

// engineWorkspaces are those of an engine, which comes into being after the broker.
type engineWorkspaces struct{ broker.Workspacer }
