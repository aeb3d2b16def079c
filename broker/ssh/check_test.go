package ssh

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/localnode"
)

// withTimeout gives the node with a ready timeout.
func withTimeout(n broker.Node, timeout time.Duration) broker.Node {
	n.Ready.Timeout = timeout
	return n
}

func TestCheck(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		f := newFixture(t, server, nil)
		f.node.Ready.Command = "touch ~/checked"
		want := []string{f.read(t, "host_key.pub")}
		got, err := f.client.Check(t.Context(), f.node)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("host keys: -want +got\n%s", diff)
		}
		if _, err := os.Stat(filepath.Join(f.dir, "home", "checked")); err != nil {
			t.Errorf("the ready command did not run: %v", err)
		}
		// Of several recorded keys one is enough, and all are kept.
		_, other := tenant(t)
		f.node.HostKeys = []string{other, want[0]}
		got, err = f.client.Check(t.Context(), f.node)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(f.node.HostKeys, got); diff != "" {
			t.Errorf("host keys: -want +got\n%s", diff)
		}
	})
}

func TestCheck_waitsForANodeThatBoots(t *testing.T) {
	f := newFixture(t, localnode.ServerAuto, func(o *localnode.Options) { o.BootDelay = 400 * time.Millisecond })
	var log bytes.Buffer
	f.client.log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	if _, err := f.client.Check(t.Context(), withTimeout(f.node, time.Minute)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(log.Bytes(), []byte("connection refused")) {
		t.Errorf("log %s: want the attempts before it listened", &log)
	}
}

func TestCheck_waitsForTheReadyCommand(t *testing.T) {
	f := newFixture(t, localnode.ServerAuto, nil)
	f.node.Ready.Command = "if [ -e first ]; then exit 0; fi; touch first; exit 1"
	if _, err := f.client.Check(t.Context(), withTimeout(f.node, time.Minute)); err != nil {
		t.Fatal(err)
	}
}

func TestCheck_saysWhichStepFailedLast(t *testing.T) {
	tests := []struct {
		name    string
		options func(*localnode.Options)
		change  func(t *testing.T, f *fixture)
		want    []string
	}{
		{
			name:    "tcp",
			options: func(o *localnode.Options) { o.BootDelay = time.Hour },
			want:    []string{"tcp 127.", ": connect: connection refused"},
		},
		{
			name:    "handshake",
			options: func(o *localnode.Options) { o.Silent = true },
			want:    []string{"ssh handshake with 127.", "no answer when time was up"},
		},
		{
			name:    "handshake, by the limit of one attempt",
			options: func(o *localnode.Options) { o.Silent = true },
			change:  func(_ *testing.T, f *fixture) { f.client.connectTimeout = 50 * time.Millisecond },
			want:    []string{"ssh handshake with 127.", "no answer within 50ms"},
		},
		{
			name: "login, wrong key",
			change: func(t *testing.T, f *fixture) {
				if err := os.WriteFile(f.authorizedKeys(), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			},
			want: []string{"login as ", "unable to authenticate"},
		},
		{
			name:   "login, wrong user",
			change: func(_ *testing.T, f *fixture) { f.node.SSHUser = "somebody" },
			want:   []string{"login as somebody: ", "unable to authenticate"},
		},
		{
			name: "ready command",
			change: func(_ *testing.T, f *fixture) {
				f.node.Ready.Command = `echo "disk is full" >&2; echo two >&2; printf '\033[31mred\n' >&2; echo four >&2; exit 3`
			},
			want: []string{`ready command: exited 3: disk is full; two; \x1b[31mred (`},
		},
		{
			name:   "ready command that never ends",
			change: func(_ *testing.T, f *fixture) { f.node.Ready.Command = "sleep 600" },
			want:   []string{"ready command: no answer when time was up"},
		},
		{
			name:   "ready command that is killed",
			change: func(_ *testing.T, f *fixture) { f.node.Ready.Command = "kill -9 $$" },
			want:   []string{"ready command: was killed by SIGKILL"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			eachServer(t, func(t *testing.T, server string) {
				f := newFixture(t, server, tt.options)
				if tt.change != nil {
					tt.change(t, &f)
				}
				var err error
				// A slow machine may not come to the step within the first limit.
				for limit := 500 * time.Millisecond; limit < time.Minute; limit *= 4 {
					_, err = f.client.Check(t.Context(), withTimeout(f.node, limit))
					if err == nil || strings.Contains(err.Error(), tt.want[0]) {
						break
					}
				}
				wantError(t, err, broker.CodeUnavailable, append(tt.want, "node 7 can't be used over ssh: ")...)
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%v is not the end of a deadline", err)
				}
			})
		})
	}
}

func TestCheck_finalErrorsAreNotTriedAgain(t *testing.T) {
	f := newFixture(t, localnode.ServerAuto, nil)
	_, strangers := tenant(t)
	_, rsaLine := rsaKey(t)
	for name, tt := range map[string]struct {
		change func(*broker.Node)
		want   string
	}{
		"another host key":        {func(n *broker.Node) { n.HostKeys = []string{strangers} }, ": host key changed: it shows ssh-ed25519 SHA256:"},
		"another kind of key":     {func(n *broker.Node) { n.HostKeys = []string{rsaLine} }, ": host key changed: it has none of the recorded kinds; recorded is ssh-rsa SHA256:"},
		"a recorded key is none":  {func(n *broker.Node) { n.HostKeys = []string{"x"} }, `recorded host keys: "x" is none`},
		"the node has no address": {func(n *broker.Node) { n.Address = "" }, "address: the node has none"},
	} {
		t.Run(name, func(t *testing.T) {
			n := f.node
			tt.change(&n)
			// No deadline: were it tried again, the test would hang.
			_, err := f.client.Check(t.Context(), n)
			wantError(t, err, broker.CodeUnavailable, tt.want)
			if want := tt.want[0] == ':'; errors.Is(err, ErrHostKeyChanged) != want {
				t.Errorf("%v is ErrHostKeyChanged: %t, want %t", err, !want, want)
			}
		})
	}
}

func TestCheck_endsWithItsContext(t *testing.T) {
	for name, options := range map[string]func(*localnode.Options){
		"while it waits":            func(o *localnode.Options) { o.BootDelay = time.Hour },
		"while it shakes hands":     func(o *localnode.Options) { o.Silent = true },
		"while the command runs on": nil,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, localnode.ServerAuto, options)
			f.node.Ready.Command = "sleep 600"
			ctx, cancel := context.WithCancel(t.Context())
			stop := time.AfterFunc(300*time.Millisecond, cancel)
			defer stop.Stop()
			_, err := f.client.Check(ctx, f.node)
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want the context's error in it", err)
			}
		})
	}
}

