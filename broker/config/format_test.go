package config_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

// A formatted file says the same, and formatting it once more changes nothing.
func TestFormat_keepsTheMeaning(t *testing.T) {
	t.Setenv("DUFFY_TEST_REGION", "eu-west-1")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	for _, path := range files(t, "testdata/*.good.hcl") {
		src, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		spoilt := strings.ReplaceAll(strings.ReplaceAll(string(src), " = ", "="), "\n  ", "\n")
		formatted, _, diags := config.Format(path, []byte(spoilt))
		if diags.HasErrors() {
			t.Fatal(diags)
		}
		again, _, _ := config.Format(path, formatted)
		if diff := cmp.Diff(string(formatted), string(again)); diff != "" {
			t.Errorf("%s formatted twice (-once +twice):\n%s", path, diff)
		}
		copied := filepath.Join(dir, filepath.Base(path))
		if err := os.WriteFile(copied, formatted, 0o600); err != nil {
			t.Fatal(err)
		}
		want, err := json.Marshal(load(t, path).Pools)
		if err != nil {
			t.Fatal(err)
		}
		got, err := json.Marshal(load(t, copied).Pools)
		if err != nil {
			t.Fatal(err)
		}
		here, err := os.Getwd()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(strings.ReplaceAll(string(want), filepath.Join(here, "testdata"), dir), string(got)); diff != "" {
			t.Errorf("%s says something else (-before +formatted):\n%s", path, diff)
		}
	}
}

// The file that the repository comes with is formatted.
func TestFormat_defaultFile(t *testing.T) {
	src, err := os.ReadFile("../../pools.hcl")
	if err != nil {
		t.Fatal(err)
	}
	formatted, _, diags := config.Format("pools.hcl", src)
	if diff := cmp.Diff(string(src), string(formatted)); diff != "" || diags.HasErrors() {
		t.Errorf("not formatted: %v (-is +formatted):\n%s", diags, diff)
	}
}
