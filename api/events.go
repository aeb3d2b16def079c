package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// eventPoll is how often a stream looks for new events. One look costs one
	// number, however many events there are.
	eventPoll = time.Second
	// eventBeat is how often a stream without events says that it is alive, and
	// that its reader may still have it.
	eventBeat = 15 * time.Second
	// eventWrite is how long a client may take to read what it was sent.
	eventWrite = 30 * time.Second
)

func (s *server) listSessionEvents(c *gin.Context, actor broker.Tenant) error {
	var k checker
	id, after, limit := k.pathID(c), k.after(c), k.limit(c)
	if err := k.err(""); err != nil {
		return err
	}
	events, err := s.cfg.Broker.SessionEvents(c.Request.Context(), actor, id, after, limit)
	if err != nil {
		return asDuffy(err)
	}
	wire := make([]v1.Event, 0, len(events))
	for _, e := range events {
		wire = append(wire, wireEvent(e))
	}
	return answer(c, http.StatusOK, v1.EventsAnswer{Action: v1.ActionGet, Events: wire})
}

// streamEvents sends events as they come, as Server-Sent Events. It begins after
// the one that the client names, else with the next to come.
func (s *server) streamEvents(c *gin.Context, actor broker.Tenant) error {
	ctx := c.Request.Context()
	after, err := s.firstEvent(c)
	if err != nil {
		return err
	}
	h := c.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy must not hold it back
	c.Status(http.StatusOK)
	if c.Request.Method == http.MethodHead {
		c.Writer.WriteHeaderNow()
		return nil
	}
	stream := eventStream{server: s, c: c, actor: actor, after: after}
	if err := stream.run(ctx); err != nil {
		c.Set(keyError, err) // the status has gone out
	}
	return nil
}

// firstEvent reads which event the client has seen last.
func (s *server) firstEvent(c *gin.Context) (int64, error) {
	last, err := s.cfg.Broker.LastEvent(c.Request.Context())
	if err != nil {
		return 0, err
	}
	var k checker
	after := last
	if _, ok := c.GetQuery("after"); ok {
		after = k.after(c)
	}
	if id := c.GetHeader("Last-Event-ID"); id != "" { // a browser sends it beside the old query
		after = k.integer(id, "header", "last-event-id")
	}
	// Above the last: the database is an older one by now.
	return min(max(0, after), last), k.err("")
}

type eventStream struct {
	server *server
	c      *gin.Context
	actor  broker.Tenant
	after  int64
}

// run sends until the client goes, the broker stops, or the client may not read
// any more.
func (e *eventStream) run(ctx context.Context) error {
	if err := e.send("retry: 2000\n\n"); err != nil {
		return nil // the client has gone, which is no fault
	}
	poll, beat := time.NewTicker(e.server.eventPoll), time.NewTicker(e.server.eventBeat)
	defer poll.Stop()
	defer beat.Stop()
	caughtUp := false
	for {
		if err := e.sendNew(ctx); err != nil {
			if ctx.Err() != nil || errors.Is(err, errClientGone) {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.server.cfg.Stopping:
			return nil
		default:
		}
		if !caughtUp { // for clients that want what there is, and no more
			if err := e.send(": caught up\n\n"); err != nil {
				return nil // the client has gone
			}
			caughtUp = true
		}
		select {
		case <-ctx.Done():
			return nil
		case <-e.server.cfg.Stopping:
			return nil
		case <-poll.C:
		case <-beat.C:
			if err := e.allowed(ctx); err != nil {
				return err
			}
			if err := e.send(": alive\n\n"); err != nil {
				return nil // the client has gone
			}
		}
	}
}

// sendNew sends all events that came since the last time.
func (e *eventStream) sendNew(ctx context.Context) error {
	last, err := e.server.cfg.Broker.LastEvent(ctx)
	if err != nil {
		return err
	}
	for e.after < last {
		events, seen, err := e.server.cfg.Broker.Events(ctx, e.actor, e.after)
		if err != nil {
			return err
		}
		var text bytes.Buffer
		for _, event := range events {
			body, err := encode(wireEvent(event))
			if err != nil {
				return err
			}
			fmt.Fprintf(&text, "id: %d\nevent: %s\ndata: %s\n\n", event.Seq, event.Kind, body)
		}
		if seen <= e.after { // what was left has been pruned
			seen = last
		}
		if text.Len() > 0 {
			if err := e.send(text.String()); err != nil {
				return errClientGone
			}
		}
		e.after = seen
		select {
		case <-e.server.cfg.Stopping:
			return nil
		default:
		}
	}
	return nil
}

var errClientGone = errors.New("the client has gone")

// allowed checks the credentials of the stream again: its tenant may have been
// retired, or its key replaced.
func (e *eventStream) allowed(ctx context.Context) error {
	name, key, err := credentials(e.c)
	if err != nil {
		return err
	}
	e.actor, err = e.server.cfg.Broker.Authenticate(ctx, name, key)
	return err
}

func (e *eventStream) send(text string) error {
	w := beneath(e.c.Writer)
	rc := http.NewResponseController(w)
	// It replaces the limit of the whole answer, which must not end a stream.
	if err := rc.SetWriteDeadline(time.Now().Add(eventWrite)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	if _, err := e.c.Writer.WriteString(text); err != nil {
		return err
	}
	return rc.Flush()
}

func wireEvent(e broker.Event) v1.Event {
	return v1.Event{
		Seq: e.Seq, At: v1.Time{Time: e.At}, Kind: string(e.Kind), Pool: e.Pool, NodeID: e.NodeID, SessionID: e.SessionID,
		TenantID: e.TenantID, From: e.From, To: e.To, Message: e.Message,
	}
}
