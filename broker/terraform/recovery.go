package terraform

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

// withJournal completes the state that a run has left with the creates whose
// answers a provider host has kept and that the state does not know: a Terraform
// that is killed knows nothing of them, and its state file may be empty. The
// result is s itself where nothing is missing, and may be nil as s may.
func (e *Engine) withJournal(r run, s *state, begun []begun) *state {
	made, err := provider.ReadJournal(r.journal())
	if err != nil {
		e.Log.Error("something may be left that must be removed by hand: a provider's answer can't be read", "node", r.node.UID, "error", err)
	}
	missing := s.missing(made)
	if len(missing) == 0 {
		return s
	}
	completed, addresses, err := s.complete(missing, begun, "duffy-broker-"+r.node.UID)
	if err != nil {
		e.Log.Error("something may be left that must be removed by hand: the state can't be completed", "node", r.node.UID, "error", err)
		return s
	}
	e.Log.Warn("a run was cut short: what it had made was found in the answers of its providers",
		"node", r.node.UID, "pool", r.node.Pool, "resources", addresses)
	return completed
}

// stateResource is a resource of a state file of format version 4, as far as it
// matters here.
type stateResource struct {
	Module    string            `json:"module,omitempty"`
	Mode      string            `json:"mode"`
	Type      string            `json:"type"`
	Name      string            `json:"name"`
	Provider  string            `json:"provider"`
	Instances []json.RawMessage `json:"instances"`
}

// stateInstance is an instance of one.
type stateInstance struct {
	IndexKey      any             `json:"index_key,omitempty"`
	Status        string          `json:"status,omitempty"`
	SchemaVersion int64           `json:"schema_version"`
	Attributes    json.RawMessage `json:"attributes"`
	Private       []byte          `json:"private,omitempty"`
	Dependencies  []string        `json:"dependencies,omitempty"`
}

func (r stateResource) address() string {
	if r.Module != "" {
		return r.Module + "." + r.Type + "." + r.Name
	}
	return r.Type + "." + r.Name
}

// content gives a state file's members, and its resources read.
func (s *state) content() (map[string]json.RawMessage, []stateResource, error) {
	if s == nil {
		return nil, nil, nil
	}
	var members map[string]json.RawMessage
	var resources []stateResource
	if err := json.Unmarshal(s.raw, &members); err != nil {
		return nil, nil, err
	}
	if len(members["resources"]) == 0 {
		return members, nil, nil
	}
	return members, resources, json.Unmarshal(members["resources"], &resources)
}

// missing lists what was made and is not in the state.
func (s *state) missing(made []provider.Resource) []provider.Resource {
	_, resources, _ := s.content() // s was read before
	known := map[string][]json.RawMessage{}
	for _, r := range resources {
		if r.Mode != "managed" {
			continue
		}
		for _, raw := range r.Instances {
			var i stateInstance
			if json.Unmarshal(raw, &i) == nil {
				known[r.Type] = append(known[r.Type], i.Attributes)
			}
		}
	}
	return slices.DeleteFunc(slices.Clone(made), func(m provider.Resource) bool {
		return slices.ContainsFunc(known[m.Type], func(attributes json.RawMessage) bool { return sameObject(attributes, m.Attributes) })
	})
}

// sameObject tells whether the attributes are those of one object: by the id,
// which nearly all have, else by everything.
func sameObject(a, b json.RawMessage) bool {
	if id := idOf(a); id != "" || idOf(b) != "" {
		return id == idOf(b)
	}
	var left, right any
	return json.Unmarshal(a, &left) == nil && json.Unmarshal(b, &right) == nil && reflect.DeepEqual(left, right)
}

func idOf(attributes json.RawMessage) string {
	var object struct {
		ID any `json:"id"`
	}
	_ = json.Unmarshal(attributes, &object) // then it has none
	id, _ := object.ID.(string)
	return id
}

// complete adds resources to a state, or makes a state of them with a lineage of
// its own. Addresses are those of creates that the run had begun; which of two
// alike gets which makes no difference to their being destroyed. It gives the
// addresses, too.
func (s *state) complete(missing []provider.Resource, begun []begun, lineage string) (*state, []string, error) {
	members, resources, err := s.content()
	if err != nil {
		return nil, nil, err
	}
	serial := uint64(1)
	if s == nil {
		members = map[string]json.RawMessage{}
	} else {
		serial, lineage = s.Serial+1, s.Lineage
	}
	var addresses []string
	used := map[string]bool{}
	for _, address := range s.resources() {
		used[address] = true
	}
	for _, m := range missing {
		b := place(m, begun, used)
		used[b.address] = true
		addresses = append(addresses, b.address)
		if resources, err = add(resources, m, b); err != nil {
			return nil, nil, err
		}
	}
	for name, v := range map[string]any{"version": 4, "serial": serial, "lineage": lineage, "resources": resources} {
		if members[name], err = json.Marshal(v); err != nil {
			return nil, nil, err
		}
	}
	raw, err := json.Marshal(members)
	if err != nil {
		return nil, nil, err
	}
	completed, err := parseState(raw)
	return completed, addresses, err
}

// place finds the create that made a resource: one of its type that the state
// does not know. Where there is none it invents one: any address can be destroyed.
func place(m provider.Resource, all []begun, used map[string]bool) begun {
	for _, sure := range []bool{true, false} {
		for _, b := range all {
			if b.kind == m.Type && !used[b.address] && (!sure || b.id != "" && b.id == idOf(m.Attributes)) {
				return b
			}
		}
	}
	for i := 1; ; i++ {
		b := begun{kind: m.Type, name: fmt.Sprintf("recovered_%d", i)}
		if b.address = b.kind + "." + b.name; !used[b.address] {
			return b
		}
	}
}

// add puts an instance into its place among the resources. It counts as made
// after all that are there.
func add(resources []stateResource, m provider.Resource, b begun) ([]stateResource, error) {
	added := stateResource{Module: b.module, Mode: "managed", Type: b.kind, Name: b.name, Provider: fmt.Sprintf("provider[%q]", m.Provider)}
	earlier := map[string]bool{}
	at := -1
	for i, r := range resources {
		switch {
		case r.Mode != "managed":
		case r.address() == added.address():
			at = i
		default:
			earlier[r.address()] = true
		}
	}
	instance, err := json.Marshal(stateInstance{
		IndexKey: b.key, Status: "tainted", SchemaVersion: m.SchemaVersion, Attributes: m.Attributes, Private: m.Private,
		Dependencies: slices.Sorted(maps.Keys(earlier)),
	})
	if err != nil {
		return nil, err
	}
	if at < 0 {
		at = len(resources)
		resources = append(resources, added)
	}
	resources[at].Instances = append(resources[at].Instances, instance)
	return resources, nil
}
