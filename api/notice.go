package api

import (
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func bearerToken(c *gin.Context) string {
	scheme, token, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// notice hears what a node says about itself.
func (s *server) notice(c *gin.Context, n broker.Node) error {
	object, err := scriptBody(c)
	if err != nil {
		return err
	}
	var k checker
	var notice broker.Notice
	if v, ok := k.required(object, []any{"body"}, "kind"); ok {
		notice.Kind = k.text(v, "body", "kind")
	}
	if v := object["action"]; v != nil {
		notice.Action = k.text(v, "body", "action")
	}
	if v := object["at"]; v != nil {
		if notice.At, err = time.Parse(time.RFC3339, k.text(v, "body", "at")); err != nil {
			k.fields = append(k.fields, v1.FieldError{Loc: []any{"body", "at"}, Msg: "invalid datetime format", Type: "value_error.datetime"})
		}
	}
	if err := k.err("send {\"kind\": \"interruption\", \"action\": \"terminate\", \"at\": \"2026-01-02T03:04:05Z\"}"); err != nil {
		return err
	}
	if _, err := s.cfg.Broker.Notify(c.Request.Context(), n, notice); err != nil {
		return err
	}
	return noContent(c)
}
