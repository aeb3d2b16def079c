package modules_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/terraform"
	"github.com/duffy-broker/duffy-broker/modules"
)

// free are the variables that no module can look at: any text may be right, and only
// the other side knows. (A bool can't be wrong either, but its type says so.)
var free = map[string]string{
	"aws-ec2/region":             "clouds that speak EC2 have names of their own; the provider knows those of AWS",
	"aws-ec2/profile":            "the provider looks for it",
	"bare-metal/installer_extra": "text for a file that the module does not read",
	"libvirt/tags":               "any text can stand in a domain's metadata",
	"openstack/cloud":            "the provider looks for it",
	"openstack/region":           "a cloud's own; the provider looks for it",
}

// What is the same for every module that is shipped.
func TestContract(t *testing.T) {
	for _, m := range modules.All() {
		t.Run(m.Name, func(t *testing.T) {
			d, err := terraform.Describe(m.Name)
			if err != nil {
				t.Fatal(err)
			}
			readme := read(t, m.Name, "README.md")
			t.Run("variables", func(t *testing.T) { testTable(t, d, readme) })
			t.Run("validation", func(t *testing.T) { testValidation(t, m.Name, d) })
			t.Run("outputs", func(t *testing.T) { testOutputs(t, m.Name, d) })
			t.Run("example", func(t *testing.T) { testExample(t, m.Name, readme) })
			for _, section := range []string{"## Variables", "## Outputs", "## Permissions", "## Costs"} {
				if !strings.Contains(readme, "\n"+section+"\n") {
					t.Errorf("the README has no section %q", section)
				}
			}
		})
	}
}

