package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

func TestLoad_directory(t *testing.T) {
	f := load(t, "testdata/dir.good")
	var got []string
	for _, p := range f.Pools {
		got = append(got, p.Name+" "+filepath.Base(p.Module)+" "+string(p.Variables))
	}
	const variables = ` local {"motd":"Hello\n","region":"eu","zone":"eu-1"}`
	if diff := cmp.Diff([]string{"b" + variables, "a" + variables, "c" + variables}, got); diff != "" {
		t.Errorf("pools (-want +got):\n%s", diff)
	}
	if got := len(f.Files()); got != 3 {
		t.Errorf("%d files were read, want 3", got)
	}
}

// Mistakes of all files come together, each with the file that it is in, and a
// syntax error silences its own file only.
func TestLoad_directoryWithMistakes(t *testing.T) {
	f, diags := config.Load("testdata/dir.bad")
	golden(t, "testdata/dir.bad/golden", messages(t, f, diags))
}

// A file is also read through a link, as in a directory mounted from a config map.
func TestSources_links(t *testing.T) {
	dir := t.TempDir()
	for name, target := range map[string]string{"pools.hcl": "..data/pools.hcl", "..data": "..1", "gone.hcl": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "..1"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "..1", "pools.hcl"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := config.Sources(dir)
	if err != nil {
		t.Fatal(err)
	}
	// What can't be read is not passed over: it may hold pools.
	if diff := cmp.Diff([]string{filepath.Join(dir, "gone.hcl"), filepath.Join(dir, "pools.hcl")}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
