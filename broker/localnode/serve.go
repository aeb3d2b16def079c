package localnode

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// watchInterval is how often a server looks whether its directory is still there.
const watchInterval = 2 * time.Second

// Serve is the node whose directory [Start] prepared: it runs until ctx ends, the
// process gets SIGTERM or SIGINT, the directory goes, or the node's time to die
// has come. It must be the only business of its process, since at its end it
// kills every descendant of the process. It leaves the directory to [Stop].
func Serve(ctx context.Context, dir string) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	starter := callStarter()
	defer starter.hangUp()
	err := serve(ctx, dir, starter)
	if err != nil {
		starter.say(err.Error())
	}
	return err
}

func serve(ctx context.Context, dirName string, starter *starter) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := openDirectory(dirName)
	if err != nil {
		return err
	}
	lock, err := dir.lock(false)
	if err != nil {
		return err
	}
	defer unlock(lock) //nolint:errcheck // nothing was written
	text, err := os.ReadFile(dir.path("options.json"))
	if err != nil {
		return err
	}
	o, err := decodeOptions(text)
	if err != nil {
		return fmt.Errorf("%s: %w", dir.path("options.json"), err)
	}
	if err := adoptOrphans(); err != nil {
		return fmt.Errorf("become the reaper of orphans: %w", err)
	}

	procs := &children{}
	server, l, err := prepare(o, dir, procs)
	if err != nil {
		return err
	}
	bind := bindAndListen
	if o.BootDelay > 0 {
		bind = bindOnly
	}
	claimed, err := claimAddress(ctx, o.UID, recordedAddress(dir), bind)
	if err != nil {
		return fmt.Errorf("no loopback address is free: %w", err)
	}
	if err := announce(dir, l.user, claimed.address, starter); err != nil {
		return errors.Join(err, claimed.release())
	}

	var work sync.WaitGroup
	defer func() {
		cancel()
		procs.kill()
		if left := killDescendants(); len(left) > 0 {
			err = errors.Join(err, fmt.Errorf("processes %v could not be killed", left))
		}
		work.Wait()
	}()
	work.Go(func() {
		defer cancel()
		watch(ctx, dir, lock, procs)
	})
	if !pause(ctx, o.BootDelay) {
		return claimed.release()
	}
	listener, err := claimed.listen()
	if err != nil {
		return err
	}
	if o.DiesAfter > 0 {
		work.Go(func() {
			defer cancel()
			pause(ctx, o.DiesAfter)
		})
	}
	work.Go(func() {
		<-ctx.Done()
		_ = listener.Close() // ends accept
	})
	return accept(ctx, listener, server, &work)
}

// prepare writes what the node needs, and chooses its server.
func prepare(o Options, dir directory, procs *children) (server, login, error) {
	l, err := newLogin(o, dir)
	if err != nil {
		return nil, login{}, err
	}
	if err := prepareHome(o, l); err != nil {
		return nil, login{}, err
	}
	key, err := hostKey(dir)
	if err != nil {
		return nil, login{}, err
	}
	if o.Silent {
		return silent{}, l, nil
	}
	if o.Server == ServerOpenSSH || o.Server == ServerAuto && canGiveTerminals() {
		s, err := newOpenSSH(l, procs)
		if err == nil {
			return s, l, nil
		}
		if o.Server == ServerOpenSSH {
			return nil, login{}, err
		}
	}
	return newBuiltin(l, key, procs), l, nil
}

// announce records where the node is, and the pid once the node is there to stay:
// who sees the pid sees the rest, and may rely on it.
func announce(dir directory, user string, address netip.AddrPort, starter *starter) error {
	for _, file := range [][2]string{
		{"user", user},
		{"address", address.Addr().String()},
		{"port", strconv.Itoa(int(address.Port()))},
	} {
		if err := dir.write(file[0], []byte(file[1]+"\n"), 0o600); err != nil {
			return err
		}
	}
	starter.say(saidReady)
	if !starter.agrees() {
		return errors.New("whoever started this node has gone without waiting for it")
	}
	if err := dir.write("pid", []byte(strconv.Itoa(os.Getpid())+"\n"), 0o600); err != nil {
		return err
	}
	starter.say(saidStays)
	starter.hangUp()
	return nil
}

// recordedAddress gives the address of an earlier life, or the zero value.
func recordedAddress(dir directory) netip.AddrPort {
	address, _ := dir.read("address")
	port, _ := dir.read("port")
	recorded, _ := netip.ParseAddrPort(address + ":" + port)
	return recorded
}

// watch returns when ctx ends or the directory is not the server's any more.
// Between, it collects orphans that have ended.
func watch(ctx context.Context, dir directory, lock *os.File, procs *children) {
	for pause(ctx, watchInterval) && dir.owns(lock) {
		procs.reap()
	}
}

// pause waits, and tells whether it could wait to the end.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return ctx.Err() == nil
	}
}

// A server serves one connection, and has closed it when it returns, which it
// does soon after ctx ended. An error is for the log.
type server interface {
	serve(ctx context.Context, conn net.Conn) error
}

// accept serves connections until the listener is closed.
func accept(ctx context.Context, listener net.Listener, server server, work *sync.WaitGroup) error {
	for {
		conn, err := listener.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				return conn.Close()
			}
			return nil
		case err != nil:
			// Out of descriptors, most likely: others will be given back.
			logf("accept: %v", err)
			pause(ctx, 100*time.Millisecond)
			continue
		}
		work.Go(func() {
			if err := server.serve(ctx, conn); err != nil {
				logf("%s: %v", conn.RemoteAddr(), err)
			}
		})
	}
}

// logf writes to standard error, which is the node's log.
func logf(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// silent is the server of a node that never answers.
type silent struct{}

func (silent) serve(ctx context.Context, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	_, _ = io.Copy(io.Discard, conn) // until the client gives up
	return conn.Close()
}

// starter is the Start that waits for this server, over two pipes. Should it die
// before it has taken note of the node, nobody would ever stop the node: so the
// server waits for its consent. Without a Start every method does nothing.
type starter struct{ to, from *os.File }

// The descriptors of the pipes, and the variable that says that they are there.
const (
	starterTo       = 3
	starterFrom     = 4
	starterVariable = "DUFFY_NODE_STARTER"

	saidReady = "ready" // it listens; the starter must agree
	saidStays = "stays" // it took note
)

func callStarter() *starter {
	if os.Getenv(starterVariable) == "" {
		return &starter{}
	}
	syscall.CloseOnExec(starterTo)
	syscall.CloseOnExec(starterFrom)
	return &starter{to: os.NewFile(starterTo, "to starter"), from: os.NewFile(starterFrom, "from starter")}
}

// say sends one line.
func (s *starter) say(line string) {
	if s.to != nil {
		_, _ = fmt.Fprintf(s.to, "%q\n", line) // if it has gone, agrees says so
	}
}

// agrees waits for the starter's consent, or for its end.
func (s *starter) agrees() bool {
	if s.from == nil {
		return true
	}
	_, err := bufio.NewReader(s.from).ReadByte()
	return err == nil
}

func (s *starter) hangUp() {
	if s.to != nil {
		_, _ = s.to.Close(), s.from.Close()
	}
	s.to, s.from = nil, nil
}
