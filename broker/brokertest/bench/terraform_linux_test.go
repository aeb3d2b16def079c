package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
)

// plan says how much is measured.
type plan struct {
	rounds int
	// nodes of each strategy in a round, and of the large provider.
	nodes, large int
	// parallel are the numbers of runs at once whose throughput is measured.
	parallel []int
	// inFlight are the numbers of waiting runs whose memory is measured.
	inFlight [2]int
}

// BenchmarkTerraform compares what a node costs with today's habit and with the
// engine. It measures itself, whatever -benchtime says. Cores are shared and
// noisy: all strategies take turns, and what counts are the ratios.
func BenchmarkTerraform(b *testing.B) {
	rounds, nodes := setting(b, "ROUNDS", 3), setting(b, "NODES", 20)
	compare(b, plan{
		rounds: rounds, nodes: nodes, large: max(1, nodes/2),
		parallel: []int{1, 4, 16}, inFlight: [2]int{1, 8},
	})
	b.ReportMetric(0, "ns/op") // makes no sense here
}

// The benchmark works, and its figures are there. What they are is not judged:
// machines differ.
func TestTerraformBenchmark(t *testing.T) {
	compare(t, plan{rounds: 1, nodes: 1, large: 1, parallel: []int{2}, inFlight: [2]int{1, 2}})
}

// setting reads a number above 0 from the environment.
func setting(t testing.TB, name string, otherwise int) int {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("%s must be a number above 0, and is %q", name, text)
	}
	return n
}

// compare measures everything and prints tables.
func compare(t testing.TB, p plan) {
	program := brokertest.NeedProgram(t, "terraform")
	clock := &clock{}
	small := setup{terraform: program, cliConfig: fakecloud.Mirror(t), cloud: fakecloud.Start(t, fakecloud.Config{Now: clock.now}), clock: clock}
	large := small
	large.cliConfig = fakecloud.LargeMirror(t)
	print := func(write func(w *bytes.Buffer)) {
		var table bytes.Buffer
		write(&table)
		t.Logf("\n%s", aligned(&table, tabwriter.AlignRight))
	}
	sizes := []size{{"small", small, p.nodes}, {"80 MB", large, p.large}}
	for _, v := range sizes {
		rounds := v.setup.rounds(t, p.rounds, job{Nodes: v.nodes, Parallel: 2})
		print(func(w *bytes.Buffer) { writeCPU(w, v, rounds) })
	}
	throughput := map[strategy][][]float64{}
	for _, parallel := range p.parallel {
		nodes := max(p.nodes, 2*parallel)
		for s, samples := range small.rounds(t, p.rounds, job{Nodes: nodes, Parallel: parallel}) {
			var rates []float64
			for _, f := range samples {
				rates = append(rates, float64(nodes)/f.Wall.Minutes())
			}
			throughput[s] = append(throughput[s], rates)
		}
	}
	print(func(w *bytes.Buffer) { writeThroughput(w, p.parallel, throughput) })
	print(func(w *bytes.Buffer) {
		fmt.Fprintf(w, "MiB (PSS) of Terraform and providers while instances boot\n")
		fmt.Fprintf(w, "\tprovider\t%d in flight\t%d in flight\teach further one\t\n", p.inFlight[0], p.inFlight[1])
		for _, v := range sizes {
			for _, s := range strategies {
				few, many := v.setup.memory(t, s, p.inFlight[0]), v.setup.memory(t, s, p.inFlight[1])
				fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%.1f\t\n", s, v.name, few, many, (many-few)/float64(p.inFlight[1]-p.inFlight[0]))
			}
		}
	})
}

// size is of a provider that strategies are compared with.
type size struct {
	name  string
	setup setup
	nodes int
}

// setup is what jobs work with.
type setup struct {
	terraform, cliConfig string
	cloud                *fakecloud.Cloud
	clock                *clock // of cloud
}

// clock is the real one, ahead by what it was moved.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

func (c *clock) move(d time.Duration) { c.ahead.Add(int64(d)) }

// rounds does a job by all strategies in turn, as often as is said.
func (s setup) rounds(t testing.TB, rounds int, j job) map[strategy][]figures {
	t.Helper()
	all := map[strategy][]figures{}
	for range rounds {
		for _, j.Strategy = range strategies {
			_, finish := s.start(t, j)
			all[j.Strategy] = append(all[j.Strategy], finish())
		}
	}
	return all
}

