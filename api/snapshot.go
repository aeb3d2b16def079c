package api

import (
	"encoding/json"
	"net/http"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) showSnapshot(c *gin.Context, actor broker.Tenant) error {
	snapshot, err := s.cfg.Broker.Snapshot(c.Request.Context(), actor)
	if err != nil {
		return err
	}
	raw, err := json.Marshal(snapshot)
	if err != nil {
		return err
	}
	return answer(c, http.StatusOK, v1.SnapshotAnswer{Action: v1.ActionGet, Snapshot: raw})
}
