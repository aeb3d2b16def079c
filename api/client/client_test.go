package client

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// served is a server that gives one answer and remembers what it was asked.
type served struct {
	method, path, body, contentType, name, key string
	url                                        string
}

func serve(t *testing.T, status int, header map[string]string, answer string) *served {
	t.Helper()
	s := new(served)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.method, s.path, s.body, s.contentType = r.Method, r.URL.RequestURI(), string(b), r.Header.Get("Content-Type")
		s.name, s.key, _ = r.BasicAuth()
		for k, v := range header {
			w.Header().Set(k, v)
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, answer)
	}))
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func newClient(t *testing.T, url string) *Client {
	t.Helper()
	transport := new(http.Transport)
	t.Cleanup(transport.CloseIdleConnections)
	c, err := New(Config{URL: url, Tenant: "demo", Key: "k:1", HTTPClient: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNew_url(t *testing.T) {
	tests := map[string]string{
		"http://127.0.0.1:8080":                 "http://127.0.0.1:8080/api/v1",
		"http://127.0.0.1:8080/":                "http://127.0.0.1:8080/api/v1",
		"http://127.0.0.1:8080/api/v1":          "http://127.0.0.1:8080/api/v1",
		" https://example.net/api/v1/ ":         "https://example.net/api/v1",
		"https://example.net/duffy":             "https://example.net/duffy/api/v1",
		"https://example.net/duffy/api/v1?a#b":  "https://example.net/duffy/api/v1",
		"http://[::1]:8080/api/v1":              "http://[::1]:8080/api/v1",
		"":                                      "",
		"127.0.0.1:8080":                        "",
		"example.net/api/v1":                    "",
		"ftp://example.net":                     "",
		"http://":                               "",
		"http://exa mple":                       "",
		"http://user:secretword@bad host/api/v": "",
	}
	for url, want := range tests {
		c, err := New(Config{URL: url})
		if want == "" {
			if broker.CodeOf(err) != broker.CodeInvalid || broker.HintOf(err) == "" || strings.Contains(err.Error(), "secretword") {
				t.Errorf("New(%q): error %v", url, err)
			}
			continue
		}
		if err != nil || c.base.String() != want {
			t.Errorf("New(%q): %v, %v; want %s", url, c, err, want)
		}
	}
}

func TestCalls(t *testing.T) {
	session := `{"action": "get", "session": {"id": 7, "nodes": [{"ipaddr": "127.0.0.2", "state": null, "pool": null}], "expires_at": null, "x": 1}}`
	call := func(raw []byte, err error) (string, error) { return string(raw), err }
	ctx := context.Background()
	tests := map[string]struct {
		do                 func(*Client) (string, error)
		answer             string
		method, path, body string
	}{
		"sessions": {func(c *Client) (string, error) { a, err := c.Sessions(ctx); return call(a.Raw, err) }, `{"sessions": []}`, "GET", "/api/v1/sessions", ""},
		"session": {func(c *Client) (string, error) {
			a, err := c.Session(ctx, 7)
			if err == nil && (a.Value.Session.ID != 7 || a.Value.Session.Nodes[0].IPAddr != "127.0.0.2") {
				err = errors.New("not understood")
			}
			return call(a.Raw, err)
		}, session, "GET", "/api/v1/sessions/7", ""},
		"request": {func(c *Client) (string, error) {
			a, err := c.RequestSession(ctx, v1.SessionCreate{NodesSpecs: []v1.NodesSpec{{Pool: "small", Quantity: 2}}}, "")
			return call(a.Raw, err)
		}, session, "POST", "/api/v1/sessions", `{"tenant_id":null,"nodes_specs":[{"quantity":2,"pool":"small"}]}`},
		"retire": {func(c *Client) (string, error) { a, err := c.RetireSession(ctx, 7); return call(a.Raw, err) }, session, "PUT", "/api/v1/sessions/7", `{"active":false,"expires_at":null}`},
		"extend": {func(c *Client) (string, error) {
			later := "+1h"
			a, err := c.UpdateSession(ctx, 7, v1.SessionUpdate{ExpiresAt: &later})
			return call(a.Raw, err)
		}, session, "PUT", "/api/v1/sessions/7", `{"active":null,"expires_at":"+1h"}`},
		"pools": {func(c *Client) (string, error) { a, err := c.Pools(ctx); return call(a.Raw, err) }, `{"pools": []}`, "GET", "/api/v1/pools", ""},
		"pool":  {func(c *Client) (string, error) { a, err := c.Pool(ctx, "a/b c"); return call(a.Raw, err) }, `{"pool": {"fill-level": 5}}`, "GET", "/api/v1/pools/a%2Fb%20c", ""},
		"nodes": {func(c *Client) (string, error) { a, err := c.Nodes(ctx); return call(a.Raw, err) }, `{"nodes": []}`, "GET", "/api/v1/nodes", ""},
		"node":  {func(c *Client) (string, error) { a, err := c.Node(ctx, 3); return call(a.Raw, err) }, `{"node": {}}`, "GET", "/api/v1/nodes/3", ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t, 200, nil, test.answer)
			got, err := test.do(newClient(t, s.url))
			if err != nil || got != test.answer {
				t.Fatalf("got %q, %v; want the answer as it came: %q", got, err, test.answer)
			}
			contentType := ""
			if test.body != "" {
				contentType = "application/json"
			}
			want := served{test.method, test.path, test.body, contentType, "demo", "k:1", s.url}
			if diff := cmp.Diff(want, *s, cmp.AllowUnexported(served{})); diff != "" {
				t.Errorf("request (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	tests := map[string]struct {
		status        int
		header        map[string]string
		answer        string
		code          broker.Code
		message, hint string
	}{
		"coded":          {422, nil, `{"detail": "too few: 100%s", "code": "capacity", "hint": "wait 5%"}`, broker.CodeCapacity, "too few: 100%s", "wait 5%"},
		"quota":          {403, nil, `{"detail": "quota exceeded", "code": "quota"}`, broker.CodeQuota, "quota exceeded", ""},
		"Duffy 401":      {401, nil, `{"detail": "Unauthorized"}`, broker.CodeUnauthorized, "Unauthorized", ""},
		"Duffy 403":      {403, nil, `{"detail": "Forbidden"}`, broker.CodeForbidden, "Forbidden", ""},
		"Duffy 404":      {404, nil, `{"detail": "Not Found"}`, broker.CodeNotFound, "Not Found", ""},
		"Duffy 409":      {409, nil, `{"detail": "there"}`, broker.CodeConflict, "there", ""},
		"Duffy 422 list": {422, nil, `{"detail": [{"msg": "field required"}]}`, broker.CodeInvalid, `[{"msg": "field required"}]`, ""},
		"Duffy 503":      {503, nil, `{"detail": "contextualization of nodes failed"}`, broker.CodeUnavailable, "contextualization of nodes failed", ""},
		"internal":       {500, map[string]string{"X-Request-Id": "id-1"}, `{"detail": "internal error", "code": "internal"}`, broker.CodeInternal, "internal error", "the broker's log says more under request_id id-1"},
		"proxy":          {502, nil, `<html>`, broker.CodeUnavailable, "", "is the URL that of a broker, and does a proxy stand between?"},
		"other server":   {404, nil, `{"error": "x"}`, broker.CodeUnavailable, "", "is the URL that of a broker, and does a proxy stand between?"},
		"200 of another": {200, nil, `<html>`, broker.CodeUnavailable, "", "is the URL that of a broker?"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := serve(t, test.status, test.header, test.answer)
			_, err := newClient(t, s.url).Session(t.Context(), 1)
			e, ok := errors.AsType[*broker.Error](err)
			if !ok {
				t.Fatalf("got %v, want a *broker.Error", err)
			}
			if e.Code != test.code || e.Hint != test.hint || test.message != "" && e.Message != test.message {
				t.Errorf("got %+v", e)
			}
			if strings.Contains(err.Error(), "k:1") {
				t.Errorf("the key is out: %v", err)
			}
		})
	}
}

func TestUnreachable(t *testing.T) {
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://user:secret@" + listener.Addr().String()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = newClient(t, url).Pools(t.Context())
	if broker.CodeOf(err) != broker.CodeUnavailable || !strings.Contains(broker.MessageOf(err), "refused") || broker.HintOf(err) == "" {
		t.Errorf("got %v", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the password is out: %v", err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = newClient(t, url).Pools(ctx); !errors.Is(err, context.Canceled) || broker.CodeOf(err) != broker.CodeUnavailable {
		t.Errorf("cancelled: got %v", err)
	}
}

func TestParseNodesSpec(t *testing.T) {
	for arg, want := range map[string]v1.NodesSpec{
		"pool=small,quantity=2":      {Pool: "small", Quantity: 2},
		"quantity=2,pool=small":      {Pool: "small", Quantity: 2},
		" pool = small , quantity=1": {Pool: "small", Quantity: 1},
		"pool=a=b,quantity=1":        {Pool: "a=b", Quantity: 1},
	} {
		got, err := ParseNodesSpec(arg)
		if err != nil || got != want {
			t.Errorf("ParseNodesSpec(%q) = %+v, %v; want %+v", arg, got, err, want)
		}
	}
	for arg, want := range map[string]string{
		"":                                       `nodes spec "": "" is not key=value`,
		"small":                                  `nodes spec "small": "small" is not key=value`,
		"pool=small":                             `nodes spec "pool=small": quantity is missing`,
		"quantity=1":                             `nodes spec "quantity=1": pool is missing`,
		"pool=,quantity=1":                       `nodes spec "pool=,quantity=1": pool has no value`,
		"pool=a,pool=b":                          `nodes spec "pool=a,pool=b": pool is given twice`,
		"pool=a,number=1":                        `nodes spec "pool=a,number=1": unknown key "number"`,
		"pool=a,quantity=two":                    `nodes spec "pool=a,quantity=two": quantity "two" is not a whole number`,
		"pool=a,quantity=0":                      `nodes spec "pool=a,quantity=0": quantity must be at least 1`,
		"pool=a,quantity=1,":                     `nodes spec "pool=a,quantity=1,": "" is not key=value`,
		"pool=a%d,quantity=99999999999999999999": `nodes spec "pool=a%d,quantity=99999999999999999999": quantity "99999999999999999999" is not a whole number`,
	} {
		got, err := ParseNodesSpec(arg)
		if err == nil || err.Error() != want || broker.CodeOf(err) != broker.CodeInvalid || broker.HintOf(err) == "" || got != (v1.NodesSpec{}) {
			t.Errorf("ParseNodesSpec(%q): error %v, want %s", arg, err, want)
		}
	}
}

// A stream that the server could not give to its end is an error, after its lines.
func TestNodeLog(t *testing.T) {
	s := serve(t, http.StatusOK, nil, `{"@message":"says \"type\":\"error\"","type":"log"}`+"\n"+
		`{"@message":"the broker is stopping","code":"unavailable","hint":"ask again","type":"error"}`+"\n")
	var lines []string
	err := newClient(t, s.url).NodeLog(t.Context(), NodeLogRequest{Node: 7}, func(line []byte) error {
		lines = append(lines, string(line))
		return nil
	})
	if broker.CodeOf(err) != broker.CodeUnavailable || broker.MessageOf(err) != "the broker is stopping" || broker.HintOf(err) != "ask again" {
		t.Errorf("got %v with code %s", err, broker.CodeOf(err))
	}
	if len(lines) != 1 || s.path != "/api/v1/nodes/7/logs" {
		t.Errorf("lines %q of %s, want the first one", lines, s.path)
	}
}

// Where TLS does not come about, nothing was sent: no answer is lost.
func TestNoTLS(t *testing.T) {
	quiet := log.New(io.Discard, "", 0)
	secure := httptest.NewUnstartedServer(http.NotFoundHandler())
	secure.Config.ErrorLog = quiet
	secure.StartTLS()
	t.Cleanup(secure.Close)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	trusted := x509.NewCertPool()
	trusted.AddCert(secure.Certificate())
	port := secure.Listener.Addr().(*net.TCPAddr).Port
	tests := map[string]struct {
		url  string
		tls  *tls.Config
		want string
	}{
		"unknown authority": {secure.URL, nil, "SSL_CERT_FILE"},
		"other name":        {fmt.Sprintf("https://localhost:%d", port), &tls.Config{RootCAs: trusted}, "for other names"},
		"expired":           {secure.URL, &tls.Config{RootCAs: trusted, Time: func() time.Time { return time.Now().AddDate(200, 0, 0) }}, "renewed"},
		"no TLS":            {strings.Replace(plain.URL, "http:", "https:", 1), nil, "begin with http://"},
		"TLS after all":     {strings.Replace(secure.URL, "https:", "http:", 1), nil, "begin with https://"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			transport := &http.Transport{TLSClientConfig: test.tls}
			t.Cleanup(transport.CloseIdleConnections)
			c, err := New(Config{URL: test.url, HTTPClient: &http.Client{Transport: transport}})
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Pools(t.Context())
			if broker.CodeOf(err) != broker.CodeUnavailable || errors.Is(err, ErrAnswerLost) || !strings.Contains(broker.HintOf(err), test.want) {
				t.Errorf("got %v, hint %q", err, broker.HintOf(err))
			}
		})
	}
}

func TestFindNodes(t *testing.T) {
	s := serve(t, http.StatusOK, nil, `{"nodes": [{"id": 3}]}`)
	a, err := newClient(t, s.url).FindNodes(t.Context(), NodeFilter{Pool: "small", State: "ready,deployed"})
	if err != nil || len(a.Value.Nodes) != 1 || s.path != "/api/v1/nodes?pool=small&state=ready%2Cdeployed" {
		t.Errorf("asked %s: %+v, %v", s.path, a.Value, err)
	}
	if _, err := newClient(t, s.url).FindNodes(t.Context(), NodeFilter{}); err != nil || s.path != "/api/v1/nodes" {
		t.Errorf("asked %s: %v", s.path, err)
	}
}
