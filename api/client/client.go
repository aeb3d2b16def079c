// Package client talks to version 1 of the API, of this broker or of Duffy v3.
//
// Its errors are [broker.Error]s with the code, message and hint that the server
// gave, or with [broker.CodeUnavailable] when no sensible answer came.
package client

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// maxAnswerBytes bounds what is read of an answer: thousands of nodes fit.
const maxAnswerBytes = 64 << 20

const apiPath = "/api/v1"

// ErrAnswerLost is the cause of an error after which nobody knows whether the
// broker carried the request out.
var ErrAnswerLost = errors.New("the answer is lost")

// Config says which broker to talk to, and as whom.
type Config struct {
	// URL is where the broker is, with or without /api/v1: Duffy's client wants
	// it, people forget it. unix:PATH is a Unix socket.
	URL    string
	Tenant string // with Key: sent by Basic authentication; "" sends nothing
	Key    string
	// HTTPClient makes the requests; nil means one without a time limit, since a
	// request for a session may take a while. Bound calls by their contexts.
	HTTPClient *http.Client
}

// Client makes requests to one broker as one tenant. It may be used at once.
type Client struct {
	cfg  Config
	base *url.URL
	name string // of the broker, for messages
}

// Answer is an answer of the server, read and as it came.
type Answer[T any] struct {
	Value T
	Raw   json.RawMessage
}

// New makes a client. A URL that is none is [broker.CodeInvalid].
func New(cfg Config) (*Client, error) {
	cfg.URL = strings.TrimSpace(cfg.URL)
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = &http.Client{}
	}
	if path, ok := strings.CutPrefix(cfg.URL, "unix:"); ok && path != "" {
		cfg.HTTPClient = &http.Client{Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "unix", path)
			},
		}}
		// The host only fills the header.
		return &Client{cfg: cfg, base: &url.URL{Scheme: "http", Host: "localhost", Path: apiPath}, name: cfg.URL}, nil
	}
	base, err := url.Parse(cfg.URL)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, broker.Errorf(broker.CodeInvalid, "the broker's URL is not one").
			WithHint("it looks like http://127.0.0.1:8080/api/v1, or unix:PATH")
	}
	base.Path = strings.TrimSuffix(strings.TrimRight(base.Path, "/"), apiPath) + apiPath
	base.RawPath, base.RawQuery, base.Fragment = "", "", ""
	return &Client{cfg: cfg, base: base, name: base.Redacted()}, nil
}

// Sessions lists the active sessions that the tenant may see.
func (c *Client) Sessions(ctx context.Context) (Answer[v1.SessionsAnswer], error) {
	return call[v1.SessionsAnswer](ctx, c, http.MethodGet, nil, "sessions")
}

// Session shows one session.
func (c *Client) Session(ctx context.Context, id int64) (Answer[v1.SessionAnswer], error) {
	return call[v1.SessionAnswer](ctx, c, http.MethodGet, nil, "sessions", strconv.FormatInt(id, 10))
}

// RequestSession asks for nodes. It returns when they are ready to be used. It is
// never repeated by itself. With a key, up to 255 bytes, the same request with the
// same key gives the same session, and the session is made also when ctx ends
// before the answer came; without one, "", each success is another session.
func (c *Client) RequestSession(ctx context.Context, req v1.SessionCreate, key string) (Answer[v1.SessionAnswer], error) {
	body, err := json.Marshal(req)
	if err != nil {
		return Answer[v1.SessionAnswer]{}, fmt.Errorf("encode the request: %w", err)
	}
	header := http.Header{}
	if key != "" {
		header.Set("Idempotency-Key", key)
	}
	resp, err := c.send(ctx, http.MethodPost, c.base.JoinPath("sessions"), bytes.NewReader(body), header)
	if err != nil {
		return Answer[v1.SessionAnswer]{}, err
	}
	raw, err := c.body(ctx, resp)
	if err != nil {
		return Answer[v1.SessionAnswer]{}, err
	}
	return understand[v1.SessionAnswer](c, raw)
}

// UpdateSession changes when a session ends.
func (c *Client) UpdateSession(ctx context.Context, id int64, u v1.SessionUpdate) (Answer[v1.SessionAnswer], error) {
	return call[v1.SessionAnswer](ctx, c, http.MethodPut, u, "sessions", strconv.FormatInt(id, 10))
}

// RetireSession gives the nodes of a session back.
func (c *Client) RetireSession(ctx context.Context, id int64) (Answer[v1.SessionAnswer], error) {
	return c.UpdateSession(ctx, id, v1.SessionUpdate{Active: new(bool)})
}

// Pools lists the pools, without their levels.
func (c *Client) Pools(ctx context.Context) (Answer[v1.PoolsAnswer], error) {
	return call[v1.PoolsAnswer](ctx, c, http.MethodGet, nil, "pools")
}

