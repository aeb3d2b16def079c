package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

var update = flag.Bool("update", false, "write golden files, and the generated parts of docs/cli.md, anew")

// withoutData is the commands that print no data, and why.
var withoutData = map[string]string{
	"serve":                    "prints what happens, as it happens; --log-format chooses the form of its log",
	"client ssh":               "prints what the node prints",
	"client run":               "prints what the nodes print",
	"fmt":                      "prints names of files and differences",
	"schema":                   "prints a JSON Schema, which is JSON",
	"modules copy":             "prints where the copy is",
	"legacy key remove":        "prints nothing",
	"tenant legacy-key remove": "prints nothing",
	"completion bash":          "prints a script",
	"completion zsh":           "prints a script",
	"completion fish":          "prints a script",
	"completion powershell":    "prints a script",
	"help":                     "prints help",
	"local-node start":         "for modules/local alone",
	"local-node stop":          "for modules/local alone",
	"local-node serve":         "for modules/local alone",
	"provider-host":            "for the broker itself",
}

// dataCases has a command line for each command that prints data, in an order in
// which they can be carried out on the nodes of a testDir.
func dataCases(t *testing.T) [][]string {
	return [][]string{
		{"version"},
		{"validate", testPoolsFile(t, "")},
		{"modules list"},
		{"modules show", "local"},
		{"client list-pools"},
		{"client show-pool", "small"},
		{"client list-nodes"},
		{"client list-sessions"},
		{"client show-session", "1"},
		{"client request-session", "pool=small,quantity=1"},
		{"client retire-session", "2"},
		{"events"},
		{"node list", "--pool", "small"},
		{"node show", "3"},
		{"node logs", "5"},
		{"node hold", "3"},
		{"node release", "3"},
		{"node create", "m1.example.net", "192.0.2.1", "--data", `{"rack": 4}`},
		{"node retire", "7"},
		{"session list", "--tenant", "demo"},
		{"session show", "1"},
		{"session extend", "1", "1h"},
		{"session events", "1"},
		{"session retire", "1"},
		{"tenant list"},
		{"tenant show", "demo"},
		{"tenant create", "ci", "--ssh-key", "-"},
		{"tenant update", "demo", "--quota", "3"},
		{"tenant reset-key", "ci"},
		{"tenant legacy-key add", "ci"},
		{"tenant retire", "ci"},
		{"tenant unretire", "ci"},
		{"pool list"},
		{"pool show", "small"},
		{"rollout status"},
		{"rollout pause", "small"},
		{"rollout resume", "small"},
		{"rollout now", "small"},
		{"rollout abort", "small"},
		{"reload"},
		{"legacy report"},
		{"legacy key add", "demo"},
	}
}

// elsewhere is the commands that print data and are shown to honour --format by
// another test.
var elsewhere = map[string]string{
	"node workspace":  "TestWorkspace",
	"key rotate":      "TestKeyFormats",
	"key list":        "TestKeyFormats",
	"import csv":      "TestImportCSV",
	"node repair":     "TestInventory",
	"modules lock":    "TestModulesLock",
	"modules test":    "TestModulesTest, in formats of its own",
	"plan":            "TestPlanCorpus, in formats of its own",
	"import duffy-v3": "TestImportDuffy",
}

// leaves gives the commands that do something, by their paths. What admin holds
// once more is left out.
func leaves() map[string]*cobra.Command {
	root := newRootCommand(streams{})
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	found := make(map[string]*cobra.Command)
	for _, cmd := range commandsBelow(root) {
		path := strings.TrimPrefix(cmd.CommandPath(), root.Name()+" ")
		if cmd.Runnable() && !cmd.HasSubCommands() && !strings.HasPrefix(path, "admin ") {
			found[path] = cmd
		}
	}
	return found
}

// Every command says what it is for and shows how it is used; one that prints data
// has --format, and is in the table of one of the tests that try it.
func TestEveryCommand(t *testing.T) {
	noSettings(t)
	tried := make(map[string]bool)
	for _, args := range dataCases(t) {
		tried[args[0]] = true
	}
	found := leaves()
	for path, cmd := range found {
		reason, exempt := withoutData[path]
		ours := !hidden(cmd) && path != "help" && !strings.HasPrefix(path, "completion ")
		if cmd.Short == "" || ours && cmd.Example == "" {
			t.Errorf("%s has no Short or no Example", path)
		}
		if ours && !strings.Contains(cmd.Example, "duffy-broker "+strings.Fields(path)[0]) {
			t.Errorf("the example of %s is not one: %s", path, cmd.Example)
		}
		_, other := elsewhere[path]
		switch {
		case exempt && reason == "", exempt && (tried[path] || other):
			t.Errorf("%s: no reason, or data after all", path)
		case !exempt && cmd.Flag("format") == nil:
			t.Errorf("%s prints data and has no --format", path)
		case !exempt && !tried[path] && !other:
			t.Errorf("%s prints data, and dataCases does not try its formats", path)
		}
	}
	for _, path := range slices.Concat(keys(withoutData), keys(elsewhere), keys(tried)) {
		if found[path] == nil {
			t.Errorf("there is no command %s", path)
		}
	}
	for _, cmd := range commandsBelow(newRootCommand(streams{})) {
		if cmd.Short == "" {
			t.Errorf("%s has no Short", cmd.CommandPath())
		}
	}
}

