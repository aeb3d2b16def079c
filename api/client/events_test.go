package client

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// A stream that breaks is resumed behind the last event; without Follow it ends
// with what there was.
func TestEvents(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.RawQuery)
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		seq := 5 + len(asked)
		_, _ = fmt.Fprintf(w, "retry: 2000\n\nid: %d\nevent: node\ndata: {\"seq\": %d}\n\n: caught up\n\n: alive\n\n", seq, seq)
	}))
	t.Cleanup(srv.Close)
	c := newClient(t, srv.URL)
	var got []string
	enough := errors.New("enough")
	collect := func(e json.RawMessage) error {
		if got = append(got, string(e)); len(got) == 2 {
			return enough
		}
		return nil
	}
	if err := c.Events(t.Context(), EventsRequest{After: 5, Follow: true}, collect); !errors.Is(err, enough) {
		t.Errorf("follow: %v", err)
	}
	if want := `{"seq": 6} {"seq": 7} after=5 after=6`; strings.Join(append(got, asked...), " ") != want {
		t.Errorf("got %q, asked %q", got, asked)
	}
	got = nil
	if err := c.Events(t.Context(), EventsRequest{}, collect); err != nil || len(got) != 1 || asked[2] != "after=0" {
		t.Errorf("without follow: %v, got %q, asked %q", err, got, asked)
	}

	page := serve(t, http.StatusOK, nil, "<html>")
	if err := newClient(t, page.url).Events(t.Context(), EventsRequest{Follow: true}, collect); broker.CodeOf(err) != broker.CodeInvalid {
		t.Errorf("a page: %v", err)
	}
	refused := serve(t, http.StatusForbidden, nil, `{"detail": "no", "code": "forbidden"}`)
	if err := newClient(t, refused.url).Events(t.Context(), EventsRequest{Follow: true}, collect); broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("refused: %v", err)
	}
}

// Only an answer that was lost says so: the request may have been carried out.
func TestErrAnswerLost(t *testing.T) {
	keys := make(chan string, 1)
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		keys <- r.Header.Get("Idempotency-Key")
		_, _ = io.Copy(io.Discard, r.Body)
		panic(http.ErrAbortHandler)
	}))
	c := newClient(t, srv.URL)
	_, err := c.RequestSession(t.Context(), v1.SessionCreate{}, "job-1")
	if key := <-keys; !errors.Is(err, ErrAnswerLost) || broker.CodeOf(err) != broker.CodeUnavailable || key != "job-1" {
		t.Errorf("broken: %v, key %q", err, key)
	}
	srv.Close()
	if _, err := c.RequestSession(t.Context(), v1.SessionCreate{}, ""); err == nil || errors.Is(err, ErrAnswerLost) {
		t.Errorf("nobody listens: %v", err)
	}
	for status, lost := range map[int]bool{502: true, 404: false} {
		s := serve(t, status, nil, "<html>")
		if _, err := newClient(t, s.url).Sessions(t.Context()); errors.Is(err, ErrAnswerLost) != lost {
			t.Errorf("status %d: %v", status, err)
		}
	}
	stopping := serve(t, 503, nil, `{"detail": "stopping", "code": "unavailable"}`)
	if _, err := newClient(t, stopping.url).Sessions(t.Context()); errors.Is(err, ErrAnswerLost) {
		t.Errorf("an answer of the broker counts as lost: %v", err)
	}
}
