package terraform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// The tests in this file run a scripted Terraform, for what a real one does on
// its bad days only.

const (
	fakeState = `{"version":4,"serial":%d,"lineage":"L","outputs":{"ipaddr":{"value":"127.0.0.1"},` +
		`"password":{"value":"` + password + `","sensitive":true}},"resources":[%s]}`
	fakeResource = `{"mode":"managed","type":"fake","name":"node","instances":[{}]}`
	fakeData     = `{"mode":"data","type":"fake","name":"image","instances":[{}]}`

	// shell functions for scripts
	fakeFunctions = `#!/bin/sh
summary() { echo '{"type":"change_summary","changes":{"operation":"'$1'"}}'; }
problem() { echo '{"type":"diagnostic","diagnostic":{"severity":"error","summary":"'"$1"'","detail":"'"$2"'"}}'; }
begin() { echo '{"type":"apply_start","hook":{"resource":{"addr":"fake.node"},"action":"create"}}'; }
made() { echo '{"type":"apply_complete","hook":{"resource":{"addr":"fake.node"},"action":"create","id_key":"id","id_value":"i-123"}}'; }
state() { echo "$1" > terraform.tfstate; }
echo "$@" >> calls
`
)

var (
	stateMade = fmt.Sprintf(fakeState, 2, fakeResource+","+fakeData)
	stateGone = fmt.Sprintf(fakeState, 3, "")
)

