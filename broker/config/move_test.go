package config_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
)

// A chain of moves is as long as the file's history; each name leads to the last.
func TestMoves(t *testing.T) {
	f := load(t, write(t, `
moved {
  from = "b"
  to   = "c"
}
moved {
  from = "a"
  to   = "b"
}
moved {
  from = "single"
  to   = "sizes-small"
}
pool "sizes" {
  for_each = toset(["small", "large"])
  module   = "./module"
}
pool "c" {
  module = "./module"
}
`))
	want := []broker.Move{{From: "b", To: "c"}, {From: "a", To: "c"}, {From: "single", To: "sizes-small"}}
	if diff := cmp.Diff(want, f.Moves); diff != "" {
		t.Errorf("moves (-want +got):\n%s", diff)
	}
	for name, want := range map[string]string{"a": "c", "b": "c", "c": "c", "x": "x"} {
		if got := broker.MovedName(f.Moves, name); got != want {
			t.Errorf("%s is called %s now, want %s", name, got, want)
		}
	}
}
