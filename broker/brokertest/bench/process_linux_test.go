package bench_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of times in /proc/PID/stat: USER_HZ is 100 on every
// architecture that Go knows.
const tick = 10 * time.Millisecond

// adoptOrphans makes this process the parent of descendants that lose theirs, so
// that what they use counts here.
func adoptOrphans() error {
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
}

// cpu gives the user and system time of this process and of all its descendants
// so far: those that have ended by their parents' accounts, the others by /proc.
func cpu() (time.Duration, error) {
	own, err := processTime(syscall.RUSAGE_SELF)
	if err != nil {
		return 0, err
	}
	ended, err := processTime(syscall.RUSAGE_CHILDREN)
	if err != nil {
		return 0, err
	}
	total := own + ended
	for _, s := range descendants(os.Getpid()) {
		total += s.cpu
	}
	return total, nil
}

func processTime(who int) (time.Duration, error) {
	var u syscall.Rusage
	err := syscall.Getrusage(who, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// stat is what /proc/PID/stat tells of a process.
type stat struct {
	parent int
	cpu    time.Duration // its own, and that of the children that it has waited for
}

func readStat(pid int) (stat, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return stat{}, false // it has just ended
	}
	// The name is in brackets, and may have any character.
	_, rest, ok := strings.Cut(string(text[strings.LastIndexByte(string(text), ')'):]), ") ")
	fields := strings.Fields(rest) // from the third on: proc_pid_stat(5)
	if !ok || len(fields) < 15 {
		return stat{}, false
	}
	var s stat
	s.parent, _ = strconv.Atoi(fields[1])
	for _, field := range fields[11:15] {
		ticks, _ := strconv.Atoi(field)
		s.cpu += time.Duration(ticks) * tick
	}
	return s, true
}

// descendants gives the children of a process, theirs, and so on.
func descendants(root int) map[int]stat {
	all := map[int]stat{}
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		if pid, err := strconv.Atoi(entry.Name()); err == nil {
			if s, ok := readStat(pid); ok {
				all[pid] = s
			}
		}
	}
	found := map[int]stat{}
	for grown := true; grown; {
		grown = false
		for pid, s := range all {
			_, known := found[pid]
			if _, ok := found[s.parent]; !known && (ok || s.parent == root) {
				found[pid], grown = s, true
			}
		}
	}
	return found
}

// pss gives the memory of a process in bytes, each shared page divided by the
// number of those who share it.
func pss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			kib, _ := strconv.ParseInt(fields[1], 10, 64)
			return kib << 10
		}
	}
	return 0
}
