package api

import (
	"context"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// abandonTimeout bounds how long taking an unread session back may last.
const abandonTimeout = time.Minute

// idempotencyHeader is how a client says that a request is the same as before.
const idempotencyHeader = "Idempotency-Key"

func (s *server) createSession(c *gin.Context, actor broker.Tenant) error {
	req, err := sessionRequest(c)
	if err != nil {
		return err
	}
	req.IdempotencyKey = c.GetHeader(idempotencyHeader)
	ctx := c.Request.Context()
	session, err := s.cfg.Broker.RequestSession(ctx, actor, req)
	if err != nil {
		return err
	}
	if err := s.deliverSession(c, session); err != nil {
		if req.IdempotencyKey == "" {
			s.abandon(ctx, session.ID) // its tenant does not know that it exists
		} // else it can ask again
		return err
	}
	return nil
}

func (s *server) deliverSession(c *gin.Context, session broker.Session) error {
	ctx := c.Request.Context()
	if err := context.Cause(ctx); err != nil {
		return broker.Wrap(broker.CodeUnavailable, err, "the client has gone")
	}
	wire, err := s.wireSession(ctx, session)
	if err != nil {
		return err
	}
	return deliver(c, http.StatusCreated, v1.SessionAnswer{Action: v1.ActionPost, Session: wire})
}

// abandon gives a session back whose client never learnt of it.
func (s *server) abandon(ctx context.Context, id int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), abandonTimeout)
	defer cancel()
	if err := s.cfg.Broker.AbandonedByClient(ctx, id); err != nil {
		s.cfg.Log.ErrorContext(ctx, "session of a client that had gone can't be retired; it will expire", "session_id", id, "error", err)
		return
	}
	s.cfg.Log.InfoContext(ctx, "session retired: its client had gone before the answer", "session_id", id)
}

func (s *server) listSessions(c *gin.Context, actor broker.Tenant) error {
	var k checker
	f := broker.SessionFilter{Tenant: c.Query("tenant"), After: k.after(c), Limit: k.limit(c)}
	if v, ok := c.GetQuery("active"); ok {
		f.Ended = !k.boolean(v, "query", "active")
	}
	if err := k.err(""); err != nil {
		return err
	}
	ctx := c.Request.Context()
	sessions, err := s.cfg.Broker.FindSessions(ctx, actor, f)
	if err != nil {
		return err
	}
	wire, err := s.wireSessions(ctx, sessions)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, v1.SessionsAnswer{Action: v1.ActionGet, Sessions: wire})
}

func (s *server) showSession(c *gin.Context, actor broker.Tenant) error {
	var k checker
	id := k.pathID(c)
	if err := k.err(""); err != nil {
		return err
	}
	session, err := s.cfg.Broker.Session(c.Request.Context(), actor, id)
	if err != nil {
		return asDuffy(err)
	}
	return s.answerSession(c, v1.ActionGet, session)
}

func (s *server) updateSession(c *gin.Context, actor broker.Tenant) error {
	id, update, err := sessionUpdate(c)
	if err != nil {
		return err
	}
	session, err := s.cfg.Broker.UpdateSession(c.Request.Context(), actor, id, update)
	if err != nil {
		return asDuffy(err)
	}
	return s.answerSession(c, v1.ActionPut, session)
}

func (s *server) answerSession(c *gin.Context, action v1.Action, session broker.Session) error {
	wire, err := s.wireSession(c.Request.Context(), session)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, v1.SessionAnswer{Action: action, Session: wire})
}

func (s *server) wireSession(ctx context.Context, session broker.Session) (v1.Session, error) {
	wire, err := s.wireSessions(ctx, []broker.Session{session})
	if err != nil {
		return v1.Session{}, err
	}
	return wire[0], nil
}

// wireSessions adds the live facts to sessions: their tenants, and what state
// their nodes are in now.
func (s *server) wireSessions(ctx context.Context, sessions []broker.Session) ([]v1.Session, error) {
	var tenantIDs, nodeIDs []int64
	for _, session := range sessions {
		tenantIDs = append(tenantIDs, session.TenantID)
		for _, lent := range session.Nodes {
			nodeIDs = append(nodeIDs, lent.ID)
		}
	}
	tenants, err := s.cfg.Broker.TenantsByID(ctx, tenantIDs...)
	if err != nil {
		return nil, err
	}
	nodes, err := s.cfg.Broker.NodesByID(ctx, nodeIDs...)
	if err != nil {
		return nil, err
	}
	wire := make([]v1.Session, 0, len(sessions))
	for _, session := range sessions {
		tenant := tenants[session.TenantID]
		tenant.ID = session.TenantID // clients want one, whatever happened to its record
		wire = append(wire, wireSession(session, wireTenant(tenant, s.cfg.Broker.TenantDefaults()), nodes))
	}
	return wire, nil
}

func wireSession(s broker.Session, t v1.Tenant, nodes map[int64]broker.Node) v1.Session {
	wire := v1.Session{
		RetiredAt: v1.Time{Time: s.RetiredAt},
		Active:    s.State == broker.SessionActive,
		CreatedAt: v1.Time{Time: s.CreatedAt},
		ID:        s.ID,
		ExpiresAt: v1.Time{Time: s.ExpiresAt},
		Tenant:    t,
		Data:      v1.SessionData{NodesSpecs: make([]v1.NodesSpec, 0, len(s.Specs))},
		Nodes:     make([]v1.SessionNode, 0, len(s.Nodes)),
	}
	for _, spec := range s.Specs {
		wire.Data.NodesSpecs = append(wire.Data.NodesSpecs, v1.NodesSpec{Quantity: spec.Quantity, Pool: spec.Pool})
	}
	for _, lent := range s.Nodes {
		// A node without a record, or with another session's, is done as far as
		// this session is concerned.
		state := broker.NodeGone
		if live, ok := nodes[lent.ID]; ok && live.SessionID == s.ID {
			state = live.State
		}
		wire.Nodes = append(wire.Nodes, v1.SessionNode{
			Hostname:  lent.Hostname,
			IPAddr:    lent.Address,
			Pool:      lent.Pool,
			Data:      wireNodeData(lent.Outputs, &lent.Spec),
			ID:        lent.ID,
			State:     state.Wire(),
			NodeExtra: wireNodeExtra(lent.Outputs, state),
		})
	}
	return wire
}

func wireTenant(t broker.Tenant, d broker.TenantDefaults) v1.Tenant {
	return v1.Tenant{
		RetiredAt:                   v1.Time{Time: t.RetiredAt},
		Active:                      t.Active(),
		CreatedAt:                   v1.Time{Time: t.CreatedAt},
		Name:                        t.Name,
		IsAdmin:                     t.IsAdmin,
		SSHKey:                      v1.Masked,
		NodeQuota:                   t.NodeQuota,
		SessionLifetime:             (*v1.Seconds)(t.SessionLifetime),
		SessionLifetimeMax:          (*v1.Seconds)(t.SessionLifetimeMax),
		ID:                          t.ID,
		EffectiveNodeQuota:          d.Quota(t),
		EffectiveSessionLifetime:    v1.Seconds(d.Lifetime(t)),
		EffectiveSessionLifetimeMax: v1.Seconds(d.LifetimeMax(t)),
	}
}