func logTo(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// fakeEngine gives an engine with a scripted Terraform, and a node to work on.
func fakeEngine(t *testing.T, applyScript, destroyScript string, change ...func(*Config)) (*Engine, broker.Node) {
	t.Helper()
	script := filepath.Join(t.TempDir(), "terraform")
	setScript(t, script, applyScript, destroyScript)
	e := testEngine(t, script, change...)
	write(t, filepath.Join(e.templatesDir(), "t1", "main.tf"), "")
	p := broker.Pool{Name: "small", CreateTimeout: time.Hour, DestroyTimeout: time.Hour, Source: broker.Source{Template: "t1"}}
	return e, broker.NewNode(p, time.Now())
}

func setScript(t *testing.T, path, applyScript, destroyScript string) {
	t.Helper()
	// Replaced, not written over: a script that runs can't be written to.
	tmp := path + ".new"
	write(t, tmp, fakeFunctions+"case $1 in\napply)\n"+applyScript+"\n;;\ndestroy)\n"+destroyScript+"\n;;\nesac\n")
	if err := os.Chmod(tmp, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

func TestApplyJudgesTheRun(t *testing.T) {
	tests := map[string]struct {
		script    string
		want      []string // of the error; none: success
		wantState bool
	}{
		"success":                  {script: "state '" + stateMade + "'; summary apply", wantState: true},
		"only data sources":        {script: "state '" + fmt.Sprintf(fakeState, 1, fakeData) + "'; summary apply"},
		"no summary":               {script: "state '" + stateMade + "'", want: []string{"run was interrupted"}, wantState: true},
		"summary of the plan only": {script: "state '" + stateMade + "'; summary plan", want: []string{"run was interrupted"}, wantState: true},
		"summary, exit code 1":     {script: "state '" + stateMade + "'; summary apply; exit 1", want: []string{"exit status 1"}, wantState: true},
		"summary and an error":     {script: "state '" + stateMade + "'; problem late bad; summary apply", want: []string{"late: bad"}, wantState: true},
		"an error":                 {script: "problem quota 'too many'; problem quota 'too many'; exit 1", want: []string{"quota: too many"}},
		"summary without state":    {script: "summary apply", want: []string{"there is no state file"}},
		"killed with an empty state": {
			script: "begin; made; : > terraform.tfstate; kill -9 $$",
			want:   []string{"run was interrupted", "signal: killed", "the state file is empty", "something may be left", "fake.node (id i-123)"},
		},
		"killed with a cut state": {
			script: "begin; state '" + stateMade[:100] + "'; kill -9 $$",
			want:   []string{"run was interrupted", "the state file can't be read (101 bytes)", "something may be left", "fake.node"},
		},
		"killed before any state":  {script: "begin; kill -9 $$", want: []string{"run was interrupted", "something may be left", "fake.node"}},
		"state of another version": {script: "state '{\"version\":9}'; summary apply", want: []string{"format version 9"}},
		"no address": {
			script: "state '" + strings.Replace(stateMade, "127.0.0.1", "", 1) + "'; summary apply",
			want:   []string{`output "ipaddr" is empty`}, wantState: true,
		},
		"the state went to errored.tfstate": {
			script: ": > terraform.tfstate; echo '" + stateMade + "' > errored.tfstate; problem 'write failed' 'no space'; exit 1",
			want:   []string{"write failed: no space"}, wantState: true,
		},
		"no JSON at all": {script: "echo usage: wrong >&2; exit 2", want: []string{"exit status 2", "usage: wrong"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, n := fakeEngine(t, tt.script, "")
			for range 2 { // asked again, it gives the same
				result, err := e.Apply(t.Context(), n)
				if len(tt.want) == 0 && err != nil {
					t.Errorf("got error %v", err)
				}
				wantError(t, err, tt.want...)
				if got := result.State != nil; got != tt.wantState {
					t.Errorf("there is a state: %t, want %t", got, tt.wantState)
				}
				if got := result.Outputs.Address != ""; got != (err == nil) {
					t.Errorf("there are outputs: %t, error %v", got, err)
				}
			}
			if got := strings.Count(read(t, filepath.Join(e.runsDir(), n.UID, "calls")), "\n"); got != 1 {
				t.Errorf("terraform ran %d times, want once", got)
			}
		})
	}
}

func TestSecretsStayOutOfErrorsAndLogs(t *testing.T) {
	var logged bytes.Buffer
	dump := "echo '" + stateMade + "'; echo '" + stateMade + "' >&2; state '" + stateMade + "'; problem leak 'it was " + password + "!'; exit 1"
	e, n := fakeEngine(t, dump, dump, func(c *Config) { c.Log = logTo(&logged) })
	result, applyErr := e.Apply(t.Context(), n)
	wantError(t, applyErr, "leak: it was **********!")
	_, destroyErr := e.Destroy(t.Context(), n, result.State)
	wantError(t, destroyErr, "leak: it was **********!", "still recorded: fake.node")
	for what, text := range map[string]string{"apply": applyErr.Error(), "destroy": destroyErr.Error(), "log": logged.String()} {
		if strings.Contains(text, password) || strings.Contains(text, "lineage") {
			t.Errorf("%s shows a secret or a state:\n%s", what, text)
		}
	}
}

func TestDestroyJudgesTheRun(t *testing.T) {
	tests := map[string]struct {
		script    string
		want      []string
		wantCalls int
	}{
		"success":               {script: "state '" + stateGone + "'; summary destroy", wantCalls: 1},
		"no summary":            {script: "state '" + stateGone + "'", want: []string{"run was interrupted"}, wantCalls: 1},
		"exit code 1":           {script: "state '" + stateGone + "'; summary destroy; exit 1", want: []string{"exit status 1"}, wantCalls: 1},
		"nothing destroyed":     {script: "summary destroy", want: []string{"still recorded: fake.node"}, wantCalls: 2},
		"empty state":           {script: ": > terraform.tfstate; summary destroy", want: []string{"afterwards the state file is empty"}, wantCalls: 2},
		"state removed":         {script: "rm terraform.tfstate; summary destroy", want: []string{"afterwards there is no state file"}, wantCalls: 2},
		"wrong summary":         {script: "state '" + stateGone + "'; summary apply", want: []string{"run was interrupted"}, wantCalls: 1},
		"error, then refreshed": {script: "case \"$*\" in *-refresh=false*) problem gone already; exit 1;; esac; state '" + stateGone + "'; summary destroy", wantCalls: 2},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, n := fakeEngine(t, "", tt.script)
			sealed := e.Keyring.Seal(statePurpose, n.UID, []byte(stateMade))
			result, err := e.Destroy(t.Context(), n, sealed)
			if len(tt.want) == 0 && err != nil {
				t.Errorf("got error %v", err)
			}
			wantError(t, err, tt.want...)
			// What the state says is left, is kept; the state alone tells.
			if got, want := result.State != nil, err != nil && !strings.Contains(tt.script, stateGone); got != want {
				t.Errorf("there is a state left: %t, want %t", got, want)
			}
			calls := strings.Split(strings.TrimSpace(read(t, filepath.Join(e.runsDir(), n.UID, "calls"))), "\n")
			if len(calls) < tt.wantCalls || !strings.HasSuffix(calls[0], "-refresh=false") {
				t.Errorf("terraform was called as %q, want %d calls at least, the first without refresh", calls, tt.wantCalls)
			}
			// It can be repeated, and ends well once Terraform does its work.
			setScript(t, e.Binary.Path, "", "state '"+stateGone+"'; summary destroy")
			destroy(t, e, n, sealed)
		})
	}
}

func TestDestroyTakesTheNewestState(t *testing.T) {
	state := func(serial int, lineage, resources string) string {
		return strings.Replace(fmt.Sprintf(fakeState, serial, resources), `"L"`, `"`+lineage+`"`, 1)
	}
	other := strings.Replace(fakeResource, `"node"`, `"other"`, 1)
	tests := map[string]struct {
		stored, found, errored, before string
		want                           string // what it began with; "" for no run at all
	}{
		"only the stored one":              {stored: state(2, "L", fakeResource), want: "node"},
		"a newer one of a crash":           {stored: state(2, "L", fakeResource), found: state(3, "L", other), want: "other"},
		"an older one of a crash":          {stored: state(2, "L", fakeResource), found: state(1, "L", other), want: "node"},
		"one of another lineage":           {stored: state(2, "L", fakeResource), found: state(9, "M", other), want: "node"},
		"an empty one":                     {stored: state(2, "L", fakeResource), found: " ", want: "node"},
		"a damaged one":                    {stored: state(2, "L", fakeResource), found: "{", want: "node"},
		"nothing stored":                   {found: state(2, "L", other), want: "other"},
		"one that could not be written":    {stored: state(2, "L", fakeResource), found: state(2, "L", fakeResource), errored: state(3, "L", other), want: "other"},
		"empty, and nothing stored":        {found: " ", before: state(2, "L", other), want: "other"},
		"damaged, the copy is newer":       {stored: state(2, "L", fakeResource), found: "{", before: state(3, "L", other), want: "other"},
		"all gone, before the crash":       {stored: state(2, "L", fakeResource), found: state(3, "L", "")},
		"only a data source":               {found: state(2, "L", fakeData)},
		"nothing at all":                   {},
		"an empty one, and nothing stored": {found: " "},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			e, n := fakeEngine(t, "", "cp terraform.tfstate began-with; state '"+state(10, "L", "")+"'; summary destroy")
			dir := filepath.Join(e.runsDir(), n.UID)
			for name, content := range map[string]string{
				stateFile: tt.found, erroredFile: tt.errored, filepath.Join(ownDir, "destroy.before.tfstate"): tt.before,
			} {
				if content != "" {
					write(t, filepath.Join(dir, name), content)
				}
			}
			var sealed []byte
			if tt.stored != "" {
				sealed = e.Keyring.Seal(statePurpose, n.UID, []byte(tt.stored))
			}
			destroy(t, e, n, sealed)
			if tt.want != "" && exists(filepath.Join(dir, erroredFile)) {
				t.Error("the state that could not be written would be taken again")
			}
			if ran := exists(filepath.Join(dir, "calls")); ran != (tt.want != "") {
				t.Fatalf("terraform ran: %t", ran)
			}
			if tt.want == "" {
				return
			}
			s, err := parseState([]byte(read(t, filepath.Join(dir, "began-with"))))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(s.resources(), " "); got != "fake."+tt.want {
				t.Errorf("it began with %s, want fake.%s", got, tt.want)
			}
		})
	}
}

