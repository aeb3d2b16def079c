package localnode

import (
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/creack/pty"
	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// session is one channel of the built-in server; one program runs on it at most.
type session struct {
	login    login
	children *children
	channel  ssh.Channel
	env      []string

	// Of the goroutine that answers requests.
	terminal *os.File // the program's side, from pty-req until it starts
	master   *os.File // our side
	process  *os.Process

	work sync.WaitGroup
}

// run answers the requests of the client until it closes the channel.
func (s *session) run(ctx context.Context, requests <-chan *ssh.Request) {
	for request := range requests {
		after, ok := s.answer(ctx, request)
		if request.WantReply {
			_ = request.Reply(ok, nil) // else the connection is gone
		}
		if after != nil {
			s.work.Go(after)
		}
	}
	// The client has gone. A terminal hangs up, as ever; other programs see
	// their input end, and run on until they write.
	_ = s.channel.Close() // often closed already
	for _, file := range []*os.File{s.terminal, s.master} {
		if file != nil {
			_ = file.Close()
		}
	}
	s.work.Wait()
}

// answer does what a request asks for, and tells whether it could. What is still
// to do after the reply is in the function.
func (s *session) answer(ctx context.Context, request *ssh.Request) (func(), bool) {
	switch request.Type {
	case "env":
		var v struct{ Name, Value string }
		if ssh.Unmarshal(request.Payload, &v) != nil || v.Name != "LANG" && !strings.HasPrefix(v.Name, "LC_") {
			return nil, false
		}
		s.env = append(s.env, v.Name+"="+v.Value)
		return nil, true
	case "pty-req":
		return nil, s.openTerminal(request.Payload)
	case "window-change":
		var size struct{ Columns, Rows, Width, Height uint32 }
		ok := s.master != nil && ssh.Unmarshal(request.Payload, &size) == nil
		return nil, ok && resize(s.master, size.Columns, size.Rows) == nil
	case "signal":
		var v struct{ Name string }
		if s.process == nil || ssh.Unmarshal(request.Payload, &v) != nil {
			return nil, false
		}
		number, ok := signals()[v.Name]
		// The program is the leader of its group. Once it was waited for its
		// number is nobody's that we may signal: ask the process first.
		return nil, ok && s.process.Signal(syscall.Signal(0)) == nil && syscall.Kill(-s.process.Pid, number) == nil
	case "shell":
		return s.start(ctx)
	case "exec":
		var v struct{ Command string }
		if ssh.Unmarshal(request.Payload, &v) != nil {
			return nil, false
		}
		s.env = append(s.env, "SSH_ORIGINAL_COMMAND="+v.Command)
		return s.start(ctx)
	}
	return nil, false
}

// signals are those of RFC 4254, 6.10, by name.
func signals() map[string]syscall.Signal {
	return map[string]syscall.Signal{
		"ABRT": syscall.SIGABRT, "ALRM": syscall.SIGALRM, "FPE": syscall.SIGFPE, "HUP": syscall.SIGHUP,
		"ILL": syscall.SIGILL, "INT": syscall.SIGINT, "KILL": syscall.SIGKILL, "PIPE": syscall.SIGPIPE,
		"QUIT": syscall.SIGQUIT, "SEGV": syscall.SIGSEGV, "TERM": syscall.SIGTERM,
		"USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2,
	}
}

func (s *session) openTerminal(payload []byte) bool {
	var v struct {
		Term                         string
		Columns, Rows, Width, Height uint32
		Modes                        string
	}
	if s.terminal != nil || s.process != nil || ssh.Unmarshal(payload, &v) != nil {
		return false
	}
	master, terminal, err := openPTY()
	if err != nil {
		logf("pty: %v", err)
		return false
	}
	s.master, s.terminal = master, terminal
	s.env = append(s.env, "TERM="+v.Term, "SSH_TTY="+terminal.Name())
	return resize(master, v.Columns, v.Rows) == nil
}

// openPTY gives a terminal whose master can be read with a deadline. Package pty
// switches its files to blocking, in which a deadline has no effect.
func openPTY() (master, terminal *os.File, err error) {
	blocking, terminal, err := pty.Open()
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.FcntlInt(blocking.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err == nil {
		err = unix.SetNonblock(fd, true)
	}
	if err = errors.Join(err, blocking.Close()); err != nil {
		return nil, nil, errors.Join(err, terminal.Close())
	}
	return os.NewFile(uintptr(fd), blocking.Name()), terminal, nil
}

func resize(master *os.File, columns, rows uint32) error {
	raw, err := master.SyscallConn()
	if err != nil {
		return err
	}
	size := &unix.Winsize{Col: uint16(min(columns, 1<<15)), Row: uint16(min(rows, 1<<15))}
	control := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, size)
	})
	return errors.Join(control, err)
}

