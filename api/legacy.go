package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// Legacy are the settings of the legacy API: that of Duffy v2, as Duffy v3's
// metaclient answers it.
type Legacy struct {
	// Pool gives the pool that a request means; Hostname the name that is shown
	// of a node. Both are required.
	Pool     func(ver, arch, flavor string) (pool string, ok bool)
	Hostname func(broker.LentNode) string

	// What a request means that does not say it; Flavors by arch.
	Version, Arch string
	Flavors       map[string]string

	MainPort       bool          // served by [New], too
	PlainWhenEmpty bool          // an empty pool is answered in plain text: python-cicoclient then tries again
	MaxWait        time.Duration // how long a request may wait for nodes
	SessionLimit   int           // sessions of a tenant within SessionWindow; 0: any number
	SessionWindow  time.Duration
	KeepFor        time.Duration // by how much /Node/fail extends a session
	KeptNodes      int           // how many nodes of a tenant may be kept so; 0: any number
	// Rows is "auto", "pairs" or "rows": what /Inventory gives to a caller with
	// a key. auto: to python-cicoclient rows that all of its versions can read,
	// else pairs.
	Rows               string
	AnonymousInventory bool // /Inventory without a key lists all lent nodes

	// From Deprecated on, answers say so (RFC 9745), name the day of Sunset (RFC
	// 8594), and Link to a page with more. Zero values are left out.
	Deprecated, Sunset time.Time
	Link               string
}

// What the legacy API says, word for word: old jobs compare with it.
const (
	legacyDone       = "Done"
	legacyNoSession  = "Failed to allocate nodes"
	legacyEmpty      = "Insufficient Nodes in READY State"
	legacyParameters = "Some parameters are absent"
	legacyNotDone    = "Failed to return nodes on completion"
	legacyNotFailed  = "Failed to change expiration time"
	legacyBadKey     = "Invalid duffy key"
)

// legacyRetry is how often stock is looked at for a request that waits.
const legacyRetry = time.Second

// cicoAgent is how python-cicoclient begins its User-Agent.
const cicoAgent = "python-cicoclient"

// legacyRoutes adds the routes of the legacy API.
func (s *server) legacyRoutes() {
	get(s.engine, "/Node/get", s.legacy(s.legacyGet))
	get(s.engine, "/Node/done", s.legacy(s.legacyDone))
	get(s.engine, "/Node/fail", s.legacy(s.legacyFail))
	get(s.engine, "/Inventory", s.legacy(s.legacyInventory))
}

// NewLegacy gives a handler of the legacy API alone, for a port of its own. It
// answers 404 to everything while there are no settings.
func NewLegacy(cfg Config) http.Handler {
	s := newServer(cfg)
	s.legacyAlone = true
	s.legacyRoutes()
	return s.engine
}

// A legacyHandler serves one call with the settings of the moment.
type legacyHandler func(c *gin.Context, l *Legacy) error

func (s *server) legacy(h legacyHandler) gin.HandlerFunc {
	return s.handle(func(c *gin.Context) error {
		l := s.legacySettings()
		if l == nil || !l.MainPort && !s.legacyAlone {
			return errNoRoute()
		}
		c.Set(keyLegacy, true)
		l.announce(c, s.now())
		return h(c, l)
	})
}

func (s *server) legacySettings() *Legacy {
	if s.cfg.Legacy == nil {
		return nil
	}
	return s.cfg.Legacy()
}

// announce tells clients that the API will go.
func (l *Legacy) announce(c *gin.Context, now time.Time) {
	if l.Deprecated.IsZero() || now.Before(l.Deprecated) {
		return
	}
	c.Header("Deprecation", "@"+strconv.FormatInt(l.Deprecated.Unix(), 10))
	if !l.Sunset.IsZero() {
		c.Header("Sunset", l.Sunset.UTC().Format(http.TimeFormat))
	}
	if l.Link != "" {
		c.Header("Link", fmt.Sprintf(`<%s>; rel="deprecation"; type="text/html"`, l.Link))
	}
}