func TestDestroyAfterAKilledDestroyWithNothingStored(t *testing.T) {
	e, n := fakeEngine(t, "", ": > terraform.tfstate; kill -9 $$")
	write(t, filepath.Join(e.runsDir(), n.UID, stateFile), stateMade)
	result, err := e.Destroy(t.Context(), n, nil)
	wantError(t, err, "run was interrupted", "afterwards the state file is empty")
	if result.State == nil {
		t.Error("what was recorded before is lost")
	}
	setScript(t, e.Binary.Path, "", "grep -q fake terraform.tfstate || exit 1; state '"+stateGone+"'; summary destroy")
	destroy(t, engineIn(t, e.Dir, e.Binary.Path), n, nil)
}

func TestLeftoversOfARunAreKilled(t *testing.T) {
	e, n := fakeEngine(t, "sleep 1000 & state '"+stateMade+"'; summary apply", "")
	apply(t, e, n) // the check at the end of the test sees what is left
}

func TestDestroyRefusesAStateOfAnotherKey(t *testing.T) {
	e, n := fakeEngine(t, "", "summary destroy")
	other, _ := fakeEngine(t, "", "")
	sealed := other.Keyring.Seal(statePurpose, n.UID, []byte(stateMade))
	result, err := e.Destroy(t.Context(), n, sealed)
	wantError(t, err, n.UID, "needs the root key ")
	if !bytes.Equal(result.State, sealed) {
		t.Error("the state is not kept as it was")
	}
	if exists(e.runsDir()) {
		t.Error("terraform was started")
	}
}

