package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) holdNode(c *gin.Context, actor broker.Tenant) error {
	id, reason, err := holdRequest(c)
	if err != nil {
		return err
	}
	n, err := s.cfg.Broker.HoldNode(c.Request.Context(), actor, id, reason)
	return answerHeld(c, v1.ActionPost, actor, n, err)
}

func (s *server) releaseNode(c *gin.Context, actor broker.Tenant) error {
	var k checker
	id := k.pathID(c)
	if err := k.err(""); err != nil {
		return err
	}
	n, err := s.cfg.Broker.ReleaseHold(c.Request.Context(), actor, id)
	return answerHeld(c, v1.ActionDelete, actor, n, err)
}

// openWorkspace answers with the path of a directory on the broker's machine: what
// is in it is secret, and never in an answer.
func (s *server) openWorkspace(c *gin.Context, actor broker.Tenant) error {
	id, reason, err := holdRequest(c)
	if err != nil {
		return err
	}
	n, dir, err := s.cfg.Broker.OpenWorkspace(c.Request.Context(), actor, id, reason)
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusCreated, v1.WorkspaceAnswer{Action: v1.ActionPost, Node: wireNode(actor, n, nil), Directory: dir})
}

func (s *server) returnWorkspace(c *gin.Context, actor broker.Tenant) error {
	var k checker
	id, discard := k.pathID(c), false
	if v, ok := c.GetQuery("discard"); ok {
		discard = k.boolean(v, "query", "discard")
	}
	if err := k.err(""); err != nil {
		return err
	}
	n, err := s.cfg.Broker.ReturnWorkspace(c.Request.Context(), actor, id, discard)
	return answerHeld(c, v1.ActionDelete, actor, n, err)
}

func answerHeld(c *gin.Context, action v1.Action, actor broker.Tenant, n broker.Node, err error) error {
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusOK, v1.NodeAnswer{Action: action, Node: wireNode(actor, n, nil)})
}

// holdRequest reads path and body of a request to hold a node. The body may be
// missing.
func holdRequest(c *gin.Context) (id int64, reason string, err error) {
	var k checker
	id = k.pathID(c)
	if c.Request.ContentLength != 0 {
		object, err := readObject(c)
		if err != nil {
			return 0, "", err
		}
		if v := object["reason"]; v != nil {
			reason = k.text(v, "body", "reason")
		}
	}
	return id, reason, k.err("")
}

// wireNodeOperator gives what only admins see of a node, nil for anybody else.
func wireNodeOperator(actor broker.Tenant, n broker.Node) *v1.NodeOperator {
	if !actor.IsAdmin || actor.ID == 0 { // not for anonymous readers
		return nil
	}
	o := &v1.NodeOperator{
		UID: n.UID, Generation: n.Source.Generation, Variant: n.Variant, Since: v1.Time{Time: n.Since}, SessionID: n.SessionID,
		Attempts: n.Attempts, RetryAt: v1.Time{Time: n.RetryAt},
	}
	if n.Hold != nil {
		o.Hold = &v1.Hold{Reason: n.Hold.Reason, By: n.Hold.By, Since: v1.Time{Time: n.Hold.Since}, From: string(n.Hold.From)}
	}
	return o
}
