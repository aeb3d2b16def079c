package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

func newNodeCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Look after nodes, as an admin",
		Long: "Look after nodes. All of it needs the key of an admin; settings come from where `client` finds them.\n" +
			"Without a name it is the admin of the broker's profile who asks.",
		RunE:                       group,
		SuggestionsMinimumDistance: 2,
	}
	o.addFlags(cmd)
	o.addDataDirFlags(cmd)
	cmd.AddCommand(newNodeLogsCommand(s, &o))
	cmd.AddCommand(newNodeListCommand(s, &o))
	cmd.AddCommand(newNodeShowCommand(s, &o))
	cmd.AddCommand(newNodeHoldCommand(s, &o))
	cmd.AddCommand(newNodeReleaseCommand(s, &o))
	cmd.AddCommand(newNodeWorkspaceCommand(s, &o))
	cmd.AddCommand(newNodeCreateCommand(s, &o), newNodeRetireCommand(s, &o), newNodeRepairCommand(s, &o))
	return cmd
}

func newNodeLogsCommand(s streams, o *clientOptions) *cobra.Command {
	var req client.NodeLogRequest
	var raw bool
	cmd := &cobra.Command{
		Use:   "logs NODE",
		Short: "Show what Terraform wrote when it made and destroyed a node",
		Long: "Show what Terraform wrote when it made and destroyed a node, run by run, also for a while after the node has gone.\n" +
			"Secrets that the broker knows of are masked.",
		Example: "  duffy-broker node logs 12\n  duffy-broker node logs -f 12\n  duffy-broker node logs --json 12 | jq -r 'select(.\"@level\" == \"error\")'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Node, err = nodeID(args[0]); err != nil {
				return err
			}
			c, err := o.connect(cmd.Context(), s)
			if err != nil {
				return err
			}
			defer func() { err = c.end(err) }()
			return c.NodeLog(cmd.Context(), req, func(line []byte) error {
				if raw {
					_, err := s.out.Write(line)
					return err
				}
				return view.LogLine(s.out, o.format, line)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&req.Follow, "follow", "f", false, "go on with runs in progress until the node comes to rest")
	f.Int64Var(&req.Run, "run", 0, "show the run with this `id` only")
	f.BoolVar(&raw, "json", false, "print Terraform's own messages, unchanged: JSON, a line each")
	return cmd
}

func nodeID(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil {
		return 0, broker.Errorf(broker.CodeInvalid, "node %q is not a number", arg).WithHint("node list shows the ids")
	}
	return id, nil
}
