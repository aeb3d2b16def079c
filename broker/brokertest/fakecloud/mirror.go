package fakecloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// What modules write into required_providers.
const (
	ProviderSource  = "fakecloud.test/duffy-broker/fakecloud"
	ProviderVersion = "1.0.0"
)

const providerPackage = "github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud/terraform-provider-fakecloud"

// What providers of large clouds weigh: bytes on disk, and resource types.
const (
	largeSize  = 80_000_000
	largeTypes = 150
)

//nolint:gochecknoglobals // built once for all tests of a process
var (
	buildMirror      = sync.OnceValues(func() (mirror, error) { return newMirror(false) })
	buildLargeMirror = sync.OnceValues(func() (mirror, error) { return newMirror(true) })
)

// Mirror builds the provider into a filesystem mirror, once in a process, and
// gives the path of a CLI configuration that installs providers from there and
// from nowhere else, for TF_CLI_CONFIG_FILE. The files go when the process ends.
// The test is skipped where go is missing.
func Mirror(t testing.TB) (cliConfigPath string) {
	t.Helper()
	return configOf(t, buildMirror)
}

// LargeMirror is [Mirror] with a provider that weighs as much as one of a large
// cloud: 80 MB, and a schema of 150 resource types with 25 attributes each that
// nobody uses.
func LargeMirror(t testing.TB) (cliConfigPath string) {
	t.Helper()
	return configOf(t, buildLargeMirror)
}

func configOf(t testing.TB, build func() (mirror, error)) string {
	t.Helper()
	brokertest.NeedProgram(t, "go")
	m, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return m.cliConfig
}

type mirror struct {
	cliConfig string
	// alive is closed by the end of the process: until then it must be referred to.
	alive *os.File
}

func newMirror(large bool) (mirror, error) {
	dir, err := os.MkdirTemp("", "fakecloud-")
	if err != nil {
		return mirror{}, err
	}
	alive, err := removeAtExit(dir)
	if err != nil {
		return mirror{}, errors.Join(err, os.RemoveAll(dir))
	}
	m := mirror{cliConfig: filepath.Join(dir, "terraform.rc"), alive: alive}
	program := filepath.Join(dir, "mirror", filepath.FromSlash(ProviderSource), ProviderVersion,
		runtime.GOOS+"_"+runtime.GOARCH, "terraform-provider-fakecloud_v"+ProviderVersion)
	flags := "-s -w" // stripped, as providers are released
	if large {
		flags += fmt.Sprintf(" -X main.unusedTypes=%d", largeTypes)
	}
	build := exec.CommandContext(context.Background(), "go", "build", "-trimpath", "-ldflags="+flags, "-o", program, providerPackage) //nolint:gosec // constants
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return m, fmt.Errorf("build the provider of fakecloud: %w\n%s", err, out)
	}
	if large {
		if err := os.Truncate(program, largeSize); err != nil { // what follows a program's end is not loaded
			return m, err
		}
	}
	text := fmt.Sprintf("disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n    path = %q\n  }\n}\n", filepath.Join(dir, "mirror"))
	return m, os.WriteFile(m.cliConfig, []byte(text), 0o600)
}

// removeAtExit leaves the removal of dir to a shell that waits for the end of
// this process, however that comes about: nothing in testing runs that late. It
// waits until the file is closed.
func removeAtExit(dir string) (*os.File, error) {
	wait, alive, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer func() { _ = wait.Close() }()
	cmd := exec.CommandContext(context.Background(), "sh", "-c", `trap "" INT TERM; read -r _; rm -rf "$1"`, "sh", dir) //nolint:gosec // a directory of ours
	cmd.Dir, cmd.Stdin = "/", wait
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(err, alive.Close())
	}
	return alive, cmd.Process.Release()
}
