package terraform

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestContractOutputs(t *testing.T) {
	const address = `"ipaddr":{"value":"10.0.0.1"}`
	tests := map[string]struct {
		outputs string
		want    broker.Outputs
		wantErr string
	}{
		"least": {outputs: address, want: broker.Outputs{Address: "10.0.0.1", SSHUser: "root", SSHPort: 22}},
		"all": {
			outputs: address + `,"hostname":{"value":"h"},"ssh_user":{"value":"u"},"ssh_port":{"value":22},` +
				`"ssh_host_keys":{"value":["a","b"]},"data":{"value":{"x":[1,null]}},"other":{"value":1}`,
			want: broker.Outputs{
				Address: "10.0.0.1", Hostname: "h", SSHUser: "u", SSHPort: 22,
				HostKeys: []string{"a", "b"}, Data: json.RawMessage(`{"x":[1,null]}`),
			},
		},
		"nulls":            {outputs: address + `,"ssh_port":{"value":null},"data":{"value":null}`, want: broker.Outputs{Address: "10.0.0.1", SSHUser: "root", SSHPort: 22}},
		"port from a file": {outputs: address + `,"ssh_port":{"value":"2222"}`, want: broker.Outputs{Address: "10.0.0.1", SSHUser: "root", SSHPort: 2222}},
		"sensitive":        {outputs: address + `,"data":{"value":"s","sensitive":true}`, want: broker.Outputs{Address: "10.0.0.1", SSHUser: "root", SSHPort: 22}},
		"none":             {wantErr: `output "ipaddr" is empty`},
		"empty address":    {outputs: `"ipaddr":{"value":""}`, wantErr: `output "ipaddr" is empty`},
		"hidden address":   {outputs: `"ipaddr":{"value":"10.0.0.1","sensitive":true}`, wantErr: `must be the node's address, not sensitive`},
		"wrong address":    {outputs: `"ipaddr":{"value":["10.0.0.1"]}`, wantErr: `output "ipaddr" is not a string`},
		"wrong keys":       {outputs: address + `,"ssh_host_keys":{"value":"a"}`, wantErr: `output "ssh_host_keys" is not a list of strings`},
		"port too high":    {outputs: address + `,"ssh_port":{"value":70000}`, wantErr: `output "ssh_port" is not a number from 1 to 65535`},
		"port zero":        {outputs: address + `,"ssh_port":{"value":0}`, wantErr: `output "ssh_port" is not a number`},
		"port a list":      {outputs: address + `,"ssh_port":{"value":[22]}`, wantErr: `output "ssh_port" is not a number`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s, err := parseState([]byte(`{"version":4,"lineage":"L","outputs":{` + tt.outputs + `}}`))
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.contractOutputs()
			if tt.wantErr != "" {
				wantError(t, err, tt.wantErr)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("outputs (-want +got):\n%s", diff)
			}
		})
	}
}

func TestStateResources(t *testing.T) {
	s, err := parseState([]byte(`{"version":4,"lineage":"L","resources":[
		{"mode":"data","type":"t","name":"d","instances":[{}]},
		{"mode":"managed","type":"t","name":"empty","instances":[]},
		{"mode":"managed","type":"t","name":"one","instances":[{}]},
		{"mode":"managed","type":"t","name":"count","instances":[{"index_key":0},{"index_key":1}]},
		{"module":"module.m[\"x\"]","mode":"managed","type":"t","name":"each","instances":[{"index_key":"a"}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"t.one", "t.count[0]", "t.count[1]", `module.m["x"].t.each["a"]`}
	if diff := cmp.Diff(want, s.resources()); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
}

func TestReportSurvivesAnyOutput(t *testing.T) {
	path := t.TempDir() + "/out"
	write(t, path, "not json\n[1]\n"+strings.Repeat("x", 1<<17)+"\n"+
		`{"type":"change_summary","changes":{"operation":"plan"}}`+"\n"+
		`{"type":"apply_start","hook":{"resource":{"addr":"a.b"},"action":"read"}}`+"\n"+
		`{"type":"apply_start","hook":{"resource":{"addr":"a.c"},"action":"create"}}`+"\n"+
		`{"type":"diagnostic","diagnostic":{"severity":"warning","summary":"w"}}`+"\n"+
		`{"type":"change_summary","changes":{"operation":"apply"}}`+"\n"+`{"type":"diagnostic","diagno`)
	got, err := readReport(path, opApply)
	if err != nil {
		t.Fatal(err)
	}
	want := report{summary: true, begun: []begun{{address: "a.c"}}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(report{}, begun{})); diff != "" {
		t.Errorf("report (-want +got):\n%s", diff)
	}
}