// start begins a job in a process of its own; finish gives its figures.
func (s setup) start(t testing.TB, j job) (pid int, finish func() figures) {
	t.Helper()
	// Not t.TempDir: the path of a socket below it must not be too long.
	dir, err := os.MkdirTemp("", "bench-") //nolint:usetesting // too long, see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	j.Dir, j.Terraform = dir, s.terraform
	if j.Module, err = filepath.Abs(filepath.Join("testdata", "module")); err != nil {
		t.Fatal(err)
	}
	if j.Variables, err = json.Marshal(map[string]string{"endpoint": s.cloud.URL()}); err != nil {
		t.Fatal(err)
	}
	input, err := json.Marshal(j)
	if err != nil {
		t.Fatal(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.Background(), executable, jobArgument)
	cmd.Env = append(os.Environ(), "TF_CLI_CONFIG_FILE="+s.cliConfig)
	cmd.Stdin = bytes.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd.Process.Pid, func() (f figures) {
		t.Helper()
		if err := cmd.Wait(); err != nil {
			t.Fatalf("%s: %v\n%s", j.Strategy, err, &stderr)
		}
		if err := json.Unmarshal(stdout.Bytes(), &f); err != nil {
			t.Fatal(err)
		}
		if f.CreateCPU <= 0 || f.DestroyCPU <= 0 || f.Wall <= 0 {
			t.Errorf("%s: a figure is missing: %+v", j.Strategy, f)
		}
		if left := s.cloud.Instances(); len(left) > 0 {
			t.Errorf("%s leaves %d instances behind", j.Strategy, len(left))
		}
		return f
	}
}

// memory gives the MiB that so many runs take while their instances boot: all of
// Terraform and its providers, without the process that drives them.
func (s setup) memory(t testing.TB, by strategy, count int) float64 {
	t.Helper()
	const boot = 5 * time.Minute
	s.cloud.SetFaults(fakecloud.Faults{BootTime: boot})
	pid, finish := s.start(t, job{Strategy: by, Nodes: count, Parallel: count})
	for began := time.Now(); len(s.cloud.Instances()) < count; {
		if time.Since(began) > boot {
			t.Fatalf("%s: %d runs did not come to wait at once within %s", by, count, boot)
		}
		time.Sleep(10 * time.Millisecond)
	}
	var sum int64
	for pid := range descendants(pid) {
		sum += pss(pid)
	}
	s.clock.move(boot) // all have booted
	s.cloud.SetFaults(fakecloud.Faults{})
	finish()
	if sum == 0 {
		t.Errorf("%s: there is no memory to see", by)
	}
	return float64(sum) / (1 << 20)
}

// aligned gives a table, whose cells end with tabs, in columns.
func aligned(table *bytes.Buffer, flags uint) string {
	var text bytes.Buffer
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', flags)
	_, _ = table.WriteTo(w) // a buffer takes all
	_ = w.Flush()
	return text.String()
}

// spread is a median with the least and the greatest.
func spread(format string, values []float64) string {
	values = slices.Sorted(slices.Values(values))
	if len(values) == 1 {
		return fmt.Sprintf(format, values[0])
	}
	return fmt.Sprintf(format+" ("+format+"–"+format+")", median(values), values[0], values[len(values)-1])
}

func median(values []float64) float64 {
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2
	}
	return values[middle]
}

func writeCPU(w *bytes.Buffer, v size, rounds map[strategy][]figures) {
	fmt.Fprintf(w, "%s provider: ms of CPU a node, all processes (%d nodes, 2 at once; median of %d rounds, min–max)\n",
		v.name, v.nodes, len(rounds[fresh]))
	fmt.Fprintf(w, "\tcreate\tdestroy\tboth\tratio to the first\t\n")
	for _, s := range strategies {
		var create, destroy, both, ratio []float64
		for i, f := range rounds[s] {
			per := func(d time.Duration) float64 { return d.Seconds() * 1000 / float64(v.nodes) }
			create, destroy = append(create, per(f.CreateCPU)), append(destroy, per(f.DestroyCPU))
			both = append(both, per(f.CreateCPU+f.DestroyCPU))
			base := rounds[fresh][i]
			ratio = append(ratio, float64(f.CreateCPU+f.DestroyCPU)/float64(base.CreateCPU+base.DestroyCPU))
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t\n", s, spread("%.0f", create), spread("%.0f", destroy), spread("%.0f", both), spread("%.2f", ratio))
	}
}

func writeThroughput(w *bytes.Buffer, parallel []int, rates map[strategy][][]float64) {
	fmt.Fprintf(w, "small provider: nodes a minute, created and destroyed (median of %d rounds, min–max)\n", len(rates[fresh][0]))
	for _, count := range parallel {
		fmt.Fprintf(w, "\t%d at once", count)
	}
	fmt.Fprintf(w, "\t\n")
	for _, s := range strategies {
		fmt.Fprintf(w, "%s", s)
		for _, values := range rates[s] {
			fmt.Fprintf(w, "\t%s", spread("%.0f", values))
		}
		fmt.Fprintf(w, "\t\n")
	}
}