// legacyTenant finds whose key the query has. Its errors are the answers of
// Duffy; known is false for keys that belong to nobody.
func (s *server) legacyTenant(c *gin.Context) (t broker.Tenant, known bool, err error) {
	t, err = s.login(c, "", c.Query("key"), func() (broker.Tenant, error) {
		return s.cfg.Broker.AuthenticateLegacy(c.Request.Context(), c.Query("key"), broker.LegacyCall{
			Endpoint: c.FullPath(), Agent: c.Request.UserAgent(),
		})
	})
	if err == nil {
		c.Set(keyTenant, t.Name)
		err = s.withinRate(c, t)
	}
	if broker.CodeOf(err) == broker.CodeUnauthorized {
		return broker.Tenant{}, false, nil
	}
	return t, err == nil, err
}

// requireKey is legacyTenant for calls that need a key.
func (s *server) requireKey(c *gin.Context) (broker.Tenant, error) {
	if c.Query("key") == "" {
		return broker.Tenant{}, statusError{http.StatusForbidden, broker.Errorf(broker.CodeUnauthorized, "Not authenticated").
			WithHint("put ?key=KEY into the URL")}
	}
	t, known, err := s.legacyTenant(c)
	if err == nil && !known {
		err = broker.Errorf(broker.CodeForbidden, "Forbidden").WithHint("the key is not known here: ask an admin for one")
	}
	return t, err
}

// legacyText answers with a JSON string, always 200: that is how this API fails.
func legacyText(c *gin.Context, text string) error { return answer(c, http.StatusOK, text) }

func legacyRefused(c *gin.Context, message string) error {
	return answer(c, http.StatusForbidden, v1.LegacyRefusal{Msg: message})
}

// legacyFailed answers with the text that Duffy has for a failure. What is our
// fault, or stands in the log only, stays an error.
func (s *server) legacyFailed(c *gin.Context, err error, text string) error {
	if broker.CodeOf(err) == broker.CodeInternal {
		return err
	}
	c.Set(keyError, err)
	c.Header("X-Duffy-Reason", headerText(broker.MessageOf(err)))
	return legacyText(c, text)
}

// headerText makes a text fit for a header.
func headerText(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, text)
}

func (s *server) legacyGet(c *gin.Context, l *Legacy) error {
	tenant, err := s.requireKey(c)
	if err != nil {
		return err
	}
	count, err := legacyCount(c)
	if err != nil {
		return err
	}
	ver, arch := c.DefaultQuery("ver", l.Version), c.DefaultQuery("arch", l.Arch)
	flavor, given := c.GetQuery("flavor")
	if !given {
		flavor = l.Flavors[arch]
	}
	pool, ok := l.Pool(ver, arch, flavor)
	if !ok {
		return s.legacyFailed(c, broker.Errorf(broker.CodeNotFound, "no pool is mapped to ver %q, arch %q, flavor %q", ver, arch, flavor), legacyNoSession)
	}
	ctx := c.Request.Context()
	p, _, err := s.cfg.Broker.Pool(ctx, pool)
	if err == nil && p.NoLegacy {
		err = broker.Errorf(broker.CodeForbidden, "pool '%s' is not for the legacy API", pool).
			WithHint("legacy = true in the pool offers it there; fixed machines are not, unless their pool says so")
	}
	if err != nil {
		return s.legacyFailed(c, err, legacyNoSession)
	}
	if wait := s.legacyLimits.wait(tenant.ID, l.SessionLimit, l.SessionWindow, s.now()); wait > 0 {
		c.Header("Retry-After", strconv.Itoa(int(wait.Seconds())+1))
		return answer(c, http.StatusTooManyRequests, fmt.Sprintf("Too many sessions: at most %d in %s", l.SessionLimit, l.SessionWindow))
	}
	session, err := s.legacyRequest(ctx, l, tenant, p, count)
	switch code := broker.CodeOf(err); {
	case code == broker.CodeCapacity && l.PlainWhenEmpty:
		c.Set(keyError, err)
		c.Header("X-Duffy-Reason", headerText(broker.MessageOf(err)))
		c.String(http.StatusOK, legacyEmpty)
		return nil
	case err != nil:
		return s.legacyFailed(c, err, legacyNoSession)
	}
	s.legacyLimits.note(tenant.ID, l.SessionWindow, s.now())
	hosts := make([]string, len(session.Nodes))
	for i, n := range session.Nodes {
		hosts[i] = l.Hostname(n)
	}
	err = ctx.Err()
	if err == nil {
		err = deliver(c, http.StatusOK, v1.LegacySession{Hosts: hosts, SSID: session.ID})
	}
	if err != nil {
		s.abandon(ctx, session.ID) // its tenant does not know that it exists
	}
	return err
}

