package provider

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"
)

const (
	// lookInterval is how often a host looks which runs have ended.
	lookInterval = time.Second
	// giveUpLooks is for how many looks the changes of an ended run may go on.
	giveUpLooks = 600
	// maxLog is how much a host's log may hold; then it begins afresh.
	maxLog = 1 << 20

	controlName = "control"
	logName     = "log"
	limitsName  = "limits.json"
)

// Limits say how long a host lives. Zero values mean the defaults.
type Limits struct {
	Runs int           `json:"runs"` // it takes so many: 100
	Age  time.Duration `json:"age"`  // and none after that time: 30 minutes
	Idle time.Duration `json:"idle"` // it ends when it had none for so long: 5 minutes
}

func (l Limits) orDefault() Limits {
	if l.Runs == 0 {
		l.Runs = 100
	}
	if l.Age == 0 {
		l.Age = 30 * time.Minute
	}
	if l.Idle == 0 {
		l.Idle = 5 * time.Minute
	}
	return l
}

// ownPath gives the path of a file of the host's own; the rest of its directory
// is the module's.
func ownPath(dir, name string) string { return filepath.Join(dir, ".duffy", name) }

// host is what [Serve] does its work with.
type host struct {
	dir     string
	limits  Limits
	log     *slog.Logger
	plugins []*plugin
	changed chan struct{} // there may be nothing to do any more

	mu      sync.Mutex
	runs    []*attachment
	taken   int  // runs that were ever attached
	retired bool // takes no more
	failed  bool // a provider has died
}

// Serve is the host process of a directory that [Start] has made. It returns when
// it has nothing to do any more, and has then removed the directory; where a
// provider has died it is left, for its log. When ctx ends it takes no more runs.
func Serve(ctx context.Context, dir string, log io.Writer) error {
	var limits Limits
	text, err := os.ReadFile(ownPath(dir, limitsName))
	if err == nil {
		err = json.Unmarshal(text, &limits)
	}
	if err != nil {
		return fmt.Errorf("provider host: %w", err)
	}
	h := &host{dir: dir, limits: limits, log: slog.New(slog.NewJSONHandler(log, nil)), changed: make(chan struct{}, 1)}
	if err := h.startPlugins(ctx, log); err != nil {
		return fmt.Errorf("provider host: %w", err)
	}
	defer h.stopPlugins(context.WithoutCancel(ctx))
	var lc net.ListenConfig
	listener, err := lc.Listen(ctx, "unix", ownPath(dir, controlName))
	if err != nil {
		return fmt.Errorf("provider host: %w", err)
	}
	server := &http.Server{Handler: h.routes(), ReadHeaderTimeout: callTimeout}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // until it is closed
	h.loop(ctx)
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTimeout)
	defer cancel()
	_ = server.Shutdown(closing) // who asked it to stop gets an answer
	serving.Wait()
	if h.failed {
		return errors.New("provider host: a provider has died")
	}
	return os.RemoveAll(dir)
}

// startPlugins starts all providers at once. Their output must not be the log's
// file itself: see [startPlugin].
func (h *host) startPlugins(ctx context.Context, log io.Writer) error {
	found, err := programs(h.dir)
	if err != nil {
		return err
	}
	addresses := slices.Sorted(maps.Keys(found))
	started, errs := make([]*plugin, len(addresses)), make([]error, len(addresses))
	var starting sync.WaitGroup
	for i, address := range addresses {
		starting.Go(func() {
			started[i], errs[i] = startPlugin(ctx, address, found[address], h.dir, struct{ io.Writer }{log})
		})
	}
	starting.Wait()
	h.plugins = slices.DeleteFunc(started, func(p *plugin) bool { return p == nil })
	if err := errors.Join(errs...); err != nil {
		h.stopPlugins(context.WithoutCancel(ctx))
		return err
	}
	return nil
}

