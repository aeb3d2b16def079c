package api

import (
	"bytes"
	"errors"
	"mime"
	"net/http"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/duffy-broker/duffy-broker/broker"
)

// A nodeHandler serves a node that has shown its token.
type nodeHandler func(c *gin.Context, n broker.Node) error

// node lets only nodes through. tokenOf gives what a request shows as its token.
// Wrong ones count as failed logins do.
func (s *server) node(tokenOf func(*gin.Context) string, h nodeHandler) gin.HandlerFunc {
	return s.handle(func(c *gin.Context) error {
		var n broker.Node
		token := tokenOf(c)
		_, err := s.login(c, "", token, func() (_ broker.Tenant, err error) {
			n, err = s.cfg.Broker.NodeOfToken(c.Request.Context(), token)
			return broker.Tenant{}, err
		})
		if broker.CodeOf(err) == broker.CodeUnauthorized {
			c.Header("WWW-Authenticate", `Bearer realm="duffy"`)
		}
		if err != nil {
			return err
		}
		return h(c, n)
	})
}

func pathToken(c *gin.Context) string { return c.Param("token") }

// tokenPath is how tokens stand in paths: of nodes wherever they are, and below
// /boot whatever stands in their place.
var tokenPath = regexp.MustCompile(`[0-9a-fA-F]{16}-[0-9a-fA-F]{64}|/boot/+[^/]+`)

// withoutToken gives a path as a log may show it.
func withoutToken(p string) string {
	return tokenPath.ReplaceAllStringFunc(p, func(found string) string {
		switch {
		case !strings.HasPrefix(found, "/"):
			return "*"
		case path.Base(found) == "mac":
			return found
		}
		return "/boot/*"
	})
}

// bootFile sends a file, or the part of it that is asked for.
func (s *server) bootFile(c *gin.Context, n broker.Node) (err error) {
	name := strings.TrimPrefix(c.Param("path"), "/")
	f, err := s.cfg.Broker.OpenBootFile(c.Request.Context(), n, name, c.ClientIP())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mediaType := mime.TypeByExtension(path.Ext(name))
	if mediaType == "" {
		mediaType = "text/plain; charset=utf-8" // kickstart, preseed, iPXE, cloud-init
	}
	c.Header("Content-Type", mediaType)
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Cache-Control", "no-store")
	http.ServeContent(c.Writer, c.Request, "", info.ModTime(), f)
	return nil
}

func (s *server) bootDone(c *gin.Context, n broker.Node) error {
	var k checker
	r := broker.BootReport{Address: c.ClientIP()}
	object, err := scriptBody(c)
	if err != nil {
		return err
	}
	if v := object["ssh_host_keys"]; v != nil {
		r.HostKeys = k.texts(v, "body", "ssh_host_keys")
	}
	if err := k.err(""); err != nil {
		return err
	}
	if err := s.cfg.Broker.ReportBoot(c.Request.Context(), n, r); err != nil {
		return err
	}
	return noContent(c)
}

// scriptBody reads the JSON object in a body that may be missing. The content type
// does not matter: installers have the simplest of clients, and `curl -d` says that
// it sends a form.
func scriptBody(c *gin.Context) (map[string]any, error) {
	body, err := readBody(c)
	if err != nil || len(bytes.TrimSpace(body)) == 0 {
		return nil, err
	}
	v, err := decode(body)
	object, _ := v.(map[string]any) // anything else has none of our fields
	return object, err
}

// texts reads a list of strings.
func (k *checker) texts(v any, loc ...any) []string {
	list, ok := v.([]any)
	if !ok {
		k.fail(loc, "value is not a valid list", "type_error.list", nil)
		return nil
	}
	texts := make([]string, 0, len(list))
	for i, v := range list {
		texts = append(texts, k.text(v, append(slices.Clone(loc), i)...))
	}
	return texts
}

func noContent(c *gin.Context) error {
	c.Status(http.StatusNoContent)
	c.Writer.WriteHeaderNow()
	return nil
}

// bootByMAC tells any machine what to do: iPXE goes on with the next device after
// exit.
func (s *server) bootByMAC(c *gin.Context) error {
	url, err := s.cfg.Broker.BootByMAC(c.Request.Context(), c.Param("mac"), c.ClientIP())
	if err != nil {
		return err
	}
	script := "#!ipxe\nexit\n"
	if url != "" {
		script = "#!ipxe\nchain --replace " + url + "/boot.ipxe\n"
	}
	c.Header("Content-Type", "text/plain; charset=utf-8")
	c.Header("Cache-Control", "no-store")
	c.Status(http.StatusOK)
	_, err = c.Writer.WriteString(script)
	return err
}
