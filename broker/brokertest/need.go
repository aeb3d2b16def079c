// Package brokertest holds what tests of several packages share: builders,
// a scripted provisioner, and the rule for outside programs.
package brokertest

import (
	"os"
	"os/exec"
	"testing"
)

// NeedProgram gives the path of an outside program. Where it is missing the test
// is skipped with one line that says so; with REQUIRE_ALL=1 in the environment,
// as in CI, it fails instead, so that nothing is skipped unseen.
func NeedProgram(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	// Debian keeps daemons out of an ordinary user's PATH.
	if _, err := os.Stat("/usr/sbin/" + name); err == nil {
		return "/usr/sbin/" + name
	}
	Skip(t, name+" is not installed: this test needs it")
	return ""
}

// Skip skips the test, or fails it under REQUIRE_ALL=1.
func Skip(t testing.TB, why string) {
	t.Helper()
	if os.Getenv("REQUIRE_ALL") == "1" {
		t.Fatal(why + " (REQUIRE_ALL=1 allows no skip)")
	}
	t.Skip(why)
}
