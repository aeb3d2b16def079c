package terraform

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"
)

const (
	// minRuns leave room for a destroy beside a create, even on the smallest machine.
	minRuns = 2
	// maxRuns is where other things than memory give out first.
	maxRuns = 256
	// blindRuns is for systems that don't tell how much memory there is: 1 GiB
	// will do for so many.
	blindRuns = 16
)

// RunsFor says how many runs may be in flight at once if so many bytes of memory
// are available and a run needs perRun: half of the memory is for them, since
// what they make may need some too. 0 bytes available means that it is not known.
func RunsFor(available, perRun int64) int {
	if available <= 0 || perRun <= 0 {
		return blindRuns
	}
	return int(min(maxRuns, max(minRuns, available/2/perRun)))
}

// AvailableMemory gives how many bytes of memory new processes may take on this
// machine and in this process's control group (version 2), whichever has less;
// 0 where the system does not tell.
func AvailableMemory() int64 {
	return availableMemory(os.DirFS("/"))
}

// availableMemory reads Linux's files below root.
func availableMemory(root fs.FS) int64 {
	text, err := fs.ReadFile(root, "proc/meminfo")
	if err != nil {
		return 0
	}
	available := int64(0)
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 3 && fields[0] == "MemAvailable:" && fields[2] == "kB" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64) // 0: not known
			available = kib << 10
		}
	}
	if limit, ok := groupLimit(root); ok {
		available = min(available, limit)
	}
	return available
}

// groupLimit gives the lowest memory limit of this process's control group and
// those that it is in; false where there is none.
func groupLimit(root fs.FS) (limit int64, limited bool) {
	text, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::/")
		if !ok {
			continue
		}
		for ; ; group = path.Dir(group) {
			text, err := fs.ReadFile(root, path.Join("sys/fs/cgroup", group, "memory.max"))
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return limit, limited
			}
			// "max" is no number, and no limit.
			if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && (!limited || n < limit) {
				limit, limited = n, true
			}
			if group == "." || group == "" {
				return limit, limited
			}
		}
	}
	return 0, false
}
