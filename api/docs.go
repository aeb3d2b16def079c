package api

import (
	"crypto/sha256"
	_ "embed" // the page
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"
)

// docsPage reads /openapi.json and makes its calls. It is whole in itself, so
// that it works without any other server.
//
//go:embed docs.html
var docsPage string

// showDocs answers with the page. The page may talk to this server only, and run
// no script but its own: it holds an API key while it is open.
func showDocs(c *gin.Context) error {
	h := c.Writer.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Length", strconv.Itoa(len(docsPage)))
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"+
		"; script-src "+hashOf("script")+"; style-src "+hashOf("style"))
	c.Status(http.StatusOK)
	_, err := c.Writer.WriteString(docsPage)
	return err
}

// hashOf names what stands in an element of the page, for its policy.
func hashOf(element string) string {
	_, text, _ := strings.Cut(docsPage, "<"+element+">")
	text, _, _ = strings.Cut(text, "</"+element+">")
	sum := sha256.Sum256([]byte(text))
	return "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
}