// A tcp server that closes at once is what a port forward to a guest looks like
// that has not booted.
func TestCheck_closedConnections(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	defer func() {
		_ = listener.Close()
		<-done
	}()
	signer, _ := tenant(t)
	_, port, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	n := broker.Node{ID: 7, Outputs: broker.Outputs{Address: "127.0.0.1"}}
	if n.SSHPort, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	_, err = New(signer, slog.New(slog.DiscardHandler)).Check(t.Context(), withTimeout(n, 300*time.Millisecond))
	wantError(t, err, broker.CodeUnavailable, "ssh handshake with 127.0.0.1:"+port)
}

func TestHostKeyAlgorithms(t *testing.T) {
	ed, _ := tenant(t)
	rsa, _ := rsaKey(t)
	for name, tt := range map[string]struct {
		known []ssh.PublicKey
		want  []string
	}{
		"one":  {[]ssh.PublicKey{ed.PublicKey()}, []string{"ssh-ed25519"}},
		"rsa":  {[]ssh.PublicKey{rsa.PublicKey(), ed.PublicKey(), rsa.PublicKey()}, []string{"rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"}},
		"none": {nil, []string{"ssh-ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "rsa-sha2-512", "rsa-sha2-256"}},
	} {
		if diff := cmp.Diff(tt.want, hostKeyAlgorithms(tt.known)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}
