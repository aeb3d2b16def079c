package api

import (
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
)

// routes holds every route, one a line, with who may use it.
func (s *server) routes() {
	v1 := s.engine.Group("/api/v1")

	v1.POST("/sessions", s.tenant(s.createSession))
	get(v1, "/sessions", s.reader(s.listSessions))
	get(v1, "/sessions/:id", s.tenant(s.showSession))
	v1.PUT("/sessions/:id", s.tenant(s.updateSession))

	get(v1, "/sessions/:id/events", s.tenant(s.listSessionEvents))

	get(v1, "/pools", s.public(s.listPools))
	get(v1, "/pools/:name", s.public(s.showPool))
	get(v1, "/pools/:name/status", s.tenant(s.showPoolStatus))

	get(v1, "/nodes", s.reader(s.listNodes))
	v1.POST("/nodes", s.tenant(s.createNode))
	get(v1, "/nodes/:id", s.tenant(s.showNode))
	v1.PUT("/nodes/:id", s.tenant(s.updateNode))
	get(v1, "/nodes/:id/logs", s.tenant(s.nodeLogs))
	v1.POST("/nodes/:id/hold", s.tenant(s.holdNode))
	v1.DELETE("/nodes/:id/hold", s.tenant(s.releaseNode))
	v1.POST("/nodes/:id/workspace", s.tenant(s.openWorkspace))
	v1.DELETE("/nodes/:id/workspace", s.tenant(s.returnWorkspace))

	v1.POST("/tenants", s.tenant(s.createTenant))
	get(v1, "/tenants", s.tenant(s.listTenants))
	get(v1, "/tenants/:id", s.tenant(s.showTenant))
	v1.PUT("/tenants/:id", s.tenant(s.updateTenant))

	get(v1, "/whoami", s.tenant(s.whoami))
	get(v1, "/events", s.tenant(s.streamEvents))
	get(v1, "/stats", s.tenant(s.showStats))
	get(v1, "/snapshot", s.tenant(s.showSnapshot))

	get(v1, "/rollouts", s.tenant(s.listRollouts))
	v1.POST("/rollouts/:name", s.tenant(s.orderRollout))
	get(v1, "/reload", s.tenant(s.showReload))
	v1.POST("/reload", s.tenant(s.reload))
	v1.POST(webhookRoute, s.handle(s.webhook))

	v1.POST("/notices", s.node(bearerToken, s.notice))
	get(s.engine, "/boot/:token/*path", s.node(pathToken, s.bootFile))
	s.engine.POST("/boot/:token/done", s.node(pathToken, s.bootDone))
	get(s.engine, "/boot/mac/:mac", s.handle(s.bootByMAC))

	get(v1, "/legacy-keys", s.tenant(s.listLegacyKeys))
	v1.POST("/tenants/:id/legacy-keys", s.tenant(s.createLegacyKey))
	v1.DELETE("/tenants/:id/legacy-keys/:key", s.tenant(s.deleteLegacyKey))

	get(s.engine, "/health", s.handle(s.health))
	get(s.engine, "/healthz", s.handle(alive))
	get(s.engine, "/readyz", s.handle(s.ready))
	get(s.engine, "/metrics", s.tenant(s.showMetrics))

	get(s.engine, "/openapi.json", s.handle(s.showDocument))
	get(s.engine, "/docs", s.handle(showDocs))
}

// get adds a route for GET, and for HEAD, whose answer net/http cuts off after
// the header.
func get(r gin.IRoutes, path string, h gin.HandlerFunc) {
	r.GET(path, h)
	r.HEAD(path, h)
}

// notFound answers what no route fits. A path that would fit without its
// trailing slash is sent there, as Duffy does.
func (s *server) notFound(c *gin.Context) error {
	path := c.Request.URL.Path
	if trimmed := strings.TrimRight(path, "/"); trimmed != path && s.hasRoute(trimmed) {
		u := *c.Request.URL
		u.Path, u.RawPath = trimmed, ""
		u.Scheme, u.Host = scheme(c.Request), c.Request.Host
		if u.Host == "" {
			u.Scheme = ""
		}
		c.Header("Location", u.String())
		c.Status(http.StatusTemporaryRedirect)
		c.Writer.WriteHeaderNow()
		return nil
	}
	return errNoRoute()
}

// scheme gives the scheme that the client used. Believing the header is safe
// here: it decides only where its own sender is sent.
func scheme(r *http.Request) string {
	if r.TLS != nil || r.Header.Get("X-Forwarded-Proto") == "https" {
		return "https"
	}
	return "http"
}

func (s *server) hasRoute(path string) bool {
	parts := strings.Split(path, "/")
	for _, route := range s.engine.Routes() {
		if matches(strings.Split(route.Path, "/"), parts) {
			return true
		}
	}
	return false
}

func matches(pattern, parts []string) bool {
	if len(pattern) != len(parts) {
		return false
	}
	for i, p := range pattern {
		if strings.HasPrefix(p, ":") && parts[i] != "" {
			continue
		}
		if p != parts[i] {
			return false
		}
	}
	return true
}

func methodNotAllowed(*gin.Context) error { return errMethod() }
