package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) listPools(c *gin.Context) error {
	pools, err := s.cfg.Broker.Pools(c.Request.Context())
	if err != nil {
		return err
	}
	wire := make([]v1.Pool, 0, len(pools))
	for _, p := range pools {
		wire = append(wire, v1.Pool{Name: p.Name, FillLevel: p.FillLevel})
	}
	return answer(c, http.StatusOK, v1.PoolsAnswer{Action: v1.ActionGet, Pools: wire})
}

func (s *server) showPool(c *gin.Context) error {
	p, levels, err := s.cfg.Broker.Pool(c.Request.Context(), c.Param("name"))
	if err != nil {
		return asDuffy(err)
	}
	return answer(c, http.StatusOK, v1.PoolAnswer{Action: v1.ActionGet, Pool: v1.Pool{
		Name: p.Name, FillLevel: p.FillLevel, Levels: (*v1.Levels)(&levels),
	}})
}

func (s *server) health(c *gin.Context) error {
	if err := s.cfg.Broker.Healthy(c.Request.Context()); err != nil {
		return broker.Wrap(broker.CodeUnavailable, err, "the store takes no changes").WithHint("the broker's log says why")
	}
	return answer(c, http.StatusOK, v1.Health{Status: "ok", Version: s.cfg.Version})
}
