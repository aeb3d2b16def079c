package localnode

import (
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

func TestServe_diesAfter(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server)
		n.DiesAfter = time.Second
		n.start(t)
		pid := n.pid(t)
		tenants := startDaemon(t, n, false)
		eventually(t, "the server ends", func() bool { return !isAlive(pid) })
		if isAlive(tenants) {
			t.Error("a tenant's process lives on")
		}
		if conn, err := net.Dial("tcp", n.address(t)); err == nil {
			_ = conn.Close()
			t.Error("it listens still")
		}
	})
}

func TestServe_endsWithItsDirectory(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server).start(t)
		pid := n.pid(t)
		tenants := startDaemon(t, n, true)
		if err := os.RemoveAll(n.Dir); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server ends", func() bool { return !isAlive(pid) })
		if isAlive(tenants) {
			t.Error("a tenant's process lives on")
		}
		n.wantNothingLeft(t)
	})
}

func startDaemon(t *testing.T, n node, bare bool) int {
	t.Helper()
	clean := ""
	if bare {
		clean = "env -i PATH=/usr/bin:/bin "
	}
	n.run(t, clean+`setsid sh -c 'sleep 600 <&- >&- 2>&- & echo $! > "$1"' sh "$HOME/daemon" && cd /`)
	text, err := os.ReadFile(n.Dir + "/home/daemon")
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || !isAlive(pid) {
		t.Fatalf("daemon %q: %v", text, err)
	}
	return pid
}

func TestStop_leavesNothing(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server).start(t)
		process := n.pid(t)
		daemon, bare := startDaemon(t, n, false), startDaemon(t, n, true)
		// A session that is in use, deaf to what it could be asked.
		session, err := n.login(t).NewSession()
		if err != nil {
			t.Fatal(err)
		}
		output, err := session.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Start(`trap "" HUP TERM; echo $$; while :; do sleep 1; done`); err != nil {
			t.Fatal(err)
		}
		line := make([]byte, 20)
		k, err := output.Read(line)
		if err != nil {
			t.Fatal(err)
		}
		busy, err := strconv.Atoi(strings.TrimSpace(string(line[:k])))
		if err != nil {
			t.Fatal(err)
		}
		// What Go's module cache looks like.
		n.run(t, "mkdir -p cache/mod; touch cache/mod/file; chmod 500 cache/mod; ln -s / root")

		if err := Stop(t.Context(), n.Dir); err != nil {
			t.Fatal(err)
		}
		for name, pid := range map[string]int{"server": process, "daemon": daemon, "bare daemon": bare, "busy session": busy} {
			if isAlive(pid) {
				t.Errorf("%s %d lives on", name, pid)
			}
		}
		n.wantNothingLeft(t)
		if err := Stop(t.Context(), n.Dir); err != nil {
			t.Errorf("a second stop: %v", err)
		}
	})
}

func TestStop_afterTheServerWasKilled(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server).start(t)
		daemon := startDaemon(t, n, false)
		client := n.login(t)
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Start(`trap "" HUP TERM; while :; do sleep 1; done`); err != nil {
			t.Fatal(err)
		}
		pid := n.pid(t)
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the server is dead", func() bool { return !isAlive(pid) })
		if err := Stop(t.Context(), n.Dir); err != nil {
			t.Fatal(err)
		}
		if isAlive(daemon) {
			t.Error("the daemon lives on")
		}
		n.wantNothingLeft(t)
	})
}

func TestServe_collectsOrphans(t *testing.T) {
	brokertest.NeedProgram(t, "setsid")
	n := newNode(t, ServerBuiltin).start(t)
	n.run(t, `setsid sh -c '(exec sleep 0.1) <&- >&- 2>&- &'`)
	zombies := func() int {
		count := 0
		for _, p := range processes() {
			if p.parent == n.pid(t) && p.zombie {
				count++
			}
		}
		return count
	}
	eventually(t, "the orphan ends", func() bool { return zombies() > 0 })
	eventually(t, "the orphan is collected", func() bool { return zombies() == 0 })
	n.run(t, "true")
}
