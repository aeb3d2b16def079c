package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/api/contract"
)

// duffy gives the recorded answers of context_fail, after those to what a replay
// asks first, and with another status to one case.
func duffy(t *testing.T, wrong string) string {
	t.Helper()
	answers := []contract.Exchange{
		{Status: http.StatusOK, Body: []byte(`{"action": "get", "tenants": [
			{"id": 1, "name": "admin"}, {"id": 2, "name": "tenant"}, {"id": 3, "name": "other"},
			{"id": 4, "name": "retired"}, {"id": 5, "name": "bench"}, {"id": 6, "name": "legacy"}]}`)},
		{Status: http.StatusUnauthorized},
	}
	recorded, err := contract.Recorded(contract.ContextFail)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range recorded {
		if e.Case == wrong {
			e.Status = http.StatusTeapot
		}
		answers = append(answers, e)
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		e := answers[0]
		answers = answers[1:]
		for name, value := range e.Headers {
			w.Header().Set(name, value)
		}
		w.Header().Set("X-Request-Id", "1")
		w.WriteHeader(e.Status)
		_, _ = w.Write(e.Body)
	}))
	t.Cleanup(srv.Close)
	return srv.URL
}

func TestRun(t *testing.T) {
	for wrong, want := range map[string][]string{
		"":                      {"3 cases: 3 as recorded, 0 otherwise on purpose, 0 left out, 0 different"},
		"context_fail.sessions": {"DIFFERENT 233 context_fail.sessions\n    status 418, want 200", "3 cases: 2 as recorded, 0 otherwise on purpose, 0 left out, 1 different"},
	} {
		var out bytes.Buffer
		fine, err := run(t.Context(), []string{"-url", duffy(t, wrong), "-parts", "context_fail"}, &out)
		if err != nil || fine != (wrong == "") {
			t.Errorf("%q: fine %t, %v", wrong, fine, err)
		}
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				t.Errorf("%q: the output has no %q:\n%s", wrong, text, &out)
			}
		}
	}
}

func TestRun_record(t *testing.T) {
	path := filepath.Join(t.TempDir(), "recording.jsonl")
	if _, err := run(t.Context(), []string{"-url", duffy(t, ""), "-parts", "context_fail", "-record", path}, nil); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, err := contract.Read(f)
	if err != nil {
		t.Fatal(err)
	}
	want, err := contract.Recorded(contract.ContextFail)
	if err != nil {
		t.Fatal(err)
	}
	for _, list := range [][]contract.Exchange{got, want} {
		for i := range list { // the same JSON may be written in two ways
			list[i].Body = []byte(strings.ReplaceAll(string(list[i].Body), " ", ""))
			list[i].RequestBody = []byte(strings.ReplaceAll(string(list[i].RequestBody), " ", ""))
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRun_wrong(t *testing.T) {
	for _, args := range [][]string{{}, {"-url", "http://127.0.0.1:1"}, {"-url", duffy(t, ""), "-parts", "v9"}, {"-url", duffy(t, ""), "-keys", "/nowhere"}} {
		if fine, err := run(t.Context(), args, nil); fine || err == nil {
			t.Errorf("%v: fine %t, %v", args, fine, err)
		}
	}
}
