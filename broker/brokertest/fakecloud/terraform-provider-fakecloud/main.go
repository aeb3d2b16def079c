// Terraform-provider-fakecloud is the Terraform provider of package fakecloud, on
// protocol 6. It is for tests, and behaves as a careful provider does: what it
// has made is in the state even if the run fails or is interrupted, and what has
// vanished leaves the state. It retries nothing, so that each failure is seen.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/hashicorp/terraform-plugin-framework/provider"
	"github.com/hashicorp/terraform-plugin-framework/providerserver"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

func main() {
	newProvider := func() provider.Provider { return &fakecloudProvider{} }
	err := providerserver.Serve(context.Background(), newProvider, providerserver.ServeOpts{
		Address: fakecloud.ProviderSource, ProtocolVersion: 6,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
