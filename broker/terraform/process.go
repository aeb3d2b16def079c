package terraform

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// findProcess gives the process that has arg among its arguments, or nil. Its
// handle stays with that process even if the pid is used again.
func findProcess(ctx context.Context, arg string) *os.Process {
	if runtime.GOOS != "linux" {
		return findProcessPS(ctx, arg)
	}
	for _, pid := range pids() {
		if !hasArgument(pid, arg) {
			continue
		}
		p, err := os.FindProcess(pid)
		// Asked again, now that the handle holds the process.
		if err == nil && hasArgument(pid, arg) {
			return p
		}
	}
	return nil
}

func pids() []int {
	dirs, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var all []int
	for _, dir := range dirs {
		if pid, err := strconv.Atoi(dir.Name()); err == nil {
			all = append(all, pid)
		}
	}
	return all
}

func hasArgument(pid int, arg string) bool {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && slices.Contains(strings.Split(string(line), "\x00"), arg)
}

func findProcessPS(ctx context.Context, arg string) *os.Process {
	out, err := exec.CommandContext(ctx, "ps", "-axww", "-o", "pid=,command=").Output()
	if err != nil {
		return nil
	}
	for line := range strings.Lines(string(out)) {
		number, command, _ := strings.Cut(strings.TrimSpace(line), " ")
		pid, err := strconv.Atoi(number)
		if err != nil || !strings.Contains(command+" ", arg+" ") {
			continue
		}
		if p, err := os.FindProcess(pid); err == nil {
			return p
		}
	}
	return nil
}

// killStragglers kills what a Terraform that was started by an earlier process
// left behind: processes that work in its directory, and whose group has lost
// its leader, which was Terraform. A server that a module started on purpose
// leads a session, and so a group, of its own, or works in another directory.
// Only Linux tells these things.
func killStragglers(dir string) {
	if runtime.GOOS != "linux" {
		return
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		dir = real
	}
	for _, pid := range pids() {
		cwd, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "cwd"))
		if err != nil || cwd != dir {
			continue
		}
		group, err := syscall.Getpgid(pid)
		if err != nil || lives(group) {
			continue
		}
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
}

// lives tells whether there is such a process, other than one that has ended and
// waits for its parent to notice.
func lives(pid int) bool {
	line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	return err == nil && len(line) > 0
}
