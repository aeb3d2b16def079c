package terraform

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

func TestComplete(t *testing.T) {
	const address = "example.com/ns/cloud"
	made := func(kind, attributes string) provider.Resource {
		return provider.Resource{Provider: address, Type: kind, SchemaVersion: 2, Attributes: json.RawMessage(attributes), Private: []byte("p")}
	}
	vm := func(key any, address, id string) begun {
		return begun{address: address, id: id, kind: "vm", name: "n", key: key}
	}
	entry := func(module, kind, name, instances string) string {
		if module != "" {
			module = `"module":"` + module + `",`
		}
		return `{` + module + `"mode":"managed","type":"` + kind + `","name":"` + name + `","provider":"provider[\"` + address + `\"]","instances":[` + instances + `]}`
	}
	instance := func(key, attributes, dependencies string) string {
		if key != "" {
			key = `"index_key":` + key + `,`
		}
		if dependencies != "" {
			dependencies = `,"dependencies":[` + dependencies + `]`
		}
		return `{` + key + `"status":"tainted","schema_version":2,"attributes":` + attributes + `,"private":"cA=="` + dependencies + `}`
	}
	const head = `{"version":4,"terraform_version":"1.11.4","serial":3,"lineage":"L","outputs":{"o":{"value":1,"type":"number"}},"resources":[`
	known := `{"mode":"managed","type":"vm","name":"n","provider":"provider[\"example.com/ns/cloud\"]","instances":[{"index_key":0,"schema_version":2,"attributes":{"id":"i0","a":1}}]}`
	tests := map[string]struct {
		state string // "": none
		made  []provider.Resource
		begun []begun
		want  string // "": as it was
	}{
		"nothing made":    {state: head + known + `]}`},
		"known by its id": {state: head + known + `]}`, made: []provider.Resource{made("vm", `{"id":"i0","a":2}`)}},
		"known without an id": {
			state: head + strings.Replace(known, `"id":"i0",`, "", 1) + `]}`, made: []provider.Resource{made("vm", `{"a":1.0}`)},
		},
		"no state at all": {
			made:  []provider.Resource{made("net", `{"id":"n0"}`), made("vm", `{"id":"i1"}`), made("vm", `{"id":"i0"}`)},
			begun: []begun{{address: "module.a.net.n", module: "module.a", kind: "net", name: "n"}, vm("a", `vm.n["a"]`, ""), vm("b", `vm.n["b"]`, "i1")},
			want: `{"version":4,"serial":1,"lineage":"ours","resources":[` + entry("module.a", "net", "n", instance("", `{"id":"n0"}`, "")) + `,` +
				entry("", "vm", "n", instance(`"b"`, `{"id":"i1"}`, `"module.a.net.n"`)+`,`+instance(`"a"`, `{"id":"i0"}`, `"module.a.net.n"`)) + `]}`,
		},
		"one of two": {
			state: head + known + `]}`,
			made:  []provider.Resource{made("vm", `{"id":"i0"}`), made("vm", `{"id":"i1"}`)},
			begun: []begun{vm(0, "vm.n[0]", "i0"), vm(1, "vm.n[1]", "")},
			want: strings.Replace(head, `"serial":3`, `"serial":4`, 1) +
				strings.Replace(known, `}}]}`, `}},`+instance("1", `{"id":"i1"}`, "")+`]}`, 1) + `]}`,
		},
		"nobody began it": {
			state: head + `]}`,
			made:  []provider.Resource{made("vm", `{"id":"i1"}`), made("vm", `{"id":"i2"}`)},
			begun: []begun{{address: "net.n", kind: "net", name: "n"}},
			want: strings.Replace(head, `"serial":3`, `"serial":4`, 1) + entry("", "vm", "recovered_1", instance("", `{"id":"i1"}`, "")) + `,` +
				entry("", "vm", "recovered_2", instance("", `{"id":"i2"}`, `"vm.recovered_1"`)) + `]}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			var s *state
			if tt.state != "" {
				var err error
				if s, err = parseState([]byte(tt.state)); err != nil {
					t.Fatal(err)
				}
			}
			missing := s.missing(tt.made)
			if tt.want == "" {
				if len(missing) > 0 {
					t.Errorf("missing: %+v, want nothing", missing)
				}
				return
			}
			got, addresses, err := s.complete(missing, tt.begun, "ours")
			if err != nil {
				t.Fatal(err)
			}
			var gotValue, wantValue any
			if err := json.Unmarshal(got.raw, &gotValue); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(tt.want), &wantValue); err != nil {
				t.Fatalf("%v in %s", err, tt.want)
			}
			if diff := cmp.Diff(wantValue, gotValue); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if len(addresses) != len(missing) {
				t.Errorf("addresses %v of %d resources", addresses, len(missing))
			}
			if again := got.missing(tt.made); len(again) > 0 {
				t.Errorf("still missing: %+v", again)
			}
		})
	}
}