// Pool shows one pool and its levels.
func (c *Client) Pool(ctx context.Context, name string) (Answer[v1.PoolAnswer], error) {
	return call[v1.PoolAnswer](ctx, c, http.MethodGet, nil, "pools", name)
}

// Nodes lists the live nodes that the tenant may see.
func (c *Client) Nodes(ctx context.Context) (Answer[v1.NodesAnswer], error) {
	return call[v1.NodesAnswer](ctx, c, http.MethodGet, nil, "nodes")
}

// Node shows one node.
func (c *Client) Node(ctx context.Context, id int64) (Answer[v1.NodeAnswer], error) {
	return call[v1.NodeAnswer](ctx, c, http.MethodGet, nil, "nodes", strconv.FormatInt(id, 10))
}

// LegacyKeys lists the keys of the legacy API, with how they were used. Admins only.
func (c *Client) LegacyKeys(ctx context.Context) (Answer[v1.LegacyKeysAnswer], error) {
	return call[v1.LegacyKeysAnswer](ctx, c, http.MethodGet, nil, "legacy-keys")
}

// AddLegacyKey gives a tenant a key for the legacy API. Admins only.
func (c *Client) AddLegacyKey(ctx context.Context, tenant int64, k v1.LegacyKeyCreate) (Answer[v1.LegacyKeyAnswer], error) {
	return call[v1.LegacyKeyAnswer](ctx, c, http.MethodPost, k, "tenants", strconv.FormatInt(tenant, 10), "legacy-keys")
}

// RemoveLegacyKey takes a key of the legacy API from a tenant. Admins only.
func (c *Client) RemoveLegacyKey(ctx context.Context, tenant, id int64) error {
	_, err := c.do(ctx, http.MethodDelete, nil, "tenants", strconv.FormatInt(tenant, 10), "legacy-keys", strconv.FormatInt(id, 10))
	return err
}

// NodeLogRequest says which logs of a node are wanted.
type NodeLogRequest struct {
	Node   int64
	Run    int64 // this run only; 0: all
	Follow bool  // go on until the node comes to rest
}

// NodeLog passes on the logs of a node's Terraform runs, line by line. Admins only.
// What the server could not give to its end is an error, after the lines before it.
func (c *Client) NodeLog(ctx context.Context, req NodeLogRequest, line func([]byte) error) error {
	query := url.Values{}
	if req.Run != 0 {
		query.Set("run", strconv.FormatInt(req.Run, 10))
	}
	if req.Follow {
		query.Set("follow", "true")
	}
	u := c.base.JoinPath("nodes", strconv.FormatInt(req.Node, 10), "logs")
	u.RawQuery = query.Encode()
	resp, err := c.send(ctx, http.MethodGet, u, nil, nil)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewReader(resp.Body)
	for {
		text, err := lines.ReadBytes('\n')
		if err := streamError(text); err != nil {
			return err
		}
		if len(text) > 0 {
			if err := line(text); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return c.unreachable(ctx, err)
		}
	}
}

// streamError gives the error that a line of a stream is, or nil.
func streamError(line []byte) error {
	if !bytes.Contains(line, []byte(`"type":"error"`)) {
		return nil // nearly all of them, unread
	}
	var e struct {
		Type    string      `json:"type"`
		Message string      `json:"@message"`
		Code    broker.Code `json:"code"`
		Hint    string      `json:"hint"`
	}
	if bad := json.Unmarshal(line, &e); bad == nil && e.Type == "error" {
		return broker.Errorf(e.Code, "%s", e.Message).WithHint("%s", e.Hint)
	}
	return nil // some text about errors
}

func call[T any](ctx context.Context, c *Client, method string, body any, path ...string) (Answer[T], error) {
	raw, err := c.do(ctx, method, body, path...)
	if err != nil {
		return Answer[T]{}, err
	}
	return understand[T](c, raw)
}

func understand[T any](c *Client, raw json.RawMessage) (a Answer[T], err error) {
	a.Raw = raw
	if err := json.Unmarshal(raw, &a.Value); err != nil {
		return a, broker.Wrap(broker.CodeUnavailable, err, "the answer of %s can't be understood", c.name).
			WithHint("is the URL that of a broker?")
	}
	return a, nil
}

// do makes one request and gives the body of a success.
func (c *Client) do(ctx context.Context, method string, body any, path ...string) (json.RawMessage, error) {
	for i := range path {
		path[i] = url.PathEscape(path[i])
	}
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("encode the request: %w", err)
		}
		reader = bytes.NewReader(b)
	}
	return c.read(ctx, method, c.base.JoinPath(path...), reader)
}

func (c *Client) read(ctx context.Context, method string, u *url.URL, body io.Reader) (json.RawMessage, error) {
	resp, err := c.send(ctx, method, u, body, nil)
	if err != nil {
		return nil, err
	}
	return c.body(ctx, resp)
}

