package api

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/duffy-broker/duffy-broker/broker"
)

// nodeLogs streams the logs of a node's Terraform runs: JSON, a line each. An
// error that comes after the first line is a line of its own, of type "error".
func (s *server) nodeLogs(c *gin.Context, actor broker.Tenant) error {
	var k checker
	req := broker.NodeLogRequest{Node: k.pathID(c)}
	if v, ok := c.GetQuery("run"); ok {
		req.Run = k.integer(v, "query", "run")
	}
	if v, ok := c.GetQuery("follow"); ok {
		// HEAD has no body that could go on.
		req.Follow = k.boolean(v, "query", "follow") && c.Request.Method != http.MethodHead
	}
	if err := k.err(""); err != nil {
		return err
	}
	control := http.NewResponseController(beneath(c.Writer))
	begun := false
	write := func(line []byte) error {
		if !begun {
			begun = true
			c.Header("Content-Type", "application/x-ndjson")
			c.Header("X-Accel-Buffering", "no") // proxies are to pass each line on
		}
		// A run may take longer than any other answer: only a line may not. Where
		// there are no deadlines there is none to move.
		_ = control.SetWriteDeadline(time.Now().Add(lineTimeout))
		if _, err := c.Writer.Write(line); err != nil {
			return err
		}
		if req.Follow {
			return control.Flush()
		}
		return nil
	}
	ctx, cancel := context.WithCancelCause(c.Request.Context())
	var watch sync.WaitGroup
	stopping := s.cfg.Stopping
	if !req.Follow {
		stopping = nil // it comes to its end by itself
	}
	watch.Go(func() {
		select {
		case <-stopping:
			cancel(broker.Errorf(broker.CodeUnavailable, "the broker is stopping: Terraform goes on by itself").WithHint("ask again when the broker is back"))
		case <-ctx.Done():
		}
	})
	defer watch.Wait()
	defer cancel(nil)
	err := s.cfg.Broker.NodeLog(ctx, actor, req, write)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	switch {
	case err != nil && !begun:
		return asDuffy(err)
	case err != nil && c.Request.Context().Err() == nil:
		c.Set(keyError, err)
		line, _ := json.Marshal(map[string]string{ // strings always encode
			"type": "error", "@level": "error", "@message": broker.MessageOf(err),
			"code": string(broker.CodeOf(err)), "hint": broker.HintOf(err),
		})
		_ = write(append(line, '\n')) // the log has it, too
	case !begun: // nothing was written by now
		c.Header("Content-Type", "application/x-ndjson")
		c.Status(http.StatusOK)
		c.Writer.WriteHeaderNow()
	}
	return nil
}

// beneath gives the writer that Gin's hides: that one's errors and deadlines count.
func beneath(w http.ResponseWriter) http.ResponseWriter {
	if u, ok := w.(interface{ Unwrap() http.ResponseWriter }); ok {
		return u.Unwrap()
	}
	return w
}
