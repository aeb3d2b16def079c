package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// The provider host of a pool survives a killed broker, serves the next one, and
// ends with an ordinary stop.
func TestProviderHost(t *testing.T) {
	t.Setenv("TF_CLI_CONFIG_FILE", fakecloud.Mirror(t))
	cloud := fakecloud.Start(t, fakecloud.Config{})
	module, err := filepath.Abs("../../broker/brokertest/fakecloud/testdata/shared")
	if err != nil {
		t.Fatal(err)
	}
	pools := func(fill int) string {
		return fmt.Sprintf("pool \"p\" {\n  module = %q\n  fill_level = %d\n  max_nodes = 4\n  contextualize = \"none\"\n  provider_sharing = true\n  variables = { endpoint = %q }\n}\n",
			module, fill, cloud.URL())
	}
	s := newServer(t, pools(2))
	if s.data, err = os.MkdirTemp("/tmp", "duffy-"); err != nil { //nolint:usetesting // a socket's path must be short
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.data) })
	instances := func(want int) {
		t.Helper()
		s.eventually(fmt.Sprintf("there are %d instances", want), time.Minute, func() error {
			if got := len(cloud.Instances()); got != want {
				return fmt.Errorf("there are %d", got)
			}
			return nil
		})
	}
	s.start()
	instances(2)
	first := hosts(t, s)
	if len(first) != 1 {
		t.Fatalf("provider hosts %v, want one", first)
	}
	s.kill()
	s.writePools(pools(0))
	s.start()
	instances(0)
	if next := hosts(t, s); !slices.Equal(next, first) {
		t.Errorf("provider hosts %v, want %v", next, first)
	}
	s.eventually("the nodes are gone", time.Minute, func() error {
		if left, err := os.ReadDir(filepath.Join(s.data, "runs")); err != nil || len(left) > 0 {
			return fmt.Errorf("runs: %v, %w", left, err)
		}
		return nil
	})
	s.stop()
	s.eventually("the host has ended", time.Minute, func() error {
		if left := hosts(t, s); len(left) > 0 {
			return fmt.Errorf("there is process %v", left)
		}
		left, err := os.ReadDir(filepath.Join(s.data, "providers"))
		if len(left) > 0 {
			err = errors.New("it has left " + left[0].Name())
		}
		return err
	})
}

// hosts lists the provider host processes on a broker's data directory.
func hosts(t *testing.T, s *server) []int {
	t.Helper()
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var pids []int
	for _, line := range lines {
		text, _ := os.ReadFile(line)
		if args := strings.Split(string(text), "\x00"); len(args) > 2 && args[1] == "provider-host" && strings.HasPrefix(args[2], s.data+"/") {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(line)))
			pids = append(pids, pid)
		}
	}
	return pids
}
