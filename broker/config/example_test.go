package config_test

import (
	"fmt"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

// The pools of a matrix are one block: testdata/matrix.good.hcl makes two
// releases on two architectures with setproduct.
func ExampleLoad_matrix() {
	file, diags := config.Load("testdata/matrix.good.hcl")
	if diags.HasErrors() {
		fmt.Println(diags)
		return
	}
	for _, p := range file.Pools {
		fmt.Printf("%-26s fill level %d  %s\n", p.Name, p.FillLevel, p.Variables)
	}
	// Output:
	// centos-10-stream-aarch64   fill level 1  {"arch":"aarch64","image":"centos-stream-10","size":"small"}
	// centos-10-stream-x86_64    fill level 4  {"arch":"x86_64","image":"centos-stream-10","size":"small"}
	// centos-9-stream-aarch64    fill level 1  {"arch":"aarch64","image":"centos-stream-9","size":"small"}
	// centos-9-stream-x86_64     fill level 4  {"arch":"x86_64","image":"centos-stream-9","size":"small"}
}
