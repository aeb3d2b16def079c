package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// unixPrefix marks the address of a Unix socket.
const unixPrefix = "unix:"

// listen opens a TCP port, or a Unix socket for the user and the group.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if path, ok := strings.CutPrefix(address, unixPrefix); ok {
		return listenUnix(ctx, path)
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, broker.Wrap(broker.CodeConflict, err, "another program is listening on %s", address).
			WithHint("stop it, or choose another address with --listen (port 0 takes a free one)")
	}
	if err != nil {
		return nil, broker.Wrap(broker.CodeInvalid, err, "can't listen on %s", address).
			WithHint("--listen takes HOST:PORT, such as 127.0.0.1:8080, or unix:PATH")
	}
	return l, nil
}

func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error {
		return broker.Wrap(broker.CodeInvalid, err, "can't listen on the socket %s", path).
			WithHint("its directory must exist and be writable, and the path may have about 100 bytes")
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fail(err)
	case info.Mode()&fs.ModeSocket == 0:
		return nil, broker.Errorf(broker.CodeConflict, "%s is there and is no socket", path).WithHint("choose another path with --listen unix:PATH")
	default:
		// A broker that was killed leaves its socket behind.
		var d net.Dialer
		if c, err := d.DialContext(ctx, "unix", path); err == nil {
			_ = c.Close()
			return nil, broker.Errorf(broker.CodeConflict, "another program is listening on %s", path).
				WithHint("stop it, or choose another path with --listen unix:PATH")
		}
		if err := os.Remove(path); err != nil {
			return nil, fail(err)
		}
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fail(err)
	}
	if err := os.Chmod(path, 0o660); err != nil { //nolint:gosec // for the group, too: API keys guard what is behind it
		return nil, errors.Join(fail(err), l.Close())
	}
	return l, nil
}

// certificateCheck is how often the certificate's files are looked at.
const certificateCheck = 10 * time.Second

// certificate is a TLS certificate in two files, which are read again when they
// have changed: whoever renews them need not tell the broker.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	changed [2]time.Time // of the files that current was read from
	checked time.Time
}

// loadCertificate reads the files once: mistakes are to be found at the start.
func loadCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.read(); err != nil {
		return nil, broker.Wrap(broker.CodeInvalid, err, "the TLS certificate can't be used").
			WithHint("--tls-cert and --tls-key name PEM files that belong together")
	}
	return c, nil
}

func (c *certificate) read() error {
	changed, err := c.modified()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	c.current, c.changed = &pair, changed
	return nil
}

func (c *certificate) modified() (at [2]time.Time, err error) {
	for i, path := range []string{c.certFile, c.keyFile} {
		info, err := os.Stat(path)
		if err != nil {
			return at, err
		}
		at[i] = info.ModTime()
	}
	return at, nil
}

// get gives the certificate for a new connection. While new files can't be used,
// as between the renewal of one and the other, the old certificate stays.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.checked) >= certificateCheck {
		c.checked = now
		changed, err := c.modified()
		if err == nil && changed != c.changed {
			if err = c.read(); err == nil {
				c.log.Info("TLS certificate read again", "file", c.certFile)
			}
		}
		if err != nil {
			c.log.Warn("the TLS certificate can't be read again: the old one stays", "error", err)
		}
	}
	return c.current, nil
}

// withTLS makes a listener speak TLS if a certificate is given.
func withTLS(l net.Listener, certFile, keyFile string, log *slog.Logger) (net.Listener, error) {
	if certFile == "" && keyFile == "" {
		return l, nil
	}
	if certFile == "" || keyFile == "" {
		return nil, broker.Errorf(broker.CodeInvalid, "--tls-cert and --tls-key go together")
	}
	c, err := loadCertificate(certFile, keyFile, log)
	if err != nil {
		return nil, err
	}
	return tls.NewListener(l, &tls.Config{
		MinVersion: tls.VersionTLS12, GetCertificate: c.get, NextProtos: []string{"h2", "http/1.1"},
	}), nil
}

// urlOf gives the URL of the API behind a listener, for clients on this machine.
func urlOf(l net.Listener, secure bool) string {
	switch addr := l.Addr().(type) {
	case *net.UnixAddr:
		return unixPrefix + addr.Name
	case *net.TCPAddr:
		scheme, host := "http", addr.String()
		if secure {
			scheme = "https"
		}
		if addr.IP.IsUnspecified() {
			host = fmt.Sprintf("127.0.0.1:%d", addr.Port)
		}
		return scheme + "://" + host + "/api/v1"
	}
	return l.Addr().String()
}
