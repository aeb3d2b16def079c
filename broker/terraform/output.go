package terraform

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
)

// Operations, as they stand on the command line and in Terraform's summary.
const (
	opApply   = "apply"
	opDestroy = "destroy"
	opImport  = "import"
)

// output is what we read of a run's JSON output: see report.
type output struct {
	Type    string `json:"type"`
	Changes struct {
		Operation string `json:"operation"`
	} `json:"changes"`
	Diagnostic diagnostic `json:"diagnostic"`
	Hook       struct {
		Action   string `json:"action"`
		Resource struct {
			Addr   string `json:"addr"`
			Module string `json:"module"`
			Type   string `json:"resource_type"`
			Name   string `json:"resource_name"`
			Key    any    `json:"resource_key"`
		} `json:"resource"`
		IDKey   string `json:"id_key"`
		IDValue string `json:"id_value"`
	} `json:"hook"`
}

// diagnostic is something that Terraform has to say.
type diagnostic struct {
	Severity string    `json:"severity"`
	Summary  string    `json:"summary"`
	Detail   string    `json:"detail"`
	Address  string    `json:"address"`
	Range    *struct{} `json:"range"` // there is a place in the module
}

// report is what a run's output says about it.
type report struct {
	summary bool     // the summary of the operation was written: it came to its end
	errors  []string // what Terraform reports as errors
	begun   []begun  // resources that the run began to create

	diagnostics []diagnostic // the same errors, for their class
}

// begun is a resource that a run began to create, with its id once that is known.
type begun struct {
	address, id        string
	module, kind, name string // parts of the address
	key                any    // its last part: a number, a string, or nil
}

// readReport reads the output of a run. Lines that are not Terraform's messages
// are passed over: a state that could not be stored is among them, and the last
// line of a killed run may be incomplete.
func readReport(path, operation string) (report, error) {
	f, err := os.Open(path) //nolint:gosec // a file of ours
	if err != nil {
		return report{}, err
	}
	defer func() { _ = f.Close() }()

	var r report
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		var o output
		if json.Unmarshal(line, &o) == nil {
			r.add(o, operation)
		}
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return r, err
		}
	}
}

func (r *report) add(o output, operation string) {
	switch o.Type {
	case "change_summary":
		r.summary = r.summary || o.Changes.Operation == operation
	case "apply_start":
		if o.Hook.Action == "create" {
			at := o.Hook.Resource
			r.begun = append(r.begun, begun{address: at.Addr, module: at.Module, kind: at.Type, name: at.Name, key: at.Key})
		}
	case "apply_complete":
		for i := range r.begun {
			if r.begun[i].address == o.Hook.Resource.Addr {
				r.begun[i].id = o.Hook.IDValue
			}
		}
	case "diagnostic":
		if o.Diagnostic.Severity != "error" {
			return
		}
		text := o.Diagnostic.Summary
		if o.Diagnostic.Address != "" {
			text = o.Diagnostic.Address + ": " + text
		}
		if detail := strings.TrimSpace(o.Diagnostic.Detail); detail != "" {
			text += ": " + detail
		}
		if !slices.Contains(r.errors, text) { // Terraform repeats some
			r.errors = append(r.errors, text)
			r.diagnostics = append(r.diagnostics, o.Diagnostic)
		}
	}
}
