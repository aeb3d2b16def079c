package api

import (
	"bufio"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// startStreams serves the API of a real broker with streams that look often.
func startStreams(t *testing.T, b useCases, stopping <-chan struct{}) *httptest.Server {
	t.Helper()
	s := newServer(Config{Broker: b, Log: slog.New(slog.DiscardHandler), Stopping: stopping})
	s.eventPoll, s.eventBeat = 5*time.Millisecond, 20*time.Millisecond
	s.routes()
	srv := httptest.NewServer(s.engine)
	t.Cleanup(srv.Close)
	return srv
}

// stream reads events, each as its lines in one.
type stream struct {
	t     *testing.T
	lines *bufio.Scanner
	close func()
}

func openStream(t *testing.T, url, role string, change func(*http.Request)) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	recordedAuth(t, role)(req)
	if change != nil {
		change(req)
	}
	transport := new(http.Transport)
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%d %v", resp.StatusCode, resp.Header)
	}
	end := sync.OnceFunc(func() { cancel(); _ = resp.Body.Close(); transport.CloseIdleConnections() })
	t.Cleanup(end)
	return &stream{t: t, lines: bufio.NewScanner(resp.Body), close: end}
}

// next gives the next event without its data, "" at the end of the stream.
func (s *stream) next() (id, data string) {
	s.t.Helper()
	for s.lines.Scan() {
		line := s.lines.Text()
		switch {
		case strings.HasPrefix(line, "id: "):
			id = strings.TrimPrefix(line, "id: ")
		case strings.HasPrefix(line, "data: "):
			data = strings.TrimPrefix(line, "data: ")
		case line == "" && id != "":
			return id, data
		}
	}
	return "", ""
}

// beats waits for a sign of life; false is the end of the stream.
func (s *stream) beats() bool {
	for s.lines.Scan() {
		if s.lines.Text() == ": alive" {
			return true
		}
	}
	return false
}

