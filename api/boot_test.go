package api

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// call is one request, as a machine makes it.
func call(h http.Handler, method, path, body string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec
}

func TestBoot(t *testing.T) {
	const content = "#!ipxe\nkernel vmlinuz\n"
	var log bytes.Buffer
	f := newFake()
	f.bootFile = filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(f.bootFile, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	h := New(Config{Broker: f, Log: slog.New(slog.NewJSONHandler(&log, nil))})
	at := "/boot/" + goodToken
	for name, want := range map[string]string{
		"boot.ipxe": "text/plain; charset=utf-8", "deep/er/ks.cfg": "text/plain; charset=utf-8", "vmlinuz": "text/plain; charset=utf-8",
		"meta.json": "application/json", "a%20b": "text/plain; charset=utf-8", "done": "text/plain; charset=utf-8",
	} {
		a := call(h, http.MethodGet, at+"/"+name, "")
		if a.Code != http.StatusOK || a.Body.String() != content || a.Header().Get("Content-Type") != want {
			t.Errorf("%s: %d %q %v", name, a.Code, a.Body, a.Header())
		}
		if want := strings.ReplaceAll(name, "%20", " "); f.reason != want {
			t.Errorf("the file %q was opened for %q", f.reason, want)
		}
	}
	a := call(h, http.MethodHead, at+"/boot.ipxe", "")
	if a.Code != http.StatusOK || a.Body.Len() != 0 || a.Header().Get("Content-Length") != fmt.Sprint(len(content)) || a.Header().Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("HEAD: %d %q %v", a.Code, a.Body, a.Header())
	}
	a = call(h, http.MethodGet, at+"/boot.ipxe", "", "Range", "bytes=2-5")
	if a.Code != http.StatusPartialContent || a.Body.String() != content[2:6] {
		t.Errorf("a part: %d %q", a.Code, a.Body)
	}

	keys := []string{"ssh-ed25519 AAAA1", "ssh-rsa AAAA2"}
	const body = `{"ssh_host_keys": ["ssh-ed25519 AAAA1", "ssh-rsa AAAA2"]}`
	for what, tt := range map[string]struct {
		body, contentType string
		status            int
		want              []string
	}{
		"JSON":          {body, "application/json", 204, keys},
		"as curl -d":    {body, "application/x-www-form-urlencoded", 204, keys},
		"nothing":       {"", "", 204, nil},
		"a line end":    {"\n", "", 204, nil},
		"no keys":       {"{}", "", 204, nil},
		"no object":     {"[]", "", 204, nil},
		"no JSON":       {"{", "", 422, nil},
		"a word":        {`{"ssh_host_keys": "ssh-rsa AAAA"}`, "", 422, nil},
		"a list of one": {`{"ssh_host_keys": [["ssh-rsa AAAA"]]}`, "", 422, nil},
	} {
		f.booted = broker.BootReport{}
		a := call(h, http.MethodPost, at+"/done", tt.body, "Content-Type", tt.contentType)
		if a.Code != tt.status {
			t.Errorf("%s: %d %s", what, a.Code, a.Body)
		}
		if diff := cmp.Diff(tt.want, f.booted.HostKeys); diff != "" || tt.status == 204 && f.booted.Address != "192.0.2.1" {
			t.Errorf("%s: from %q (-want +got):\n%s", what, f.booted.Address, diff)
		}
	}

	f.err = broker.Errorf(broker.CodeForbidden, "node 7 is ready")
	for method, path := range map[string]string{http.MethodGet: "/boot.ipxe", http.MethodPost: "/done"} {
		if a := call(h, method, at+path, ""); a.Code != http.StatusForbidden {
			t.Errorf("%s when it is over: %d %s", path, a.Code, a.Body)
		}
	}
	f.err = nil
	if a := call(h, http.MethodGet, "/duffy"+at+"/boot.ipxe", ""); a.Code != http.StatusNotFound { // a proxy that leaves the path on
		t.Errorf("below another path: %d", a.Code)
	}
	// A part of the right one, which must not be in a log either.
	wrong := call(h, http.MethodGet, at[:len(at)-1]+"/boot.ipxe", "")
	if wrong.Code != http.StatusUnauthorized || wrong.Header().Get("WWW-Authenticate") != `Bearer realm="duffy"` {
		t.Errorf("a wrong token: %d %v", wrong.Code, wrong.Header())
	}
	if strings.Contains(log.String(), goodToken[:40]) || strings.Contains(wrong.Body.String(), goodToken[:40]) {
		t.Errorf("the token is in the log or the answer:\n%s\n%s", log.String(), wrong.Body)
	}
	if !strings.Contains(log.String(), `"path":"/boot/*/deep/er/ks.cfg"`) {
		t.Errorf("the log lacks the path:\n%s", log.String())
	}
}

func TestBootByMAC(t *testing.T) {
	f := newFake()
	h := New(Config{Broker: f, Log: slog.New(slog.DiscardHandler)})
	for url, want := range map[string]string{"": "#!ipxe\nexit\n", "http://192.0.2.9/boot/T": "#!ipxe\nchain --replace http://192.0.2.9/boot/T/boot.ipxe\n"} {
		f.bootURL = url
		a := call(h, http.MethodGet, "/boot/mac/52-54-00-AA-bb-01", "")
		if a.Code != http.StatusOK || a.Body.String() != want || a.Header().Get("Content-Type") != "text/plain; charset=utf-8" || a.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%d %q %v", a.Code, a.Body, a.Header())
		}
		if f.reason != "52-54-00-AA-bb-01" {
			t.Errorf("asked for %q", f.reason)
		}
	}
}

// Guesses of tokens are slowed down, and those who have the right one go on.
func TestBootTokenGuesses(t *testing.T) {
	f := newFake()
	f.bootFile = filepath.Join(t.TempDir(), "content")
	if err := os.WriteFile(f.bootFile, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	h := New(Config{Broker: f, Log: slog.New(slog.DiscardHandler)})
	right := "/boot/" + goodToken + "/boot.ipxe"
	if a := call(h, http.MethodGet, right, ""); a.Code != http.StatusOK {
		t.Fatal(a.Code)
	}
	for i := range failedLogins {
		if a := call(h, http.MethodGet, fmt.Sprintf("/boot/%d/boot.ipxe", i), ""); a.Code != http.StatusUnauthorized {
			t.Fatalf("guess %d: %d", i, a.Code)
		}
	}
	if a := call(h, http.MethodGet, "/boot/x/boot.ipxe", ""); a.Code != http.StatusTooManyRequests {
		t.Errorf("one too many: %d", a.Code)
	}
	if a := call(h, http.MethodGet, right, ""); a.Code != http.StatusOK {
		t.Errorf("who had the right one: %d", a.Code)
	}
}

func TestWithoutToken(t *testing.T) {
	for in, want := range map[string]string{
		"/boot/mac/52:54:00:00:00:01": "/boot/mac/52:54:00:00:00:01",
		"/boot/secret/x/y":            "/boot/*/x/y",
		"/boot/secret":                "/boot/*",
		"//boot//secret/x":            "//boot/*/x",
		"/a/" + goodToken + "/b":      "/a/*/b",
		"/api/v1/nodes/7":             "/api/v1/nodes/7",
		"/boot/" + goodToken:          "/boot/*",
		"/boot/mac" + goodToken:       "/boot/*",
	} {
		if got := withoutToken(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
}
