package ssh

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/localnode"
)

func rsaKey(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return signer, keyLine(signer.PublicKey())
}

func TestContextualize(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		f := newFixture(t, server, nil)
		n := f.recorded(t)
		first, firstLine := tenant(t)
		second, secondLine := rsaKey(t)
		before := f.read(t, "home/.ssh/authorized_keys")

		if err := f.client.Contextualize(t.Context(), n, "# mine\n"+firstLine+"\r\n\n"+secondLine); err != nil {
			t.Fatal(err)
		}
		for name, key := range map[string]ssh.Signer{"first": first, "second": second, "broker's": f.client.signer} {
			if !f.logsIn(t, key) {
				t.Errorf("the %s key does not log in", name)
			}
		}
		want := strings.Join([]string{f.line, marker, firstLine, secondLine}, "\n")
		if diff := cmp.Diff(want, f.read(t, "home/.ssh/authorized_keys")); diff != "" {
			t.Errorf("file: -want +got\n%s", diff)
		}
		// Another tenant takes the place of the first.
		if err := f.client.Contextualize(t.Context(), n, secondLine); err != nil {
			t.Fatal(err)
		}
		if f.logsIn(t, first) || !f.logsIn(t, second) {
			t.Error("the key of the tenant before is still there, or the new one is not")
		}
		for range 2 {
			if err := f.client.Decontextualize(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(before, f.read(t, "home/.ssh/authorized_keys")); diff != "" {
				t.Errorf("file: -before +after\n%s", diff)
			}
		}
		if f.logsIn(t, second) || !f.logsIn(t, f.client.signer) {
			t.Error("the tenant's key still logs in, or the broker's does no more")
		}
		if entries, err := os.ReadDir(filepath.Dir(f.authorizedKeys())); err != nil || len(entries) != 1 {
			t.Errorf("files in .ssh: %v, %v", entries, err)
		}
	})
}