// legacyCount reads the number of nodes as Duffy does.
func legacyCount(c *gin.Context) (int, error) {
	text, given := c.GetQuery("count")
	if !given {
		return 1, nil
	}
	count, err := strconv.Atoi(strings.TrimSpace(text))
	if err != nil {
		return 0, bodyError{fields: []v1.FieldError{{
			Loc: []any{"query", "count"}, Msg: "value is not a valid integer", Type: "type_error.integer",
		}}}
	}
	return count, nil
}

// legacyRequest asks for nodes, again and again while there are too few and the
// time is not over.
func (s *server) legacyRequest(ctx context.Context, l *Legacy, t broker.Tenant, p broker.Pool, count int) (broker.Session, error) {
	deadline := time.Now().Add(l.MaxWait)
	for {
		session, err := s.cfg.Broker.RequestSession(ctx, t, broker.SessionRequest{
			Specs: []broker.NodesSpec{{Pool: p.Name, Quantity: count}},
		})
		hopeless := count > p.MaxNodes
		if broker.CodeOf(err) != broker.CodeCapacity || hopeless || time.Now().Add(legacyRetry).After(deadline) {
			return session, err
		}
		select {
		case <-ctx.Done():
			return session, err
		case <-time.After(legacyRetry):
		}
	}
}

// legacySession finds the session that a call is about.
func (s *server) legacySession(c *gin.Context, t broker.Tenant) (broker.Session, error) {
	id, err := strconv.ParseInt(c.Query("ssid"), 10, 64)
	if err != nil {
		return broker.Session{}, broker.Errorf(broker.CodeNotFound, "ssid is not a number")
	}
	return s.cfg.Broker.Session(c.Request.Context(), t, id)
}

func (s *server) legacyDone(c *gin.Context, _ *Legacy) error {
	tenant, err := s.requireKey(c)
	if err != nil {
		return err
	}
	if c.Query("ssid") == "" {
		c.Set(keyError, broker.Errorf(broker.CodeInvalid, "ssid is missing"))
		return legacyText(c, legacyParameters)
	}
	if !tenant.Active() {
		return s.legacyFailed(c, errRetired(tenant), legacyNotDone)
	}
	session, err := s.legacySession(c, tenant)
	if err == nil {
		_, err = s.cfg.Broker.UpdateSession(c.Request.Context(), tenant, session.ID, broker.SessionUpdate{Retire: true})
	}
	if err != nil {
		return s.legacyFailed(c, err, legacyNotDone)
	}
	return legacyText(c, legacyDone)
}

