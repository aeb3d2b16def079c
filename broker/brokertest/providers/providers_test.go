package providers_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/providers"
)

func TestConfigInstallsFromTheMirrorAlone(t *testing.T) {
	terraform := brokertest.NeedProgram(t, "terraform")
	config := providers.Config(t, "libvirt")
	run := func(source string) (string, error) {
		dir := t.TempDir()
		write(t, dir+"/main.tf", "terraform {\n  required_providers {\n    it = { source = \""+source+"\" }\n  }\n}\n")
		cmd := exec.CommandContext(t.Context(), terraform, "init", "-no-color", "-input=false")
		cmd.Dir, cmd.Env = dir, append(cmd.Environ(), "TF_CLI_CONFIG_FILE="+config, "CHECKPOINT_DISABLE=1")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	if out, err := run("dmacvicar/libvirt"); err != nil || !strings.Contains(out, "v0.8.3") {
		t.Errorf("init with a provider that was built: %v\n%s", err, out)
	}
	if out, err := run("hashicorp/random"); err == nil {
		t.Errorf("init with another provider succeeded:\n%s", out)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
