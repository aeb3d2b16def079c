package api

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Limits of what a client may send and of how long it may take. They bound what
// a broken or hostile client costs; real requests are a few hundred bytes.
const (
	maxBodyBytes      = 64 << 10
	maxHeaderBytes    = 64 << 10
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 20 * time.Second // header and body, also of a body that nobody reads
	idleTimeout       = 2 * time.Minute
	// writeTimeout counts from the request's header to the end of its answer. A
	// session may have to replace many nodes, and streams of events stay open.
	writeTimeout = 30 * time.Minute
	// lineTimeout is how long the client of a stream may take for one line of it.
	lineTimeout = time.Minute
)

// useCases is what the API needs of the domain. [broker.Broker] has it.
type useCases interface {
	Authenticate(ctx context.Context, name, key string) (broker.Tenant, error)

	RequestSession(ctx context.Context, actor broker.Tenant, req broker.SessionRequest) (broker.Session, error)
	Session(ctx context.Context, actor broker.Tenant, id int64) (broker.Session, error)
	Sessions(ctx context.Context, actor broker.Tenant) ([]broker.Session, error)
	UpdateSession(ctx context.Context, actor broker.Tenant, id int64, u broker.SessionUpdate) (broker.Session, error)
	AbandonedByClient(ctx context.Context, id int64) error

	Pools(ctx context.Context) ([]broker.Pool, error)
	Pool(ctx context.Context, name string) (broker.Pool, broker.PoolLevels, error)
	PoolStatus(ctx context.Context, actor broker.Tenant, name string) (broker.PoolStatus, error)

	Node(ctx context.Context, actor broker.Tenant, id int64) (broker.Node, error)
	Nodes(ctx context.Context, actor broker.Tenant) ([]broker.Node, error)

	CreateHost(ctx context.Context, actor broker.Tenant, h broker.Host) (broker.Host, error)
	RetireHost(ctx context.Context, actor broker.Tenant, id int64) (broker.HostStatus, error)
	RepairHost(ctx context.Context, actor broker.Tenant, id int64) (broker.HostStatus, error)
	Host(ctx context.Context, actor broker.Tenant, id int64) (broker.HostStatus, error)
	FindHosts(ctx context.Context, actor broker.Tenant, f broker.NodeFilter) ([]broker.HostStatus, error)

	HoldNode(ctx context.Context, actor broker.Tenant, id int64, reason string) (broker.Node, error)
	ReleaseHold(ctx context.Context, actor broker.Tenant, id int64) (broker.Node, error)
	OpenWorkspace(ctx context.Context, actor broker.Tenant, id int64, reason string) (broker.Node, string, error)
	ReturnWorkspace(ctx context.Context, actor broker.Tenant, id int64, discard bool) (broker.Node, error)
	NodeLog(ctx context.Context, actor broker.Tenant, req broker.NodeLogRequest, write func(line []byte) error) error
	Tenant(ctx context.Context, actor broker.Tenant, id int64) (broker.Tenant, error)
	VisibleTenants(ctx context.Context, actor broker.Tenant) ([]broker.Tenant, error)
	CreateTenant(ctx context.Context, actor, t broker.Tenant) (broker.Tenant, string, error)
	UpdateTenant(ctx context.Context, actor broker.Tenant, id int64, u broker.TenantUpdate) (broker.Tenant, string, error)
	TenantDefaults() broker.TenantDefaults

	FindSessions(ctx context.Context, actor broker.Tenant, f broker.SessionFilter) ([]broker.Session, error)
	FindNodes(ctx context.Context, actor broker.Tenant, f broker.NodeFilter) ([]broker.Node, error)
	SessionEvents(ctx context.Context, actor broker.Tenant, id, after int64, limit int) ([]broker.Event, error)
	Events(ctx context.Context, actor broker.Tenant, after int64) (visible []broker.Event, last int64, err error)
	LastEvent(ctx context.Context) (int64, error)
	Stats(ctx context.Context, actor broker.Tenant) ([]broker.Handouts, error)

	Snapshot(ctx context.Context, actor broker.Tenant) (broker.Snapshot, error)
	Rollouts(ctx context.Context, actor broker.Tenant) ([]broker.RolloutStatus, error)
	OrderRollout(ctx context.Context, actor broker.Tenant, pool string, order broker.RolloutOrder, reason string) (broker.RolloutStatus, error)
	Reload(ctx context.Context, actor broker.Tenant, confirm string) (broker.Reload, error)
	LastReload(ctx context.Context, actor broker.Tenant) (broker.Reload, error)

	NodeOfToken(ctx context.Context, token string) (broker.Node, error)
	Notify(ctx context.Context, n broker.Node, notice broker.Notice) (bool, error)
	OpenBootFile(ctx context.Context, n broker.Node, name, address string) (broker.BootFile, error)
	ReportBoot(ctx context.Context, n broker.Node, r broker.BootReport) error
	BootByMAC(ctx context.Context, mac, address string) (string, error)

	Healthy(ctx context.Context) error

	AuthenticateLegacy(ctx context.Context, key string, call broker.LegacyCall) (broker.Tenant, error)
	KeepSession(ctx context.Context, actor broker.Tenant, id int64, d time.Duration, limit int) (broker.Session, error)
	AddLegacyKey(ctx context.Context, actor broker.Tenant, tenantID int64, key, note string) (broker.LegacyKey, string, error)
	RemoveLegacyKey(ctx context.Context, actor broker.Tenant, tenantID, id int64) error
	LegacyReport(ctx context.Context, actor broker.Tenant) ([]broker.Tenant, error)

	NodesByID(ctx context.Context, ids ...int64) (map[int64]broker.Node, error)
	TenantsByID(ctx context.Context, ids ...int64) (map[int64]broker.Tenant, error)
}

