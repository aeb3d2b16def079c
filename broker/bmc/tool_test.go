package bmc_test

import (
	"os"
	"path/filepath"
	"testing"
)

// writeTool writes an ipmitool that fails with its command line.
func writeTool(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "ipmitool")
	if err := os.WriteFile(path, []byte("#!/bin/sh\necho \"$*\" >&2\nexit 1\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}
