package terraform

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/terraform/duffyprovider"
	"github.com/duffy-broker/duffy-broker/broker/terraform/provider"
)

// parentJob makes the test binary a parent process that starts a run, to be killed.
const parentJob = "DUFFY_TEST_PARENT_JOB"

type job struct {
	Binary    Binary
	Dir, Keys string
	Operation string
	Node      broker.Node
	Sealed    []byte
}

func TestMain(m *testing.M) {
	if text := os.Getenv(parentJob); text != "" {
		if err := runJob(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// The test binary stands in for duffy-broker.
	if duffyprovider.Invoked(os.Args[0]) {
		if err := duffyprovider.Serve(context.Background(), duffyprovider.Options{}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) == 3 && os.Args[1] == "provider-host" {
		if err := provider.Serve(context.Background(), os.Args[2], os.Stderr); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if text := os.Getenv(diskJob); text != "" {
		_ = os.Unsetenv("TF_CLI_CONFIG_FILE")
		if err := runDiskJob(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Warnings about it would be in what is compared.
	if err := os.Unsetenv("TF_CLI_CONFIG_FILE"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

func runJob(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	keys, err := secret.Open(j.Keys)
	if err != nil {
		return err
	}
	e := New(Config{Binary: j.Binary, Dir: j.Dir, Keyring: keys, Log: slog.New(slog.DiscardHandler)})
	if j.Operation == opApply {
		_, err = e.Apply(context.Background(), j.Node)
	} else {
		_, err = e.Destroy(context.Background(), j.Node, j.Sealed)
	}
	return err
}

// testEngine gives an engine with directories of its own. At the end of the test
// none of its processes may be left.
func testEngine(t *testing.T, binary string, change ...func(*Config)) *Engine {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { checkNoProcess(t, dir) })
	return engineIn(t, dir, binary, change...)
}

func engineIn(t *testing.T, dir, binary string, change ...func(*Config)) *Engine {
	t.Helper()
	keys, err := secret.Open(filepath.Join(dir, "keys"))
	if err != nil {
		t.Fatal(err)
	}
	c := Config{
		Binary: Binary{Path: binary}, Dir: dir, BrokerID: "broker-1", SSHPublicKeys: []string{"ssh-ed25519 AAAA test"},
		Keyring: keys, Executable: "/opt/duffy-broker", Log: slog.New(slog.NewTextHandler(testWriter{t}, nil)),
	}
	for _, f := range change {
		f(&c)
	}
	e := New(c)
	t.Cleanup(e.reapers.Wait)
	return e
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	return w.t.Output().Write(p)
}

// checkNoProcess fails the test if a process stays that has to do with dir, the
// test's own, and ends it.
func checkNoProcess(t *testing.T, dir string) {
	t.Helper()
	var left []string
	var leftPids []int
	waitFor(t, "the end of all processes", func() bool {
		left, leftPids = nil, nil
		for _, pid := range pids() {
			proc := fmt.Sprintf("/proc/%d", pid)
			line, _ := os.ReadFile(proc + "/cmdline")
			cwd, _ := os.Readlink(proc + "/cwd")
			if strings.Contains(string(line), dir+"/") || strings.HasPrefix(cwd, dir+"/") {
				leftPids = append(leftPids, pid)
				left = append(left, fmt.Sprintf("%d: %s", pid, strings.ReplaceAll(string(line), "\x00", " ")))
			}
		}
		return len(left) == 0
	}, func() string {
		for _, pid := range leftPids {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return strings.Join(left, "\n")
	})
}

// waitFor polls until ok, and fails the test after a time that no machine needs.
func waitFor(t *testing.T, what string, ok func() bool, detail ...func() string) {
	t.Helper()
	for range 3000 {
		if ok() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, d := range detail {
		t.Log(d())
	}
	t.Fatalf("waited in vain for %s", what)
}

func waitForFile(t *testing.T, path string) {
	t.Helper()
	waitFor(t, path, func() bool { return exists(path) })
}

func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// wantError checks that err has all of the texts.
func wantError(t *testing.T, err error, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("got error %v\nwant one with %q", err, text)
		}
	}
}

// filesWith lists the files below dir that hold text.
func filesWith(t *testing.T, dir, text string) []string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		if strings.Contains(string(content), text) {
			found = append(found, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}
