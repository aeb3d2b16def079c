// Package ipmi runs OpenIPMI's simulator of a management controller, for tests: the
// controller of one machine, that speaks IPMI 2.0 over LAN, on loopback. What the
// machine would do is for the test: see [Options.OnPower].
//
// The simulator has no DCMI, and so no asset tag. [Server.Tool] is an ipmitool that
// answers commands about the asset tag itself and leaves all others to the real one.
package ipmi

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// Who may log in.
const (
	Username = "admin"
	Password = "s3cret"
)

// Options says what a controller is like.
type Options struct {
	// OnPower is called when the machine goes on or off, one call at a time, before the
	// controller answers. boot is what is set to boot from when it goes on: "none",
	// "pxe", "disk" and others of ipmi_sim.
	OnPower func(on bool, boot string)
	// OnCall is called before a call takes effect: see [Server.Calls].
	OnCall func(call string)
	// NoTag: the controller has no asset tag.
	NoTag bool
}

// Server is a running simulator. Its methods may be called at any time.
type Server struct {
	Options

	address, tool string

	mu    sync.Mutex
	on    bool
	boot  string
	tag   []byte
	calls []string
	done  sync.WaitGroup
}

// New starts a simulator of a machine that is off. It ends with the test, which is
// skipped where ipmi_sim or ipmitool is missing.
func New(t testing.TB, o Options) *Server {
	t.Helper()
	simulator, tool := brokertest.NeedProgram(t, "ipmi_sim"), brokertest.NeedProgram(t, "ipmitool")
	dir, err := os.MkdirTemp("", "ipmi-") //nolint:usetesting // t.TempDir has the test's name in it, which has spaces
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &Server{Options: o, boot: "none"}
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.done.Go(func() { s.accept(l) })
	t.Cleanup(func() {
		_ = l.Close()
		s.done.Wait()
	})

	_, hookPort, _ := net.SplitHostPort(l.Addr().String())
	ask := fmt.Sprintf("#!/bin/bash\nask() { exec 3<>/dev/tcp/127.0.0.1/%s; echo \"$*\" >&3; cat <&3; }\n", hookPort)
	s.tool = filepath.Join(dir, "bin", "ipmitool")
	write(t, filepath.Join(dir, "chassis"), ask+"ask chassis \"$@\"\n")
	write(t, s.tool, ask+`case " $* " in
*" raw 0x2c "*) answer=$(ask raw "${@}"); case $answer in error*) echo "Unable to send RAW command: ${answer#error }" >&2; exit 1;; esac; echo " $answer";;
*) exec `+tool+` "$@";;
esac
`)
	port := freePort(t)
	s.address = net.JoinHostPort("127.0.0.1", port)
	write(t, filepath.Join(dir, "bm.emu"), "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\nmc_enable 0x20\n")
	write(t, filepath.Join(dir, "lan.conf"), fmt.Sprintf(`name "test"
set_working_mc 0x20
startlan 1
  addr 127.0.0.1 %s
  priv_limit admin
  allowed_auths_callback none md2 md5 straight
  allowed_auths_user none md2 md5 straight
  allowed_auths_operator none md2 md5 straight
  allowed_auths_admin none md2 md5 straight
  guid a123456789abcdefa123456789abcdef
endlan
chassis_control "%s 0x20"
user 1 true "" "test" user 10 none md2 md5 straight
user 2 true "%s" "%s" admin 10 none md2 md5 straight
`, port, filepath.Join(dir, "chassis"), Username, Password))
	if err := os.Mkdir(filepath.Join(dir, "state"), 0o700); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), simulator, "-c", "lan.conf", "-f", "bm.emu", "-s", "state", "-n") //nolint:gosec // a program of the system
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	s.await(t, tool)
	return s
}

func write(t testing.TB, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte(text), 0o700)); err != nil { //nolint:gosec // scripts are run
		t.Fatal(err)
	}
}

func freePort(t testing.TB) string {
	t.Helper()
	c, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, port, _ := net.SplitHostPort(c.LocalAddr().String())
	return port
}