func (s *server) legacyFail(c *gin.Context, l *Legacy) error {
	tenant, err := s.requireKey(c)
	if broker.CodeOf(err) == broker.CodeForbidden {
		c.Set(keyError, err)
		return legacyRefused(c, legacyBadKey)
	}
	if err != nil {
		return err
	}
	if c.Query("ssid") == "" {
		c.Set(keyError, broker.Errorf(broker.CodeInvalid, "ssid is missing"))
		return legacyText(c, legacyParameters)
	}
	if !tenant.Active() {
		c.Set(keyError, errRetired(tenant))
		return legacyRefused(c, legacyBadKey)
	}
	session, err := s.legacySession(c, tenant)
	if broker.CodeOf(err) == broker.CodeForbidden {
		c.Set(keyError, err)
		return legacyRefused(c, legacyBadKey)
	}
	if err == nil {
		_, err = s.cfg.Broker.KeepSession(c.Request.Context(), tenant, session.ID, l.KeepFor, l.KeptNodes)
	}
	if broker.CodeOf(err) == broker.CodeQuota {
		c.Set(keyError, err)
		return legacyRefused(c, fmt.Sprintf("Exceeded maximum allowed fail nodes limit, %d nodes can be kept at once: give some back first", l.KeptNodes))
	}
	if err != nil {
		return s.legacyFailed(c, err, legacyNotFailed)
	}
	return legacyText(c, legacyDone)
}

func errRetired(t broker.Tenant) error {
	return broker.Errorf(broker.CodeForbidden, "tenant '%s' is retired", t.Name)
}

func (s *server) legacyInventory(c *gin.Context, l *Legacy) error {
	actor, rows, cico := everybody(), true, false
	if c.Query("key") == "" {
		if !l.AnonymousInventory {
			_, err := s.requireKey(c)
			return err
		}
	} else {
		tenant, known, err := s.legacyTenant(c)
		if err != nil {
			return err
		}
		if !known || !tenant.Active() {
			return legacyRefused(c, legacyBadKey)
		}
		tenant.IsAdmin = false // its own nodes, whoever it is
		actor = tenant
		cico = l.Rows != "rows" && l.Rows != "pairs" && strings.HasPrefix(c.Request.UserAgent(), cicoAgent)
		rows = l.Rows == "rows" || cico
	}
	sessions, err := s.cfg.Broker.Sessions(c.Request.Context(), actor)
	if err != nil {
		return err
	}
	list := make([][]any, 0, len(sessions))
	for _, session := range sessions {
		for _, n := range session.Nodes {
			switch {
			case cico:
				list = append(list, cicoRow(session, n, l.Hostname(n)))
			case rows:
				list = append(list, legacyRow(session, n, l.Hostname(n)))
			default:
				list = append(list, []any{l.Hostname(n), session.ID})
			}
		}
	}
	return answer(c, http.StatusOK, list)
}

// legacyRow gives a node as Duffy v2 did: id, host name, address, chassis, times
// used, state, comment (the session, as a text), distribution, release,
// version, architecture, pool, console port, flavor.
func legacyRow(s broker.Session, n broker.LentNode, hostname string) []any {
	return []any{
		n.ID, hostname, n.Address, nil, 0, "deployed", strconv.FormatInt(s.ID, 10),
		nil, nil, nil, nil, n.Pool, nil, nil,
	}
}

// cicoRow is legacyRow for a tenant's own nodes as python-cicoclient reads them.
// Older versions take the first column for the host name, as in pairs, and the
// newest the second; all send the same User-Agent.
func cicoRow(s broker.Session, n broker.LentNode, hostname string) []any {
	row := legacyRow(s, n, hostname)
	row[0] = hostname
	return row
}

// sessionTimes remembers when tenants got their last sessions.
type sessionTimes struct {
	mu    sync.Mutex
	times map[int64][]time.Time
}

// wait gives how long a tenant must wait before its next session; 0: not at all.
func (l *sessionTimes) wait(tenant int64, limit int, window time.Duration, now time.Time) time.Duration {
	if limit == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	times := l.times[tenant]
	if len(times) < limit {
		return 0
	}
	return times[len(times)-limit].Add(window).Sub(now)
}

// note remembers a session, and forgets those before the window.
func (l *sessionTimes) note(tenant int64, window time.Duration, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.times == nil {
		l.times = make(map[int64][]time.Time)
	}
	times := l.times[tenant]
	for len(times) > 0 && times[0].Add(window).Before(now) {
		times = times[1:]
	}
	l.times[tenant] = append(times, now)
}
