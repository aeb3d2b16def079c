package api

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestNotice(t *testing.T) {
	f := newFake()
	h := New(Config{Broker: f, Log: slog.New(slog.DiscardHandler)})
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for body, want := range map[string]broker.Notice{
		`{"kind": "interruption", "action": "terminate", "at": "2026-01-02T03:04:05Z"}`:       {Kind: "interruption", Action: "terminate", At: at},
		`{"kind": "interruption", "action": "stop", "at": "2026-01-02T04:04:05+01:00"}`:       {Kind: "interruption", Action: "stop", At: at},
		`{"kind": "interruption", "action": null, "at": null, "instance_id": "i-0123456789"}`: {Kind: "interruption"},
	} {
		// As curl -d sends it.
		a := call(h, http.MethodPost, "/api/v1/notices", body, "Authorization", "bearer "+goodToken, "Content-Type", "application/x-www-form-urlencoded")
		if diff := cmp.Diff(want, f.notice, cmp.Comparer(time.Time.Equal)); diff != "" || a.Code != http.StatusNoContent || a.Body.Len() > 0 {
			t.Errorf("%s: %d %s (-want +got):\n%s", body, a.Code, a.Body, diff)
		}
	}
	f.notice = broker.Notice{}
	for _, body := range []string{"", "{", "[]", "{}", `{"kind": {}}`, `{"kind": "interruption", "at": "soon"}`, `{"kind": "interruption", "action": []}`} {
		if a := call(h, http.MethodPost, "/api/v1/notices", body, "Authorization", "Bearer "+goodToken); a.Code != http.StatusUnprocessableEntity || f.notice.Kind != "" {
			t.Errorf("%s: %d %s", body, a.Code, a.Body)
		}
	}
	for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer x", "Basic " + goodToken, goodToken, "Bearer " + goodToken + "0"} {
		a := call(h, http.MethodPost, "/api/v1/notices", `{"kind": "interruption"}`, "Authorization", auth)
		if a.Code != http.StatusUnauthorized || a.Header().Get("WWW-Authenticate") != `Bearer realm="duffy"` || f.notice.Kind != "" {
			t.Errorf("%q: %d %s", auth, a.Code, a.Body)
		}
	}
}

// Who has the node sees in it that it will go away.
func TestInterruptedNode(t *testing.T) {
	f := newFake()
	url := start(t, Config{Broker: f})
	show := func() string { return send(t, http.MethodGet, url+"/api/v1/nodes/7", "", asDemo).body }
	if text := show(); strings.Contains(text, "interrupt") {
		t.Errorf("a node that stays: %s", text)
	}
	f.node.Interruption = &broker.Interruption{Action: "terminate", At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for _, want := range []string{`"interruption":"terminate"`, `"interrupted_at":"2026-01-02T03:04:05`} {
		if text := show(); !strings.Contains(text, want) {
			t.Errorf("the node lacks %s: %s", want, text)
		}
	}
	f.node.Interruption.At = time.Time{}
	if text := show(); strings.Contains(text, "interrupted_at") {
		t.Errorf("a time that is not known: %s", text)
	}
}
