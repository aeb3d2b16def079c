package contract

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// canned is a Duffy that gives the recorded answers, whatever it is asked.
type canned struct {
	recording []Exchange
	asked     int
}

func (c *canned) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	c.asked++
	var e Exchange
	switch c.asked { // NewReplayer asks twice
	case 1:
		for _, e = range c.recording {
			if e.Case == "tenants.list.admin" {
				break
			}
		}
	case 2:
		e = Exchange{Status: http.StatusUnauthorized}
	default:
		e = c.recording[c.asked-3]
	}
	for name, value := range e.Headers {
		w.Header().Set(name, strings.ReplaceAll(value, "{base}", "http://"+req.Host))
	}
	if e.HasRequestID {
		w.Header().Set("X-Request-Id", "id")
	}
	w.WriteHeader(e.Status)
	if e.Text != nil {
		_, _ = w.Write([]byte(*e.Text))
		return
	}
	_, _ = w.Write(e.Body)
}

// replayed replays the recording of v1 against a server that answers with a
// changed one. It gives the cases that differ, with how.
func replayed(t *testing.T, change func(e *Exchange)) (outcomes map[Outcome]int, diffs map[string]string) {
	t.Helper()
	recording, err := Recorded(V1)
	if err != nil {
		t.Fatal(err)
	}
	answers := make([]Exchange, len(recording))
	copy(answers, recording)
	for i := range answers {
		change(&answers[i])
	}
	srv := httptest.NewServer(&canned{recording: answers})
	defer srv.Close()
	seed, err := RecordedSeed()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true}
	r, err := NewReplayer(t.Context(), Server{URL: srv.URL, Seed: seed, Strict: true, Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	outcomes, diffs = make(map[Outcome]int), make(map[string]string)
	for _, e := range recording {
		v := r.Do(t.Context(), e)
		outcomes[v.Outcome]++
		if v.Outcome != Same {
			diffs[e.Case] = v.Reason + v.Diff
		}
	}
	return outcomes, diffs
}

// A Duffy answers as recorded: nothing differs, and nothing is left out.
func TestReplay_duffy(t *testing.T) {
	outcomes, diffs := replayed(t, func(*Exchange) {})
	if outcomes[Same] != 166 || len(diffs) != 0 {
		t.Errorf("%v: %v", outcomes, diffs)
	}
}

// TestReplay_different: each change of one answer is seen.
func TestReplay_different(t *testing.T) {
	replace := func(old, new string) func(*Exchange) {
		return func(e *Exchange) {
			if !strings.Contains(string(e.Body), old) {
				t.Errorf("%s has no %s", e.Case, old)
			}
			e.Body = json.RawMessage(strings.Replace(string(e.Body), old, new, 1))
		}
	}
	header := func(name, value string) func(*Exchange) {
		return func(e *Exchange) {
			headers := map[string]string{name: value}
			for n, v := range e.Headers {
				if n != name {
					headers[n] = v
				}
			}
			e.Headers = headers
		}
	}
	tests := []struct {
		name, in string
		change   func(*Exchange)
		want     string
	}{
		{"status", "sessions.create.one", func(e *Exchange) { e.Status = 200 }, "status 200, want 201"},
		{"no request id", "sessions.create.one", func(e *Exchange) { e.HasRequestID = false }, "no X-Request-Id"},
		{"content type", "pools.list", header("content-type", "text/plain"), "content-type"},
		{"challenge", "auth.none", header("www-authenticate", "Basic"), "www-authenticate"},
		{"location", "trailing.slash", header("location", "/elsewhere"), "location"},
		{"allow", "method.delete.sessions", header("allow", "GET, DELETE"), "allow"},
		{"no JSON", "pools.list", func(e *Exchange) { text := "ok"; e.Body, e.Text = nil, &text }, "want JSON"},
		{"detail", "auth.none", replace("Not authenticated", "Who?"), "Who?"},
		{"a field is missing", "sessions.create.one", replace(`"comment": null, `, ""), "comment"},
		{"a field has another name", "sessions.create.one", replace(`"reusable"`, `"re_usable"`), "reusable"},
		{"a field has another type", "sessions.create.one", replace(`"quantity": 1`, `"quantity": "1"`), "quantity"},
		{"a pool has a field more", "pools.list", replace(`"fill-level": 5`, `"fill-level": 5, "more": 1`), "more"},
		{"another fill level", "pools.list", replace(`"fill-level": 5`, `"fill-level": 6`), "fill-level"},
		{"another count", "pools.show.after_retire", replace(`"ready": 17`, `"ready": 18`), "ready"},
		{"another session", "sessions.show.admin", replace(`"id": 1, "expires_at"`, `"id": 2, "expires_at"`), "id"},
		{"another node", "sessions.show.admin", replace(`"id": 1, "state"`, `"id": 2, "state"`), "id"},
		{"another host", "sessions.show.admin", replace("n1.virtual", "n2.virtual"), "hostname"},
		{"another tenant", "tenants.show.own", replace(`"id": 2`, `"id": 3`), "id"},
		{"a session too few", "sessions.list.other", func(e *Exchange) { e.Body = json.RawMessage(`{"action": "get", "sessions": []}`) }, "sessions"},
		{"another end", "sessions.expires.plus1h", replace(`"expires_at": "2026-11-24T00:32`, `"expires_at": "2026-11-24T00:33`), "expires_at"},
		{"another given end", "sessions.expires.absolute_ok_admin", replace("2090-01-01", "2090-01-02"), "2090-01-02"},
		{"time with a Z", "sessions.create.one", replace("+00:00", "Z"), "as Duffy writes it"},
		{"a key is shown", "tenants.show.own", replace(`"**********"`, `"ssh-ed25519 AAAA"`), "ssh_key"},
		{"a key is not new", "tenants.update.api_key_set", replace(`"api_key": "**********"`, `"api_key": "short"`), "api_key"},
		{"text", "sessions.expires.huge", func(e *Exchange) { text := "Oops"; e.Text = &text }, "Oops"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			found := false
			_, diffs := replayed(t, func(e *Exchange) {
				if e.Case == test.in {
					found = true
					test.change(e)
				}
			})
			if got := diffs[test.in]; !found || !strings.Contains(got, test.want) || len(diffs) != 1 {
				t.Errorf("%v", diffs)
			}
		})
	}
}

