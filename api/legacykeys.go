package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func (s *server) listLegacyKeys(c *gin.Context, actor broker.Tenant) error {
	tenants, err := s.cfg.Broker.LegacyReport(c.Request.Context(), actor)
	if err != nil {
		return err
	}
	list := []v1.LegacyKey{}
	for _, t := range tenants {
		for _, k := range t.LegacyKeys {
			list = append(list, wireLegacyKey(t.ID, t.Name, k))
		}
	}
	return answer(c, http.StatusOK, v1.LegacyKeysAnswer{Action: v1.ActionGet, LegacyKeys: list})
}

func (s *server) createLegacyKey(c *gin.Context, actor broker.Tenant) error {
	object, err := readObject(c)
	if err != nil {
		return err
	}
	var k checker
	id := k.pathID(c)
	var text [2]string
	for i, name := range []string{"key", "note"} {
		if v := object[name]; v != nil {
			text[i] = k.text(v, "body", name)
		}
	}
	if err := k.err(""); err != nil {
		return err
	}
	added, key, err := s.cfg.Broker.AddLegacyKey(c.Request.Context(), actor, id, text[0], text[1])
	if err != nil {
		return err
	}
	tenants, err := s.cfg.Broker.TenantsByID(c.Request.Context(), id)
	if err != nil {
		return err
	}
	wire := wireLegacyKey(id, tenants[id].Name, added)
	wire.Key = key
	return answer(c, http.StatusCreated, v1.LegacyKeyAnswer{Action: v1.ActionPost, LegacyKey: wire})
}

func (s *server) deleteLegacyKey(c *gin.Context, actor broker.Tenant) error {
	var k checker
	tenant, id := k.pathID(c), k.integer(c.Param("key"), "path", "key")
	if err := k.err(""); err != nil {
		return err
	}
	if err := s.cfg.Broker.RemoveLegacyKey(c.Request.Context(), actor, tenant, id); err != nil {
		return err
	}
	return noContent(c)
}

func wireLegacyKey(tenantID int64, tenant string, k broker.LegacyKey) v1.LegacyKey {
	calls := k.Calls
	if calls == nil {
		calls = map[string]int64{}
	}
	return v1.LegacyKey{
		ID: k.ID, Tenant: tenant, TenantID: tenantID, Note: k.Note, CreatedAt: v1.Time{Time: k.CreatedAt},
		LastUsed: v1.Time{Time: k.LastUsed}, LastAgent: k.LastAgent, Calls: calls,
	}
}
