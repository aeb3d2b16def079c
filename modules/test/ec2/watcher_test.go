package ec2_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
)

// startMetadata runs amazon-ec2-metadata-mock: instance metadata that want a session
// token, and from a second on announce an interruption. It gives their address.
func startMetadata(t *testing.T, args ...string) string {
	t.Helper()
	brokertest.NeedProgram(t, "go")
	program := filepath.Join(t.TempDir(), "ec2-metadata-mock")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/aws/amazon-ec2-metadata-mock/cmd/ec2-metadata-mock")
	build.Dir, build.Env = filepath.Join(providers.Root(t), ".ci", "tools", "metadata-mock"), append(os.Environ(), "GOFLAGS=-mod=readonly", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the metadata mock: %v\n%s", err, out)
	}
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	_ = l.Close()
	_, port, _ := net.SplitHostPort(address)
	mock := exec.CommandContext(t.Context(), program, append([]string{"spot", "--imdsv2", "--hostname", "127.0.0.1", "--port", port}, args...)...)
	mock.Dir, mock.Env = t.TempDir(), append(os.Environ(), "HOME="+t.TempDir())
	mock.Stdout, mock.Stderr = t.Output(), t.Output()
	if err := mock.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = mock.Process.Kill() // it may have ended
		_ = mock.Wait()
	})
	for range 300 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
			return "http://" + address
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the metadata mock does not listen")
	return ""
}

type notice struct {
	Path, Authorization, Kind, Action string
	At                                time.Time
}

// startBroker stands for the broker: it answers with the statuses in their order, the
// last one for ever, and gives what comes.
func startBroker(t *testing.T, statuses ...int) (url string, notices <-chan notice) {
	t.Helper()
	got := make(chan notice, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		n := notice{Path: r.Method + " " + r.URL.Path, Authorization: r.Header.Get("Authorization")}
		if err := json.Unmarshal(body, &n); err != nil {
			n.Kind = fmt.Sprintf("%v: %s", err, body)
		}
		got <- n
		w.WriteHeader(statuses[0])
		if len(statuses) > 1 {
			statuses = statuses[1:]
		}
	}))
	t.Cleanup(server.Close)
	return server.URL, got
}

// next waits for a notice.
func next(t *testing.T, notices <-chan notice) notice {
	t.Helper()
	select {
	case n := <-notices:
		return n
	case <-time.After(time.Minute):
		t.Fatal("no notice comes")
		return notice{}
	}
}

// watch runs the very script of the module.
func watch(t *testing.T, imds, url string) *exec.Cmd {
	t.Helper()
	brokertest.NeedProgram(t, "curl")
	cmd := exec.CommandContext(t.Context(), "/bin/sh", filepath.Join(module(t), "interruption-watcher.sh"))
	cmd.Env = append(os.Environ(), "DUFFY_URL="+url, "DUFFY_TOKEN=secret-of-the-node", "DUFFY_IMDS="+imds, "DUFFY_INTERVAL=0.2", "TMPDIR="+t.TempDir())
	cmd.Stdout, cmd.Stderr = t.Output(), t.Output()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		_ = cmd.Wait()
	})
	return cmd
}

func TestWatcherTellsTheBroker(t *testing.T) {
	imds := startMetadata(t, "--action", "terminate", "--mock-delay-sec", "2", "--time", "2026-01-02T03:04:05Z")
	url, notices := startBroker(t, http.StatusServiceUnavailable, http.StatusTooManyRequests, http.StatusNoContent)
	cmd := watch(t, imds, url)
	want := notice{"POST /api/v1/notices", "Bearer secret-of-the-node", "interruption", "terminate", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)}
	for range 3 { // the broker is away, is busy, and takes it
		if diff := cmp.Diff(want, next(t, notices)); diff != "" {
			t.Errorf("notice (-want +got):\n%s", diff)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("once the broker knows: %v", err)
	}
	if n := len(notices); n > 0 {
		t.Errorf("%d more notices", n)
	}
	if left, _ := filepath.Glob(envOf(cmd, "TMPDIR") + "/*"); len(left) > 0 {
		t.Errorf("it leaves %v", left)
	}
}

func envOf(cmd *exec.Cmd, name string) string {
	value := ""
	for _, v := range cmd.Env {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}

func TestWatcherGivesUpWhenItIsRefused(t *testing.T) {
	imds := startMetadata(t, "--action", "stop")
	url, notices := startBroker(t, http.StatusUnauthorized)
	cmd := watch(t, imds, url)
	if n := next(t, notices); n.Action != "stop" {
		t.Errorf("notice %+v", n)
	}
	if err := cmd.Wait(); err != nil { // systemd would start it again
		t.Error(err)
	}
}