// TestDifferences: every difference belongs to a case, and changes its answer.
func TestDifferences(t *testing.T) {
	used := make(map[string]int)
	for _, part := range Parts() {
		recording, err := Recorded(part)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range recording {
			for _, a := range alternatives(e)[1:] {
				used[a.reason]++
				if a.Status == e.Status && string(a.Body) == string(e.Body) && fmt.Sprint(a.Headers) == fmt.Sprint(e.Headers) {
					t.Errorf("%s: no difference: %s", e.Case, a.reason)
				}
			}
		}
	}
	for _, d := range Differences() {
		if used[d.Reason] < len(d.Cases) || used[d.Reason] == 0 {
			t.Errorf("%d uses for %v: %s", used[d.Reason], d.Cases, d.Reason)
		}
	}
}

// The recorded keys are in what is recorded, whatever keys a server has.
func TestReplay_keys(t *testing.T) {
	seed, err := RecordedSeed()
	if err != nil {
		t.Fatal(err)
	}
	const own = "9d0a6f9e-7c57-4f0f-8a57-0c1f0d9f6f11"
	theirs := Seed{Tenants: append([]SeedTenant(nil), seed.Tenants...)}
	for i := range theirs.Tenants {
		theirs.Tenants[i].APIKey = own
	}
	var query, login string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		query = req.URL.RawQuery
		_, login, _ = req.BasicAuth()
		http.Redirect(w, req, "/Node/get?"+query, http.StatusTemporaryRedirect)
	}))
	defer srv.Close()
	r := &Replayer{server: Server{URL: srv.URL, LegacyURL: srv.URL, Seed: theirs}, recorded: seed, transport: &http.Transport{DisableKeepAlives: true}}
	path := "/Node/get/?key=" + seed.Tenants[5].APIKey + "&ver=8"
	seen, err := r.Ask(t.Context(), Exchange{Method: http.MethodGet, Path: path, Auth: "tenant"})
	if err != nil {
		t.Fatal(err)
	}
	if query != "key="+own+"&ver=8" || login != own {
		t.Errorf("asked with %q and %q", query, login)
	}
	if text := fmt.Sprint(seen); strings.Contains(text, own) || seen.Path != path {
		t.Errorf("the server's key is in %s", text)
	}
}