// Config is what the API is made of.
type Config struct {
	Broker  useCases     // required; usually a *broker.Broker
	Log     *slog.Logger // required; gets one line a request
	Version string       // shown by /health
	// AnonymousRead lets callers without credentials list sessions, nodes and
	// pools, all of them, as Duffy does.
	AnonymousRead bool
	// Stopping, once it is closed, ends answers that would go on for long. Nil: never.
	Stopping <-chan struct{}
	// Legacy gives the settings of the legacy API as they are now; nil, also from
	// the call: there is none.
	Legacy func() *Legacy
	// TenantRate is how many requests a second a tenant may make on average, and
	// four times as many at once; 0: any number. Admins have no limit.
	TenantRate float64
	// TrustedProxies are the networks of proxies in front of the broker. The
	// address of a client is taken from X-Forwarded-For only if it comes from one.
	TrustedProxies []netip.Prefix
	// Webhook is called when a repository tells of a push, and must not block. Those
	// who tell know WebhookSecret; without one there is no webhook.
	Webhook       func()
	WebhookSecret []byte
	// Observe is told of each request that was answered. It must not block. Nil:
	// nobody is told.
	Observe func(Seen)
	// Metrics answers /metrics, for admins only. Nil: not found.
	Metrics http.Handler
	// Ready tells whether the broker can work; its error goes to whoever asks for
	// /readyz. Nil: always.
	Ready func(context.Context) error
}

type server struct {
	cfg    Config
	engine *gin.Engine
	now    func() time.Time

	eventPoll, eventBeat time.Duration

	logins      *logins
	tenantRates *limiters[int64] // nil: no limit

	legacyAlone  bool // this is the legacy API's own port
	legacyLimits sessionTimes

	document func() (json.RawMessage, error) // see openapi.go
}

// New gives the handler of the whole API. It may be served at once by several
// servers.
func New(cfg Config) http.Handler {
	s := newServer(cfg)
	s.routes()
	s.legacyRoutes()
	return s.engine
}

func newServer(cfg Config) *server {
	// Gin knows its mode only as a global; in any other it prints to stdout.
	gin.SetMode(gin.ReleaseMode)
	engine := gin.New()
	engine.HandleMethodNotAllowed = true
	engine.RedirectTrailingSlash = false // Gin's redirect is 301; see notFound
	proxies := make([]string, len(cfg.TrustedProxies))
	for i, p := range cfg.TrustedProxies {
		proxies[i] = p.String()
	}
	if err := engine.SetTrustedProxies(proxies); err != nil {
		panic(err) // can't be: what netip writes can be parsed
	}
	s := &server{cfg: cfg, engine: engine, now: time.Now, eventPoll: eventPoll, eventBeat: eventBeat, logins: newLogins()}
	s.document = sync.OnceValues(func() (json.RawMessage, error) { return encode(document(cfg.Version, cfg.AnonymousRead)) })
	if cfg.TenantRate > 0 {
		s.tenantRates = newLimiters[int64](rate.Limit(cfg.TenantRate), max(1, int(tenantBurst*cfg.TenantRate)))
	}
	engine.Use(requestID, s.accessLog, s.recovery)
	engine.NoRoute(s.handle(s.notFound))
	engine.NoMethod(s.handle(methodNotAllowed))
	return s
}

// NewServer gives a server for handler with our limits. Its address is left to
// the caller.
func NewServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
	}
}
