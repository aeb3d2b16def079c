package terraform

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

func openLog(t *testing.T, e *Engine, n broker.Node, r broker.Run) string {
	t.Helper()
	r.NodeUID = n.UID
	text, err := e.OpenLog(r, r.Log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

const message = `{"@level":"info","@message":"%s","type":"log"}`

// Each run comes with its record: what it was, how it came out, what it wrote.
func TestRunsAreRecorded(t *testing.T) {
	say := func(text string) string { return "echo '" + fmt.Sprintf(message, text) + "'\n" }
	e, n := fakeEngine(t,
		say("making it")+"state '"+stateMade+"'; summary apply",
		`case "$*" in *-refresh=false*) `+say("first try")+`problem broken badly; exit 1;; esac
		`+say("second try")+"echo a warning >&2; state '"+stateGone+"'; summary destroy")
	result := apply(t, e, n)
	if len(result.Runs) != 1 {
		t.Fatalf("%d runs of the apply, want 1", len(result.Runs))
	}
	made := result.Runs[0]
	if made.Operation != "apply" || made.Class != "" || made.Failure != "" || made.Began.IsZero() || made.Ended.Before(made.Began) {
		t.Errorf("run of the apply: %+v", made)
	}
	if got := openLog(t, e, n, made); !strings.Contains(got, "making it") {
		t.Errorf("log of the apply: %s", got)
	}
	if bytes.Contains(made.Log, []byte("making it")) {
		t.Error("the log is stored in clear")
	}
	if err := e.Discard(n); err != nil {
		t.Fatal(err)
	}
	gone, err := e.Destroy(t.Context(), n, result.State)
	if err != nil || len(gone.Runs) != 2 {
		t.Fatalf("%d runs of the destroy, want 2 (%v)", len(gone.Runs), err)
	}
	first, second := gone.Runs[0], gone.Runs[1]
	if first.Class != broker.FailureOther || !strings.Contains(first.Failure, "broken: badly") || !strings.Contains(openLog(t, e, n, first), "first try") {
		t.Errorf("first try: %+v: %s", first, openLog(t, e, n, first))
	}
	if got := openLog(t, e, n, second); second.Class != "" || !strings.Contains(got, "second try") || !strings.Contains(got, "standard error: a warning") {
		t.Errorf("second try: %+v: %s", second, got)
	}
	// Another node's name does not open it.
	if _, err := e.OpenLog(broker.Run{NodeUID: "other"}, first.Log); err == nil {
		t.Error("the log opens for another node")
	}
}

// A log holds messages only, and no secret.
func TestLogsAreMasked(t *testing.T) {
	t.Setenv("CLOUD_API_TOKEN", "token-in-the-environment")
	t.Setenv("SHORT_KEY", "short")
	state := strings.Replace(stateMade, `"instances":[{}]`,
		`"instances":[{"attributes":{"user":"visible","list":[{"key":"in \"an\" attribute"}]},"sensitive_attributes":[[{"type":"get_attr","value":"list"},{"type":"index","value":{"value":0,"type":"number"}},{"type":"get_attr","value":"key"}]]}]`, 1)
	e, n := fakeEngine(t, `
		echo '{"@message":"`+password+` token-in-the-environment in \"an\" attribute visible short","type":"log"}'
		echo '{'
		echo '  "version": 4, "secret": "x"'
		echo '}'
		printf '%s\n' '`+strings.ReplaceAll(state, "'", "")+`' > terraform.tfstate
		echo token-in-the-environment >&2
		summary apply`, "")
	result := apply(t, e, n)
	got := openLog(t, e, n, result.Runs[0])
	for _, secret := range []string{password, "token-in-the-environment", "attribute", `"version"`} {
		if strings.Contains(strings.ReplaceAll(got, "short", ""), secret) {
			t.Errorf("the log holds %s: %s", secret, got)
		}
	}
	if !strings.Contains(got, "visible short") {
		t.Errorf("too much is masked: %s", got)
	}
}

// A destroy's log is masked with what it has removed.
func TestDestroyLogsAreMasked(t *testing.T) {
	e, n := fakeEngine(t, "state '"+stateMade+"'; summary apply",
		"echo '"+fmt.Sprintf(message, "removing "+password)+"'; state '"+stateGone+"'; summary destroy")
	result, err := e.Destroy(t.Context(), n, apply(t, e, n).State)
	if err != nil {
		t.Fatal(err)
	}
	if got := openLog(t, e, n, result.Runs[0]); strings.Contains(got, password) || !strings.Contains(got, "removing ***") {
		t.Errorf("log: %s", got)
	}
}

// Of a very long log the beginning and the end are kept.
func TestLogsAreBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const lines = 40_000
	for i := range lines {
		if _, err := fmt.Fprintf(f, message+"\n", fmt.Sprintf("line %d of many", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := copyLog(&out, path, strings.NewReplacer()); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for _, want := range []string{"line 0 of many", fmt.Sprintf("line %d of many", lines-1), "bytes are left out here"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in it", want)
		}
	}
	if strings.Contains(got, fmt.Sprintf("line %d of many", lines/3)) || len(got) > logHead+logTail+1000 {
		t.Errorf("%d bytes are kept", len(got))
	}
	for line := range strings.Lines(got) {
		if messageLine([]byte(line), strings.NewReplacer()) == nil {
			t.Fatalf("half a line: %s", line)
		}
	}
}

// Who follows a run sees its messages while it goes on, and its end.
func TestWatchRun(t *testing.T) {
	e, n := fakeEngine(t, "echo '"+fmt.Sprintf(message, "begun")+"'; read -r _ < ../../go; echo '"+fmt.Sprintf(message, "going on")+"'; state '"+stateMade+"'; summary apply", "")
	if err := syscall.Mkfifo(filepath.Join(e.Dir, "go"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := e.WatchRun(t.Context(), n, func(string, []byte) error { t.Error("there is no run"); return nil }); err != nil {
		t.Error(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := e.Apply(context.Background(), n); err != nil {
			t.Error(err)
		}
	}()
	waitForFile(t, filepath.Join(e.runsDir(), n.UID, "calls"))
	var got []string
	err := e.WatchRun(t.Context(), n, func(operation string, line []byte) error {
		got = append(got, operation+" "+string(line))
		if strings.Contains(string(line), "begun") {
			write(t, filepath.Join(e.Dir, "go"), "\n")
		}
		return nil
	})
	<-done
	text := strings.Join(got, "")
	if err != nil || !strings.Contains(text, `apply {"@level":"info","@message":"begun"`) || !strings.Contains(text, "going on") {
		t.Errorf("watched %s (%v)", text, err)
	}
}

// The last lines of a run reach its follower, however soon the next one begins.
func TestWatchRunToItsEnd(t *testing.T) {
	say := func(text string) string { return "echo '" + fmt.Sprintf(message, text) + "'\n" }
	e, n := fakeEngine(t, "", `case "$*" in *-refresh=false*) `+say("first try")+`read -r _ < ../../go; `+say("last words")+`exit 1;; esac
		`+say("second try")+"read -r _ < ../../end; state '"+stateGone+"'; summary destroy")
	for _, gate := range []string{"go", "end"} {
		if err := syscall.Mkfifo(filepath.Join(e.Dir, gate), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := e.Destroy(context.Background(), n, e.Keyring.Seal(statePurpose, n.UID, []byte(stateMade))); err != nil {
			t.Error(err)
		}
	}()
	calls := filepath.Join(e.runsDir(), n.UID, "calls")
	waitForFile(t, calls)
	var first, second []string
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // it ends by itself, unless it is lost
	defer cancel()
	err := e.WatchRun(ctx, n, func(_ string, line []byte) error {
		if first = append(first, string(line)); len(first) == 1 {
			write(t, filepath.Join(e.Dir, "go"), "\n")
		}
		return nil
	})
	if err != nil { // the second run is waiting
		write(t, filepath.Join(e.Dir, "end"), "\n")
	}
	if got := strings.Join(first, ""); err != nil || !strings.Contains(got, "last words") || strings.Contains(got, "second try") {
		t.Errorf("the first run: %s (%v)", got, err)
	}
	waitFor(t, "the second run", func() bool { return strings.Count(read(t, calls), "\n") == 2 })
	err = e.WatchRun(t.Context(), n, func(_ string, line []byte) error {
		if second = append(second, string(line)); len(second) == 1 {
			write(t, filepath.Join(e.Dir, "end"), "\n")
		}
		return nil
	})
	<-done
	if got := strings.Join(second, ""); err != nil || !strings.Contains(got, "second try") || strings.Contains(got, "last words") {
		t.Errorf("the second run: %s (%v)", got, err)
	}
}

// A state that Terraform could store nowhere else is no part of a log, whole or
// cut off, stored or followed.
func TestStateDumpIsNotLogged(t *testing.T) {
	line := dump(t, stateMade)
	e, n := fakeEngine(t, "printf '%s\\n' '"+strings.TrimSpace(line)+"'; printf '%s' '"+line[:300]+"'; problem 'write failed' 'no space'; exit 1", "")
	result, err := e.Apply(t.Context(), n)
	wantError(t, err, "run was interrupted")
	s, unsealErr := e.unseal(n, result.State)
	if unsealErr != nil || strings.Join(s.resources(), " ") != "fake.node" {
		t.Errorf("the state has %v (%v): it is not taken from the output", s.resources(), unsealErr)
	}
	got := openLog(t, e, n, result.Runs[0])
	if strings.Contains(got, password) || strings.Contains(got, "lineage") || !strings.Contains(got, "could not store the state") {
		t.Errorf("log: %s", got)
	}
}
