package localnode

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCandidate(t *testing.T) {
	for n := range 1000 {
		got := candidate("0123456789abcdef", n)
		if !got.IsLoopback() || got.As4()[1] == 0 || got.As4()[1] == 255 || got.As4()[3] == 0 || got.As4()[3] == 255 {
			t.Fatalf("candidate %d is %s", n, got)
		}
		if got != candidate("0123456789abcdef", n) {
			t.Fatalf("candidate %d is not always the same", n)
		}
	}
	if candidate("a", 0) == candidate("b", 0) || candidate("a", 0) == candidate("a", 1) {
		t.Error("candidates repeat")
	}
}

func TestClaimAddress(t *testing.T) {
	first, second := candidate("uid", 0), candidate("uid", 1)
	localhost := netip.MustParseAddr("127.0.0.1")
	low := uint16(2222)
	if os.Geteuid() == 0 {
		low = 22
	}
	at := netip.AddrPortFrom
	tests := []struct {
		name     string
		recorded netip.AddrPort
		refuse   func(netip.AddrPort) error
		want     netip.AddrPort
	}{
		{name: "the first", want: at(first, low)},
		{name: "the recorded one", recorded: at(second, 7), want: at(second, 7)},
		{
			name: "the recorded one is taken", recorded: at(second, 7), want: at(first, low),
			refuse: func(a netip.AddrPort) error { return when(a.Port() == 7, syscall.EADDRINUSE) },
		},
		{
			name: "the first is taken", want: at(second, low),
			refuse: func(a netip.AddrPort) error { return when(a.Addr() == first, syscall.EADDRINUSE) },
		},
		{
			name: "something listens on 22 of every address", want: at(first, 2222),
			refuse: func(a netip.AddrPort) error { return when(a.Port() == 22, syscall.EADDRINUSE) },
		},
		{
			name: "no right to low ports", want: at(first, 2222),
			refuse: func(a netip.AddrPort) error { return when(a.Port() == 22, syscall.EACCES) },
		},
		{
			name: "both ports are taken everywhere", want: at(first, 0),
			refuse: func(a netip.AddrPort) error { return when(a.Port() != 0, syscall.EADDRINUSE) },
		},
		{
			name: "only 127.0.0.1", want: at(localhost, 0),
			refuse: func(a netip.AddrPort) error { return when(a.Addr() != localhost, syscall.EADDRNOTAVAIL) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			bind := func(_ context.Context, a netip.AddrPort) (*claim, error) {
				if tt.refuse != nil {
					if err := tt.refuse(a); err != nil {
						return nil, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", err)}
					}
				}
				return &claim{address: a}, nil
			}
			got, err := claimAddress(t.Context(), "uid", tt.recorded, bind)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want.String(), got.address.String()); diff != "" {
				t.Errorf("-want +got\n%s", diff)
			}
		})
	}
	_, err := claimAddress(t.Context(), "uid", netip.AddrPort{}, func(context.Context, netip.AddrPort) (*claim, error) {
		return nil, syscall.EMFILE
	})
	if !errors.Is(err, syscall.EMFILE) {
		t.Errorf("got %v, want the error that no other address would cure", err)
	}
}

func when(is bool, err error) error {
	if is {
		return err
	}
	return nil
}

// An address that is bound only refuses connections, and nobody else gets it.
func TestBindOnly(t *testing.T) {
	bound, err := bindOnly(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("tcp", bound.address.String()); err == nil {
		_ = conn.Close()
		t.Error("it listens already")
	}
	for name, bind := range map[string]binder{"bindOnly": bindOnly, "bindAndListen": bindAndListen} {
		if c, err := bind(t.Context(), bound.address); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s took it too: %v, %v", name, c, err)
		}
	}
	listener, err := bound.listen()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	conn, err := net.Dial("tcp", bound.address.String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
}
