package terraform

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// followModule has an output that is known before a node is made, one that is not,
// and one that is null.
func followModule(source string) string {
	return `
variable "broker" { type = any }
variable "password" {
  default   = "hunter22"
  sensitive = true
}
resource "terraform_data" "node" { input = var.broker.node_id }
output "ipaddr" { value = "127.0.0.1" }
output "image_id" { value = trimspace(file("` + source + `")) }
output "tags" { value = { size = 3 } }
output "late" { value = { id = terraform_data.node.id } }
output "none" { value = null }
output "hidden" {
  value     = var.password
  sensitive = true
}
`
}

func TestLookUp(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	source := filepath.Join(t.TempDir(), "image")
	write(t, source, "image-1\n")
	p := modulePool(t, followModule(source), map[string]any{"password": "hunter23"})
	p.CreateTimeout = time.Minute
	plain, err := e.Prepare(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	p.Follow = broker.Follow{Outputs: []string{"image_id", "tags"}, Every: time.Hour}
	if p.Source, err = e.Prepare(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if p.Source.Generation != plain.Generation {
		t.Errorf("to follow changes the generation from %s to %s", plain.Generation, p.Source.Generation)
	}
	base, err := e.FollowBase(p)
	if err != nil || base != plain.Generation {
		t.Errorf("base %s, want %s; %v", base, plain.Generation, err)
	}
	// The module is the accepted one, whatever its directory has by now.
	write(t, filepath.Join(p.Module, "main.tf"), "broken")
	see := func() {
		t.Helper()
		values, err := e.LookUp(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		p.Followed = p.Followed.See(base, values, time.Time{})
		if p.Source, err = e.FollowedSource(p); err != nil {
			t.Fatal(err)
		}
	}
	see()
	if diff := cmp.Diff(map[string]string{"image_id": `"image-1"`, "tags": `{"size":3}`}, p.Followed.Values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
	if p.Source.Generation != base {
		t.Errorf("the first values make a generation of their own")
	}
	write(t, source, "image-2\n")
	see()
	if p.Followed.Values["image_id"] != `"image-2"` || p.Source.Generation == base {
		t.Errorf("after a change: %v, generation %s", p.Followed.Values, p.Source.Generation)
	}
	if plain, err := e.unsealVariables(p.Source); err != nil || string(plain) != `{"password":"hunter23"}` {
		t.Errorf("variables of the new generation: %s, %v", plain, err)
	}
	// A start comes to the same generation, and nodes can be made of it.
	write(t, filepath.Join(p.Module, "main.tf"), followModule(source))
	again, err := e.Prepare(t.Context(), p)
	if err != nil || again.Generation != p.Source.Generation {
		t.Errorf("accepted again: %s, want %s; %v", again.Generation, p.Source.Generation, err)
	}
	var inspector Inspector
	if seen, _, err := inspector.Inspect(p); err != nil || seen.Generation != p.Source.Generation {
		t.Errorf("inspected: %s, want %s; %v", seen.Generation, p.Source.Generation, err)
	}
	apply(t, e, broker.NewNode(p, time.Now()))

	for _, test := range []struct{ output, says string }{
		{"late", "late: not known before a node is made: only outputs that come from data sources can be followed"},
		{"none", "none: null"},
	} {
		other := p
		other.Follow.Outputs = []string{test.output}
		_, err := e.LookUp(t.Context(), other)
		wantError(t, err, test.says)
	}
	if err := os.Remove(source); err != nil {
		t.Fatal(err)
	}
	_, err = e.LookUp(t.Context(), p)
	if err == nil || !strings.Contains(err.Error(), "no file exists") || broker.FailureClassOf(err) == "" {
		t.Errorf("without the source: class %s, %v", broker.FailureClassOf(err), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := e.LookUp(ctx, p); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if left, err := os.ReadDir(e.followDir()); err != nil || len(left) > 0 {
		t.Errorf("left of it: %v, %v", left, err)
	}
}

func TestPrepareChecksFollowedOutputs(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	p := modulePool(t, followModule("/dev/null"), nil)
	p.Follow.Outputs = []string{"hidden", "image_id", "missing"}
	_, err := e.Prepare(t.Context(), p)
	wantError(t, err, `it has no output "missing", which the pool follows`, `its output "hidden", which the pool follows, is sensitive`)
	var inspector Inspector
	_, _, err = inspector.Inspect(p)
	wantError(t, err, `"missing"`, `"hidden"`)
}

// Each variant is looked up with its own variables, and its own generation is what
// the values change.
func TestLookUpOfVariants(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "image-a\n")
	write(t, filepath.Join(dir, "b"), "image-b\n")
	module := strings.Replace(followModule(dir+"/${var.zone}"), `variable "password"`, "variable \"zone\" { default = \"none\" }\nvariable \"password\"", 1)
	p := modulePool(t, module, nil)
	p.CreateTimeout = time.Minute
	p.Follow = broker.Follow{Outputs: []string{"image_id"}, Every: time.Hour}
	p.Variants = []broker.Variant{{Name: "near", Variables: []byte(`{"zone":"a"}`)}, {Name: "far", Variables: []byte(`{"zone":"b"}`)}}
	bases := make([]string, 0, 2)
	for i, way := range p.Ways() {
		source, err := e.Prepare(t.Context(), way)
		if err != nil {
			t.Fatal(err)
		}
		p.Variants[i].Source, bases = source, append(bases, source.Generation)
	}
	look := func() (generations []string) {
		t.Helper()
		for i, way := range p.Ways() {
			values, err := e.LookUp(t.Context(), way)
			if err != nil {
				t.Fatal(err)
			}
			p.Followed = p.Followed.With(p.Followed.See(bases[i], values, time.Time{}), bases)
		}
		for _, way := range p.Ways() {
			source, err := e.FollowedSource(way)
			if err != nil {
				t.Fatal(err)
			}
			generations = append(generations, source.Generation)
		}
		return generations
	}
	if diff := cmp.Diff(bases, look()); diff != "" {
		t.Errorf("generations by the first values (-want +got):\n%s", diff)
	}
	write(t, filepath.Join(dir, "b"), "image-c\n")
	if got := look(); got[0] != bases[0] || got[1] == bases[1] {
		t.Errorf("generations %v after a new value of the second variant, want another one than of %v there", got, bases)
	}
	var values []string
	for _, v := range p.FollowedValues() {
		values = append(values, string(v.Value))
	}
	if diff := cmp.Diff([]string{`"image-a"`, `"image-c"`}, values); diff != "" {
		t.Errorf("values (-want +got):\n%s", diff)
	}
}
