package localnode

import (
	"context"
	"io"
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

	"github.com/google/go-cmp/cmp"
)

func TestStart_checksItsOptions(t *testing.T) {
	good := newNode(t, ServerBuiltin).Options
	for name, tt := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"relative directory": {func(o *Options) { o.Dir = "here" }, `directory "here" is not an absolute path below /`},
		"root directory":     {func(o *Options) { o.Dir = "/x/.." }, `directory "/x/.." is not an absolute path below /`},
		"quote in directory": {func(o *Options) { o.Dir = "/it's" }, `holds a quote`},
		"quote in host name": {func(o *Options) { o.Hostname = "x'; id'" }, `hostname "x'; id'" holds a quote`},
		"no uid":             {func(o *Options) { o.UID = "" }, "uid is empty"},
		"no key":             {func(o *Options) { o.Keys = []string{" "} }, "no ssh public key"},
		"not a key":          {func(o *Options) { o.Keys = append(o.Keys, "ssh-ed25519 x") }, "ssh public key 2 is not one"},
		"two keys in one":    {func(o *Options) { o.Keys = []string{o.Keys[0] + "\n" + o.Keys[0]} }, "ssh public key 1 is not one"},
		"unknown server":     {func(o *Options) { o.Server = "telnet" }, `server "telnet" is none of auto, openssh, builtin`},
		"negative delay":     {func(o *Options) { o.BootDelay = -1 }, "must not be negative"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good
			tt.change(&o)
			err := Start(t.Context(), o)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestStart_recordsTheNode(t *testing.T) {
	n := newNode(t, ServerBuiltin).start(t)
	for name, want := range map[string]os.FileMode{
		"": 0o700, "home": 0o700, "home/.ssh": 0o700, "home/.ssh/authorized_keys": 0o600, "host_key": 0o600, "address": 0o600, "log": 0o600,
	} {
		info, err := os.Stat(filepath.Join(n.Dir, name))
		if err != nil {
			t.Error(err)
		} else if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of %q is %o, want %o", name, got, want)
		}
	}
	if key := n.fact(t, "host_key.pub"); len(strings.Fields(key)) != 2 {
		t.Errorf(`host key is %q, want "type base64"`, key)
	}
	environ, err := os.ReadFile("/proc/" + n.fact(t, "pid") + "/environ")
	if err == nil && !strings.Contains(string(environ), nodeDirVariable) {
		t.Errorf("the server's environment lacks %s", nodeDirVariable)
	}
}

func TestStart_isIdempotent(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server).start(t)
		before := n.pid(t)
		n.start(t)
		if got := n.pid(t); got != before {
			t.Errorf("a second start made server %d of %d", got, before)
		}
		n.run(t, "true")
	})
}

