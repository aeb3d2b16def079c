package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"
)

// handle adapts a handler that may fail.
func (s *server) handle(h func(*gin.Context) error) gin.HandlerFunc {
	return func(c *gin.Context) {
		if err := h(c); err != nil {
			s.refuse(c, err)
		}
	}
}

// refuse answers with an error. Its cause goes to the access log only.
func (s *server) refuse(c *gin.Context, err error) {
	c.Abort()
	c.Set(keyError, err)
	if c.Writer.Written() {
		return // the client went away within the answer
	}
	status, body := errorAnswer(err)
	if status == http.StatusServiceUnavailable {
		c.Header("Retry-After", retryAfter)
	}
	// The client is not there to read it when this fails, which is no news.
	_ = answer(c, status, body)
}

// answer writes v as JSON. The whole body is made first, so that its length is
// known (HEAD needs it) and no error comes too late for its status.
func answer(c *gin.Context, status int, v any) error {
	body, err := encode(v)
	if err != nil {
		return fmt.Errorf("encode the answer: %w", err)
	}
	c.Header("Content-Type", "application/json")
	c.Header("Content-Length", strconv.Itoa(len(body)))
	c.Status(status)
	_, err = c.Writer.Write(body)
	return err
}

// encode gives JSON with <, > and & as they are, as Duffy does.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimRight(buf.Bytes(), "\n"), err
}

// deliver answers as answer does and pushes the bytes out, so that an error says
// that the client did not get them.
func deliver(c *gin.Context, status int, v any) error {
	if err := answer(c, status, v); err != nil {
		return err
	}
	return http.NewResponseController(beneath(c.Writer)).Flush()
}
