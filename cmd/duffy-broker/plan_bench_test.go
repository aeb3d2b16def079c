package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// BenchmarkPlan plans for 500 pools and 10,000 nodes: the whole program, from the
// repository to the printed plan. It prints the time of one plan, the CPU that it
// took, and the most memory that it had.
func BenchmarkPlan(b *testing.B) {
	for _, change := range []struct{ name, old, new string }{
		{"nothing", "", ""},
		{"one-pool", `"small-0"`, `"large-0"`},
		{"every-pool", `"stream-9"`, `"stream-10"`},
	} {
		for _, format := range []string{"text", "json", "markdown"} {
			b.Run(change.name+"/"+format, func(b *testing.B) {
				dir := gitRepository(b, map[string]string{"pools.hcl": manyPools(500, 20), "modules/node/main.tf": planModule})
				pools := filepath.Join(dir, "pools.hcl")
				if err := os.WriteFile(pools, []byte(strings.ReplaceAll(manyPools(500, 20), change.old, change.new)), 0o600); err != nil {
					b.Fatal(err)
				}
				var memory int64
				var cpu time.Duration
				b.ResetTimer()
				for range b.N {
					cmd := exec.CommandContext(b.Context(), binary, "plan", "--pools", pools, "--format", format)
					out, err := cmd.Output()
					if cmd.ProcessState.ExitCode() == 1 || len(out) == 0 {
						b.Fatalf("%v, %d bytes", err, len(out))
					}
					cpu += cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
					memory = max(memory, cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss)
				}
				b.ReportMetric(float64(memory)/1024, "MiB")
				b.ReportMetric(cpu.Seconds()/float64(b.N), "CPU-s/op")
			})
		}
	}
}

const planModule = `
variable "broker" {}
variable "image" { default = "" }
variable "size" { default = "" }
output "ipaddr" { value = "127.0.0.1" }
`

// manyPools is a pools.hcl with many pools of so many nodes each.
func manyPools(pools, nodes int) string {
	var b strings.Builder
	b.WriteString("defaults {\n  module    = \"./modules/node\"\n  variables = { image = \"stream-9\" }\n}\n\nterraform {\n  runs = 64\n}\n")
	for i := range pools {
		fmt.Fprintf(&b, "\npool \"pool-%d\" {\n  fill_level = %d\n  max_nodes  = %d\n  variables  = { size = \"small-%d\" }\n}\n", i, nodes, 2*nodes, i)
	}
	return b.String()
}

// gitRepository makes a repository with one commit, on the branch main.
func gitRepository(t testing.TB, files map[string]string) string {
	t.Helper()
	brokertest.NeedProgram(t, "git")
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{
		{"init", "-q", "-b", "main"}, {"add", "-A"}, {"-c", "user.name=test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "pools"},
	} {
		if out, err := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	return dir
}
