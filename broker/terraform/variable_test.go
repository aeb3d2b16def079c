package terraform

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// A variable takes what Terraform lets it take.
func TestVariableTypesAreTerraforms(t *testing.T) {
	program := brokertest.NeedProgram(t, "terraform")
	tests := []struct {
		name, declaration, value string
		good                     bool
	}{
		{"text of a number", "type = string", `5`, true},
		{"number of a text", "type = number", `"5"`, true},
		{"number of words", "type = number", `"five"`, false},
		{"bool of a text", "type = bool", `"true"`, true},
		{"bool of a number", "type = bool", `1`, false},
		{"no type", "", `{"a":[1,"x"]}`, true},
		{"list of mixed", "type = list(string)", `[1,"x",true]`, true},
		{"list of anything", "type = list", `[1,"x"]`, true},
		{"list of lists and texts", "type = list(any)", `[["a"],"x"]`, false},
		{"set", "type = set(number)", `["1",1,2]`, true},
		{"map of an object", "type = map(number)", `{"a":"1"}`, true},
		{"map of words", "type = map(number)", `{"a":"one"}`, false},
		{"list for a map", "type = map(string)", `["a"]`, false},
		{"object with more", "type = object({ a = number })", `{"a":1,"b":2}`, true},
		{"object with less", "type = object({ a = number, b = number })", `{"a":1}`, false},
		{"optional attribute", "type = object({ a = number, b = optional(number, 3) })", `{"a":1}`, true},
		{"optional attribute of another type", "type = object({ a = number, b = optional(number, 3) })", `{"a":1,"b":[]}`, false},
		{"nested optional attributes", "type = list(object({ a = optional(object({ b = optional(string, \"x\") }), {}) }))", `[{},{"a":{}},{"a":{"b":1}}]`, true},
		{"defaults that don't fit what is given", "type = list(object({ a = optional(any, []) }))", `[{},{"a":"x"}]`, false},
		{"tuple", "type = tuple([string, number])", `["a","1"]`, true},
		{"tuple of another length", "type = tuple([string, number])", `["a"]`, false},
		{"null", "type = number", `null`, true},
		{"null refused", "type = number\n  nullable = false", `null`, false},
		{"null for the default", "type = number\n  nullable = false\n  default = 1", `null`, true},
		{"null in a list", "type = list(number)", `[null,1]`, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "main.tf"), goodModule+"variable \"x\" {\n  "+tt.declaration+"\n}\n")
			pool := broker.Pool{Name: "a", Module: dir, Variables: json.RawMessage(`{"x":` + tt.value + `}`)}
			problems, _ := new(Checker).Check(pool)
			if got := len(problems) == 0; got != tt.good {
				t.Errorf("good: %t, want %t: %v", got, tt.good, problems)
			}
			write(t, filepath.Join(dir, "x.auto.tfvars.json"), `{"broker":{"id":"1"},"x":`+tt.value+`}`)
			cmd := exec.CommandContext(t.Context(), program, "-chdir="+dir, "plan", "-input=false", "-no-color", "-lock=false")
			cmd.Env = append(os.Environ(), "CHECKPOINT_DISABLE=1")
			if out, err := cmd.CombinedOutput(); (err == nil) != tt.good {
				t.Errorf("terraform takes it: %t, want %t\n%s", err == nil, tt.good, out)
			}
		})
	}
}