// await waits until the simulator answers.
func (s *Server) await(t testing.TB, tool string) {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.address)
	var out []byte
	var err error
	for range 20 {
		cmd := exec.CommandContext(t.Context(), tool, "-I", "lanplus", "-C", "3", "-N", "1", "-R", "1", "-H", host, "-p", port, "-U", Username, "-E", "chassis", "power", "status") //nolint:gosec // a program of the system
		cmd.Env = append(os.Environ(), "IPMI_PASSWORD="+Password)
		if out, err = cmd.CombinedOutput(); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("ipmi_sim does not answer: %v\n%s", err, out)
}

// Address is the host and port of the controller.
func (s *Server) Address() string { return s.address }

// Tool is the path of an ipmitool that knows the asset tag. Its directory has nothing
// else.
func (s *Server) Tool() string { return s.tool }

// On tells whether the machine is on.
func (s *Server) On() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.on
}

// Switch switches the machine as its power button, or its own system, would.
func (s *Server) Switch(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.change(on)
}

// Tag gives the asset tag.
func (s *Server) Tag() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.tag)
}

// SetTag sets the asset tag.
func (s *Server) SetTag(tag string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tag = []byte(tag)
}

// Calls lists what changed the machine: "power 1", "boot pxe", "tag".
func (s *Server) Calls() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.calls...)
}

func (s *Server) accept(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		s.done.Go(func() {
			defer func() { _ = c.Close() }()
			line, _ := bufio.NewReader(c).ReadString('\n')
			_, _ = fmt.Fprintln(c, s.answer(strings.Fields(line)))
		})
	}
}

// answer answers the scripts: "chassis MC get|set|check NAME [VALUE]..." of
// ipmi_sim, and "raw ..." with the command line of ipmitool.
func (s *Server) answer(words []string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case len(words) > 3 && words[0] == "chassis" && words[2] == "get":
		var lines []string
		for _, name := range words[3:] {
			value := map[string]string{"power": "0", "boot": s.boot}[name]
			if name == "power" && s.on {
				value = "1"
			}
			lines = append(lines, name+":"+value)
		}
		return strings.Join(lines, "\n")
	case len(words) > 4 && words[0] == "chassis" && words[2] == "set":
		for i := 3; i+1 < len(words); i += 2 {
			s.called(words[i] + " " + words[i+1])
			switch words[i] {
			case "power":
				s.change(words[i+1] == "1")
			case "boot":
				s.boot = words[i+1]
			}
		}
	case len(words) > 0 && words[0] == "raw":
		return s.dcmi(words)
	}
	return ""
}

func (s *Server) called(what string) {
	s.calls = append(s.calls, what)
	if s.OnCall != nil {
		s.OnCall(what)
	}
}

func (s *Server) change(on bool) {
	if on == s.on {
		return
	}
	s.on = on
	boot := s.boot
	if on {
		s.boot = "none"
	}
	if s.OnPower != nil {
		s.OnPower(on, boot)
	}
}

// dcmi answers Get and Set Asset Tag of DCMI 1.5.
func (s *Server) dcmi(words []string) string {
	var data []byte
	for i := len(words) - 1; i > 0 && words[i] != "raw"; i-- {
		b, _ := strconv.ParseUint(strings.TrimPrefix(words[i], "0x"), 16, 8)
		data = append([]byte{byte(b)}, data...)
	}
	if s.NoTag || len(data) < 5 {
		return "error (channel=0x0 netfn=0x2c lun=0x0 cmd=0x6 rsp=0xc1): Invalid command"
	}
	offset, count := int(data[3]), int(data[4])
	answer := []byte{0xdc}
	switch data[1] {
	case 0x06:
		end := min(offset+count, len(s.tag))
		answer = append(append(answer, byte(len(s.tag)&0xff)), s.tag[min(offset, end):end]...)
	case 0x08:
		s.called("tag")
		s.tag = append(s.tag[:min(offset, len(s.tag))], data[5:]...)
		answer = append(answer, byte(len(s.tag)&0xff))
	}
	text := hex.EncodeToString(answer)
	var parts []string
	for i := 0; i < len(text); i += 2 {
		parts = append(parts, text[i:i+2])
	}
	return strings.Join(parts, " ")
}
