package config_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// Every function of the installed Terraform is there, but those whose result is
// another each time, and those about marks that there are none of.
func TestFunctions_areTerraforms(t *testing.T) {
	terraform := brokertest.NeedProgram(t, "terraform")
	cmd := exec.CommandContext(context.Background(), terraform, "metadata", "functions", "-json")
	cmd.Env = append(cmd.Environ(), "CHECKPOINT_DISABLE=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var known struct {
		Functions map[string]any `json:"function_signatures"`
	}
	if err := json.Unmarshal(out, &known); err != nil {
		t.Fatal(err)
	}
	without := []string{"bcrypt", "plantimestamp", "timestamp", "uuid", "ephemeralasnull", "issensitive", "nonsensitive", "sensitive"}
	checked := 0
	for name := range known.Functions {
		if strings.Contains(name, "::") {
			continue
		}
		// A function that exists complains of its arguments.
		_, diags := loadText(t, `pool "a" {`+"\n"+`module = "./module"`+"\n"+`variables = { x = `+name+`("a", "b", "c", "d", "e") }`+"\n}")
		unknown := slices.ContainsFunc(diags.Errs(), func(err error) bool { return strings.Contains(err.Error(), "no function") })
		if want := slices.Contains(without, name); unknown != want {
			t.Errorf("function %s: unknown: %t, want %t", name, unknown, want)
		}
		checked++
	}
	if checked < 100 {
		t.Errorf("Terraform told of %d functions only", checked)
	}
}
