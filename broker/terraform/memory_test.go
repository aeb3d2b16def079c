package terraform

import (
	"runtime"
	"testing"
	"testing/fstest"
)

func TestRunsFor(t *testing.T) {
	const mib, gib = 1 << 20, 1 << 30
	for _, tt := range []struct {
		available, perRun int64
		want              int
	}{
		{2 * gib, 64 * mib, 16},
		{2*gib - 1, 64 * mib, 15},
		{2 * gib, 128 * mib, 8},
		{100 * mib, 64 * mib, 2},
		{1, 64 * mib, 2},
		{1 << 40, 64 * mib, 256},
		{0, 64 * mib, blindRuns},
		{gib, 0, blindRuns},
	} {
		if got := RunsFor(tt.available, tt.perRun); got != tt.want {
			t.Errorf("%d bytes available, %d a run: got %d runs, want %d", tt.available, tt.perRun, got, tt.want)
		}
	}
}

func TestAvailableMemory(t *testing.T) {
	const meminfo = "MemTotal:       24684084 kB\nMemFree:         1000000 kB\nMemAvailable:    2000000 kB\nHugePages_Total:       0\n"
	tests := map[string]struct {
		files map[string]string
		want  int64
	}{
		"no group": {map[string]string{"proc/meminfo": meminfo}, 2_000_000 << 10},
		"no limit": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/duffy-broker.service\n",
			"sys/fs/cgroup/system.slice/duffy-broker.service/memory.max": "max\n",
		}, 2_000_000 << 10},
		"a limit": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/system.slice/duffy-broker.service\n",
			"sys/fs/cgroup/system.slice/duffy-broker.service/memory.max": "536870912\n",
		}, 536870912},
		"a limit of the group above": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/memory.max": "268435456\n", "sys/fs/cgroup/a/b/memory.max": "536870912\n",
		}, 268435456},
		"a limit above what there is": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "9999999999999\n",
		}, 2_000_000 << 10},
		"in a container": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "1073741824\n",
		}, 1073741824},
		"only groups of version 1": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/cgroup": "4:memory:/a\n1:cpu:/\n", "sys/fs/cgroup/memory.max": "1\n",
		}, 2_000_000 << 10},
		"another system": {nil, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := fstest.MapFS{}
			for path, text := range tt.files {
				root[path] = &fstest.MapFile{Data: []byte(text)}
			}
			if got := availableMemory(root); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	if got := AvailableMemory(); (got > 0) != (runtime.GOOS == "linux") {
		t.Errorf("this machine has %d bytes available", got)
	}
}
