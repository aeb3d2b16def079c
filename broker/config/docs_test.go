package config_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

const (
	docsFile      = "../../docs/pools.md"
	referenceFile = "testdata/reference.good.hcl"
	docsMark      = "-->\n"
)

// examples are blocks of the reference file, and what stands in them, by path.
type examples struct {
	src      []byte
	blocks   map[string]*hclsyntax.Block // the first of each kind
	settings map[string]bool             // "pool.ready.ssh"
}

func readExamples(t *testing.T) examples {
	t.Helper()
	src, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	file, diags := hclsyntax.ParseConfig(src, referenceFile, hcl.InitialPos)
	if diags.HasErrors() {
		t.Fatal(diags)
	}
	e := examples{src: src, blocks: make(map[string]*hclsyntax.Block), settings: make(map[string]bool)}
	e.add("", file.Body.(*hclsyntax.Body))
	return e
}

func (e examples) add(path string, body *hclsyntax.Body) {
	for name := range body.Attributes {
		e.settings[path+"."+name] = true
	}
	for _, block := range body.Blocks {
		nested := strings.TrimPrefix(path+"."+block.Type, ".")
		if e.blocks[nested] == nil {
			e.blocks[nested] = block
		}
		e.add(nested, block.Body)
	}
}

// of gives the text of an example. One that is missing is reported by another test.
func (e examples) of(path string) []byte {
	if e.blocks[path] == nil {
		return nil
	}
	return e.blocks[path].Range().SliceBytes(e.src)
}

// reference writes what follows the mark in docs/pools.md.
func reference(e examples) string {
	file := config.Describe()
	var out strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&out, format, args...) }
	i := slices.IndexFunc(file.Blocks, func(b *config.Block) bool { return b.Name == "defaults" })
	shared := file.Blocks[i]

	w("\n## Blocks\n")
	for _, b := range file.Blocks {
		w("\n### %s\n\n%s %s\n", b.Name, b.Doc, often(b))
		own := *b
		switch b.Name {
		case "defaults":
			w("\nIt takes all [settings of pools](#settings-of-pools).\n")
			continue
		case "template", "pool":
			w("\nIt takes all [settings of pools](#settings-of-pools), and these, which are not inherited:\n")
			own.Settings = without(b.Settings, shared.Settings)
			own.Blocks = nil
		}
		describe(w, &own)
		w("\n```hcl\n%s\n```\n", e.of(b.Name))
	}
	w("\n## Settings of pools\n\nThey stand in a `pool`, a `template` or `defaults`, and are inherited in this order.\n")
	describe(w, shared)
	w("\n```hcl\n%s\n```\n", e.of("defaults"))

	w("\n## Functions\n\n`env`, and those of Terraform that give the same at each reading of the same files: ")
	w("all but `%s`, and those for sensitive values.\n\n", strings.Join([]string{"bcrypt", "plantimestamp", "timestamp", "uuid"}, "`, `"))
	w("`%s`\n", strings.Join(config.Functions(), "` `"))
	return out.String()
}

// describe writes the settings of a block, and its nested blocks.
func describe(w func(string, ...any), b *config.Block) {
	if b.AnySetting != "" {
		w("\n| setting | is written as |\n|---|---|\n| any name | %s |\n", b.AnySetting)
	}
	if len(b.Settings) > 0 {
		w("\n| setting | is written as | without it | |\n|---|---|---|---|\n")
	}
	for _, s := range b.Settings {
		otherwise := s.Default
		if s.Required {
			otherwise = "a mistake"
		}
		cell := func(text string) string { return strings.ReplaceAll(text, "|", `\|`) }
		w("| `%s` | %s | %s | %s |\n", s.Name, cell(s.Kind), cell(otherwise), cell(s.Doc))
	}
	for _, nested := range b.Blocks {
		w("\n#### %s\n\n%s %s\n", nested.Name, nested.Doc, often(nested))
		describe(w, nested)
	}
}

func often(b *config.Block) string {
	header := "`" + b.Name
	if b.Labelled {
		header += ` "NAME"`
	}
	header += " { ... }`"
	if b.Once {
		return header + ", once."
	}
	return header + ", any number of times."
}

func without(all, others []config.Setting) (rest []config.Setting) {
	for _, s := range all {
		if !slices.ContainsFunc(others, func(o config.Setting) bool { return o.Name == s.Name }) {
			rest = append(rest, s)
		}
	}
	return rest
}

// docs/pools.md has every block and setting, as the readers declare them.
func TestDocs(t *testing.T) {
	src, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	head, got, found := strings.Cut(string(src), docsMark)
	if !found {
		t.Fatalf("%s has no mark %q", docsFile, docsMark)
	}
	want := reference(readExamples(t))
	if *update {
		if err := os.WriteFile(docsFile, []byte(head+docsMark+want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s is not what the readers take: write it with go test ./broker/config -update (-want +got):\n%s", docsFile, diff)
	}
}

// The reference file, which Load accepts, shows every block and every setting.
func TestDocs_examplesAreComplete(t *testing.T) {
	e := readExamples(t)
	shared := make(map[string]bool)
	eachBlock(config.Describe(), "", func(path string, b *config.Block) {
		kind, rest, _ := strings.Cut(path, ".")
		if path != "" && kind != "pool" && kind != "template" && e.blocks[path] == nil {
			t.Errorf("%s has no example of block %s", referenceFile, path)
		}
		for _, s := range b.Settings {
			name := strings.TrimPrefix(rest+"."+s.Name, ".")
			if kind == "defaults" {
				shared[name] = true
			}
			if (kind == "pool" || kind == "template") && shared[name] {
				continue // shown in defaults
			}
			if !e.settings[path+"."+s.Name] {
				t.Errorf("%s has no example of %s.%s", referenceFile, path, s.Name)
			}
		}
	})
}