// hidden tells whether a command is for other programs, as are those below it.
func hidden(cmd *cobra.Command) bool {
	return cmd.Hidden || cmd.HasParent() && hidden(cmd.Parent())
}

func keys[V any](m map[string]V) (list []string) {
	for key := range m {
		list = append(list, key)
	}
	return list
}

// Every command that prints data prints it in each of the formats.
func TestFormats(t *testing.T) {
	noSettings(t)
	assignment := regexp.MustCompile(`^[a-z_]+=`)
	for _, format := range view.Formats() {
		t.Run(format, func(t *testing.T) {
			d := newTestDir(t)
			d.served(func(string) {
				for _, args := range dataCases(t) {
					args = append(strings.Fields(args[0]), append(slices.Clone(args[1:]), "--format", format)...)
					code, out, errOut := command(t, args...)
					if code != 0 || strings.TrimSpace(out) == "" {
						t.Errorf("%v: exit %d: %q %s", args, code, out, errOut)
						continue
					}
					lines := strings.Split(strings.TrimSpace(out), "\n")
					switch format {
					case view.JSON:
						for d := json.NewDecoder(strings.NewReader(out)); d.More(); {
							var data map[string]any
							if err := d.Decode(&data); err != nil {
								t.Errorf("%v: %v: %s", args, err, out)
								break
							}
						}
					case view.YAML:
						var data map[string]any
						if err := yaml.NewDecoder(strings.NewReader(out)).Decode(&data); err != nil || len(data) == 0 || strings.HasPrefix(out, "{") {
							t.Errorf("%v: %v: %s", args, err, out)
						}
					case view.Flat:
						for _, line := range lines {
							if !assignment.MatchString(line) {
								t.Errorf("%v: %s", args, line)
							}
						}
					case view.Table:
						if strings.HasPrefix(out, "{") || assignment.MatchString(out) {
							t.Errorf("%v: %s", args, out)
						}
					}
				}
			})
		})
	}
}

func TestKeyFormats(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	code, out, errOut := command(t, "key", "rotate", "--data-dir", d.path, "--format", "json")
	var made struct {
		RootKey struct {
			ID   string `json:"id"`
			Path string `json:"path"`
		} `json:"root_key"`
	}
	if err := json.Unmarshal([]byte(out), &made); code != 0 || err != nil || made.RootKey.Path != filepath.Join(d.path, "keys", "root.key") {
		t.Fatalf("exit %d: %s%s", code, out, errOut)
	}
	// --data is the same flag.
	for format, want := range map[string]string{
		"json": `{"root_keys": [{"id": "` + made.RootKey.ID + `", "use": "current", `, "yaml": "root_keys:\n- age: 0 minutes\n  id: " + made.RootKey.ID,
		"flat": "key_id='" + made.RootKey.ID + "' use='current' since='", "table": "KEY ",
	} {
		code, out, _ := command(t, "key", "list", "--data", d.path, "--format", format)
		if format == "yaml" { // an id that is all digits has quotes, else it would be a number
			out = strings.ReplaceAll(out, "'"+made.RootKey.ID+"'", made.RootKey.ID)
		}
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%s: exit %d: %s", format, code, out)
		}
	}
}

// Without --format, client prints what Duffy's client does, and all others tables.
func TestFormat_default(t *testing.T) {
	noSettings(t)
	d := newTestDir(t)
	d.served(func(string) {
		if _, out, _ := command(t, "client", "list-pools"); !strings.HasPrefix(out, `{"action": "get", "pools": [`) {
			t.Errorf("client: %s", out)
		}
		if _, out, _ := command(t, "tenant", "list"); !strings.HasPrefix(out, "ID ") {
			t.Errorf("tenant: %s", out)
		}
	})
	terminal, err := os.Open("/dev/ptmx") // one end of one
	if err != nil {
		t.Skipf("no terminal can be had here: %v", err)
	}
	defer func() { _ = terminal.Close() }()
	cmd, _, err := newRootCommand(streams{out: terminal}).Find([]string{"client", "list-pools"})
	if err != nil || cmd.InheritedFlags().Lookup("format").Value.String() != view.Table {
		t.Errorf("client on a terminal: %v, no table", err)
	}
}

