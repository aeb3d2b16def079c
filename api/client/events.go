package client

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// eventsRetry is the pause before a stream that broke is asked for again.
const eventsRetry = 2 * time.Second

// EventsRequest says which events are wanted.
type EventsRequest struct {
	After  int64 // the sequence number of the last one that is known; 0: all that are kept
	Follow bool  // go on with those that come
}

// Events passes on events, oldest first, each as the server sent it. With Follow
// it returns when ctx ends, when an event is refused by its function, or when the
// server refuses the caller; a stream that breaks, once it has begun, is resumed
// where it was.
func (c *Client) Events(ctx context.Context, req EventsRequest, event func(json.RawMessage) error) error {
	s := eventStream{client: c, after: req.After, follow: req.Follow, event: event}
	for {
		err := s.read(ctx)
		if err == nil || ctx.Err() != nil || !s.begun || !req.Follow || s.failed != nil || broker.CodeOf(err) != broker.CodeUnavailable {
			return err
		}
		select {
		case <-ctx.Done():
			return c.unreachable(ctx, ctx.Err())
		case <-time.After(eventsRetry):
		}
	}
}

type eventStream struct {
	client *Client
	after  int64
	follow bool
	begun  bool // an answer came once
	event  func(json.RawMessage) error
	failed error // of event
}

// read reads one stream to its end, which is an error unless all events that
// were wanted came.
func (s *eventStream) read(ctx context.Context) error {
	u := s.client.base.JoinPath("events")
	u.RawQuery = "after=" + strconv.FormatInt(s.after, 10)
	resp, err := s.client.send(ctx, http.MethodGet, u, nil, http.Header{"Accept": {"text/event-stream"}})
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind != "text/event-stream" {
		return errNotEvents
	}
	s.begun = true
	lines := bufio.NewReader(resp.Body)
	var id int64
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return s.client.unreachable(ctx, err) // the end, too: a stream has none
		}
		field, text, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		text = strings.TrimPrefix(text, " ")
		switch field {
		case "": // a comment, or the line after an event
			if text == "caught up" && !s.follow {
				return nil
			}
		case "id":
			if id, err = strconv.ParseInt(text, 10, 64); err != nil {
				return errors.Join(errNotEvents, err)
			}
		case "data":
			if s.failed = s.event(json.RawMessage(text)); s.failed != nil {
				return s.failed
			}
			s.after = id
		}
	}
}

var errNotEvents = broker.Errorf(broker.CodeInvalid, "the answer is not a stream of events").WithHint("is the URL that of a broker?")
