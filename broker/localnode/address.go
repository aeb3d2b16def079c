package localnode

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// candidatesPerPort bounds how many addresses are tried on one port. With
// 16 million addresses even two in a row are hardly ever taken, unless something
// listens on that port of every address, as the machine's own sshd does on 22.
const candidatesPerPort = 8

// candidate gives the n-th address that a node tries: in 127.0.0.0/8, the same
// for the same uid. 127.0.y.z is left out, since systems put services there.
func candidate(uid string, n int) netip.Addr {
	sum := sha256.Sum256([]byte(uid + "/" + strconv.Itoa(n)))
	return netip.AddrFrom4([4]byte{127, 1 + sum[0]%254, sum[1], 1 + sum[2]%254})
}

// A claim is an address that no other process can bind, listened on or not.
type claim struct {
	address  netip.AddrPort
	listener net.Listener // set when it listens already
	socket   *os.File     // set when it was bound only
}

// binder binds an address, or gives the system's error.
type binder func(ctx context.Context, address netip.AddrPort) (*claim, error)

// claimAddress takes the first address that can be bound: the recorded one, which
// a node that starts again should keep; then the uid's candidates on port 22 or,
// without the right to that, 2222; then on any port. Where the system knows
// 127.0.0.1 only (macOS), it is that with any port. Binding itself decides, so
// that nodes that start at once never get the same.
func claimAddress(ctx context.Context, uid string, recorded netip.AddrPort, bind binder) (*claim, error) {
	if recorded.IsValid() {
		if c, err := bind(ctx, recorded); err == nil {
			return c, nil
		}
	}
	ports := []uint16{2222, 0}
	if os.Geteuid() == 0 {
		ports = []uint16{22, 2222, 0}
	}
ports:
	for _, port := range ports {
		for n := range candidatesPerPort {
			c, err := bind(ctx, netip.AddrPortFrom(candidate(uid, n), port))
			switch {
			case err == nil:
				return c, nil
			case errors.Is(err, syscall.EADDRINUSE):
			case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
				continue ports
			case errors.Is(err, syscall.EADDRNOTAVAIL):
				break ports
			default:
				return nil, err
			}
		}
	}
	return bind(ctx, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), 0))
}

// bindAndListen is the binder of a node that answers at once.
func bindAndListen(ctx context.Context, address netip.AddrPort) (*claim, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp4", address.String())
	if err != nil {
		return nil, err
	}
	bound, err := netip.ParseAddrPort(listener.Addr().String())
	if err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return &claim{address: bound, listener: listener}, nil
}

// bindOnly is the binder of a node that listens later: until then connections
// are refused, and yet nobody can take the address. Package net can't part the
// two. The socket is bound without SO_REUSEADDR, since with it Linux lets two
// sockets have an address as long as neither listens.
func bindOnly(_ context.Context, address netip.AddrPort) (*claim, error) {
	syscall.ForkLock.RLock()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	socket := os.NewFile(uintptr(fd), address.String())
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(address.Port()), Addr: address.Addr().As4()}); err != nil {
		return nil, errors.Join(fmt.Errorf("bind %s: %w", address, err), socket.Close())
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("getsockname: %w", err), socket.Close())
	}
	if bound, ok := name.(*unix.SockaddrInet4); ok {
		address = netip.AddrPortFrom(address.Addr(), uint16(bound.Port)) //nolint:gosec // a port
	}
	return &claim{address: address, socket: socket}, nil
}

// listen gives the listener; the claim is used up.
func (c *claim) listen() (net.Listener, error) {
	if c.listener != nil {
		return c.listener, nil
	}
	defer c.socket.Close() //nolint:errcheck // FileListener works on a copy
	if err := unix.Listen(int(c.socket.Fd()), unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", c.address, err)
	}
	return net.FileListener(c.socket)
}

// release gives the address up before it was listened on.
func (c *claim) release() error {
	if c.listener != nil {
		return c.listener.Close()
	}
	return c.socket.Close()
}
