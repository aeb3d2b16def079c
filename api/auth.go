package api

import (
	"encoding/base64"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/duffy-broker/duffy-broker/broker"
)

// A tenantHandler serves an authenticated tenant.
type tenantHandler func(c *gin.Context, actor broker.Tenant) error

// everybody is who reads where anonymous reading is allowed. Listing is all that
// it is ever used for.
func everybody() broker.Tenant { return broker.Tenant{Name: "anonymous", IsAdmin: true} }

// tenant lets only authenticated tenants through.
func (s *server) tenant(h tenantHandler) gin.HandlerFunc {
	return s.handle(func(c *gin.Context) error {
		name, key, err := credentials(c)
		if err != nil {
			return err
		}
		actor, err := s.login(c, name, key, func() (broker.Tenant, error) {
			return s.cfg.Broker.Authenticate(c.Request.Context(), name, key)
		})
		if err != nil {
			return asDuffy(err)
		}
		c.Set(keyTenant, actor.Name)
		if err := s.withinRate(c, actor); err != nil {
			return err
		}
		return h(c, actor)
	})
}

// reader is tenant, but lets callers without credentials through as [everybody]
// where anonymous reading is on. Wrong credentials are refused even then.
func (s *server) reader(h tenantHandler) gin.HandlerFunc {
	authenticated := s.tenant(h)
	return s.handle(func(c *gin.Context) error {
		if _, basic := basicParameter(c); s.cfg.AnonymousRead && !basic {
			return h(c, everybody())
		}
		authenticated(c)
		return nil
	})
}

// public is tenant, but does not look at credentials at all where anonymous
// reading is on.
func (s *server) public(h func(*gin.Context) error) gin.HandlerFunc {
	if s.cfg.AnonymousRead {
		return s.handle(h)
	}
	return s.tenant(func(c *gin.Context, _ broker.Tenant) error { return h(c) })
}

// basicParameter gives what follows "Basic" in the Authorization header, and
// whether it is of that scheme at all.
func basicParameter(c *gin.Context) (string, bool) {
	scheme, parameter, _ := strings.Cut(c.GetHeader("Authorization"), " ")
	return strings.TrimSpace(parameter), strings.EqualFold(scheme, "basic")
}

// credentials gives tenant name and API key of a request.
func credentials(c *gin.Context) (name, key string, err error) {
	parameter, basic := basicParameter(c)
	if !basic {
		return "", "", challenge(c, "Not authenticated")
	}
	plain, err := base64.StdEncoding.DecodeString(parameter)
	name, key, found := strings.Cut(string(plain), ":")
	if err != nil || !found || !isASCII(plain) {
		return "", "", challenge(c, "Invalid authentication credentials")
	}
	return name, key, nil
}

func challenge(c *gin.Context, detail string) error {
	c.Header("WWW-Authenticate", `Basic realm="duffy"`)
	return broker.Errorf(broker.CodeUnauthorized, "%s", detail).
		WithHint("send the tenant's name and API key by HTTP Basic authentication")
}

func isASCII(b []byte) bool {
	for _, c := range b {
		if c > 0x7f {
			return false
		}
	}
	return true
}
