package api

import (
	"cmp"
	"net/http"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) listRollouts(c *gin.Context, actor broker.Tenant) error {
	list, err := s.cfg.Broker.Rollouts(c.Request.Context(), actor)
	if err != nil {
		return asDuffy(err)
	}
	wire := make([]v1.Rollout, 0, len(list))
	for _, r := range list {
		wire = append(wire, wireRollout(r))
	}
	return answer(c, http.StatusOK, v1.RolloutsAnswer{Action: v1.ActionGet, Rollouts: wire})
}

func (s *server) orderRollout(c *gin.Context, actor broker.Tenant) error {
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var k checker
	var order, reason string
	if v, ok := k.required(object, []any{"body"}, "order"); ok {
		order = k.text(v, "body", "order")
	}
	if v := object["reason"]; v != nil {
		reason = k.text(v, "body", "reason")
	}
	if err := k.err(""); err != nil {
		return err
	}
	r, err := s.cfg.Broker.OrderRollout(c.Request.Context(), actor, c.Param("name"), broker.RolloutOrder(order), reason)
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusOK, v1.RolloutAnswer{Action: v1.ActionPost, Rollout: wireRollout(r)})
}

func wireRollout(r broker.RolloutStatus) v1.Rollout {
	return v1.Rollout{
		Pool: r.Pool, Generation: r.Generation, State: cmp.Or(string(r.State), "none"), Now: r.Now, Reason: r.Reason,
		StartedAt: v1.Time{Time: r.StartedAt}, ChangedAt: v1.Time{Time: r.ChangedAt},
		Stale: r.Stale, Left: r.StaleNow, Lent: r.StaleOut, FillLevel: r.Fill, Ready: r.Ready, ReadyNew: r.ReadyNew, Making: r.Making,
		Failures: r.Failures, Failure: r.Failure,
	}
}