// start starts the login script. The function that it gives waits for its end.
func (s *session) start(ctx context.Context) (func(), bool) {
	if s.process != nil {
		return nil, false
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", s.login.dir.path("login")) //nolint:gosec // our script
	cmd.Dir, cmd.Env = string(s.login.dir), s.env
	var input io.WriteCloser
	var err error
	if s.terminal != nil {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = s.terminal, s.terminal, s.terminal
		input = s.master
	} else {
		// Not cmd.Stdin: Wait would wait until the client ends its input.
		input, err = cmd.StdinPipe()
		cmd.Stdout, cmd.Stderr = s.channel, s.channel.Stderr()
	}
	if err == nil {
		err = s.children.start(cmd, s.terminal != nil)
	}
	if err != nil {
		logf("login: %v", err)
		return nil, false
	}
	s.process = cmd.Process
	output := func() {}
	hasTerminal := s.terminal != nil
	if hasTerminal {
		_ = s.terminal.Close() // the program has it
		s.terminal = nil
		output = func() { drain(s.channel, s.master) }
	}
	return func() { s.finish(cmd, input, output, hasTerminal) }, true
}

// finish passes data between client and program, and tells the client how the
// program ended.
func (s *session) finish(cmd *exec.Cmd, input io.WriteCloser, output func(), hasTerminal bool) {
	s.work.Go(func() {
		_, _ = io.Copy(input, s.channel) // until either side has enough
		if !hasTerminal {
			_ = input.Close()
		}
	})
	var copied sync.WaitGroup
	copied.Go(output)
	err := s.children.wait(cmd)
	if hasTerminal && s.master.SetReadDeadline(time.Now().Add(drainPause)) != nil {
		_ = s.master.Close() // no deadlines here: what is not read by now is lost
	}
	copied.Wait()
	s.tell(cmd.ProcessState, err)
	_ = s.channel.Close() // the client may have been faster
}

// drainPause is how long a terminal must be quiet after its program ended, until
// nothing more is expected of it: background programs may hold it open for ever.
const drainPause = 50 * time.Millisecond

// drain copies a terminal's output. After the first deadline it goes on for as
// long as there is something to read.
func drain(to io.Writer, terminal *os.File) {
	buffer := make([]byte, 16<<10)
	for quiet := false; ; {
		n, err := terminal.Read(buffer)
		if n > 0 {
			quiet = false
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !quiet {
			quiet = true
			err = terminal.SetReadDeadline(time.Now().Add(drainPause))
		}
		if err != nil {
			return
		}
	}
}

// tell reports the program's end, as RFC 4254, 6.10 has it.
func (s *session) tell(state *os.ProcessState, err error) {
	code := uint32(255)
	switch {
	case state == nil:
		logf("login: %v", err)
	case state.Exited():
		code = uint32(state.ExitCode()) //nolint:gosec // 0 to 255
	default:
		if status, ok := state.Sys().(syscall.WaitStatus); ok {
			s.tellSignal(status)
			return
		}
	}
	_, _ = s.channel.SendRequest("exit-status", false, ssh.Marshal(struct{ Code uint32 }{code})) // else the client is gone
}

func (s *session) tellSignal(status syscall.WaitStatus) {
	name := "TERM" // what has no name in the RFC
	for known, number := range signals() {
		if number == status.Signal() {
			name = known
		}
	}
	_, _ = s.channel.SendRequest("exit-signal", false, ssh.Marshal(struct {
		Name       string
		Core       bool
		Text, Lang string
	}{Name: name, Core: status.CoreDump(), Text: status.Signal().String()})) // else the client is gone
}
