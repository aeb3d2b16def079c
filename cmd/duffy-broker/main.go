// Command duffy-broker lends nodes that Terraform made ahead of demand. It is
// the server, the client and the operator's tool in one binary, and the only
// place where the project's parts meet.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
