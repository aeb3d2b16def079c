package ec2_test

import (
	"encoding/json"
	"log/slog"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/ec2"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
)

// Each way in which EC2 fails comes out of the engine with its class, and soon:
// the provider does not try for minutes what the broker tries elsewhere.
func TestErrorsGetTheirClasses(t *testing.T) {
	config := providers.Config(t, "aws")
	t.Setenv("TF_CLI_CONFIG_FILE", config)
	cloud := startCloud(t, ec2.Config{SpotPrice: 0.02})
	for _, v := range cloud.Environment() {
		name, value, _ := strings.Cut(v, "=")
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	_, public := hostKey(t)
	e := terraform.New(terraform.Config{
		Binary: terraform.Binary{Path: brokertest.NeedProgram(t, "terraform")}, Dir: dir, BrokerID: "broker-1", SSHPublicKeys: []string{public}, Keyring: keys,
		Log: slog.New(slog.NewTextHandler(t.Output(), nil)),
	})
	prepare := func(change map[string]any) broker.Pool {
		variables := map[string]any{
			"endpoints": endpoints(cloud), "image_owner": "125523088429", "image_name": "CentOS Stream 9 *", "instance_type": "c5.large", "ssh_cidr_blocks": []string{"127.0.0.0/8"},
		}
		maps.Copy(variables, change)
		text, err := json.Marshal(variables)
		if err != nil {
			t.Fatal(err)
		}
		p := broker.Pool{Name: "a", Module: module(t), Variables: text, CreateTimeout: time.Hour, DestroyTimeout: time.Hour}
		if p.Source, err = e.Prepare(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	onDemand := prepare(nil)
	for _, test := range []struct {
		change  map[string]any
		failure ec2.Failure
		want    broker.FailureClass
	}{
		{nil, ec2.Failure{Action: "RunInstances", Code: "RequestLimitExceeded"}, broker.FailureThrottled},
		{nil, ec2.Failure{Action: "RunInstances", Code: "InsufficientInstanceCapacity"}, broker.FailureNoCapacity},
		{nil, ec2.Failure{Action: "RunInstances", Code: "InsufficientFreeAddressesInSubnet"}, broker.FailureNoCapacity},
		{nil, ec2.Failure{Action: "RunInstances", Code: "Server.InsufficientInstanceCapacity", AfterStart: true}, broker.FailureNoCapacity},
		{nil, ec2.Failure{Action: "RunInstances", Code: "VcpuLimitExceeded"}, broker.FailureQuota},
		{nil, ec2.Failure{Action: "CreateSecurityGroup", Code: "SecurityGroupLimitExceeded", Message: "The maximum number of security groups has been reached."}, broker.FailureQuota},
		{nil, ec2.Failure{Action: "RunInstances", Code: "UnauthorizedOperation"}, broker.FailureAuth},
		{nil, ec2.Failure{Action: "GetCallerIdentity", Code: "ExpiredToken"}, broker.FailureAuth},
		{nil, ec2.Failure{Action: "RunInstances", Code: "OptInRequired"}, broker.FailureAuth},
		{nil, ec2.Failure{Action: "RunInstances", Code: "InternalError"}, broker.FailureUnreachable},
		{nil, ec2.Failure{Action: "DescribeImages", Drop: true}, broker.FailureUnreachable},
		{nil, ec2.Failure{Action: "RunInstances", Code: "Client.InternalError", AfterStart: true}, broker.FailureConfiguration},
		{map[string]any{"instance_type": "p5.48xlarge", "availability_zone": "us-east-1a"}, ec2.Failure{Action: "none"}, broker.FailureNoCapacity},
		{map[string]any{"market": "spot"}, ec2.Failure{Action: "RunInstances", Code: "MaxSpotInstanceCountExceeded"}, broker.FailureQuota},
		{map[string]any{"market": "spot", "spot_max_price": 0.01}, ec2.Failure{Action: "none"}, broker.FailureNoCapacity},
		{map[string]any{"instance_type": "c6g.large"}, ec2.Failure{Action: "none"}, broker.FailureConfiguration},
		{map[string]any{"image_name": "Fedora *"}, ec2.Failure{Action: "none"}, broker.FailureConfiguration},
	} {
		name := string(test.want) + " " + test.failure.Action + " " + test.failure.Code
		t.Run(name, func(t *testing.T) {
			cloud.SetFailures(test.failure)
			p := onDemand
			if test.change != nil {
				p = prepare(test.change)
			}
			n := broker.NewNode(p, time.Now())
			calls := cloud.Calls(test.failure.Action)
			result, err := e.Apply(t.Context(), n)
			if got := broker.FailureClassOf(err); got != test.want {
				t.Errorf("class %s, want %s: %v", got, test.want, err)
			}
			if n := cloud.Calls(test.failure.Action) - calls; n > 5 {
				t.Errorf("%d calls", n)
			}
			cloud.SetFailures()
			if left, err := e.Destroy(t.Context(), n, result.State); err != nil || left.State != nil {
				t.Errorf("destroy: %v", err)
			}
			if err := e.Discard(n); err != nil {
				t.Error(err)
			}
			wantNothing(t, cloud)
		})
	}
}