// The file may be in any shape.
func TestContextualize_keepsWhatIsAboveTheMarker(t *testing.T) {
	f := newFixture(t, localnode.ServerBuiltin, nil)
	n := f.recorded(t)
	_, line := tenant(t)
	for name, tt := range map[string]struct{ before, during, after string }{
		"no end of line":  {"KEY", "KEY\nMARK\nNEW\n", "KEY\n"},
		"odd lines":       {"KEY\n\n  # it's \\n $HOME `id` %s -n\n\\\n", "KEY\n\n  # it's \\n $HOME `id` %s -n\n\\\nMARK\nNEW\n", "KEY\n\n  # it's \\n $HOME `id` %s -n\n\\\n"},
		"marker already":  {"KEY\nMARK\nold", "KEY\nMARK\nNEW\n", "KEY\n"},
		"nearly a marker": {"KEY\n MARK\nMARK!\n", "KEY\n MARK\nMARK!\nMARK\nNEW\n", "KEY\n MARK\nMARK!\n"},
		"two markers":     {"KEY\nMARK\na\nMARK\nb\n", "KEY\nMARK\nNEW\n", "KEY\n"},
	} {
		t.Run(name, func(t *testing.T) {
			expand := strings.NewReplacer("KEY", f.line, "MARK", marker, "NEW", line).Replace
			got := func() string {
				info, err := os.Stat(f.authorizedKeys())
				if err != nil {
					t.Fatal(err)
				}
				if info.Mode().Perm() != 0o600 {
					t.Errorf("mode %o, want 0600", info.Mode().Perm())
				}
				text, err := os.ReadFile(f.authorizedKeys())
				if err != nil {
					t.Fatal(err)
				}
				return string(text)
			}
			if err := os.WriteFile(f.authorizedKeys(), []byte(expand(tt.before)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(f.authorizedKeys(), 0o644); err != nil {
				t.Fatal(err)
			}
			if err := f.client.Contextualize(t.Context(), n, line); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(expand(tt.during), got()); diff != "" {
				t.Errorf("contextualized: -want +got\n%s", diff)
			}
			if err := f.client.Decontextualize(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(expand(tt.after), got()); diff != "" {
				t.Errorf("decontextualized: -want +got\n%s", diff)
			}
		})
	}
}

// Whatever the login shell makes of a command line, the scripts survive it.
func TestContextualize_underEveryLoginShell(t *testing.T) {
	for _, name := range []string{"sh", "bash", "fish", "tcsh"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("SHELL", brokertest.NeedProgram(t, name))
			f := newFixture(t, localnode.ServerBuiltin, nil)
			n := f.recorded(t)
			key, line := tenant(t)
			if err := f.client.Contextualize(t.Context(), n, line); err != nil {
				t.Fatal(err)
			}
			if !f.logsIn(t, key) {
				t.Error("the tenant's key does not log in")
			}
			if err := f.client.Decontextualize(t.Context(), n); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(f.line, f.read(t, "home/.ssh/authorized_keys")); diff != "" {
				t.Errorf("file: -want +got\n%s", diff)
			}
		})
	}
}

func TestContextualize_refusesWhatIsNoKey(t *testing.T) {
	f := newFixture(t, localnode.ServerBuiltin, nil)
	n := f.recorded(t)
	_, line := tenant(t)
	before := f.read(t, "home/.ssh/authorized_keys")
	for name, tt := range map[string]struct{ keys, want string }{
		"nothing":       {" \n# only a comment\n", "there is no ssh key to give access to"},
		"a command":     {line + "\n$(touch injected)\n", "line 2 of the ssh keys is no public key"},
		"a lone CR":     {line + " a\rb", "line 1 of the ssh keys is no public key"},
		"a private key": {"-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n", "line 1 of the ssh keys is no public key"},
	} {
		t.Run(name, func(t *testing.T) {
			err := f.client.Contextualize(t.Context(), n, tt.keys)
			wantError(t, err, broker.CodeInvalid, tt.want)
			if strings.Contains(err.Error(), "b3Blb") {
				t.Error("the error shows a secret")
			}
			if diff := cmp.Diff(before, f.read(t, "home/.ssh/authorized_keys")); diff != "" {
				t.Errorf("the file changed: %s", diff)
			}
		})
	}
	// What is a key may say anything in its comment: no shell ever reads it.
	if err := f.client.Contextualize(t.Context(), n, line+` '; touch injected; $(touch injected) "`); err != nil {
		t.Fatal(err)
	}
	if matches, _ := filepath.Glob(filepath.Join(f.dir, "home", "injected")); len(matches) > 0 {
		t.Error("a shell ran the comment of a key")
	}
}

func TestContextualize_neverTrustsAnotherHostKey(t *testing.T) {
	f := newFixture(t, localnode.ServerAuto, nil)
	_, line := tenant(t)
	before := f.read(t, "home/.ssh/authorized_keys")
	_, stranger := tenant(t)
	for name, tt := range map[string]struct {
		keys []string
		want string
	}{
		"none recorded": {nil, "recorded host keys: there are none"},
		"another":       {[]string{stranger}, "host key changed"},
	} {
		n := f.node
		n.HostKeys = tt.keys
		wantError(t, f.client.Contextualize(t.Context(), n, line), broker.CodeUnavailable, tt.want)
		wantError(t, f.client.Decontextualize(t.Context(), n), broker.CodeUnavailable, tt.want)
		if diff := cmp.Diff(before, f.read(t, "home/.ssh/authorized_keys")); diff != "" {
			t.Errorf("%s: the file changed: %s", name, diff)
		}
	}
}

// The login that answers every command with a polite text must not pass.
func TestContextualize_needsTheScriptToRun(t *testing.T) {
	polite := filepath.Join(t.TempDir(), "polite")
	if err := os.WriteFile(polite, []byte("#!/bin/sh\necho please log in as somebody else\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SHELL", polite)
	f := newFixture(t, localnode.ServerBuiltin, nil)
	_, line := tenant(t)
	wantError(t, f.client.Contextualize(t.Context(), f.recorded(t), line), broker.CodeUnavailable, "the login ran something else", "please log in as")
}

func TestContextualize_endsWithItsContext(t *testing.T) {
	f := newFixture(t, localnode.ServerAuto, func(o *localnode.Options) { o.Silent = true })
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_, line := tenant(t)
	err := f.client.Contextualize(ctx, f.recorded(t), line)
	wantError(t, err, broker.CodeUnavailable, "ssh handshake with", context.DeadlineExceeded.Error())
}

func TestContextualize_manyNodesAtOnce(t *testing.T) {
	var nodes []fixture
	for range 5 {
		nodes = append(nodes, newFixture(t, localnode.ServerAuto, nil))
	}
	client := nodes[0].client
	_, line := tenant(t)
	var work sync.WaitGroup
	for i, f := range nodes {
		if i > 0 { // all trust the first one's key
			text := f.line + "\n" + nodes[0].line + "\n"
			if err := os.WriteFile(f.authorizedKeys(), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		n := f.recorded(t)
		work.Go(func() {
			if err := client.Contextualize(t.Context(), n, line); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	for i, f := range nodes {
		if !strings.HasSuffix(f.read(t, "home/.ssh/authorized_keys"), marker+"\n"+line) {
			t.Errorf("node %d lacks the key", i)
		}
	}
}
