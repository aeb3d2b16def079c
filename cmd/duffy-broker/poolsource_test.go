package main

import (
	"os"
	"path/filepath"
	"testing"
)

// What an expression reads is part of the pools, wherever it stands.
func TestFileSource_noticesWhatExpressionsRead(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"pools", "module"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write("module/main.tf", "")
	write("level.txt", "1")
	write("pools/pools.hcl", `pool "a" {
  module     = "../module"
  fill_level = tonumber(file("../level.txt"))
}`)
	s := &fileSource{path: filepath.Join(dir, "pools")}
	if _, _, err := s.fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	looks := func() (changes int) {
		t.Helper()
		for range 3 { // one look may find it unsettled
			changed, err := s.changed(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if changed {
				changes++
			}
		}
		return changes
	}
	if got := looks(); got != 0 {
		t.Errorf("%d changes, and nothing has changed", got)
	}
	write("level.txt", "2")
	if got := looks(); got == 0 {
		t.Error("a change of a file that an expression reads is not noticed")
	}
}
