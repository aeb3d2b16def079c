package api

import (
	"cmp"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// createNode adds a host to the inventory of the API. It checks the body before
// the role, as Duffy does.
func (s *server) createNode(c *gin.Context, actor broker.Tenant) error {
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var k checker
	wanted := k.newHost(object)
	if err := k.err(""); err != nil {
		return err
	}
	h, err := s.cfg.Broker.CreateHost(c.Request.Context(), actor, wanted)
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusCreated, v1.NodeAnswer{Action: v1.ActionPost, Node: wireHost(broker.HostStatus{Host: h})})
}

// updateNode retires a host, or puts one back to use. Duffy has no such call; it is
// made like that for tenants.
func (s *server) updateNode(c *gin.Context, actor broker.Tenant) error {
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var k checker
	id, before := k.pathID(c), len(k.fields)
	change := s.cfg.Broker.RetireHost
	if condition, ok := object["condition"]; ok {
		change = s.cfg.Broker.RepairHost
		if text := k.text(condition, "body", "condition"); text != string(broker.HostFree) && len(k.fields) == before {
			k.fail([]any{"body", "condition"}, "unexpected value; permitted: 'unused'", "value_error.const", map[string]any{"given": text, "permitted": []any{broker.HostFree}})
		}
	} else if active := k.active(object); active && len(k.fields) == before {
		k.fail([]any{"body", "active"}, "unexpected value; permitted: false", "value_error.const", map[string]any{"given": true, "permitted": []any{false}})
	}
	if err := k.err(""); err != nil {
		return err
	}
	h, err := change(c.Request.Context(), actor, id)
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusOK, v1.NodeAnswer{Action: v1.ActionPut, Node: wireHost(h)})
}

// showHost shows the host of an id that no node has. Without one, noNode is the
// error.
func (s *server) showHost(c *gin.Context, actor broker.Tenant, id int64, noNode error) error {
	h, err := s.cfg.Broker.Host(c.Request.Context(), actor, id)
	if broker.CodeOf(err) == broker.CodeNotFound {
		err = noNode
	}
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusOK, v1.NodeAnswer{Action: v1.ActionGet, Node: wireHost(h)})
}

// newHost reads the body of POST /nodes.
func (k *checker) newHost(object map[string]any) broker.Host {
	h := broker.Host{Reusable: true, Data: json.RawMessage("{}")}
	body := []any{"body"}
	if v, ok := k.required(object, body, "hostname"); ok {
		h.Hostname = k.text(v, "body", "hostname")
	}
	if v, ok := k.required(object, body, "ipaddr"); ok {
		h.Address = k.address(v, "body", "ipaddr")
	}
	if v := object["comment"]; v != nil {
		h.Comment = k.text(v, "body", "comment")
	}
	if v := object["pool"]; v != nil {
		h.Pool = k.text(v, "body", "pool")
	}
	if _, ok := object["reusable"]; ok {
		if v, ok := k.required(object, body, "reusable"); ok {
			h.Reusable = k.boolean(v, "body", "reusable")
		}
	}
	if _, ok := object["data"]; ok {
		if v, ok := k.required(object, body, "data"); ok {
			h.Data = k.dict(v, "body", "data")
		}
	}
	return h
}

// address reads an IP address.
func (k *checker) address(v any, loc ...any) string {
	text, _ := v.(string)
	if _, err := netip.ParseAddr(text); err != nil {
		k.fail(loc, "value is not a valid IPv4 or IPv6 address", "value_error.ipvanyaddress", nil)
	}
	return text
}

// dict reads an object. An empty list counts as an empty one, as in Python.
func (k *checker) dict(v any, loc ...any) json.RawMessage {
	if list, ok := v.([]any); ok && len(list) == 0 {
		v = map[string]any{}
	}
	if _, ok := v.(map[string]any); !ok {
		k.fail(loc, "value is not a valid dict", "type_error.dict", nil)
		return nil
	}
	object, err := encode(v)
	if err != nil { // can't be: it was read as JSON
		k.fail(loc, "value is not a valid dict", "type_error.dict", nil)
	}
	return object
}

// wireHost shows a host as a node, as Duffy does.
func wireHost(h broker.HostStatus) v1.Node {
	n := v1.Node{
		RetiredAt: v1.Time{Time: h.RetiredAt},
		Active:    h.RetiredAt.IsZero(),
		CreatedAt: v1.Time{Time: h.CreatedAt},
		Hostname:  h.Hostname,
		IPAddr:    h.Address,
		Reusable:  h.Reusable,
		Data:      json.RawMessage("{}"),
		ID:        h.ID,
		State:     h.Wire(),
		NodeExtra: v1.NodeExtra{Condition: string(h.State()), Arch: h.Attributes["arch"]},
		NodeHost: &v1.NodeHost{
			Inventory: h.Inventory, UpdatedAt: v1.Time{Time: h.UpdatedAt}, Uses: h.Uses, LastUsed: v1.Time{Time: h.LastUsed}, NodeID: h.NodeID,
			Name: h.Name,
		},
	}
	if h.Failures > 0 {
		n.FailureClass, n.Failure = string(h.FailureClass), h.Failure
		n.HostFailures = &v1.HostFailures{Failures: h.Failures}
		if h.BrokenAt.IsZero() {
			n.QuarantinedUntil = v1.Time{Time: h.RetryAt}
		}
	}
	if h.Comment != "" {
		n.Comment = &h.Comment
	}
	if h.Pool != "" {
		n.Pool = &h.Pool
	}
	if len(h.Data) > 0 {
		n.Data = h.Data
	}
	return n
}

// withHosts puts hosts among nodes, by id, and gives the first of both.
func withHosts(nodes []v1.Node, hosts []broker.HostStatus, limit int) []v1.Node {
	for _, h := range hosts {
		nodes = append(nodes, wireHost(h))
	}
	if len(hosts) > 0 {
		slices.SortFunc(nodes, func(a, b v1.Node) int { return cmp.Compare(a.ID, b.ID) })
	}
	if limit > 0 {
		nodes = nodes[:min(limit, len(nodes))]
	}
	return nodes
}
