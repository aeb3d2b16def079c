package terraform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Runs see the pool's environment and its secrets, which are read for each run and
// shown in no error.
func TestCredentials(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("first-secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("DUFFY_TEST_CI_KEY", "other-secret")
	const script = `[ "$REGION" = "eu one" ] || { problem "no region" "$REGION"; exit 1; }
problem "refused" "with $TOKEN and $KEY and $SESSION"; exit 1`
	e, n := fakeEngine(t, script, "")
	n.Environment = broker.Environment{
		Environ:     map[string]string{"REGION": "eu one"},
		Credentials: map[string]string{"TOKEN": "file:" + secret, "KEY": "env:DUFFY_TEST_CI_KEY"},
	}
	_, err := e.Apply(t.Context(), n)
	if err == nil || !strings.Contains(err.Error(), "with "+masked+" and "+masked+" and") {
		t.Errorf("%v; want the secrets seen and masked", err)
	}
	if err := e.Discard(n); err != nil {
		t.Fatal(err)
	}

	if err := os.WriteFile(secret, []byte("second-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	env, err := e.environmentOf(n.Environment)
	if err != nil || !strings.Contains(strings.Join(env, "\n"), "TOKEN=second-secret") {
		t.Errorf("after a rotation: %v", err)
	}
	if text := exports(n.Environment); strings.Contains(text, "second") || !strings.Contains(text, `export REGION="eu one"`) || !strings.Contains(text, "TOKEN=...  # the secret of file:"+secret) {
		t.Errorf("for a person: %s", text)
	}

	if err := os.Remove(secret); err != nil {
		t.Fatal(err)
	}
	_, err = e.Apply(t.Context(), n)
	if err == nil || !strings.Contains(err.Error(), "credential TOKEN: open "+secret) {
		t.Errorf("without the file: %v", err)
	}
	if started, _ := filepath.Glob(filepath.Join(e.runsDir(), "*", ownDir, "*.json")); len(started) > 0 {
		t.Errorf("a run began without its credentials: %v", started)
	}
}

// Provider processes are shared by nodes with the same secrets only.
func TestCredentialsAndSharing(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	t.Setenv("DUFFY_TEST_A", "a-secret")
	t.Setenv("DUFFY_TEST_B", "b-secret")
	key := func(environ, credentials map[string]string) string {
		t.Helper()
		n.Environment = broker.Environment{Environ: environ, Credentials: credentials}
		k, err := e.sharingKey(n)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	keys := map[string]bool{}
	for _, k := range []string{
		key(nil, nil), key(map[string]string{"R": "1"}, nil), key(map[string]string{"R": "2"}, nil),
		key(nil, map[string]string{"T": "env:DUFFY_TEST_A"}), key(nil, map[string]string{"T": "env:DUFFY_TEST_B"}),
	} {
		keys[k] = true
	}
	if len(keys) != 5 {
		t.Errorf("%d keys, want 5", len(keys))
	}
	if a, b := key(map[string]string{"R": "1", "S": "2"}, nil), key(map[string]string{"S": "2", "R": "1"}, nil); a != b {
		t.Error("the order of variables counts")
	}
}

func TestGenerationOfEnvironment(t *testing.T) {
	plain := generation("t", []byte("{}"), nil)
	if got := generation("t", []byte("{}"), map[string]string{}); got != plain {
		t.Error("an empty environment makes nodes stale")
	}
	if got := generation("t", []byte("{}"), map[string]string{"REGION": "x"}); got == plain {
		t.Error("another environment leaves nodes as they are")
	}
}
