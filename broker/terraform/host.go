package terraform

import "github.com/duffy-broker/duffy-broker/broker"

// hostVariable gives what a module is told of the host that its node runs on. The
// host's credentials come by the environment: here they would get into the state.
func hostVariable(h broker.NodeHost) map[string]any {
	about := map[string]any{
		"name":       h.Name,
		"hostname":   h.Hostname,
		"ipaddr":     h.Address,
		"mac":        nil,
		"bmc":        nil,
		"attributes": map[string]string{},
	}
	if h.MAC != "" {
		about["mac"] = h.MAC
	}
	if h.BMC != nil {
		about["bmc"] = map[string]string{"address": h.BMC.Address, "kind": h.BMC.Kind}
	}
	if h.Attributes != nil {
		about["attributes"] = h.Attributes
	}
	return about
}