// testTable compares the table of variables with the variables: each has a row, in
// their order, with its type and default as Terraform has them.
func testTable(t *testing.T, d terraform.Description, readme string) {
	_, text, _ := strings.Cut(readme, "\n## Variables\n")
	text, _, _ = strings.Cut(text, "\n## ")
	type row struct{ Name, Type, Default string }
	var got, want []row
	for _, line := range regexp.MustCompile("(?m)^\\| `.*$").FindAllString(text, -1) {
		cells := strings.Split(strings.Trim(line, "| "), " | ")
		if len(cells) != 4 || len(cells[3]) < 3 {
			t.Errorf("not `NAME` | TYPE | `DEFAULT` | MEANING: %s", line)
			continue
		}
		got = append(got, row{strings.Trim(cells[0], "`"), cells[1], normal(t, cells[2])})
	}
	for _, v := range d.Variables {
		kind, _, _ := strings.Cut(v.Type, "(")
		r := row{v.Name, kind, "required"}
		if !v.Required {
			r.Default = canonical(t, v.Default)
		}
		want = append(want, r)
		if v.Description == "" || !strings.HasSuffix(v.Description, ".") {
			t.Errorf("variable %s has no description that is a sentence: %q", v.Name, v.Description)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("variables (-variables.tf +README.md):\n%s", diff)
	}
}

// normal gives a default in the README as JSON.
func normal(t *testing.T, cell string) string {
	t.Helper()
	if cell == "required" {
		return cell
	}
	expression, diags := hclsyntax.ParseExpression([]byte(strings.Trim(cell, "`")), "README.md", hcl.InitialPos)
	if diags.HasErrors() {
		return cell
	}
	v, diags := expression.Value(nil)
	if diags.HasErrors() {
		return cell
	}
	text, err := ctyjson.Marshal(v, v.Type())
	if err != nil {
		t.Fatal(err)
	}
	return canonical(t, text)
}

func canonical(t *testing.T, text json.RawMessage) string {
	t.Helper()
	var v any
	err := json.Unmarshal(text, &v)
	if err == nil {
		text, err = json.Marshal(v)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// testValidation: what a pool can get wrong is looked at before anything is made: by
// the variable's own validation, or by a precondition, a postcondition or a check.
func testValidation(t *testing.T, name string, d terraform.Description) {
	looked := make(map[string]bool)
	for _, path := range glob(t, name, "*.tf") {
		walk(body(t, path), nil, func(b *hclsyntax.Block, within []string) {
			if b.Type == "validation" && len(within) == 1 {
				looked[within[0]] = true
			}
			if slices.Contains([]string{"precondition", "postcondition", "assert"}, b.Type) {
				for _, traversal := range b.Body.Attributes["condition"].Expr.Variables() {
					if attribute, ok := second(traversal); ok && traversal.RootName() == "var" {
						looked[attribute] = true
					}
				}
			}
		})
	}
	if !looked["broker"] {
		t.Error("nothing is asked of the variable broker")
	}
	for _, v := range d.Variables {
		key := name + "/" + v.Name
		switch {
		case free[key] != "" && looked[v.Name]:
			t.Errorf("variable %s is looked at: take it out of the list of those that are not", v.Name)
		case !looked[v.Name] && free[key] == "" && v.Type != "bool":
			t.Errorf("variable %s (%s) is accepted whatever it is", v.Name, v.Type)
		}
	}
}

func second(traversal hcl.Traversal) (string, bool) {
	if len(traversal) < 2 {
		return "", false
	}
	attribute, ok := traversal[1].(hcl.TraverseAttr)
	return attribute.Name, ok
}

// testOutputs: the outputs of the contract, all of them, and nothing else but image.
func testOutputs(t *testing.T, name string, d terraform.Description) {
	want := []string{"data", "hostname", "image", "ipaddr", "ssh_host_keys", "ssh_port", "ssh_user"}
	if name == "local" { // is made of no image
		want = slices.DeleteFunc(want, func(output string) bool { return output == "image" })
	}
	var got []string
	for _, output := range d.Outputs {
		got = append(got, output.Name)
		if output.Description == "" {
			t.Errorf("output %s has no description", output.Name)
		}
	}
	slices.Sort(got)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs (-contract +module):\n%s", diff)
	}
	if name == "local" {
		return
	}
	for _, path := range glob(t, name, "outputs.tf") {
		walk(body(t, path), nil, func(b *hclsyntax.Block, _ []string) {
			if len(b.Labels) != 1 || b.Labels[0] != "data" {
				return
			}
			pairs, diags := hcl.ExprMap(b.Body.Attributes["value"].Expr)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			var keys []string
			for _, pair := range pairs {
				keys = append(keys, hcl.ExprAsKeyword(pair.Key))
			}
			for _, key := range []string{"arch", "image"} {
				if !slices.Contains(keys, key) {
					t.Errorf("tenants are not told the %s", key)
				}
			}
		})
	}
}

// testExample: the first example of a pool is one that `validate` accepts, but for the
// lock file that only a registry can give.
func testExample(t *testing.T, name, readme string) {
	example := ""
	for _, found := range regexp.MustCompile("(?s)```hcl\n(.*?)```").FindAllStringSubmatch(readme, -1) {
		if regexp.MustCompile(`(?m)^pool "`).MatchString(found[1]) {
			example = found[1]
			break
		}
	}
	path := filepath.Join(t.TempDir(), "pools.hcl")
	if err := os.WriteFile(path, []byte(example), 0o600); err != nil {
		t.Fatal(err)
	}
	if formatted, _, _ := config.Format(path, []byte(example)); string(formatted) != example {
		t.Errorf("it is not formatted: %s", cmp.Diff(string(formatted), example))
	}
	file, diags := config.Load(path)
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	if len(file.Pools) == 0 {
		t.Fatal("there is no example")
	}
	root, err := filepath.Abs(name)
	if err != nil {
		t.Fatal(err)
	}
	var checker terraform.Checker
	for _, p := range file.Pools {
		if p.Module != "builtin:"+name {
			t.Errorf("pool %s has the module %s", p.Name, p.Module)
		}
		p.ModuleDir = root
		for _, way := range p.Ways() {
			problems, _ := checker.Check(way)
			for _, problem := range problems {
				if !problem.Warning {
					t.Errorf("pool %s: %v", p.Name, problem)
				}
			}
		}
	}
}

// Messages as providers and clouds write them come out as what they are, by the rules
// of the module's duffy.hcl alone. testdata/errors has a file for each module: lines
// CLASS: MESSAGE. Every expression is there for one of them.
func TestErrors(t *testing.T) {
	for _, m := range modules.All() {
		if _, err := os.Stat(filepath.Join(m.Name, "duffy.hcl")); err != nil {
			if m.Name != "local" { // Terraform's own errors are all that it has
				t.Errorf("%s has no duffy.hcl", m.Name)
			}
			continue
		}
		t.Run(m.Name, func(t *testing.T) {
			rules := errorRules(t, m.Name)
			used := make(map[string]bool)
			for line := range strings.Lines(read(t, filepath.Join("testdata", "errors"), m.Name+".txt")) {
				line = strings.ReplaceAll(strings.TrimSuffix(line, "\n"), `\n`, "\n")
				if line == "" || strings.HasPrefix(line, "#") {
					continue
				}
				want, message, _ := strings.Cut(line, ": ")
				got := "none"
				for _, r := range rules {
					if r.expression.MatchString(message) {
						used[r.expression.String()] = true
						if got == "none" {
							got = r.class
						}
					}
				}
				if got != want {
					t.Errorf("class %s, want %s: %s", got, want, message)
				}
			}
			for _, r := range rules {
				if !slices.Contains(broker.FailureClasses(), broker.FailureClass(r.class)) {
					t.Errorf("there is no class %s", r.class)
				}
				if !used[r.expression.String()] {
					t.Errorf("no message fits %s: %s", r.class, r.expression)
				}
			}
		})
	}
}

type errorRule struct {
	class      string
	expression *regexp.Regexp
}

// errorRules gives the rules of a module in their order.
func errorRules(t *testing.T, name string) []errorRule {
	t.Helper()
	var rules []errorRule
	walk(body(t, filepath.Join(name, "duffy.hcl")), nil, func(b *hclsyntax.Block, _ []string) {
		if b.Type != "errors" {
			return
		}
		attributes := slices.SortedFunc(maps.Values(b.Body.Attributes), func(a, b *hclsyntax.Attribute) int {
			return a.SrcRange.Start.Byte - b.SrcRange.Start.Byte
		})
		for _, a := range attributes {
			list, diags := a.Expr.Value(nil)
			if diags.HasErrors() {
				t.Fatal(diags)
			}
			for _, v := range list.AsValueSlice() {
				rules = append(rules, errorRule{a.Name, regexp.MustCompile(v.AsString())})
			}
		}
	})
	return rules
}

// walk calls visit for all blocks below b, with the last labels of those around it.
func walk(b *hclsyntax.Body, within []string, visit func(b *hclsyntax.Block, within []string)) {
	for _, block := range b.Blocks {
		visit(block, within)
		inner := within
		if len(block.Labels) > 0 {
			inner = append(slices.Clone(within), block.Labels[len(block.Labels)-1])
		}
		walk(block.Body, inner, visit)
	}
}

func body(t *testing.T, path string) *hclsyntax.Body {
	t.Helper()
	file, diags := hclsyntax.ParseConfig([]byte(read(t, filepath.Dir(path), filepath.Base(path))), path, hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	return file.Body.(*hclsyntax.Body) //nolint:forcetypeassert // what hclsyntax parses to
}

func glob(t *testing.T, dir, pattern string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s/%s: %v, %v", dir, pattern, paths, err)
	}
	return paths
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
