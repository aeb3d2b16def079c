package terraform

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/secret"
)

// rotated gives the engine of the next start, after a rotation.
func rotated(t *testing.T, e *Engine) *Engine {
	t.Helper()
	if _, err := secret.Rotate(filepath.Join(e.Dir, "keys")); err != nil {
		t.Fatal(err)
	}
	return engineIn(t, e.Dir, e.Binary.Path)
}

func keyring(t *testing.T, e *Engine) *secret.Keyring {
	t.Helper()
	k, ok := e.Keyring.(*secret.Keyring)
	if !ok {
		t.Fatalf("the engine has a %T", e.Keyring)
	}
	return k
}

// A node of before a rotation is sealed anew, and can then do without the old key.
func TestReseal(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := prepared(t, e, modulePool(t, nodeModule, map[string]any{"note": "of before"}))
	n := broker.NewNode(p, time.Now())
	n.Identity = e.NewIdentity(n.UID)
	own := identityOf(t, e, n)
	state := apply(t, e, n).State
	discard(t, e, n)
	before := keyring(t, e).Current()

	e = rotated(t, e)
	ids := []string{before.ID()}
	if diff := cmp.Diff(ids, e.SealedWith(n, state)); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	resealed, fresh, err := e.Reseal(n, state)
	if err != nil {
		t.Fatal(err)
	}
	if cmp.Equal(resealed.Source.Variables, n.Source.Variables) || cmp.Equal(resealed.Identity, n.Identity) {
		t.Errorf("something is not sealed anew: %s", cmp.Diff(n, resealed))
	}
	n.Source.Variables, n.Identity = resealed.Source.Variables, resealed.Identity
	if diff := cmp.Diff(n, resealed); diff != "" {
		t.Errorf("something else was changed (-want +got):\n%s", diff)
	}
	if got := identityOf(t, e, n); got != own {
		t.Errorf("the node is %+v, was %+v", got, own)
	}
	ids = []string{keyring(t, e).Current().ID()}
	if diff := cmp.Diff(ids, e.SealedWith(n, fresh)); diff != "" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	// Again it changes nothing.
	if again, same, err := e.Reseal(n, fresh); err != nil || cmp.Diff(n, again)+cmp.Diff(fresh, same) != "" {
		t.Errorf("the second time: %v", err)
	}

	withoutOld, err := secret.OpenWith(t.TempDir(), keyring(t, e).Current())
	if err != nil {
		t.Fatal(err)
	}
	e = engineIn(t, e.Dir, e.Binary.Path, func(c *Config) { c.Keyring = withoutOld })
	if _, _, err := e.Reseal(n, state); err == nil {
		t.Error("the old state opens without the old key")
	}
	destroy(t, e, n, fresh)
}

func TestResealWithNothingSealed(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	fresh, state, err := e.Reseal(n, nil)
	if err != nil || state != nil || cmp.Diff(n, fresh) != "" || len(e.SealedWith(n, nil)) != 0 {
		t.Errorf("got %+v, %v, %v", fresh, state, err)
	}
}

func TestResealOfWhatCantBeOpened(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	other, err := secret.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	foreign := other.Seal(statePurpose, n.UID, []byte(stateMade))
	for name, tt := range map[string]struct {
		variables, state string
		keys             []string
	}{
		"a state of a lost key": {"", string(foreign), []string{other.Current().ID()}},
		"a damaged state":       {"", "\x01", []string{""}},
		"variables of old":      {`"AQID"`, "", []string{""}},
		"no sealed variables":   {`{"a":1}`, "", []string{""}},
	} {
		t.Run(name, func(t *testing.T) {
			n.Source.Variables = json.RawMessage(tt.variables)
			var state []byte
			if tt.state != "" {
				state = []byte(tt.state)
			}
			fresh, same, err := e.Reseal(n, state)
			if err == nil || cmp.Diff(n, fresh)+cmp.Diff(state, same) != "" {
				t.Errorf("got %+v, %q, %v, want an error and all as it was", fresh, same, err)
			}
			if diff := cmp.Diff(tt.keys, e.SealedWith(n, state)); diff != "" {
				t.Errorf("sealed with (-want +got):\n%s", diff)
			}
		})
	}
}

// A destroy that began before the state was sealed anew, and fails after that,
// does not bring the old key back.
func TestFailedDestroyGivesAStateOfTheCurrentKey(t *testing.T) {
	e, n := fakeEngine(t, "", "")
	sealed := e.Keyring.Seal(statePurpose, n.UID, []byte(fmt.Sprintf(fakeState, 2, fakeResource)))
	e = rotated(t, e)
	r, err := e.run(n, opApply)
	if err != nil {
		t.Fatal(err)
	}
	// It can't be told whether the apply has ended.
	write(t, r.stderr(), "")
	if err := os.Symlink(r.output(), r.output()); err != nil {
		t.Fatal(err)
	}
	result, err := e.Destroy(t.Context(), n, sealed)
	wantError(t, err, "too many levels of symbolic links")
	if result.State == nil || !e.Keyring.SealedByCurrent(result.State) {
		t.Error("the state that is left is sealed with the old key")
	}
}
