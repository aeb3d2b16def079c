package api

import (
	"crypto/rand"
	"crypto/sha256"
	"maps"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"
	"golang.org/x/time/rate"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// tenantBurst is how many requests a tenant may make at once, in seconds of
	// its rate.
	tenantBurst = 4
	// From one address failedLogins wrong logins are let through at once, and one
	// more every failedLoginEvery.
	failedLogins     = 20
	failedLoginEvery = 6 * time.Second
	// maxLimiters bounds what many tenants, or many addresses, cost in memory.
	maxLimiters = 10_000
	// trustLogin is for how long a login that fitted is let through, whatever
	// other clients behind the same address do.
	trustLogin = time.Hour
)

// limiters holds one limiter for each key. One that would let everything through
// is forgotten, since a new one is the same.
type limiters[K comparable] struct {
	limit rate.Limit
	burst int

	mu      sync.Mutex
	entries map[K]*rate.Limiter
	swept   time.Time
}

func newLimiters[K comparable](limit rate.Limit, burst int) *limiters[K] {
	return &limiters[K]{limit: limit, burst: burst, entries: make(map[K]*rate.Limiter)}
}

// take counts one use, unless it would be too much: then it says after what time
// it would not.
func (l *limiters[K]) take(key K, now time.Time) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry := l.entries[key]
	if entry == nil {
		l.makeRoom(now)
		entry = rate.NewLimiter(l.limit, l.burst)
		l.entries[key] = entry
	}
	if entry.AllowN(now, 1) {
		return 0
	}
	return l.until(entry, now)
}

// wait says after what time a use would be allowed, without counting one.
func (l *limiters[K]) wait(key K, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry := l.entries[key]
	if entry == nil || entry.TokensAt(now) >= 1 {
		return 0
	}
	return l.until(entry, now)
}

func (l *limiters[K]) until(entry *rate.Limiter, now time.Time) time.Duration {
	missing := 1 - entry.TokensAt(now)
	return time.Duration(missing / float64(l.limit) * float64(time.Second))
}

// makeRoom forgets limiters that are full again, and if that is not enough, any.
func (l *limiters[K]) makeRoom(now time.Time) {
	makeRoom(l.entries, &l.swept, now, func(entry *rate.Limiter) bool { return entry.TokensAt(now) >= float64(l.burst) })
}

// makeRoom makes room for one more in m: it removes what is old, but looks for
// that only once a second, since it costs a walk over all of m; and what comes
// first, if nothing is.
func makeRoom[K comparable, V any](m map[K]V, swept *time.Time, now time.Time, old func(V) bool) {
	if len(m) < maxLimiters {
		return
	}
	if now.Sub(*swept) >= time.Second {
		*swept = now
		maps.DeleteFunc(m, func(_ K, v V) bool { return old(v) })
	}
	for key := range m {
		if len(m) < maxLimiters {
			return
		}
		delete(m, key)
	}
}

// logins limits wrong logins by address. Many jobs may share one address: those
// that have logged in from it lately are let through all the same.
type logins struct {
	failed *limiters[netip.Prefix]
	salt   [16]byte

	mu    sync.Mutex
	good  map[[sha256.Size]byte]time.Time
	swept time.Time
}

func newLogins() *logins {
	l := &logins{
		failed: newLimiters[netip.Prefix](rate.Every(failedLoginEvery), failedLogins),
		good:   make(map[[sha256.Size]byte]time.Time),
	}
	_, _ = rand.Read(l.salt[:]) // never fails: it ends the program instead (crypto/rand)
	return l
}

// login is one attempt.
type login struct {
	address netip.Prefix // invalid: not known, and not limited
	mark    [sha256.Size]byte
}

func (l *logins) attempt(address, name, key string) login {
	text := string(l.salt[:]) + address + "\x00" + name + "\x00" + key
	a := login{mark: sha256.Sum256([]byte(text))}
	if ip, err := netip.ParseAddr(address); err == nil {
		ip = ip.Unmap()
		bits := ip.BitLen()
		if ip.Is6() {
			bits = 64 // what one host may have to itself
		}
		a.address, _ = ip.Prefix(bits)
	}
	return a
}

// wait says for how long the attempt is to wait; 0: it may be made.
func (l *logins) wait(a login, now time.Time) time.Duration {
	if !a.address.IsValid() {
		return 0
	}
	wait := l.failed.wait(a.address, now)
	if wait == 0 {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.good[a.mark]) < trustLogin {
		return 0
	}
	return wait
}

// note says how the attempt has ended.
func (l *logins) note(a login, fits bool, now time.Time) {
	if !a.address.IsValid() {
		return
	}
	if !fits {
		l.failed.take(a.address, now)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !fits {
		delete(l.good, a.mark)
		return
	}
	if _, known := l.good[a.mark]; !known {
		makeRoom(l.good, &l.swept, now, func(at time.Time) bool { return now.Sub(at) >= trustLogin })
	}
	l.good[a.mark] = now
}

// login authenticates with find, unless too many wrong ones came from the
// address of the caller.
func (s *server) login(c *gin.Context, name, key string, find func() (broker.Tenant, error)) (broker.Tenant, error) {
	attempt := s.logins.attempt(c.ClientIP(), name, key)
	if wait := s.logins.wait(attempt, s.now()); wait > 0 {
		return broker.Tenant{}, tooMany(c, wait, "too many failed logins from your address")
	}
	actor, err := find()
	if fits := err == nil; fits || broker.CodeOf(err) == broker.CodeUnauthorized {
		s.logins.note(attempt, fits, s.now())
	}
	return actor, err
}

// withinRate counts a request of a tenant. Admins have no limit, as they have no
// quota.
func (s *server) withinRate(c *gin.Context, t broker.Tenant) error {
	if s.tenantRates == nil || t.IsAdmin {
		return nil
	}
	if wait := s.tenantRates.take(t.ID, s.now()); wait > 0 {
		return tooMany(c, wait, "too many requests of tenant '"+t.Name+"'")
	}
	return nil
}

func tooMany(c *gin.Context, wait time.Duration, message string) error {
	c.Header("Retry-After", strconv.Itoa(max(1, int(math.Ceil(wait.Seconds())))))
	return statusError{http.StatusTooManyRequests, broker.Errorf(broker.CodeUnavailable, "%s", message).WithHint("wait as long as Retry-After says")}
}
