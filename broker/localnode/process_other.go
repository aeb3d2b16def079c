//go:build !linux

package localnode

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// Elsewhere there is no reaper but init and no view of other processes'
// environments: what leaves the process group of its login is lost sight of.

func adoptOrphans() error { return nil }

func dieWithParent(*syscall.SysProcAttr) {}

func childrenOfSelf() []int { return nil }

func killDescendants() []int { return nil }

func killNode(directory) []int { return nil }

func isServer(pid int, dir directory) bool {
	out, err := exec.Command("ps", "-o", "command=", "-p", strconv.Itoa(pid)).Output() //nolint:noctx,gosec // ps ends at once; a number
	return err == nil && strings.Contains(string(out), "--dir "+string(dir))
}