func TestHangingRunIsKilled(t *testing.T) {
	// A child in the same group is stopped too: the check for processes left sees it.
	hang := "echo $$ > ../../pid; trap 'echo int >> ../../signals' INT; sleep 1000 & while :; do sleep 0.01; done"
	e, n := fakeEngine(t, hang, hang, func(c *Config) { c.Grace = 300 * time.Millisecond })
	n.CreateTimeout, n.DestroyTimeout = 100*time.Millisecond, 100*time.Millisecond

	_, err := e.Apply(t.Context(), n)
	wantError(t, err, "apply", "took longer than 100ms, did not stop when interrupted, and was killed")
	if got := read(t, filepath.Join(e.Dir, "signals")); got != "int\n" {
		t.Errorf("it was interrupted as often as %q shows, want once", got)
	}
	result, err := e.Destroy(t.Context(), n, e.Keyring.Seal(statePurpose, n.UID, []byte(stateMade)))
	wantError(t, err, "destroy", "took longer than 100ms", "killed")
	if result.State == nil {
		t.Error("the state of what is left is missing")
	}

	// The next try has a timeout of its own.
	setScript(t, e.Binary.Path, "", "sleep 0.5; state '"+stateGone+"'; summary destroy")
	n.DestroyTimeout = time.Hour
	destroy(t, e, n, result.State)
}

