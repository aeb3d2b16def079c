package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	"github.com/duffy-broker/duffy-broker/broker"
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
	cmd.AddCommand(newNodeLogsCommand(s, &o))
	cmd.AddCommand(newNodeListCommand(s, &o))
	cmd.AddCommand(newNodeShowCommand(s, &o))
	cmd.AddCommand(newNodeHoldCommand(s, &o))
	cmd.AddCommand(newNodeReleaseCommand(s, &o))
	cmd.AddCommand(newNodeWorkspaceCommand(s, &o))
	cmd.AddCommand(newNodeCreateCommand(s, &o), newNodeRetireCommand(s, &o))
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
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if req.Node, err = nodeID(args[0]); err != nil {
				return err
			}
			c, _, err := o.client()
			if err != nil {
				return err
			}
			return c.NodeLog(cmd.Context(), req, func(line []byte) error {
				if raw {
					_, err := s.out.Write(line)
					return err
				}
				return writeLogLine(s.out, line)
			})
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&req.Follow, "follow", "f", false, "go on with runs in progress until the node comes to rest")
	f.Int64Var(&req.Run, "run", 0, "show the run with this `id` only")
	f.BoolVar(&raw, "json", false, "print Terraform's own messages: JSON, a line each")
	return cmd
}

func nodeID(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil {
		return 0, broker.Errorf(broker.CodeInvalid, "node %q is not a number", arg).WithHint("node list shows the ids")
	}
	return id, nil
}

// logLine is what people want of a message of Terraform, or of a line of ours.
type logLine struct {
	Level      string    `json:"@level"`
	Message    string    `json:"@message"`
	Timestamp  time.Time `json:"@timestamp"`
	Type       string    `json:"type"`
	Run        int64     `json:"run"`
	Failure    string    `json:"failure"`
	Diagnostic struct {
		Detail string `json:"detail"`
	} `json:"diagnostic"`
}

// writeLogLine prints a line of a log for people.
func writeLogLine(w io.Writer, line []byte) error {
	var l logLine
	if err := json.Unmarshal(line, &l); err != nil {
		_, err := w.Write(line)
		return err
	}
	at := "        "
	if !l.Timestamp.IsZero() {
		at = l.Timestamp.Local().Format(time.TimeOnly)
	}
	var text string
	switch l.Type {
	case "run_start":
		text = "== " + l.Message
		if l.Run != 0 {
			text += fmt.Sprintf(" (run %d)", l.Run)
		}
	case "run_end":
		text = "== " + l.Message
		if l.Failure != "" {
			text += "\n" + l.Failure
		}
	default:
		text = l.Message
		if detail := strings.TrimSpace(l.Diagnostic.Detail); detail != "" {
			text += "\n" + detail
		}
	}
	text = strings.ReplaceAll(text, "\n", "\n"+strings.Repeat(" ", len(at)+1))
	_, err := fmt.Fprintf(w, "%s %s\n", at, clean(text))
	return err
}

// clean drops what could move the cursor of a terminal.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\n' && r != '\t' || r == 0x7f {
			return -1
		}
		return r
	}, text)
}
