package ec2_test

import (
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/ec2"
)

// What can't work is refused before anything is made.
func TestImpossibleVariablesAreRefused(t *testing.T) {
	cloud := startCloud(t, ec2.Config{})
	tests := map[string]struct {
		change map[string]any
		want   string
	}{
		"a type of another architecture":   {map[string]any{"instance_type": "c6g.large"}, "instance_type c6g.large is of arm64, and arch is x86_64"},
		"an image of another architecture": {map[string]any{"arch": "aarch64", "instance_type": "c6g.large", "image_name": nil, "image_id": "ami-00000000000000862"}, "is of x86_64, and arch is aarch64"},
		"a type that there is not":         {map[string]any{"instance_type": "c9z.large"}, "do not exist"},
		"a type that is no type":           {map[string]any{"instance_type": "large"}, `must look like "c5.large"`},
		"no image":                         {map[string]any{"image_name": "Fedora *"}, "query returned no results"},
		"a name without an owner":          {map[string]any{"image_owner": nil}, "image_name needs image_owner"},
		"neither id nor name":              {map[string]any{"image_name": nil}, "Give either image_id, or image_owner and image_name"},
		"both id and name":                 {map[string]any{"image_id": "ami-00000000000000862"}, "Give either image_id, or image_owner and image_name"},
		"an architecture of others":        {map[string]any{"arch": "ppc64le"}, "EC2 has no others"},
		"a root volume that is too small":  {map[string]any{"root_volume_size": 5}, "root_volume_size is 5 GiB, and the image ami-00000000000000862 needs 10"},
		"a type that is never spot":        {map[string]any{"market": "spot", "instance_type": "u-6tb1.metal"}, "There is no u-6tb1.metal in the market spot"},
		"a price on demand":                {map[string]any{"spot_max_price": 1}, `spot_max_price is given, and market is "on-demand"`},
		"credits of a type without":        {map[string]any{"cpu_credits": "standard"}, "c5.large has no CPU credits"},
		"io2 without iops":                 {map[string]any{"root_volume_type": "io2"}, "root_volume_iops must be given for the types io1 and io2"},
		"gp2 with iops":                    {map[string]any{"root_volume_type": "gp2", "root_volume_iops": 3000}, "must not be for others"},
		"nobody is let in":                 {map[string]any{"ssh_cidr_blocks": nil}, "Nobody could reach the node"},
		"a subnet that there is not":       {map[string]any{"subnet_id": "subnet-00000000000000bad"}, "no matching EC2 Subnet found"},
		"a subnet of another zone":         {map[string]any{"subnet_id": "subnet-0000000000000000b", "availability_zone": "us-east-1a"}, "subnet_id lies in the zone us-east-1b"},
		"the broker's tags":                {map[string]any{"tags": map[string]string{"duffy:pool": "other"}}, `tags must not begin with "aws:"`},
		"user data that is none":           {map[string]any{"user_data": "dnf -y install git"}, "user_data must begin with #cloud-config"},
		"too much user data":               {map[string]any{"user_data": "#!/bin/sh\n" + strings.Repeat("# 16 characters\n", 1024)}, "EC2 takes 16384"},
		"an endpoint of a mistyped name":   {map[string]any{"endpoints": map[string]string{"ecs": "http://127.0.0.1:1"}}, "endpoints has a name that is none of"},
	}
	w := newWorkspace(t, cloud, nil)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w.t = t
			w.vary(test.change)
			out, code := w.run("apply", "-auto-approve", "-input=false", "-no-color")
			if code == 0 || !strings.Contains(out, test.want) {
				t.Errorf("exit code %d, want words %q:\n%s", code, test.want, out)
			}
			wantNothing(t, cloud)
		})
	}
	if n := cloud.Calls("RunInstances") + cloud.Calls("CreateLaunchTemplate") + cloud.Calls("CreateSecurityGroup"); n > 0 {
		t.Errorf("%d calls that make something", n)
	}
}
