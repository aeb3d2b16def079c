package api

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) listNodes(c *gin.Context, actor broker.Tenant) error {
	var k checker
	f := broker.NodeFilter{Pool: c.Query("pool"), Inventory: c.Query("inventory"), After: k.after(c), Limit: k.limit(c)}
	f.States, f.Hosts = k.states(c)
	if err := k.err(""); err != nil {
		return err
	}
	ctx := c.Request.Context()
	hosts, err := s.cfg.Broker.FindHosts(ctx, actor, f)
	if err != nil {
		return err
	}
	nodes, err := s.cfg.Broker.FindNodes(ctx, actor, f)
	if err != nil {
		return err
	}
	sessions, err := s.cfg.Broker.Sessions(ctx, actor)
	if err != nil {
		return err
	}
	specs := specsByNode(sessions...)
	wire := make([]v1.Node, 0, len(nodes))
	for _, n := range nodes {
		wire = append(wire, wireNode(actor, n, specs[n.ID]))
	}
	return answer(c, http.StatusOK, v1.NodesAnswer{Action: v1.ActionGet, Nodes: withHosts(wire, hosts, f.Limit)})
}

func (s *server) showNode(c *gin.Context, actor broker.Tenant) error {
	var k checker
	id := k.pathID(c)
	if err := k.err(""); err != nil {
		return err
	}
	ctx := c.Request.Context()
	n, err := s.cfg.Broker.Node(ctx, actor, id)
	if broker.CodeOf(err) == broker.CodeNotFound {
		return s.showHost(c, actor, id, err)
	}
	if err != nil {
		return asDuffy(err)
	}
	spec, err := s.nodeSpec(ctx, actor, n)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, v1.NodeAnswer{Action: v1.ActionGet, Node: wireNode(actor, n, spec)})
}

// nodeSpec gives the spec that a node was lent for, or nil.
func (s *server) nodeSpec(ctx context.Context, actor broker.Tenant, n broker.Node) (*broker.NodesSpec, error) {
	if n.SessionID == 0 {
		return nil, nil
	}
	session, err := s.cfg.Broker.Session(ctx, actor, n.SessionID)
	if code := broker.CodeOf(err); code == broker.CodeNotFound || code == broker.CodeForbidden {
		return nil, nil // the session was never acknowledged
	}
	if err != nil {
		return nil, err
	}
	return specsByNode(session)[n.ID], nil
}

// specsByNode tells for what spec each node was lent.
func specsByNode(sessions ...broker.Session) map[int64]*broker.NodesSpec {
	specs := make(map[int64]*broker.NodesSpec)
	for _, session := range sessions {
		for _, lent := range session.Nodes {
			specs[lent.ID] = &lent.Spec
		}
	}
	return specs
}

func wireNode(actor broker.Tenant, n broker.Node, spec *broker.NodesSpec) v1.Node {
	failure := ""
	if actor.IsAdmin && actor.ID != 0 { // not for anonymous readers: it can name anything
		failure = n.Failure
	}
	data, err := encode(wireNodeData(n.Outputs, spec))
	if err != nil { // can't be: provision gives valid JSON
		data = json.RawMessage("{}")
	}
	wire := v1.Node{
		RetiredAt: v1.Time{Time: n.RetiredAt},
		Active:    n.State != broker.NodeGone,
		CreatedAt: v1.Time{Time: n.CreatedAt},
		Hostname:  n.Hostname,
		IPAddr:    n.Address,
		Pool:      &n.Pool,
		Data:      data,
		ID:        n.ID,
		State:     n.State.Wire(),
		NodeExtra: wireNodeExtra(n.Outputs, n.State),

		FailureClass: string(n.FailureClass), Failure: failure, NodeOperator: wireNodeOperator(actor, n),
	}
	if i := n.Interruption; i != nil {
		wire.Interruption = i.Action
		if !i.At.IsZero() {
			wire.InterruptedAt = &v1.Time{Time: i.At}
		}
	}
	if n.Host != nil {
		wire.Host = &v1.HostName{ID: n.Host.ID, Name: n.Host.Name}
	}
	return wire
}

func wireNodeExtra(o broker.Outputs, state broker.NodeState) v1.NodeExtra {
	return v1.NodeExtra{Condition: string(state), SSHUser: o.SSHUser, SSHPort: o.SSHPort, SSHHostKeys: o.HostKeys, Arch: o.Arch()}
}

func wireNodeData(o broker.Outputs, spec *broker.NodesSpec) v1.NodeData {
	data := v1.NodeData{Provision: provision(o)}
	if spec != nil {
		data.NodesSpec = &v1.NodesSpec{Quantity: spec.Quantity, Pool: spec.Pool}
	}
	return data
}

// provision gives what the module gave out, with the host name in it, as Duffy's
// playbooks do. A module may give anything: what is no object goes under "data".
func provision(o broker.Outputs) json.RawMessage {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(o.Data, &members); err != nil || members == nil {
		members = make(map[string]json.RawMessage)
		if len(o.Data) > 0 && !bytes.Equal(o.Data, []byte("null")) && json.Valid(o.Data) {
			members["data"] = o.Data
		}
	}
	if _, ok := members["hostname"]; !ok {
		members["hostname"], _ = encode(o.Hostname) // a string never fails
	}
	object, err := encode(members)
	if err != nil { // can't be: all of them were read as JSON or made here
		return json.RawMessage("{}")
	}
	return object
}
