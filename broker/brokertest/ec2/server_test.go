package ec2_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/ec2"
	"github.com/duffy-broker/duffy-broker/broker/localnode"
)

// The test binary stands in for duffy-broker: it is what SSH servers run.
func TestMain(m *testing.M) {
	if len(os.Args) == 5 && os.Args[1] == "local-node" && os.Args[2] == "serve" {
		if err := localnode.Serve(context.Background(), os.Args[4]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// xmlNode is any element.
type xmlNode struct {
	XMLName  xml.Name
	Text     string    `xml:",chardata"`
	Children []xmlNode `xml:",any"`
}

// all gives the texts at a path of names, in their order.
func (n xmlNode) all(path string) []string {
	name, rest, more := strings.Cut(path, "/")
	var texts []string
	for _, child := range n.Children {
		switch {
		case child.XMLName.Local != name:
		case more:
			texts = append(texts, child.all(rest)...)
		default:
			texts = append(texts, child.Text)
		}
	}
	return texts
}

func (n xmlNode) one(t *testing.T, path string) string {
	t.Helper()
	texts := n.all(path)
	if len(texts) != 1 {
		t.Fatalf("%s: %v, want one", path, texts)
	}
	return texts[0]
}

// errNoAnswer is the code of a call whose connection was cut.
const errNoAnswer = "no answer"

// call makes a call, with pairs of names and values, and gives its answer and the code
// of its error, "" for none.
func call(t *testing.T, s *ec2.Server, action string, pairs ...string) (xmlNode, string) {
	t.Helper()
	form := url.Values{"Action": {action}, "Version": {"2016-11-15"}}
	for i := 0; i < len(pairs); i += 2 {
		form.Set(pairs[i], pairs[i+1])
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(), strings.NewReader(form.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+ec2.AccessKey+"/20260101/"+ec2.Region+"/ec2/aws4_request, SignedHeaders=host, Signature=0")
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, io.EOF) {
		return xmlNode{}, errNoAnswer
	}
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var answer xmlNode
	if err := xml.NewDecoder(resp.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", action, err)
	}
	if (answer.XMLName.Local == action+"Response") != (resp.StatusCode == http.StatusOK) {
		t.Errorf("%s: status %d with a %s", action, resp.StatusCode, answer.XMLName.Local)
	}
	for _, path := range []string{"Errors/Error/Code", "Error/Code"} {
		if code := answer.all(path); len(code) > 0 {
			return answer, code[0]
		}
	}
	return answer, ""
}

func must(t *testing.T, s *ec2.Server, action string, pairs ...string) xmlNode {
	t.Helper()
	answer, code := call(t, s, action, pairs...)
	if code != "" {
		t.Fatalf("%s: %s: %v", action, code, answer.all("Errors/Error/Message"))
	}
	return answer
}

func run(t *testing.T, s *ec2.Server, pairs ...string) string {
	t.Helper()
	return must(t, s, "RunInstances", append([]string{"MinCount", "1", "MaxCount", "1", "ImageId", "ami-00000000000000862", "InstanceType", "c5.large"}, pairs...)...).one(t, "instancesSet/item/instanceId")
}

func TestInstance(t *testing.T) {
	s := ec2.Start(t, ec2.Config{Pending: time.Hour})
	id := run(t, s, "TagSpecification.1.ResourceType", "instance", "TagSpecification.1.Tag.1.Key", "team", "TagSpecification.1.Tag.1.Value", "ci", "SubnetId", "subnet-0000000000000000b")
	i := must(t, s, "DescribeInstances", "InstanceId.1", id)
	for path, want := range map[string]string{
		"instanceId": id, "instanceState/name": "pending", "placement/availabilityZone": "us-east-1b", "subnetId": "subnet-0000000000000000b", "tagSet/item/value": "ci",
		"blockDeviceMapping/item/ebs/deleteOnTermination": "true", "metadataOptions/httpTokens": "optional",
	} {
		if got := i.one(t, "reservationSet/item/instancesSet/item/"+path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if left := s.Left(); len(left) != 3 { // with a volume and an interface
		t.Errorf("left: %v", left)
	}
	volume := s.Volumes()[0]
	if _, code := call(t, s, "DeleteVolume", "VolumeId", volume.ID); code != "VolumeInUse" {
		t.Errorf("delete a volume that is in use: %q", code)
	}
	must(t, s, "TerminateInstances", "InstanceId.1", id)
	must(t, s, "TerminateInstances", "InstanceId.1", id)
	if left := s.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if state := must(t, s, "DescribeInstances", "InstanceId.1", id).one(t, "reservationSet/item/instancesSet/item/instanceState/name"); state != "terminated" {
		t.Errorf("after that it is %q", state)
	}
}

// What was not to go with the instance stays on the bill.
func TestLeaks(t *testing.T) {
	s := ec2.Start(t, ec2.Config{})
	id := run(t, s, "ImageId", "ami-000000000000da7a0", "NetworkInterface.1.DeviceIndex", "0", "NetworkInterface.1.DeleteOnTermination", "false")
	must(t, s, "TerminateInstances", "InstanceId.1", id)
	volumes, interfaces := s.Volumes(), s.Interfaces()
	if len(volumes) != 1 || volumes[0].Device != "/dev/sdb" || len(interfaces) != 1 {
		t.Fatalf("left: %+v, %+v", volumes, interfaces)
	}
	must(t, s, "DeleteVolume", "VolumeId", volumes[0].ID)
	must(t, s, "DeleteNetworkInterface", "NetworkInterfaceId", interfaces[0].ID)
	if left := s.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestLaunchTemplateAndSpot(t *testing.T) {
	s := ec2.Start(t, ec2.Config{SpotPrice: 0.02})
	pairs := []string{"LaunchTemplateName", "duffy-1", "ClientToken", "token"}
	for name, value := range map[string]string{
		"ImageId": "ami-00000000000000862", "InstanceType": "c5.large", "MetadataOptions.HttpTokens": "required", "InstanceMarketOptions.MarketType": "spot",
		"InstanceMarketOptions.SpotOptions.MaxPrice": "0.05", "NetworkInterface.1.DeviceIndex": "0", "NetworkInterface.1.SubnetId": "subnet-0000000000000000c",
		"NetworkInterface.1.SecurityGroupId.1": s.AddGroup("vpc-00000000000000001"), "BlockDeviceMapping.1.DeviceName": "/dev/sda1", "BlockDeviceMapping.1.Ebs.VolumeSize": "20",
		"TagSpecification.1.ResourceType": "network-interface", "TagSpecification.1.Tag.1.Key": "of", "TagSpecification.1.Tag.1.Value": "nic",
		"TagSpecification.2.ResourceType": "spot-instances-request", "TagSpecification.2.Tag.1.Key": "of", "TagSpecification.2.Tag.1.Value": "spot",
	} {
		pairs = append(pairs, "LaunchTemplateData."+name, value)
	}
	lt := must(t, s, "CreateLaunchTemplate", pairs...).one(t, "launchTemplate/launchTemplateId")
	if again := must(t, s, "CreateLaunchTemplate", pairs...).one(t, "launchTemplate/launchTemplateId"); again != lt {
		t.Errorf("the same token gives %s and %s", lt, again)
	}
	shown := must(t, s, "DescribeLaunchTemplateVersions", "LaunchTemplateId", lt)
	for path, want := range map[string]string{
		"imageId": "ami-00000000000000862", "metadataOptions/httpTokens": "required", "instanceMarketOptions/spotOptions/maxPrice": "0.05",
		"networkInterfaceSet/item/subnetId": "subnet-0000000000000000c", "blockDeviceMappingSet/item/ebs/volumeSize": "20",
	} {
		if got := shown.one(t, "launchTemplateVersionSet/item/launchTemplateData/"+path); got != want {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
	if groups := shown.all("launchTemplateVersionSet/item/launchTemplateData/networkInterfaceSet/item/groupSet/groupId"); len(groups) != 1 {
		t.Errorf("groups %v", groups)
	}
	id := must(t, s, "RunInstances", "MinCount", "1", "MaxCount", "1", "LaunchTemplate.LaunchTemplateId", lt, "LaunchTemplate.Version", "1", "Placement.AvailabilityZone", "", "EbsOptimized", "false").
		one(t, "instancesSet/item/instanceId")
	i := s.Instances()[0]
	if i.ID != id || i.Spot == "" || i.Zone != "us-east-1c" || i.Tokens != "required" || i.Tags["aws:ec2launchtemplate:id"] != lt || s.Volumes()[0].Size != 20 {
		t.Errorf("instance %+v", i)
	}
	want := map[string]map[string]string{
		"instance " + id: {}, "volume " + s.Volumes()[0].ID: {}, "network-interface " + s.Interfaces()[0].ID: {"of": "nic"}, "spot-instances-request " + i.Spot: {"of": "spot"}, "launch-template " + lt: {},
	}
	if diff := cmp.Diff(want, s.Tags()); diff != "" {
		t.Errorf("tags (-want +got):\n%s", diff)
	}
	if state := must(t, s, "DescribeSpotInstanceRequests", "SpotInstanceRequestId.1", i.Spot).one(t, "spotInstanceRequestSet/item/state"); state != "active" {
		t.Errorf("the spot request is %q", state)
	}
	if _, code := call(t, s, "RunInstances", "MinCount", "1", "MaxCount", "1", "LaunchTemplate.LaunchTemplateId", lt, "InstanceMarketOptions.MarketType", "spot", "InstanceMarketOptions.SpotOptions.MaxPrice", "0.01"); code != "SpotMaxPriceTooLow" {
		t.Errorf("a price that is too low: %q", code)
	}
	if !s.Terminate(id) || s.Terminate(id) {
		t.Error("an interruption does not end the instance once")
	}
	must(t, s, "DeleteLaunchTemplate", "LaunchTemplateId", lt)
	if left := s.Left(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestSecurityGroup(t *testing.T) {
	s := ec2.Start(t, ec2.Config{})
	id := must(t, s, "CreateSecurityGroup", "GroupName", "g", "GroupDescription", "d").one(t, "groupId")
	everything := []string{"GroupId", id, "IpPermissions.1.IpProtocol", "-1", "IpPermissions.1.FromPort", "0", "IpPermissions.1.ToPort", "0", "IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"}
	must(t, s, "RevokeSecurityGroupEgress", everything...)
	if _, code := call(t, s, "RevokeSecurityGroupEgress", everything...); code != "InvalidPermission.NotFound" {
		t.Errorf("revoke twice: %q", code)
	}
	must(t, s, "AuthorizeSecurityGroupIngress", "GroupId", id, "IpPermissions.1.IpProtocol", "tcp", "IpPermissions.1.FromPort", "22", "IpPermissions.1.ToPort", "22",
		"IpPermissions.1.IpRanges.1.CidrIp", "192.0.2.0/24", "IpPermissions.1.Ipv6Ranges.1.CidrIpv6", "2001:db8::/32")
	shown := must(t, s, "DescribeSecurityGroups", "GroupId.1", id)
	if diff := cmp.Diff([]string{"192.0.2.0/24"}, shown.all("securityGroupInfo/item/ipPermissions/item/ipRanges/item/cidrIp")); diff != "" {
		t.Error(diff)
	}
	if rules := must(t, s, "DescribeSecurityGroupRules", "Filter.1.Name", "group-id", "Filter.1.Value.1", id).all("securityGroupRuleSet/item/ipProtocol"); len(rules) != 2 {
		t.Errorf("rules %v", rules)
	}
	i := run(t, s, "SecurityGroupId.1", id)
	if _, code := call(t, s, "DeleteSecurityGroup", "GroupId", id); code != "DependencyViolation" {
		t.Errorf("delete a group that is in use: %q", code)
	}
	s.Terminate(i)
	must(t, s, "DeleteSecurityGroup", "GroupId", id)
}

func TestListings(t *testing.T) {
	s := ec2.Start(t, ec2.Config{PageSize: 2})
	var ids []string
	for n := range 5 {
		ids = append(ids, run(t, s, "TagSpecification.1.ResourceType", "instance", "TagSpecification.1.Tag.1.Key", "n", "TagSpecification.1.Tag.1.Value", fmt.Sprint(n)))
	}
	s.Terminate(ids[4])
	var got []string
	for token, pages := "", 0; ; pages++ {
		page := must(t, s, "DescribeInstances", "NextToken", token, "Filter.1.Name", "instance-state-name", "Filter.1.Value.1", "pending", "Filter.1.Value.2", "running", "Filter.2.Name", "tag:n", "Filter.2.Value.1", "*")
		got = append(got, page.all("reservationSet/item/instancesSet/item/instanceId")...)
		next := page.all("nextToken")
		if len(next) == 0 {
			if pages != 1 {
				t.Errorf("%d pages before the last", pages)
			}
			break
		}
		token = next[0]
	}
	if diff := cmp.Diff(ids[:4], got); diff != "" {
		t.Errorf("listed (-want +got):\n%s", diff)
	}
	if _, code := call(t, s, "DescribeInstances", "Filter.1.Name", "colour", "Filter.1.Value.1", "red"); code != "InvalidParameterValue" {
		t.Errorf("an unknown filter: %q", code)
	}
	if tags := must(t, s, "DescribeTags", "Filter.1.Name", "resource-id", "Filter.1.Value.1", ids[1]).all("tagSet/item/value"); len(tags) != 1 || tags[0] != "1" {
		t.Errorf("tags %v", tags)
	}
	must(t, s, "CreateTags", "ResourceId.1", ids[1], "Tag.1.Key", "n", "Tag.1.Value", "x")
	must(t, s, "DeleteTags", "ResourceId.1", ids[2], "Tag.1.Key", "n")
	if got := must(t, s, "DescribeInstances", "Filter.1.Name", "tag:n", "Filter.1.Value.1", "x").all("reservationSet/item/instancesSet/item/instanceId"); len(got) != 1 || got[0] != ids[1] {
		t.Errorf("by its new tag: %v", got)
	}
	newest := must(t, s, "DescribeImages", "Owner.1", "125523088429", "Filter.1.Name", "name", "Filter.1.Value.1", "CentOS * 9 *", "Filter.2.Name", "architecture", "Filter.2.Value.1", "arm64").all("imagesSet/item/imageId")
	if len(newest) != 2 {
		t.Errorf("images %v", newest)
	}
	if none := must(t, s, "DescribeImages", "Owner.1", "self", "Filter.1.Name", "name", "Filter.1.Value.1", "CentOS *").all("imagesSet/item/imageId"); len(none) != 0 {
		t.Errorf("images of one's own: %v", none)
	}
	offers := must(t, s, "DescribeInstanceTypeOfferings", "LocationType", "availability-zone", "Filter.1.Name", "instance-type", "Filter.1.Value.1", "p5.48xlarge").all("instanceTypeOfferingSet/item/location")
	if len(offers) != 2 {
		t.Errorf("zones with the type: %v", offers)
	}
}

func TestTaggingAPI(t *testing.T) {
	s := ec2.Start(t, ec2.Config{PageSize: 1})
	tag := []string{"TagSpecification.1.ResourceType", "instance", "TagSpecification.1.Tag.1.Key", "duffy:broker-id", "TagSpecification.1.Tag.1.Value", "b"}
	a, b := run(t, s, tag...), run(t, s, tag...)
	run(t, s)
	s.Terminate(b)
	get := func(token string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL(), strings.NewReader(
			`{"PaginationToken":"`+token+`","ResourceTypeFilters":["ec2:instance"],"TagFilters":[{"Key":"duffy:broker-id","Values":["b"]}]}`))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Amz-Target", "ResourceGroupsTaggingAPI_20170126.GetResources")
		req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+ec2.AccessKey+"/x")
		req.Close = true
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = resp.Body.Close() }()
		body, _ := io.ReadAll(resp.Body)
		return string(body)
	}
	if first := get(""); !strings.Contains(first, "instance/"+a) || !strings.Contains(first, `"PaginationToken":"`+b) {
		t.Errorf("first page: %s", first)
	}
	if second := get(b); !strings.Contains(second, "instance/"+b) || strings.Contains(second, a) {
		t.Errorf("second page: %s", second)
	}
}

func TestFailures(t *testing.T) {
	s := ec2.Start(t, ec2.Config{})
	try := func(pairs ...string) string {
		_, code := call(t, s, "RunInstances", append([]string{"MinCount", "1", "MaxCount", "1", "ImageId", "ami-00000000000000862", "InstanceType", "c5.large"}, pairs...)...)
		return code
	}
	zone := func(z string) []string { return []string{"Placement.AvailabilityZone", z} }

	s.SetFailures(ec2.Failure{Action: "RunInstances", Code: "InsufficientInstanceCapacity", Zone: "us-east-1a"}, ec2.Failure{Action: "RunInstances", Code: "RequestLimitExceeded", Times: 1})
	if got := []string{try(zone("us-east-1a")...), try(zone("us-east-1b")...), try(zone("us-east-1a")...), try(zone("us-east-1b")...)}; !cmp.Equal(got, []string{"InsufficientInstanceCapacity", "RequestLimitExceeded", "InsufficientInstanceCapacity", ""}) {
		t.Errorf("codes %v", got)
	}
	s.SetFailures(ec2.Failure{Action: "RunInstances", Code: "MaxSpotInstanceCountExceeded", Spot: true})
	if got := []string{try(), try("InstanceMarketOptions.MarketType", "spot")}; !cmp.Equal(got, []string{"", "MaxSpotInstanceCountExceeded"}) {
		t.Errorf("codes %v", got)
	}

	// An answer that is lost, and asked for once more.
	before := len(s.Running())
	s.SetFailures(ec2.Failure{Action: "RunInstances", Drop: true, Late: true, Times: 1})
	if code := try("ClientToken", "t"); code != errNoAnswer {
		t.Errorf("code %q", code)
	}
	if code := try("ClientToken", "t"); code != "" {
		t.Errorf("code %q", code)
	}
	if n := len(s.Running()) - before; n != 1 {
		t.Errorf("%d instances of one token", n)
	}

	s.SetFailures(ec2.Failure{Action: "RunInstances", Code: "Server.InternalError", AfterStart: true})
	if code := try("ClientToken", "u"); code != "" {
		t.Errorf("code %q", code)
	}
	all := s.Instances()
	last := all[len(all)-1]
	if last.State != "terminated" || must(t, s, "DescribeInstances", "InstanceId.1", last.ID).one(t, "reservationSet/item/instancesSet/item/stateReason/code") != "Server.InternalError" {
		t.Errorf("instance %+v", last)
	}
	s.SetFailures()
	for pairs, want := range map[[2]string]string{
		{"InstanceType", "c6g.large"}:            "InvalidParameterValue",
		{"ImageId", "ami-0bad"}:                  "InvalidAMIID.NotFound",
		{"SubnetId", "subnet-0bad"}:              "InvalidSubnetID.NotFound",
		{"SecurityGroupId.1", "sg-0bad"}:         "InvalidGroup.NotFound",
		{"UserData", "%%"}:                       "InvalidUserData.Malformed",
		{"InstanceType", "p5.48xlarge"}:          "Unsupported",
		{"LaunchTemplate.LaunchTemplateId", "x"}: "InvalidLaunchTemplateId.NotFound",
		{"DryRun", "true"}:                       "DryRunOperation",
	} {
		if code := try(pairs[0], pairs[1]); code != want {
			t.Errorf("%v: %q, want %q", pairs, code, want)
		}
	}
	if _, code := call(t, s, "StartRockets"); code != "InvalidAction" {
		t.Errorf("an unknown action: %q", code)
	}
	must(t, s, "GetCallerIdentity")
	if got := s.Actions(); !cmp.Equal(got, []string{"ec2:DescribeInstances", "ec2:RunInstances", "ec2:StartRockets", "sts:GetCallerIdentity"}) {
		t.Errorf("actions %v", got)
	}
	resp, err := http.PostForm(s.URL(), url.Values{"Action": {"DescribeInstances"}})
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if http.DefaultClient.CloseIdleConnections(); resp.StatusCode != http.StatusUnauthorized {
		t.Errorf("without credentials: status %d", resp.StatusCode)
	}
}

// An instance is an SSH node with the keys that its user data names, until it ends.
func TestSSHNode(t *testing.T) {
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	boot, shutdown := ec2.SSHNodes(t.TempDir(), executable)
	s := ec2.Start(t, ec2.Config{Boot: boot, Shutdown: shutdown})
	host, client := newKey(t), newKey(t)
	block, err := ssh.MarshalPrivateKey(host, "")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(client)
	if err != nil {
		t.Fatal(err)
	}
	hostSigner, err := ssh.NewSignerFromKey(host)
	if err != nil {
		t.Fatal(err)
	}
	data := "MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\"==b==\"\n\n--==b==\nContent-Type: text/cloud-config\n\n#cloud-config\n" +
		fmt.Sprintf("{hostname: me, ssh_authorized_keys: [%q], ssh_keys: {ed25519_private: %q}}\n", strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey()))), pem.EncodeToMemory(block)) +
		"--==b==\nContent-Type: text/x-shellscript\n\n#!/bin/sh\ntrue\n--==b==--\n"
	id := run(t, s, "UserData", base64.StdEncoding.EncodeToString([]byte(data)), "NetworkInterface.1.DeviceIndex", "0", "NetworkInterface.1.AssociatePublicIpAddress", "false")
	i := s.Instances()[0]
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	dial := func() (*ssh.Client, error) {
		config := &ssh.ClientConfig{User: me.Username, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(hostSigner.PublicKey())}
		conn, err := ssh.Dial("tcp", i.Private+":22", config)
		if err != nil {
			conn, err = ssh.Dial("tcp", i.Private+":2222", config)
		}
		return conn, err
	}
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	session, err := conn.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	out, err := session.Output(`echo "$DUFFY_NODE"`)
	if err != nil || string(out) != "me\n" {
		t.Errorf("it says %q, %v", out, err)
	}
	_ = conn.Close()
	must(t, s, "TerminateInstances", "InstanceId.1", id)
	if conn, err := dial(); err == nil {
		_ = conn.Close()
		t.Error("it answers after its end")
	}
}

func newKey(t *testing.T) ed25519.PrivateKey {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
