package localnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

// loginGrace is how long a client may take to log in.
const loginGrace = 30 * time.Second

// builtin is an SSH server in this process.
type builtin struct {
	login    login
	config   *ssh.ServerConfig
	children *children
}

func newBuiltin(l login, key ssh.Signer, procs *children) *builtin {
	b := &builtin{login: l, children: procs}
	b.config = &ssh.ServerConfig{
		ServerVersion:     "SSH-2.0-duffy-broker",
		MaxAuthTries:      20,
		PublicKeyCallback: b.authorize,
	}
	b.config.AddHostKey(key)
	return b
}

// authorize reads authorized_keys at every login, since keys come and go.
func (b *builtin) authorize(meta ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
	if meta.User() != b.login.user {
		return nil, fmt.Errorf("user %q is not %s", meta.User(), b.login.user)
	}
	text, err := os.ReadFile(b.login.dir.authorizedKeys())
	if err != nil {
		return nil, err
	}
	for line := range bytes.Lines(text) {
		known, _, options, _, err := ssh.ParseAuthorizedKey(line)
		if err == nil && len(options) == 0 && bytes.Equal(known.Marshal(), key.Marshal()) {
			return &ssh.Permissions{}, nil
		}
	}
	return nil, errors.New("key is not authorized")
}

func (b *builtin) serve(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	defer conn.Close() //nolint:errcheck // often closed by the client already
	if err := conn.SetDeadline(time.Now().Add(loginGrace)); err != nil {
		return err
	}
	server, channels, requests, err := ssh.NewServerConn(conn, b.config)
	if errors.Is(err, io.EOF) {
		return nil // a port check
	}
	if err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return err
	}
	var work sync.WaitGroup
	defer work.Wait()
	defer server.Close() //nolint:errcheck // often closed by the client already
	work.Go(func() { ssh.DiscardRequests(requests) })
	for offered := range channels {
		if offered.ChannelType() != "session" {
			_ = offered.Reject(ssh.UnknownChannelType, "this server knows sessions only") // else the connection is gone
			continue
		}
		channel, requests, err := offered.Accept()
		if err != nil {
			return err
		}
		s := &session{login: b.login, children: b.children, channel: channel, env: append(b.login.environ(),
			"SSH_CONNECTION="+hostPort(conn.RemoteAddr())+" "+hostPort(conn.LocalAddr()))}
		work.Go(func() { s.run(ctx, requests) })
	}
	return nil
}

func hostPort(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return "unknown 0"
	}
	return host + " " + port
}