func TestStart_twoAtOnceMakeOne(t *testing.T) {
	n := newNode(t, ServerBuiltin)
	var work sync.WaitGroup
	for range 4 {
		work.Go(func() {
			if err := Start(t.Context(), n.Options); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	n.run(t, "true")
	eventually(t, "one server", func() bool { return len(n.processes()) == 1 })
}

func TestStart_manyAtOnceGetAddressesOfTheirOwn(t *testing.T) {
	var nodes []node
	var work sync.WaitGroup
	for i := range 20 {
		n := newNode(t, ServerAuto)
		// Half of them all want the same address first.
		if i%2 == 0 {
			n.UID = "the same"
		}
		nodes = append(nodes, n)
		work.Go(func() {
			if err := Start(t.Context(), n.Options); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	if t.Failed() {
		return
	}
	seen := map[string]int{}
	for i, n := range nodes {
		address := n.address(t)
		if other, taken := seen[address]; taken {
			t.Errorf("nodes %d and %d both have %s", other, i, address)
		}
		seen[address] = i
		if got := n.run(t, "echo $DUFFY_NODE"); got != n.Hostname {
			t.Errorf("at %s answers %q, want %q", address, got, n.Hostname)
		}
	}
}

func TestStart_leavesNothingAfterAnError(t *testing.T) {
	n := newNode(t, ServerBuiltin)
	for name, executable := range map[string]string{"ends at once": "/bin/false", "missing": "/nonexistent"} {
		n.Executable = executable
		if err := Start(t.Context(), n.Options); err == nil {
			t.Errorf("%s: no error", name)
		}
		n.wantNothingLeft(t)
	}
	// Never answers, so that the context ends the wait.
	n.Executable = filepath.Join(t.TempDir(), "hangs")
	if err := os.WriteFile(n.Executable, []byte("#!/bin/sh\nexec sleep 600\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := Start(ctx, n.Options); err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
		t.Errorf("got %v, want the context's error", err)
	}
	n.wantNothingLeft(t)
}

func TestStart_saysWhyTheServerCantBe(t *testing.T) {
	n := newNode(t, ServerOpenSSH)
	n.start(t)
	if err := Stop(t.Context(), n.Dir); err != nil {
		t.Fatal(err)
	}
	// A file where a directory must be.
	if err := os.WriteFile(n.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Start(t.Context(), n.Options); err == nil {
		t.Error("no error")
	}
	if err := os.Remove(n.Dir); err != nil {
		t.Fatal(err)
	}
}

// A Start that is killed leaves its side of the pipes closed: the server must
// not stay, since nobody knows of it.
func TestServe_endsIfItsStarterDies(t *testing.T) {
	n := newNode(t, ServerBuiltin)
	d := directory(n.Dir)
	if err := os.MkdirAll(d.path("home"), 0o700); err != nil {
		t.Fatal(err)
	}
	text, err := n.encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"options.json", "lock"} {
		if err := d.write(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	hear, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, agree, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(n.Executable, "local-node", "serve", "--dir", n.Dir)
	cmd.Env, cmd.ExtraFiles = serverEnviron(d), []*os.File{to, from}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = to.Close()
	_ = from.Close()
	word := make([]byte, 100)
	if k, err := hear.Read(word); err != nil || string(word[:k]) != "\"ready\"\n" {
		t.Errorf("it said %q, %v", word[:k], err)
	}
	_ = hear.Close()
	_ = agree.Close()
	if err := cmd.Wait(); err == nil {
		t.Error("it ended without an error")
	}
}

func TestServe_bootDelay(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server)
		n.BootDelay = time.Hour
		n.start(t)
		if conn, err := net.Dial("tcp", n.address(t)); err == nil {
			_ = conn.Close()
			t.Error("a node that boots for an hour listens at once")
		}

		soon := newNode(t, server)
		soon.BootDelay = 300 * time.Millisecond
		soon.start(t)
		eventually(t, "the node listens", func() bool {
			conn, err := net.Dial("tcp", soon.address(t))
			if err == nil {
				_ = conn.Close()
			}
			return err == nil
		})
		soon.run(t, "true")
	})
}

func TestServe_silent(t *testing.T) {
	n := newNode(t, ServerAuto)
	n.Silent = true
	n.start(t)
	conn, err := net.Dial("tcp", n.address(t))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := conn.Write([]byte("SSH-2.0-test\r\n")); err != nil {
		t.Fatal(err)
	}
	// A real server sends its version as soon as it has a connection.
	if err := conn.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if k, err := conn.Read(make([]byte, 1)); !os.IsTimeout(err) {
		t.Errorf("read %d bytes, %v: want none", k, err)
	}
}

// startDaemon has a tenant start a process that leaves its session and its
// parents behind, and its environment too if bare is set. It gives the pid.
func TestStart_againAfterACrash(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server).start(t)
		facts := func() []string {
			return []string{n.address(t), n.fact(t, "host_key.pub"), n.run(t, "cat file")}
		}
		n.run(t, "echo kept > file")
		before := facts()
		pid := n.pid(t)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server is dead", func() bool { return !isAlive(pid) })
		n.start(t)
		if n.pid(t) == pid {
			t.Error("no new server")
		}
		if diff := cmp.Diff(before, facts()); diff != "" {
			t.Errorf("-before +after\n%s", diff)
		}
	})
}

// A pid file that names a stranger, as after a reboot, must not kill him.
func TestStop_sparesStrangers(t *testing.T) {
	n := newNode(t, ServerBuiltin).start(t)
	server := n.pid(t)
	stranger := exec.Command("sleep", "600")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	}()
	d := directory(n.Dir)
	if err := d.write("pid", []byte(strconv.Itoa(stranger.Process.Pid)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := Stop(ctx, n.Dir); err == nil {
		t.Error("stopped a server that it could not know")
	}
	if !isAlive(stranger.Process.Pid) {
		t.Error("the stranger is dead")
	}
	if err := d.write("pid", []byte(strconv.Itoa(server)), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestStop_refusesWhatIsNoNode(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "precious")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), dir); err == nil || !strings.Contains(err.Error(), "it is no node") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
	// What a Start leaves that was killed at once.
	begun := filepath.Join(dir, "begun")
	if err := os.MkdirAll(filepath.Join(begun, "home"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), begun); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(begun); !os.IsNotExist(err) {
		t.Error("it is still there")
	}
}

// The server must not collect the exit status that somebody waits for, and must
// collect all others.
func TestServe_survivesNoise(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server).start(t)
		for _, noise := range []string{"", "GET / HTTP/1.0\r\n\r\n", strings.Repeat("x", 1<<16)} {
			conn, err := net.Dial("tcp", n.address(t))
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(conn, noise)
			_ = conn.Close()
		}
		n.run(t, "true")
	})
}
