package api

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// alive says that the process answers, and looks at nothing: whoever restarts
// brokers that don't must not restart one whose disk is full.
func alive(c *gin.Context) error { return answer(c, http.StatusOK, v1.Health{Status: resultOK}) }

// ready says whether the broker does its work.
func (s *server) ready(c *gin.Context) error {
	select {
	case <-s.cfg.Stopping:
		return broker.Errorf(broker.CodeUnavailable, "the broker is stopping")
	default:
	}
	if s.cfg.Ready != nil {
		if err := s.cfg.Ready(c.Request.Context()); err != nil {
			return err
		}
	}
	return alive(c)
}

func (s *server) showMetrics(c *gin.Context, actor broker.Tenant) error {
	if !actor.IsAdmin {
		return asDuffy(broker.Errorf(broker.CodeForbidden, "only admins may read the metrics"))
	}
	if s.cfg.Metrics == nil {
		return errNoRoute()
	}
	s.cfg.Metrics.ServeHTTP(c.Writer, c.Request)
	return nil
}

// Seen is what there is to say of a request that was answered.
type Seen struct {
	Method string
	Route  string // the pattern: /api/v1/pools/:name; "" if none fitted
	Status int
	Took   time.Duration
	Tenant string // the name; "" for a caller that is not known
	Legacy bool   // a call of the legacy API, where that is on
	// Result is "ok", the code of the error, "limited" for one too many, or "refused"
	// for a refusal without a code. The legacy API reports most of its errors with
	// status 200.
	Result string
}

// resultOK is the result of a request that got what it asked for.
const resultOK = "ok"

// keyLegacy marks calls of the legacy API in the context.
const keyLegacy = "legacy"

// observe tells of a request.
func (s *server) observe(c *gin.Context, took time.Duration) {
	if s.cfg.Observe == nil {
		return
	}
	seen := Seen{
		Method: c.Request.Method, Route: c.FullPath(), Status: c.Writer.Status(), Took: took,
		Tenant: c.GetString(keyTenant), Legacy: c.GetBool(keyLegacy), Result: resultOK,
	}
	err, failed := c.Get(keyError)
	switch {
	case seen.Status == http.StatusTooManyRequests:
		seen.Result = "limited"
	case failed:
		_, e := errorAnswer(err.(error))
		seen.Result = e.Code
	case seen.Status >= http.StatusBadRequest:
		seen.Result = "refused"
	}
	s.cfg.Observe(seen)
}
