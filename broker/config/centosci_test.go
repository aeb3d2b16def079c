package config_test

import (
	"slices"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
)

// What old jobs ask for leads to pools that the example has, and that the legacy API
// is offered.
func TestLegacyMapOfTheExampleLeadsToItsPools(t *testing.T) {
	file, diags := config.Load("../../examples/pools/centos-ci.hcl")
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	tests := []struct{ version, arch, flavor, want string }{
		{"9-stream", "x86_64", "small", "virt-ec2-t2-centos-9s-x86_64"},
		{"10-stream", "x86_64", "tiny", "virt-ec2-t2-centos-10s-x86_64"},
		{"9-stream", "x86_64", "metal", "metal-ec2-c5n-centos-9s-x86_64"},
		{"9-stream", "x86_64", "", "metal-seamicro-small-centos-9s-x86_64"},
		{"10-stream", "x86_64", "", "metal-seamicro-small-centos-10s-x86_64"},
		{"9-stream", "aarch64", "tiny", "virt-ec2-c6g-centos-9s-aarch64"},
		{"10-stream", "aarch64", "tiny", "virt-ec2-c6g-centos-10s-aarch64"},
		{"9-stream", "ppc64le", "tiny", "virt-openstack-centos-9s-ppc64le"},
		{"10-stream", "ppc64le", "tiny", ""},
		{"7", "x86_64", "", ""},
	}
	reached := make(map[string]bool)
	for _, tt := range tests {
		got, ok := file.Legacy.Pool(tt.version, tt.arch, tt.flavor)
		if got != tt.want || ok != (tt.want != "") {
			t.Errorf("ver %q, arch %q, flavor %q: pool %q, %v; want %q", tt.version, tt.arch, tt.flavor, got, ok, tt.want)
		}
		if !ok {
			continue
		}
		i := slices.IndexFunc(file.Pools, func(p broker.Pool) bool { return p.Name == got })
		if i < 0 || file.Pools[i].NoLegacy {
			t.Errorf("ver %q, arch %q, flavor %q: pool %q is not there, or not for the legacy API", tt.version, tt.arch, tt.flavor, got)
		}
		reached[got] = true
	}
	for _, p := range file.Pools {
		if !reached[p.Name] {
			t.Errorf("no request that was tried leads to pool %s", p.Name)
		}
	}
}