func TestAdoptedRunHasTheTimeoutOfItsBegin(t *testing.T) {
	script := "trap 'echo int >> ../../signals' INT; : > ../../began; while :; do sleep 0.01; done"
	e, n := fakeEngine(t, script, "")
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		for !exists(filepath.Join(e.Dir, "began")) && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := e.Apply(ctx, n); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	// Begun two hours ago, and interrupted by the process before this one.
	r, _ := e.run(n, opApply)
	past := time.Now().Add(-2 * time.Hour)
	if err := os.Chtimes(r.variables(), past, past); err != nil {
		t.Fatal(err)
	}
	next := engineIn(t, e.Dir, e.Binary.Path, func(c *Config) { c.Grace = time.Hour })
	ctx, cancel = context.WithCancel(t.Context())
	go func() {
		for !exists(filepath.Join(e.Dir, "signals")) && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	if _, err := next.Apply(ctx, n); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	next = engineIn(t, e.Dir, e.Binary.Path, func(c *Config) { c.Grace = time.Nanosecond })
	_, err := next.Apply(t.Context(), n)
	wantError(t, err, "took longer than 1h0m0s", "killed")
	if got := read(t, filepath.Join(e.Dir, "signals")); got != "int\n" {
		t.Errorf("it was interrupted as often as %q shows, want once by both processes", got)
	}
}

func TestSweep(t *testing.T) {
	fails := errors.New("still running")
	var sweepErr error
	e, n := fakeEngine(t, "", "", func(c *Config) {
		c.Sweep = func(context.Context, string) error { return sweepErr }
	})
	dir := filepath.Join(e.nodesDir(), n.UID)
	write(t, filepath.Join(dir, "pid"), "1")
	sweepErr = fails
	if _, err := e.Destroy(t.Context(), n, nil); !errors.Is(err, fails) {
		t.Errorf("got %v, want %v", err, fails)
	}
	if !exists(dir) {
		t.Error("the directory has gone, and with it what could stop the node")
	}
	sweepErr = nil
	destroy(t, e, n, nil)
}

func TestNothingIsBegunWithoutTemplateOrProgram(t *testing.T) {
	e, n := fakeEngine(t, "state '"+stateMade+"'; summary apply", "")
	lost := n
	lost.Source.Template = "lost"
	_, err := e.Apply(t.Context(), lost)
	wantError(t, err, lost.UID, `"lost"`, "is not in "+e.templatesDir())

	program := e.Binary.Path
	e.Binary.Path = filepath.Join(t.TempDir(), "terraform")
	_, err = e.Apply(t.Context(), n)
	wantError(t, err, "start", "no such file or directory")
	e.Binary.Path = program
	apply(t, e, n) // the failed start does not count as a run
}

func TestInvalidUIDs(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	for _, uid := range []string{"", ".", "..", "../keys", "a/b"} {
		n.UID = uid
		if err := e.Discard(n); err == nil {
			t.Errorf("Discard takes the uid %q", uid)
		}
	}
	if !exists(filepath.Join(e.Dir, "keys")) {
		t.Error("other directories are gone")
	}
}

func TestEnvironment(t *testing.T) {
	for name, value := range map[string]string{
		"DUFFY_BROKER_KEY": "root key", "DUFFY_BROKER_KEY_FILE": "/root.key",
		"TF_CLI_ARGS_apply": "-destroy", "TF_WORKSPACE": "x", "TF_DATA_DIR": "/x", "TF_VAR_note": "x", "TF_LOG": "trace",
		"GOGC": "10", "AWS_PROFILE": "kept",
	} {
		t.Setenv(name, value)
	}
	e, n := fakeEngine(t, "env > env; state '"+stateMade+"'; summary apply", "")
	apply(t, e, n)
	env := "\n" + read(t, filepath.Join(e.runsDir(), n.UID, "env"))
	for _, want := range []string{"AWS_PROFILE=kept", "PATH=", "CHECKPOINT_DISABLE=1", "TF_IN_AUTOMATION=1", "GOGC=400", "DUFFY_BROKER=/opt/duffy-broker"} {
		if !strings.Contains(env, "\n"+want) {
			t.Errorf("%s is not in the environment:\n%s", want, env)
		}
	}
	for _, unwanted := range []string{"TF_CLI_ARGS", "TF_WORKSPACE", "TF_DATA_DIR", "TF_VAR_", "TF_LOG", "GOGC=10", "DUFFY_BROKER_KEY"} {
		if strings.Contains(env, "\n"+unwanted) {
			t.Errorf("%s is in the environment", unwanted)
		}
	}
}

// Plugins talk in the clear only where nobody else can listen.
func TestPluginSockets(t *testing.T) {
	t.Setenv("TF_DISABLE_PLUGIN_TLS", "1")
	t.Setenv("PLUGIN_UNIX_SOCKET_DIR", "/tmp")
	e, n := fakeEngine(t, "env > env; stat -c %a \"$PLUGIN_UNIX_SOCKET_DIR\" > mode 2>&1; state '"+stateMade+"'; summary apply", "")
	r, err := e.run(n, opApply)
	if err != nil {
		t.Fatal(err)
	}
	_, short := r.socketDir()
	apply(t, e, n)
	env := "\n" + read(t, filepath.Join(r.dir, "env"))
	if got := strings.Contains(env, "\nTF_DISABLE_PLUGIN_TLS=1"); got != short {
		t.Errorf("TLS between plugins is off: %v, want %v for the path %s", got, short, r.dir)
	}
	if strings.Contains(env, "\nPLUGIN_UNIX_SOCKET_DIR=/tmp\n") {
		t.Error("plugins listen where others can")
	}
	if short && strings.TrimSpace(read(t, filepath.Join(r.dir, "mode"))) != "700" {
		t.Errorf("the mode of the sockets' directory is %s, want 700", read(t, filepath.Join(r.dir, "mode")))
	}
	r.dir = filepath.Join(r.dir, strings.Repeat("x", maxSocketPath))
	if dir, ok := r.socketDir(); ok {
		t.Errorf("%s is taken for short enough", dir)
	}
}

func TestPrivateFiles(t *testing.T) {
	e, n := fakeEngine(t, "state '"+stateMade+"'; summary apply", "")
	apply(t, e, n)
	for path, want := range map[string]os.FileMode{
		"runs": 0o700, "nodes": 0o700, "runs/" + n.UID: 0o700,
		"runs/" + n.UID + "/.duffy/apply.tfvars.json": 0o600, "runs/" + n.UID + "/.duffy/apply.json": 0o600,
	} {
		info, err := os.Stat(filepath.Join(e.Dir, path))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
}
