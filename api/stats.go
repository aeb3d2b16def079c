package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) showStats(c *gin.Context, actor broker.Tenant) error {
	ctx := c.Request.Context()
	handouts, err := s.cfg.Broker.Stats(ctx, actor)
	if err != nil {
		return err
	}
	ids := make([]int64, 0, len(handouts))
	for _, h := range handouts {
		ids = append(ids, h.TenantID)
	}
	tenants, err := s.cfg.Broker.TenantsByID(ctx, ids...)
	if err != nil {
		return err
	}
	wire := make([]v1.Handouts, 0, len(handouts))
	for _, h := range handouts {
		wire = append(wire, v1.Handouts{Pool: h.Pool, TenantID: h.TenantID, Tenant: tenants[h.TenantID].Name, Nodes: h.Nodes})
	}
	return answer(c, http.StatusOK, v1.StatsAnswer{Action: v1.ActionGet, Handouts: wire})
}
