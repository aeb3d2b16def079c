// Command duffy-broker lends nodes that Terraform made ahead of demand. It is
// the server, the client and the operator's tool in one binary, and the only
// place where the project's parts meet.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/duffy-broker/duffy-broker/broker/terraform/duffyprovider"
)

func main() {
	if duffyprovider.Invoked(os.Args[0]) {
		if err := duffyprovider.Serve(context.Background(), duffyprovider.Options{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(exitFailed)
		}
		return
	}
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
