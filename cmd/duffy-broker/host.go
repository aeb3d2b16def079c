package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func newNodeCreateCommand(s streams, o *clientOptions) *cobra.Command {
	var comment, data string
	cmd := simpleCommand(s, o, "create HOSTNAME IPADDR", "Add a machine that exists to the inventory of the API", cobra.ExactArgs(2),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			n := v1.NodeCreate{Hostname: args[0], IPAddr: args[1]}
			if comment != "" {
				n.Comment = &comment
			}
			if data != "" {
				object, err := dataObject(data)
				if err != nil {
					return nil, err
				}
				n.Data = object
			}
			a, err := c.CreateNode(ctx, n)
			return a.Raw, err
		})
	cmd.Long = "Add a machine that exists, such as bare metal, to the inventory of the API. No other one in use may have its host name or address.\n" +
		"`duffy-broker import csv` adds many."
	cmd.Example = "  duffy-broker node create n1.example.net 192.0.2.1 --data '{\"arch\": \"x86_64\", \"rack\": 4}'"
	cmd.Flags().StringVar(&comment, "comment", "", "`text` for others to read")
	cmd.Flags().StringVar(&data, "data", "", "a `JSON` object about the machine, without secrets: whoever may list nodes can read it")
	return cmd
}

// dataObject checks the data of a host.
func dataObject(text string) (json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &object); err != nil || object == nil {
		return nil, broker.Errorf(broker.CodeInvalid, "the data are no JSON object").WithHint(`they look like {"arch": "x86_64", "rack": 4}`)
	}
	return json.RawMessage(text), nil
}

func newNodeRetireCommand(s streams, o *clientOptions) *cobra.Command {
	cmd := simpleCommand(s, o, "retire NODE", "Take a machine of an inventory out of use for good", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := nodeID(args[0])
			if err != nil {
				return nil, err
			}
			a, err := c.RetireNode(ctx, id)
			return a.Raw, err
		})
	cmd.Long = "Take a machine of an inventory out of use for good. Who uses it now keeps it to the end, but nobody gets it after that. Nodes that\n" +
		"Terraform made are in no inventory: they go by themselves."
	cmd.Example = "  duffy-broker node retire 12"
	return cmd
}

func newNodeRepairCommand(s streams, o *clientOptions) *cobra.Command {
	cmd := simpleCommand(s, o, "repair NODE", "Put a machine of an inventory back to use after failures", cobra.ExactArgs(1),
		func(ctx context.Context, c *client.Client, args []string) (json.RawMessage, error) {
			id, err := nodeID(args[0])
			if err != nil {
				return nil, err
			}
			a, err := c.RepairNode(ctx, id)
			return a.Raw, err
		})
	cmd.Long = "Put a machine of an inventory back to use that is broken, or in quarantine, because nodes could not be made on it. Its failures are\n" +
		"forgotten. `node list --inventory NAME` shows the machines, and `node show NODE` the last failure."
	cmd.Example = "  duffy-broker node repair 12"
	return cmd
}
