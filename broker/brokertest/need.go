// Package brokertest holds what tests of several packages share: builders,
// a scripted provisioner, and the rule for outside programs.
package brokertest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// TerraformVariable names the environment variable with the path of the program
// that tests take for terraform: OpenTofu, or another version.
const TerraformVariable = "DUFFY_TEST_TERRAFORM"

// NeedProgram gives the path of an outside program. Where it is missing the test
// is skipped with one line that says so; with REQUIRE_ALL=1 in the environment,
// as in CI, it fails instead, so that nothing is skipped unseen. For "terraform"
// it gives what [TerraformVariable] names, if that is set; then a missing one
// fails the test.
func NeedProgram(t testing.TB, name string) string {
	t.Helper()
	if other := os.Getenv(TerraformVariable); other != "" && name == "terraform" {
		path, err := exec.LookPath(other)
		if err != nil {
			t.Fatalf("%s: %v", TerraformVariable, err)
		}
		return path
	}
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

// OptionalPrograms gives the paths of an outside program that no package of the
// system has, so that CI can't install it: those that an environment variable
// lists, as PATH does, else the one on PATH. Where there is none the test is
// skipped, with REQUIRE_ALL=1 too; `make programs` names these programs as well.
func OptionalPrograms(t testing.TB, name, variable, why string) []string {
	t.Helper()
	if list := filepath.SplitList(os.Getenv(variable)); len(list) > 0 {
		for _, path := range list {
			if _, err := exec.LookPath(path); err != nil {
				t.Fatalf("%s: %v", variable, err)
			}
		}
		return list
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("%s is not installed, nor named by %s: %s", name, variable, why)
	}
	return []string{path}
}
