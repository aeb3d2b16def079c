package localnode

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// adoptOrphans makes this process the parent of every descendant whose own
// parent ends.
func adoptOrphans() error { return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }

// dieWithParent has an sshd or a login end with a server that is killed.
// sshd's monitor passes SIGTERM on to its other half; SIGKILL it could not.
func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGTERM }

func childrenOfSelf() []int {
	var pids []int
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		text, err := os.ReadFile(list) //nolint:gosec // a path below /proc
		if err != nil {
			continue // the thread ended
		}
		for word := range strings.FieldsSeq(string(text)) {
			if pid, err := strconv.Atoi(word); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// process is one line of the system's list of processes.
type process struct {
	pid, parent int
	zombie      bool
}

func processes() []process {
	entries, _ := os.ReadDir("/proc")
	var list []process
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + entry.Name() + "/stat")
		if err != nil {
			continue // it ended
		}
		// "pid (name) state parent ...", and the name may hold anything.
		_, rest, _ := bytes.Cut(stat[bytes.LastIndexByte(stat, ')')+1:], []byte(" "))
		fields := bytes.Fields(rest)
		if len(fields) < 2 {
			continue
		}
		parent, err := strconv.Atoi(string(fields[1]))
		if err != nil {
			continue
		}
		list = append(list, process{pid: pid, parent: parent, zombie: fields[0][0] == 'Z'})
	}
	return list
}

// withDescendants gives the processes that pick picks and all below them,
// without this one and without those that have ended.
func withDescendants(list []process, pick func(process) bool) []int {
	below := map[int][]process{}
	for _, p := range list {
		below[p.parent] = append(below[p.parent], p)
	}
	var pids []int
	seen := map[int]bool{os.Getpid(): true}
	var add func(process)
	add = func(p process) {
		if seen[p.pid] {
			return
		}
		seen[p.pid] = true
		if !p.zombie {
			pids = append(pids, p.pid)
		}
		for _, child := range below[p.pid] {
			add(child)
		}
	}
	for _, p := range list {
		if pick(p) {
			add(p)
		}
	}
	return pids
}

// killRepeatedly kills what find finds until it finds nothing, and gives what it
// could not kill.
func killRepeatedly(find func() []int) []int {
	deadline := time.After(10 * time.Second)
	for {
		pids := find()
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			_ = syscall.Kill(pid, syscall.SIGKILL) // found just now; gone already is fine
		}
		select {
		case <-deadline:
			return pids
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// killDescendants kills every descendant of this process.
func killDescendants() []int {
	return killRepeatedly(func() []int {
		return withDescendants(processes(), func(p process) bool { return p.parent == os.Getpid() })
	})
}

// killNode kills every process of a node, wherever it is: those whose environment
// names the node's directory, those whose errors go to its log (sshd writes its
// title over its environment), and all below them.
func killNode(dir directory) []int {
	mark := []byte(nodeDirVariable + "=" + string(dir))
	return killRepeatedly(func() []int {
		return withDescendants(processes(), func(p process) bool {
			proc := "/proc/" + strconv.Itoa(p.pid)
			if environ, err := os.ReadFile(proc + "/environ"); err == nil { //nolint:gosec // a path below /proc
				if slices.ContainsFunc(bytes.Split(environ, []byte{0}), func(v []byte) bool { return bytes.Equal(v, mark) }) {
					return true
				}
			}
			log, err := os.Readlink(proc + "/fd/2")
			return err == nil && strings.TrimSuffix(log, " (deleted)") == dir.path("log")
		})
	})
}

// isServer tells whether pid is the server of dir, and not a stranger who got
// its number.
func isServer(pid int, dir directory) bool {
	cmdline, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && slices.Contains(strings.Split(string(cmdline), "\x00"), string(dir))
}
