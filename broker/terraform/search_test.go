package terraform

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// A killed create has left what no state knows. A module that asks for it is asked
// before anything is destroyed.
func TestSearchBeforeADestroy(t *testing.T) {
	for name, tt := range map[string]struct {
		rule  string
		class broker.FailureClass
		runs  string
	}{
		"cut short":         {"sweep {\n  before_destroy = true\n}\n", broker.FailureInterrupted, "import import destroy"},
		"ended by itself":   {"sweep {\n  before_destroy = true\n}\n", broker.FailureQuota, ""},
		"not asked for":     {"", broker.FailureInterrupted, ""},
		"asked for to stop": {"sweep {\n  before_destroy = false\n}\n", broker.FailureInterrupted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			c := newSharedCloud(t)
			e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
			e.searchWait = time.Millisecond
			pool := c.pool(t, "shared", map[string]any{"instances": 2})
			pool.ProviderSharing = false
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(pool.Module)); err != nil {
				t.Fatal(err)
			}
			pool.Module = dir
			if tt.rule != "" {
				write(t, filepath.Join(pool.Module, moduleFile), tt.rule)
			}
			var err error
			if pool.Source, err = e.Prepare(t.Context(), pool); err != nil {
				t.Fatal(describe(err))
			}
			n := broker.NewNode(pool, time.Now())
			apply(t, e, n)
			discard(t, e, n) // the result is lost
			n.FailureClass = tt.class
			result, err := e.Destroy(t.Context(), n, nil)
			if err != nil {
				t.Fatal(err)
			}
			var operations []string
			for _, r := range result.Runs {
				operations = append(operations, r.Operation)
			}
			if got := strings.Join(operations, " "); got != tt.runs {
				t.Errorf("runs %q, want %q", got, tt.runs)
			}
			if left := len(c.Instances()); (left == 0) != (tt.runs != "") {
				t.Errorf("%d instances are left", left)
			}
		})
	}
}

func TestSearchRuleMistakes(t *testing.T) {
	for text, want := range map[string]string{
		"sweep {\n  before_destroy = \"yes\"\n}\n": "before_destroy is true or false",
		"sweep {\n  before = true\n}\n":            `a sweep block has no argument "before"`,
		"sweep {\n  before_destroy {\n  }\n}\n":    "a sweep block has no blocks in it",
		"sweep {\n  before_destroy = true\n}\n":    "no sweep directory",
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, moduleFile), text)
		_, problems := readErrorRules(dir)
		if len(problems) != 1 || !strings.Contains(problems[0].Detail, want) {
			t.Errorf("%q: %+v, want one with %q", text, problems, want)
		}
		if searchesFirst(dir) {
			t.Errorf("%q: taken for a search", text)
		}
	}
}
