package terraform

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// A node is made and destroyed with the provider that its module was accepted
// with, whatever becomes of the mirror that it came from; and no run reads the
// whole provider to compare it with the lock file.
func TestMirrorThatChanges(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	shared := fakecloud.Mirror(t)
	mirror := filepath.Join(t.TempDir(), "mirror")
	if err := os.CopyFS(mirror, os.DirFS(filepath.Join(filepath.Dir(shared), "mirror"))); err != nil {
		t.Fatal(err)
	}
	rc := filepath.Join(t.TempDir(), "terraform.rc")
	write(t, rc, regexp.MustCompile(`path = ".*"`).ReplaceAllLiteralString(read(t, shared), `path = "`+mirror+`"`))
	t.Setenv("TF_CLI_CONFIG_FILE", rc)
	cloud := fakecloud.Start(t, fakecloud.Config{})
	p := broker.Pool{
		Name: "a", Module: filepath.Join("..", "brokertest", "fakecloud", "testdata", "module"),
		Variables: []byte(`{"endpoint": "` + cloud.URL() + `"}`), CreateTimeout: time.Hour, DestroyTimeout: time.Hour,
	}
	var err error
	if p.Source, err = e.Prepare(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	template := filepath.Join(e.templatesDir(), p.Source.Template)
	lock := read(t, filepath.Join(template, lockFileName))
	if !strings.Contains(lock, fakecloud.ProviderVersion) || strings.Contains(lock, "h1:") {
		t.Errorf("the kept lock file should have the version and no hashes:\n%s", lock)
	}
	if found := filesWith(t, filepath.Join(template, ".terraform"), "\x7fELF"); len(found) != 1 {
		t.Errorf("the kept module has the providers %v, want 1", found)
	}

	if err := os.RemoveAll(mirror); err != nil {
		t.Fatal(err)
	}
	n := broker.NewNode(p, time.Now())
	result, err := e.Apply(t.Context(), n)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Discard(n); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Destroy(t.Context(), n, result.State); err != nil {
		t.Fatal(err)
	}
	if left := cloud.Instances(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	if err := e.Discard(n); err != nil {
		t.Fatal(err)
	}
}