func request(t *testing.T, b *broker.Broker, id int64, quantity int) broker.Session {
	t.Helper()
	s, err := b.RequestSession(t.Context(), broker.Tenant{ID: id}, broker.SessionRequest{
		Specs: []broker.NodesSpec{{Pool: "virtual-centos9stream-x86_64-small", Quantity: quantity}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEventStream(t *testing.T) {
	b := newRecordedBroker(t)
	srv := startStreams(t, b, nil)
	first := request(t, b, 2, 1) // before the streams
	url := srv.URL + "/api/v1/events"
	mine, all := openStream(t, url, "tenant", nil), openStream(t, url, "admin", nil)
	foreign := request(t, b, 3, 1)
	own := request(t, b, 2, 1)

	var ids []string
	for range 4 { // reserved, contextualizing, deployed, active
		id, data := mine.next()
		ids = append(ids, id)
		if !strings.Contains(data, fmt.Sprintf(`"session_id":%d`, own.ID)) {
			t.Errorf("the tenant was sent %s", data)
		}
	}
	for i := range 8 {
		_, data := all.next()
		want := foreign.ID
		if i >= 4 {
			want = own.ID
		}
		if !strings.Contains(data, fmt.Sprintf(`"session_id":%d`, want)) {
			t.Errorf("event %d for the admin: %s", i, data)
		}
	}
	for range 2 {
		if !mine.beats() {
			t.Error("a quiet stream gives no sign of life")
		}
	}

	read := func(url string, change func(*http.Request)) (got []string) {
		s := openStream(t, url, "tenant", change)
		defer s.close()
		for len(got) == 0 || got[len(got)-1] != ids[3] {
			id, _ := s.next()
			if id == "" {
				t.Fatalf("the stream ended after %v", got)
			}
			got = append(got, id)
		}
		return got
	}
	lastID := func(id string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Last-Event-ID", id) }
	}
	if diff := cmp.Diff(ids[1:], read(url, lastID(ids[0]))); diff != "" {
		t.Errorf("resumed (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ids[2:], read(url+"?after="+ids[1], nil)); diff != "" {
		t.Errorf("resumed by the query (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(ids[2:], read(url+"?after=0", lastID(ids[1]))); diff != "" {
		t.Errorf("resumed by both (-want +got):\n%s", diff)
	}
	if got := read(url+"?after=0", nil); len(got) != 8 {
		t.Errorf("from the beginning: %d events, want those of both sessions (%d)", len(got), first.ID)
	}
	// An id from before an older database was put back.
	ahead := openStream(t, url, "tenant", lastID("999999"))
	request(t, b, 2, 1)
	if id, _ := ahead.next(); id == "" {
		t.Error("a stream that was ahead stays silent")
	}
}

// Operators' texts stay with operators.
func TestEventStreamHidesFailures(t *testing.T) {
	b := newRecordedBroker(t)
	srv := startStreams(t, b, nil)
	s := request(t, b, 2, 1)
	if _, err := b.UpdateSession(t.Context(), broker.Tenant{ID: 2, Name: "secret"}, s.ID, broker.SessionUpdate{Retire: true}); err != nil {
		t.Fatal(err)
	}
	for role, want := range map[string]bool{"tenant": false, "admin": true} {
		shown := false
		for _, path := range []string{"/api/v1/events?after=0", fmt.Sprintf("/api/v1/sessions/%d/events", s.ID)} {
			if strings.HasPrefix(path, "/api/v1/sessions") {
				a := send(t, http.MethodGet, srv.URL+path, "", recordedAuth(t, role))
				for part := range strings.SplitSeq(a.body, "}") {
					shown = shown || strings.Contains(part, `"kind":"node"`) && strings.Contains(part, "secret")
				}
				continue
			}
			events := openStream(t, srv.URL+path, role, nil)
			for data := ""; !strings.Contains(data, `"to":"releasing"`); {
				var id string
				if id, data = events.next(); id == "" {
					t.Fatal("the stream has ended")
				}
				shown = shown || strings.Contains(data, `"kind":"node"`) && strings.Contains(data, "secret")
			}
		}
		if shown != want {
			t.Errorf("%s sees the message of a node's event: %t, want %t", role, shown, want)
		}
	}
}

// A stream does not outlive its credentials, and not the broker.
func TestEventStreamEnds(t *testing.T) {
	b := newRecordedBroker(t)
	stopping := make(chan struct{})
	srv := startStreams(t, b, stopping)
	url := srv.URL + "/api/v1/events"
	retired, reset, other := openStream(t, url, "tenant", nil), openStream(t, url, "bench", nil), openStream(t, url, "other", nil)
	admin, no := broker.Tenant{ID: 1, Name: "admin", IsAdmin: true}, false
	for id, u := range map[int64]broker.TenantUpdate{2: {Active: &no}, 5: {ResetKey: true}} {
		if _, _, err := b.UpdateTenant(t.Context(), admin, id, u); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range []*stream{retired, reset} {
		for s.beats() { // until it ends
		}
	}
	if !other.beats() {
		t.Error("the stream of another tenant has ended")
	}
	close(stopping)
	for other.beats() {
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := srv.Config.Shutdown(ctx); err != nil {
		t.Errorf("streams hold the server up: %v", err)
	}
}

func TestEventStreamHead(t *testing.T) {
	srv := startStreams(t, newRecordedBroker(t), nil)
	a := send(t, http.MethodHead, srv.URL+"/api/v1/events", "", recordedAuth(t, "tenant"))
	if a.status != http.StatusOK || a.header.Get("Content-Type") != "text/event-stream" {
		t.Errorf("%d %v", a.status, a.header)
	}
	a = send(t, http.MethodGet, srv.URL+"/api/v1/events?after=x", "", recordedAuth(t, "tenant"))
	if wireError(t, a); a.status != http.StatusUnprocessableEntity {
		t.Errorf("%d %s", a.status, a.body)
	}
}