func (h *host) stopPlugins(ctx context.Context) {
	var stopping sync.WaitGroup
	for _, p := range h.plugins {
		stopping.Go(func() { p.stop(ctx) })
	}
	stopping.Wait()
}

// loop returns when the host is over.
func (h *host) loop(ctx context.Context) {
	asked := ctx.Done()
	age := time.NewTimer(h.limits.Age)
	defer age.Stop()
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	died := make(chan *plugin)
	over := make(chan struct{})
	defer close(over)
	for _, p := range h.plugins {
		go func() { // ends with the loop
			select {
			case <-p.exited:
			case <-over:
				return
			}
			select {
			case died <- p:
			case <-over:
			}
		}()
	}
	for idle := time.Duration(0); ; {
		select {
		case <-asked:
			asked = nil
			h.retire("asked to")
		case <-age.C:
			h.retire("its age")
		case p := <-died:
			h.mu.Lock()
			h.failed = true
			h.mu.Unlock()
			h.retire("provider " + p.address + " has died")
		case <-h.changed:
		case <-look.C:
			idle += lookInterval
			h.tidy()
		}
		attached, retired := h.look()
		if attached > 0 {
			idle = 0
		}
		if attached == 0 && (retired || h.retireIdle(idle)) {
			return
		}
	}
}

// retire makes the host take no more runs.
func (h *host) retire(why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.retired {
		h.retired = true
		h.log.Info("takes no more runs", "why", why, "taken", h.taken, "attached", len(h.runs))
	}
}

// retireIdle retires a host that has had no run for too long, unless one has come
// just now.
func (h *host) retireIdle(idle time.Duration) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if idle >= h.limits.Idle && len(h.runs) == 0 {
		h.retired = true
	}
	return h.retired && len(h.runs) == 0
}

// tidy keeps the log small, and retires a host whose directory has gone.
func (h *host) tidy() {
	path := ownPath(h.dir, logName)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		h.retire("its directory has gone")
	case err == nil && info.Size() > maxLog:
		_ = os.Truncate(path, 0) // the next time, then
	}
}

// look lets go of the runs that have ended.
func (h *host) look() (attached int, retired bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.runs = slices.DeleteFunc(h.runs, func(a *attachment) bool {
		if !a.hasEnded() {
			a.ended = 0
			return false
		}
		if a.ended++; a.ended == giveUpLooks {
			h.log.Error("a change of an ended run goes on and on: it is given up", "journal", a.run.Journal)
			a.cancelCalls()
		}
		if a.journal.busy() {
			return false
		}
		a.close()
		return true
	})
	return len(h.runs), h.retired
}

// attach begins to serve a run. ok is false if the host takes no more.
func (h *host) attach(ctx context.Context, run Run) (entries map[string]reattach, ok bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.retired {
		return nil, false, nil
	}
	h.taken++
	if h.taken >= h.limits.Runs {
		h.retired = true
	}
	a, entries, err := attach(ctx, run, ownPath(h.dir, fmt.Sprint(h.taken)), h.plugins, h.log, func() { h.retire("a run has another configuration") })
	if err != nil {
		return nil, true, err
	}
	h.runs = append(h.runs, a)
	return entries, true, nil
}

// routes gives the control socket's API.
func (h *host) routes() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /attach", func(w http.ResponseWriter, r *http.Request) {
		var run Run
		if err := json.NewDecoder(r.Body).Decode(&run); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		entries, ok, err := h.attach(r.Context(), run)
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusInternalServerError)
		case !ok:
			http.Error(w, "it takes no more runs", http.StatusConflict)
		default:
			_ = json.NewEncoder(w).Encode(entries) // a caller that has gone makes no use of it
		}
	})
	mux.HandleFunc("POST /stop", func(w http.ResponseWriter, _ *http.Request) {
		if attached, _ := h.look(); attached > 0 || !h.retireIdle(h.limits.Idle) {
			http.Error(w, "it has runs", http.StatusConflict)
			return
		}
		select {
		case h.changed <- struct{}{}:
		default:
		}
	})
	return mux
}
