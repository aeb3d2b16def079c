package bmc

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// A session's token goes along with what follows a redirect.
func TestRedirects(t *testing.T) {
	request := func(url string) *http.Request { return httptest.NewRequest(http.MethodGet, url, nil) }
	for to, want := range map[string]error{
		"https://bmc.example.org/redfish/v1/":   nil,
		"http://bmc.example.org/redfish/v1/":    http.ErrUseLastResponse,
		"https://other.example.org/redfish/v1/": http.ErrUseLastResponse,
	} {
		if err := sameHost(request(to), []*http.Request{request("https://bmc.example.org/redfish/v1")}); err != want { //nolint:errorlint // net/http compares it so, too
			t.Errorf("%s: %v, want %v", to, err, want)
		}
	}
}

// A controller that begins to answer and hangs must not hold up a run.
func TestAnswerThatStops(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("{"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	}))
	defer s.Close()
	c, err := New(Config{Kind: Redfish, Address: s.URL, Timeout: 100 * time.Millisecond, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := c.Power(t.Context())
		done <- err
	}()
	select {
	case err = <-done:
		if ClassOf(err) != ClassUnreachable {
			t.Errorf("got the class %q: %v", ClassOf(err), err)
		}
	case <-time.After(20 * time.Second):
		s.CloseClientConnections()
		t.Fatalf("it waits for the rest of the answer: %v", <-done)
	}
}
