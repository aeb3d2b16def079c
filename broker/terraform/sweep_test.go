package terraform

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/fakecloud"
	"github.com/duffy-broker/duffy-broker/broker/secret"
)

// A sweep configuration sees what the contract promises, and leaves nothing behind.
func TestList(t *testing.T) {
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	dir := t.TempDir()
	write(t, filepath.Join(dir, "main.tf"), goodModule+"variable \"zone\" {}\nvariable \"password\" {\n  sensitive = true\n}\n")
	write(t, filepath.Join(dir, "ids", "main.tf"), "output \"first\" {\n  value = \"00000000000000a1\"\n}\n")
	write(t, filepath.Join(dir, "sweep", "main.tf"), `
		variable "broker" { type = object({ id = string }) }
		variable "zone" { type = string }
		module "ids" { source = "../ids" }
		output "nodes" {
		  value = [
		    { node_id = module.ids.first, ipaddr = "192.0.2.1", created_at = "2026-11-24T12:00:00Z",
		      resources = { "a.b" = "${var.broker.id}/${var.zone}", "a.c" = null } },
		    { node_id = "x", ipaddr = null, created_at = null, resources = {} },
		  ]
		}
		output "complete" { value = true }
	`)
	pool := broker.Pool{Name: "small", Module: dir, Variables: json.RawMessage(`{"zone":"north","password":"hunter22"}`)}
	var err error
	if pool.Source, err = e.Prepare(t.Context(), pool); err != nil {
		t.Fatal(describe(err))
	}
	if !pool.Source.Sweeps {
		t.Error("the source does not say that its module can list")
	}
	for range 2 { // the kept copy stays as it is
		got, err := e.List(t.Context(), pool)
		if err != nil {
			t.Fatal(err)
		}
		want := broker.Listing{Complete: true, Nodes: []broker.ListedNode{
			{UID: "00000000000000a1", Address: "192.0.2.1", CreatedAt: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC), Resources: map[string]string{"a.b": "broker-1/north"}},
			{UID: "x"},
		}}
		if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("listing (-want +got):\n%s", diff)
		}
	}
	if exists(filepath.Join(e.Dir, sweepDir)) {
		t.Error("the listing's directory is still there")
	}
	if err := e.PruneTemplates(nil); err != nil {
		t.Error(err)
	}
	if entries, _ := os.ReadDir(e.templatesDir()); len(entries) > 0 {
		t.Errorf("%d kept modules can't be removed", len(entries))
	}
}

func TestListingOutputs(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:                                    `output "nodes" is missing`,
		`{"nodes":{"value":null}}`:              `output "nodes" is missing`,
		`{"nodes":{"value":"all"}}`:             `not a list of objects`,
		`{"nodes":{"value":[{"node_id":[1]}]}}`: `not a list of objects`,
		`{"nodes":{"value":[]},"complete":{"value":"yes"}}`:                  `"complete" is not true or false`,
		`{"nodes":{"value":[{"node_id":"a","created_at":"yesterday"}]}}`:     `created_at of node "a"`,
		`{"nodes":{"value":[]},"complete":{"value":null}}`:                   "",
		`{"nodes":{"value":[]}}`:                                             "",
		`{"nodes":{"value":[{"node_id":"a"}]},"complete":{"value":"false"}}`: `"complete" is not`,
	} {
		s, err := parseState([]byte(`{"version":4,"lineage":"L","outputs":` + text + `}`))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.listing()
		if want != "" {
			wantError(t, err, want)
		} else if err != nil || got.Complete {
			t.Errorf("%s: got %+v, %v; want an incomplete listing", text, got, err)
		}
	}
}

// importScript makes a scripted Terraform import one resource; the address and the
// id are its last arguments.
const importScript = `#!/bin/sh
echo "$@" >> calls
case $1 in
import)
	for last; do address=$id; id=$last; done
	case $id in
	i-gone) printf '\nError: Cannot import non-existent remote object\n\nWhile attempting ...\n' >&2; exit 1 ;;
	i-busy) printf '\nError: reading: status code: 429\n\nToo Many\nRequests\n' >&2; exit 1 ;;
	i-dies) kill -9 $$ ;;
	esac
	name=${address#fake.}
	echo "$name" >> names
	list=
	for n in $(cat names); do list="$list,{\"mode\":\"managed\",\"type\":\"fake\",\"name\":\"$n\",\"instances\":[{}]}"; done
	echo "{\"version\":4,\"serial\":$(wc -l < names),\"lineage\":\"L\",\"resources\":[${list#,}]}" > terraform.tfstate ;;
destroy)
	cp terraform.tfstate ../../destroyed
	echo '{"version":4,"serial":99,"lineage":"L","resources":[]}' > terraform.tfstate
	echo '{"type":"change_summary","changes":{"operation":"destroy"}}' ;;
esac
`