// body reads an answer to its end.
func (c *Client) body(ctx context.Context, resp *http.Response) (json.RawMessage, error) {
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return answer, nil
}

// send makes one request. The answer is a success, whose body the caller closes.
func (c *Client) send(ctx context.Context, method string, u *url.URL, body io.Reader, header http.Header) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make the request: %w", err)
	}
	maps.Copy(req.Header, header)
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.cfg.Tenant != "" {
		req.SetBasicAuth(c.cfg.Tenant, c.cfg.Key)
	}
	resp, err := c.cfg.HTTPClient.Do(req)
	if err != nil {
		return nil, c.unreachable(ctx, err)
	}
	if resp.StatusCode >= 200 && resp.StatusCode <= 299 {
		return resp, nil
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return nil, c.unreachable(ctx, err)
	}
	return nil, c.refusal(resp, answer)
}

func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return broker.Wrap(broker.CodeUnavailable, cause, "the request to %s was given up", c.name).
			WithHint("whether it was carried out is not known: look before you repeat it")
	}
	if u, ok := errors.AsType[*url.Error](err); ok {
		err = u.Err // its text has the URL once more
	}
	if hint := noTLS(err); hint != "" { // nothing was sent
		return broker.Errorf(broker.CodeUnavailable, "no safe connection to the broker at %s: %v", c.name, err).WithHint("%s", hint)
	}
	if op, ok := errors.AsType[*net.OpError](err); !ok || op.Op != "dial" {
		return broker.Wrap(broker.CodeUnavailable, ErrAnswerLost, "the connection to the broker at %s broke: %v", c.name, err).
			WithHint("does `duffy-broker serve` still run there?")
	}
	return broker.Errorf(broker.CodeUnavailable, "can't reach the broker at %s: %v", c.name, err).
		WithHint("is `duffy-broker serve` running there?")
}

// noTLS says what to do where TLS did not come about, "" for any other error.
func noTLS(err error) string {
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is signed by an authority that is not known here: name a file with that authority's certificate in SSL_CERT_FILE"
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is for other names: use one of those in the URL"
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return "its certificate is not valid: have it renewed, and check the clock of this machine"
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok || errors.Is(err, http.ErrSchemeMismatch) {
		return "it does not speak TLS: is the URL to begin with http:// ?"
	}
	return ""
}

// refusal turns an answer that is no success into the error that it means.
func (c *Client) refusal(resp *http.Response, body []byte) error {
	var wire struct {
		Detail json.RawMessage `json:"detail"`
		Code   broker.Code     `json:"code"`
		Hint   string          `json:"hint"`
	}
	if err := json.Unmarshal(body, &wire); err != nil || wire.Detail == nil {
		if resp.StatusCode >= http.StatusInternalServerError { // of a proxy, which may have passed the request on
			return broker.Wrap(broker.CodeUnavailable, ErrAnswerLost, "%s answers %s, which is not how a broker answers", c.name, resp.Status).
				WithHint("is the URL that of a broker, and does a proxy stand between?")
		}
		hint := "is the URL that of a broker, and does a proxy stand between?"
		if resp.StatusCode == http.StatusBadRequest && bytes.Contains(body, []byte("HTTPS")) { // as net/http answers
			hint = "it speaks TLS: is the URL to begin with https:// ?"
		}
		return broker.Errorf(broker.CodeUnavailable, "%s answers %s, which is not how a broker answers", c.name, resp.Status).WithHint("%s", hint)
	}
	detail := string(wire.Detail) // Duffy sends a list of mistakes here
	var text string
	if json.Unmarshal(wire.Detail, &text) == nil {
		detail = text
	}
	code := wire.Code
	if code == "" {
		code = codeOf(resp.StatusCode)
	}
	e := broker.Errorf(code, "%s", detail).WithHint("%s", wire.Hint)
	if wait := resp.Header.Get("Retry-After"); wait != "" && resp.StatusCode == http.StatusTooManyRequests {
		return e.WithHint("try again in %s s", wait)
	}
	if id := resp.Header.Get("X-Request-Id"); id != "" && resp.StatusCode >= http.StatusInternalServerError && e.Hint == "" {
		return e.WithHint("the broker's log says more under request_id %s", id)
	}
	return e
}

// codeOf guesses the code of a server that sends none, as Duffy does.
func codeOf(status int) broker.Code {
	switch status {
	case http.StatusUnauthorized:
		return broker.CodeUnauthorized
	case http.StatusForbidden:
		return broker.CodeForbidden
	case http.StatusNotFound:
		return broker.CodeNotFound
	case http.StatusConflict:
		return broker.CodeConflict
	}
	if status >= http.StatusInternalServerError {
		return broker.CodeUnavailable
	}
	return broker.CodeInvalid
}