// The exit codes in the help are those that the code gives, all of them.
func TestExitCodes(t *testing.T) {
	documented := make(map[string]bool)
	named := make(map[string]bool)
	files := token.NewFileSet()
	paths, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var exits []ast.Expr
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ValueSpec:
				for _, name := range n.Names {
					if regexp.MustCompile(`^exit[A-Z]`).MatchString(name.Name) && n.Names[0].Obj != nil && n.Names[0].Obj.Kind == ast.Con {
						named[name.Name] = true
					}
				}
			case *ast.FuncDecl:
				if n.Name.Name == "exitCodes" {
					ast.Inspect(n.Body, func(n ast.Node) bool {
						if id, ok := n.(*ast.Ident); ok && strings.HasPrefix(id.Name, "exit") {
							documented[id.Name] = true
						}
						return true
					})
				}
				if n.Name.Name == "run" && n.Recv == nil {
					ast.Inspect(n.Body, func(n ast.Node) bool {
						if r, ok := n.(*ast.ReturnStmt); ok {
							exits = append(exits, r.Results...)
						}
						return true
					})
				}
			case *ast.CompositeLit:
				if id, ok := n.Type.(*ast.Ident); ok && id.Name == "exitError" {
					exits = append(exits, n.Elts...)
				}
			}
			return true
		})
	}
	if diff := cmp.Diff(named, documented); diff != "" || len(named) == 0 {
		t.Errorf("constants and the table of the help (-constants +table):\n%s", diff)
	}
	used := make(map[string]bool)
	for _, e := range exits {
		switch e := e.(type) {
		case *ast.Ident:
			used[e.Name] = true
			if documented[e.Name] {
				continue
			}
		case *ast.CallExpr, *ast.SelectorExpr: // passed on from a remote command
			continue
		}
		t.Errorf("%s: an exit code that is not a documented constant", files.Position(e.Pos()))
	}
	if diff := cmp.Diff(documented, used); diff != "" {
		t.Errorf("documented and used (-documented +used):\n%s", diff)
	}
	code, out, _ := command(t, "help", "exit-codes")
	if code != exitDone {
		t.Errorf("help exit-codes exits with %d", code)
	}
	for _, c := range exitCodes() {
		if !regexp.MustCompile(fmt.Sprintf(`(?m)^  %d +%s$`, c.code, regexp.QuoteMeta(c.meaning))).MatchString(out) {
			t.Errorf("the help does not have %d %s:\n%s", c.code, c.meaning, out)
		}
	}
}

// The tables in docs/cli.md are those of the program.
func TestCommandsPage(t *testing.T) {
	noSettings(t)
	const path = "../../docs/cli.md"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	want := string(page)
	for name, table := range map[string]string{"commands": commandsMarkdown(), "exit codes": exitCodesMarkdown()} {
		begin, end := "<!-- "+name+": go test ./cmd/duffy-broker -run TestCommandsPage -update -->\n", "<!-- end of "+name+" -->\n"
		before, rest, ok := strings.Cut(want, begin)
		_, after, found := strings.Cut(rest, end)
		if !ok || !found {
			t.Fatalf("%s has no place for %s", path, name)
		}
		want = before + begin + table + end + after
	}
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, string(page)); diff != "" {
		t.Errorf("%s is not up to date: run this test with -update (-want +got):\n%s", path, diff)
	}
}

func commandsMarkdown() string {
	var b strings.Builder
	b.WriteString("| command | |\n|---|---|\n")
	root := newRootCommand(streams{})
	for _, cmd := range commandsBelow(root) {
		path := cmd.CommandPath()
		if cmd == root || hidden(cmd) || !cmd.Runnable() || strings.HasPrefix(path, root.Name()+" admin ") {
			continue
		}
		if !cmd.HasSubCommands() {
			use := strings.TrimSuffix(path, cmd.Name()) + cmd.Use
			fmt.Fprintf(&b, "| `%s` | %s |\n", strings.ReplaceAll(use, "|", `\|`), cmd.Short)
		}
	}
	return b.String()
}

func exitCodesMarkdown() string {
	var b strings.Builder
	b.WriteString("| exit code | |\n|---|---|\n")
	for _, c := range exitCodes() {
		fmt.Fprintf(&b, "| %d | %s |\n", c.code, c.meaning)
	}
	fmt.Fprintf(&b, "| other | %s |\n", otherExitCodes)
	return b.String()
}
