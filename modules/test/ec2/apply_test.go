package ec2_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/ec2"
)

// Each kind of node: made once, found as it was described, unchanged by a second
// apply, and gone without a trace.
func TestApplyTwiceAndDestroy(t *testing.T) {
	tests := map[string]struct {
		change map[string]any
		check  func(t *testing.T, cloud *ec2.Server, i ec2.Instance, out map[string]any)
	}{
		"on demand": {
			change: map[string]any{"tags": map[string]string{"team": "ci"}, "instance_profile": "ci-node", "root_volume_size": 30},
			check: func(t *testing.T, cloud *ec2.Server, i ec2.Instance, out map[string]any) {
				if i.Type != "c5.large" || i.Image != "ami-00000000000000862" || i.Spot != "" || i.Tokens != "required" || i.OnShutdown != "terminate" || i.Profile != "ci-node" || i.Public != "" {
					t.Errorf("instance %+v", i)
				}
				v := cloud.Volumes()
				if len(v) != 1 || v[0].Size != 30 || v[0].Type != "gp3" || !v[0].Encrypted || !v[0].DeleteOn {
					t.Errorf("volumes %+v", v)
				}
				if out["ipaddr"] != i.Private {
					t.Errorf("ipaddr is %v, the private address %v", out["ipaddr"], i.Private)
				}
				groups := cloud.Groups()
				if len(groups) != 1 {
					t.Fatalf("security groups %+v", groups)
				}
				want := []ec2.Permission{
					{Protocol: "tcp", From: "22", To: "22", Range: "192.0.2.0/24", About: "SSH"},
					{Protocol: "tcp", From: "22", To: "22", Range: "2001:db8::/32", About: "SSH"},
				}
				if diff := cmp.Diff(want, groups[0].Ingress); diff != "" {
					t.Errorf("what is let in (-want +got):\n%s", diff)
				}
			},
		},
		"spot with a public address, of another zone": {
			change: map[string]any{"market": "spot", "spot_max_price": 0.05, "public_ip": true, "subnet_id": "subnet-0000000000000000b", "arch": "aarch64", "instance_type": "c6g.large"},
			check: func(t *testing.T, _ *ec2.Server, i ec2.Instance, out map[string]any) {
				if i.Spot == "" || i.Zone != "us-east-1b" || i.Image != "ami-00000000000000642" {
					t.Errorf("instance %+v", i)
				}
				if i.Public == "" || out["ipaddr"] != i.Public {
					t.Errorf("ipaddr is %v, the public address %v", out["ipaddr"], i.Public)
				}
				data, err := ec2.ParseUserData(i.UserData)
				if err != nil {
					t.Fatal(err)
				}
				if env := data.Files["/etc/duffy/interruption-watcher.env"]; env != "DUFFY_URL=http://broker.example\nDUFFY_TOKEN=secret-of-the-node\n" {
					t.Errorf("the watcher's environment is %q", env)
				}
			},
		},
		"metal in a group that exists, with user data of one's own": {
			change: map[string]any{
				"instance_type": "c5n.metal", "image_name": nil, "image_owner": nil, "image_id": "ami-000000000000da7a0", "ssh_cidr_blocks": nil,
				"user_data": "#cloud-config\nruncmd:\n  - [touch, /tmp/mine]\nhostname: mine\n",
			},
			check: func(t *testing.T, cloud *ec2.Server, i ec2.Instance, _ map[string]any) {
				if len(cloud.Groups()) != 0 {
					t.Errorf("security groups were made: %+v", cloud.Groups())
				}
				if v := cloud.Volumes(); len(v) != 2 || !v[1].DeleteOn {
					t.Errorf("the image's data disk would outlive the node: %+v", v)
				}
				data, err := ec2.ParseUserData(i.UserData)
				if err != nil {
					t.Fatal(err)
				}
				if len(data.Parts) != 2 || data.Parts[1].Merge != "list(append)+dict(no_replace,recurse_list)+str()" || len(data.Commands) != 1 || len(data.Files) != 0 {
					t.Errorf("user data: %+v", data)
				}
			},
		},
		"burstable": {
			change: map[string]any{"instance_type": "t3.micro", "cpu_credits": "standard"},
			check: func(t *testing.T, _ *ec2.Server, i ec2.Instance, _ map[string]any) {
				if i.Credits != "standard" {
					t.Errorf("credits %q", i.Credits)
				}
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			cloud := startCloud(t, ec2.Config{PageSize: 1})
			if strings.HasPrefix(name, "metal") {
				test.change["security_group_ids"] = []string{cloud.AddGroup("vpc-00000000000000001")}
			}
			w := newWorkspace(t, cloud, test.change)
			w.apply()
			running := cloud.Running()
			if len(running) != 1 {
				t.Fatalf("%d instances, want 1", len(running))
			}
			test.check(t, cloud, running[0], w.outputs())

			tags := map[string]string{"Name": "node-" + nodeID, "duffy:broker-id": "b", "duffy:node-id": nodeID, "duffy:pool": "p"}
			if test.change["tags"] != nil {
				tags["team"] = "ci"
			}
			for name, got := range cloud.Tags() {
				if diff := cmp.Diff(tags, got); diff != "" {
					t.Errorf("tags of %s (-want +got):\n%s", name, diff)
				}
			}
			data, err := ec2.ParseUserData(running[0].UserData)
			if err != nil {
				t.Fatal(err)
			}
			if data.Hostname != "node-"+nodeID && test.change["user_data"] == nil || !data.LetRootIn || len(data.Keys) != 1 || data.HostKey == "" {
				t.Errorf("cloud-init is told %+v", data)
			}

			before, left := cloud.Calls("RunInstances"), cloud.Left()
			if out, code := w.run("plan", "-detailed-exitcode", "-input=false", "-no-color"); code != 0 {
				t.Errorf("the plan after the apply: exit code %d\n%s", code, out)
			}
			if out := w.apply(); !strings.Contains(out, "0 added, 0 changed, 0 destroyed") {
				t.Errorf("the second apply: %s", out)
			}
			if diff := cmp.Diff(left, cloud.Left()); diff != "" || cloud.Calls("RunInstances") != before {
				t.Errorf("the second apply changed something (-before +after):\n%s", diff)
			}
			w.destroy()
			wantNothing(t, cloud)
			w.destroy() // of what is gone
		})
	}
}
