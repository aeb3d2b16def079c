package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// A disk that fills up under a running broker: requests get a clear refusal, the
// log says what is wrong, and nothing that was promised is lost. With space it
// goes on by itself.
func TestFullDisk(t *testing.T) {
	if runtime.GOOS != "linux" {
		brokertest.Skip(t, "a small file system can be mounted on Linux only")
	}
	unshare := brokertest.NeedProgram(t, "unshare")
	t.Parallel()
	// Nodes of modules/local would suffer on the same disk; these are records only.
	s := newServer(t, strings.Replace(plainPool(t, 3), "max_nodes     = 3", "max_nodes     = 8", 1))
	if err := os.MkdirAll(s.data, 0o700); err != nil {
		t.Fatal(err)
	}
	// The broker lives in a mount namespace of its own, where its data directory
	// is a small file system. From here it is reached through /proc.
	s.wrap = []string{unshare, "-m", "sh", "-c", `mount -t tmpfs -o size=8m,mode=700 tmpfs "$0" && exec "$@"`, s.data}
	if os.Geteuid() != 0 {
		s.wrap[1] = "-rm"
	}
	s.start()
	s.full(time.Minute)
	one := map[string]any{"nodes_specs": []map[string]any{{"pool": "plain", "quantity": 1}}}
	session := s.must(201, "admin", "POST", "/sessions", one).Session
	s.full(time.Minute)

	filler := filepath.Join("/proc", fmt.Sprint(s.cmd.Process.Pid), "root", s.data, "filler")
	fillDisk(t, filler)
	// What is there can be read, and what can't be written is refused. The
	// database has free pages left for a while: every extension leaves an event.
	refused := false
	for range 5000 {
		status, answer, err := s.call("admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"expires_at": "+1s"})
		if err != nil {
			t.Fatal(err)
		}
		if status == 503 && strings.Contains(answer.Detail, "could not be stored") {
			refused = true
			break
		}
		if status != 200 {
			t.Fatalf("on a full disk: status %d, %q", status, answer.Detail)
		}
	}
	if !refused {
		t.Error("no request was refused on a full disk")
	}
	if got := s.must(200, "admin", "GET", fmt.Sprintf("/sessions/%d", session.ID), nil).Session; !got.Active || len(got.Nodes) != 1 {
		t.Errorf("the session is %+v on a full disk", got)
	}
	s.eventually("the log says what is wrong", time.Minute, func() error {
		if !strings.Contains(s.log.String(), "no space left on device") {
			return errors.New("no such line")
		}
		return nil
	})
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.eventually("requests are served again", time.Minute, func() error {
		status, answer, err := s.call("admin", "POST", "/sessions", one)
		if err == nil && status != 201 {
			err = fmt.Errorf("status %d, %s", status, answer.Detail)
		}
		return err
	})
	if got := s.must(200, "admin", "GET", fmt.Sprintf("/sessions/%d", session.ID), nil).Session; !got.Active {
		t.Error("the session was lost")
	}
	for _, session := range s.must(200, "admin", "GET", "/sessions", nil).Sessions {
		s.must(200, "admin", "PUT", fmt.Sprintf("/sessions/%d", session.ID), map[string]any{"active": false})
	}
	s.full(2 * time.Minute)
	s.stop()
}

// fillDisk writes until nothing fits any more.
func fillDisk(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for _, size := range []int{1 << 20, 1 << 12, 1} {
		chunk := make([]byte, size)
		for {
			if _, err = f.Write(chunk); err != nil {
				break
			}
		}
	}
	if !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
		t.Fatalf("fill the disk: %v", err)
	}
}
