package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestReload(t *testing.T) {
	at := time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
	f := newFake()
	f.reloaded = broker.Reload{At: at, By: "SIGHUP", Problem: "pools.hcl has mistakes", Since: at.Add(-time.Hour), Pools: 2, Source: "pools.hcl", Revision: "0abc"}
	url := start(t, Config{Broker: f})
	want := map[string]any{
		"at": "2026-11-24T08:00:00+00:00", "by": "SIGHUP", "problem": "pools.hcl has mistakes",
		"since": "2026-11-24T07:00:00+00:00", "pools": 2.0, "source": "pools.hcl", "revision": "0abc",
	}
	for method, action := range map[string]string{http.MethodGet: "get", http.MethodPost: "post"} {
		a := send(t, method, url+"/api/v1/reload", "", asDemo)
		got := decoded(t, []byte(a.body))
		if diff := cmp.Diff(map[string]any{"action": action, "reload": want}, got); a.status != 200 || diff != "" {
			t.Errorf("%s: %d (-want +got):\n%s", method, a.status, diff)
		}
	}
	f.err = broker.Errorf(broker.CodeInvalid, "pools.hcl has mistakes: nothing was changed\non pools.hcl line 3")
	a := send(t, http.MethodPost, url+"/api/v1/reload", "", asDemo)
	if got := decoded(t, []byte(a.body))["detail"]; a.status != 422 || got != f.err.Error() {
		t.Errorf("a bad file: %d %v", a.status, got)
	}
}

func TestWebhook(t *testing.T) {
	const secret = "0123456789abcdef"
	sign := func(body, key string) string {
		mac := hmac.New(sha256.New, []byte(key))
		mac.Write([]byte(body))
		return "sha256=" + hex.EncodeToString(mac.Sum(nil))
	}
	large := strings.Repeat("x", 100<<10) // more than the API takes elsewhere
	for name, test := range map[string]struct {
		secret, header, value, body string
		status                      int
	}{
		"GitHub":                 {secret, "X-Hub-Signature-256", sign(large, secret), large, 202},
		"GitLab":                 {secret, "X-Gitlab-Token", secret, "{}", 202},
		"another body":           {secret, "X-Hub-Signature-256", sign("{}", secret), "{ }", 401},
		"another secret":         {secret, "X-Hub-Signature-256", sign("{}", "another"), "{}", 401},
		"another token":          {secret, "X-Gitlab-Token", "another", "{}", 401},
		"not hexadecimal":        {secret, "X-Hub-Signature-256", "sha256=zz", "{}", 401},
		"no proof":               {secret, "X-Other", "", "{}", 401},
		"an older hash":          {secret, "X-Hub-Signature", sign("{}", secret), "{}", 401},
		"no webhook":             {"", "X-Gitlab-Token", "", "{}", 404},
		"no webhook, signed":     {"", "X-Hub-Signature-256", sign("{}", ""), "{}", 404},
		"more than GitHub sends": {secret, "X-Hub-Signature-256", sign("", secret), strings.Repeat("x", maxWebhookBytes+1), 413},
	} {
		t.Run(name, func(t *testing.T) {
			calls := 0
			url := start(t, Config{Broker: newFake(), Webhook: func() { calls++ }, WebhookSecret: []byte(test.secret)})
			a := send(t, http.MethodPost, url+"/api/v1/reload/webhook", test.body, func(r *http.Request) { r.Header.Set(test.header, test.value) })
			want := 0
			if test.status == 202 {
				want = 1
			}
			if a.status != test.status || calls != want {
				t.Errorf("%d and %d calls, want %d and %d: %s", a.status, calls, test.status, want, a.body)
			}
		})
	}
}