func TestDestroyImportsFirst(t *testing.T) {
	for name, tt := range map[string]struct {
		ids       map[string]string
		destroyed []string
		class     broker.FailureClass
		fails     []string
	}{
		"two":        {ids: map[string]string{"fake.a": "i-1", "fake.b": "i-2"}, destroyed: []string{"fake.a", "fake.b"}},
		"one gone":   {ids: map[string]string{"fake.a": "i-gone", "fake.b": "i-2"}, destroyed: []string{"fake.b"}},
		"all gone":   {ids: map[string]string{"fake.a": "i-gone"}},
		"throttled":  {ids: map[string]string{"fake.a": "i-1", "fake.b": "i-busy"}, class: broker.FailureThrottled, fails: []string{"terraform import of node", "fake.b: reading: status code: 429: Too Many Requests"}},
		"terminated": {ids: map[string]string{"fake.a": "i-dies"}, class: broker.FailureInterrupted, fails: []string{"fake.a: run was interrupted"}},
	} {
		t.Run(name, func(t *testing.T) {
			e, n := fakeEngine(t, "", "")
			write(t, e.Binary.Path, importScript)
			if err := os.Chmod(e.Binary.Path, 0o700); err != nil {
				t.Fatal(err)
			}
			n.Import = tt.ids
			result, err := e.Destroy(t.Context(), n, nil)
			if len(tt.fails) > 0 {
				wantError(t, err, tt.fails...)
				if got := broker.FailureClassOf(err); got != tt.class {
					t.Errorf("class %q, want %q", got, tt.class)
				}
				if got := len(result.Runs); got != len(tt.ids) || result.Runs[got-1].Operation != "import" || result.Runs[got-1].Class != tt.class {
					t.Errorf("runs %+v, want one for each import", result.Runs)
				}
				if exists(filepath.Join(e.Dir, "destroyed")) {
					t.Error("it was destroyed though not all was imported")
				}
				if len(tt.ids) == 1 {
					return
				}
				// What was imported is in the result; the next try goes on from there.
				if err := e.Discard(n); err != nil {
					t.Fatal(err)
				}
				n.Import = map[string]string{"fake.a": "i-1", "fake.b": "i-gone"}
				result, err = e.Destroy(t.Context(), n, result.State)
				if err != nil || result.State != nil {
					t.Fatalf("second try: %v", err)
				}
				if calls := destroyedBy(t, e); !cmp.Equal(calls, []string{"fake.a"}) {
					t.Errorf("the second try has destroyed %v", calls)
				}
				return
			}
			if err != nil || result.State != nil {
				t.Fatalf("destroy: %v", err)
			}
			if got := destroyedBy(t, e); !cmp.Equal(got, tt.destroyed) {
				t.Errorf("destroyed %v, want %v", got, tt.destroyed)
			}
		})
	}
}

// destroyedBy gives what was in the state that the destroy began with.
func destroyedBy(t *testing.T, e *Engine) []string {
	t.Helper()
	path := filepath.Join(e.Dir, "destroyed")
	if !exists(path) {
		return nil
	}
	s, err := readState(path)
	if err != nil {
		t.Fatal(err)
	}
	return s.resources()
}

// The real Terraform imports what nobody knows, and destroys it; also where there
// are several, and one has gone meanwhile.
func TestImport(t *testing.T) {
	c := newSharedCloud(t)
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	pool := c.pool(t, "shared", map[string]any{"instances": 3})
	pool.ProviderSharing = false
	var err error
	if pool.Source, err = e.Prepare(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	n := broker.NewNode(pool, time.Now())
	if _, err := e.Apply(t.Context(), n); err != nil {
		t.Fatal(err)
	}
	if err := e.Discard(n); err != nil { // the result is lost
		t.Fatal(err)
	}
	listing, err := e.List(t.Context(), pool)
	if err != nil || !listing.Complete || len(listing.Nodes) != 3 {
		t.Fatalf("got %+v, %v; want three resources", listing, err)
	}
	n.Import = map[string]string{}
	for _, l := range listing.Nodes {
		maps.Copy(n.Import, l.Resources)
	}
	c.Kill(c.Instances()[1].ID)
	result, err := e.Destroy(t.Context(), n, nil)
	if err != nil || result.State != nil {
		t.Fatalf("destroy: %v", err)
	}
	if left := c.Instances(); len(left) > 0 {
		t.Errorf("%d instances are left", len(left))
	}
	var operations []string
	for _, r := range result.Runs {
		operations = append(operations, r.Operation)
	}
	if got := strings.Join(operations, " "); got != "import import import destroy" {
		t.Errorf("runs: %s", got)
	}
}

// A listing that fails says why, and its secrets stay out of it.
func TestListFails(t *testing.T) {
	c := newSharedCloud(t)
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	pool := c.pool(t, "module", nil)
	pool.ProviderSharing = false
	var err error
	if pool.Source, err = e.Prepare(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	c.SetFaults(fakecloud.Faults{Failures: []fakecloud.Failure{{Operation: fakecloud.List, Class: fakecloud.AuthFailure}}})
	_, err = e.List(t.Context(), pool)
	wantError(t, err, "sweep of pool", "AuthFailure: instances can't be listed")
	other, err := secret.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	e.Keyring = other
	_, err = e.List(t.Context(), pool)
	wantError(t, err, "variables")
}
