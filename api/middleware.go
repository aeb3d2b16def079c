package api

import (
	"fmt"
	"log/slog"
	"net/http"
	"regexp"
	"runtime/debug"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/duffy-broker/duffy-broker/broker"
)

const requestIDHeader = "X-Request-Id"

// Keys of what handlers leave in the context for the access log.
const (
	keyRequestID = "request_id"
	keyTenant    = "tenant"
	keyError     = "error"
)

// saneRequestID is which ids of clients are taken over: nothing that could break
// a log or a header.
var saneRequestID = regexp.MustCompile(`^[A-Za-z0-9._:/+=-]{1,128}$`)

func requestID(c *gin.Context) {
	id := c.GetHeader(requestIDHeader)
	if !saneRequestID.MatchString(id) {
		id = broker.NewUUID()
	}
	c.Set(keyRequestID, id)
	c.Header(requestIDHeader, id)
}

// accessLog writes one line a request. It never holds the query or a header, nor
// the token in a path: they may carry keys.
func (s *server) accessLog(c *gin.Context) {
	start := time.Now()
	defer func() { s.logRequest(c, time.Since(start)) }() // after a panic, too
	c.Next()
}

func (s *server) logRequest(c *gin.Context, duration time.Duration) {
	s.observe(c, duration)
	level := slog.LevelInfo
	attrs := []slog.Attr{
		slog.String("method", c.Request.Method),
		slog.String("path", withoutToken(c.Request.URL.Path)),
		slog.Int("status", c.Writer.Status()),
		slog.Duration("duration", duration),
		slog.String(keyTenant, c.GetString(keyTenant)),
		slog.String(keyRequestID, c.GetString(keyRequestID)),
	}
	if err, ok := c.Get(keyError); ok && c.Writer.Status() >= http.StatusInternalServerError {
		attrs = append(attrs, slog.Any(keyError, err))
		if c.Request.Context().Err() == nil { // else the client has gone, which is no fault of ours
			level = slog.LevelError
		}
	}
	s.cfg.Log.LogAttrs(c.Request.Context(), level, "request", attrs...)
}

// recovery turns a panic into an answer, so that one defect costs one request.
func (s *server) recovery(c *gin.Context) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && err == http.ErrAbortHandler { //nolint:errorlint // net/http compares it so, too
			panic(p)
		}
		s.cfg.Log.ErrorContext(c.Request.Context(), "handler panicked",
			keyRequestID, c.GetString(keyRequestID), "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler) // half an answer must not look whole
		}
		s.refuse(c, broker.Errorf(broker.CodeInternal, "handler panicked"))
	}()
	c.Next()
}
