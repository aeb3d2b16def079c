package terraform

import (
	"path/filepath"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
)

func TestClassify(t *testing.T) {
	own := t.TempDir()
	write(t, filepath.Join(own, moduleFile), `errors {
  quota     = ["^E1"]
  throttled = ["E1", "TooFast\\b"]
}`)
	rules, problems := readErrorRules(own)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	place := &struct{}{}
	for _, tt := range []struct {
		name string
		d    diagnostic
		want broker.FailureClass
	}{
		{"the module's rule", diagnostic{Summary: "creating", Detail: "TooFast: slow"}, broker.FailureThrottled},
		{"the module's first rule", diagnostic{Summary: "E1 and so on"}, broker.FailureQuota},
		{"the module's second rule", diagnostic{Summary: "so: E1"}, broker.FailureThrottled},
		{"the module's rule comes first", diagnostic{Summary: "E1", Detail: "status code: 401"}, broker.FailureQuota},
		{"429", diagnostic{Summary: "creating", Detail: "https response error StatusCode: 429, RequestID: 401"}, broker.FailureThrottled},
		{"rate exceeded", diagnostic{Detail: "Rate exceeded"}, broker.FailureThrottled},
		{"a number is no status", diagnostic{Summary: "instance 429", Detail: "odd"}, broker.FailureOther},
		{"capacity", diagnostic{Detail: "InsufficientInstanceCapacity: none"}, broker.FailureNoCapacity},
		{"no capacity", diagnostic{Detail: "there is not enough capacity in this zone"}, broker.FailureNoCapacity},
		{"quota, with 403", diagnostic{Detail: "403 Forbidden: Quota exceeded for instances"}, broker.FailureQuota},
		{"limit", diagnostic{Detail: "VcpuLimitExceeded: no more"}, broker.FailureQuota},
		{"403", diagnostic{Detail: "status code 403"}, broker.FailureAuth},
		{"credentials", diagnostic{Summary: "No valid credential sources found"}, broker.FailureAuth},
		{"expired", diagnostic{Detail: "ExpiredToken: the token has expired"}, broker.FailureAuth},
		{"refused", diagnostic{Detail: "dial tcp 127.0.0.1:1: connect: connection refused"}, broker.FailureUnreachable},
		{"a dial that takes too long", diagnostic{Detail: "dial tcp 10.0.0.1:443: i/o timeout"}, broker.FailureUnreachable},
		{"waiting", diagnostic{Detail: "timeout while waiting for state to become 'running'"}, broker.FailureTimeout},
		{"a provider that died", diagnostic{Summary: "Plugin did not respond", Detail: "The plugin encountered an error"}, broker.FailureInterrupted},
		{"terraform's own", diagnostic{Summary: "Unsupported argument", Address: "a.b", Range: place}, broker.FailureConfiguration},
		{"anything in the module, of no resource", diagnostic{Summary: "Odd", Range: place}, broker.FailureConfiguration},
		{"a word of the module's", diagnostic{Summary: "Unsupported", Detail: `An argument named "timeout" is not expected here`, Range: place}, broker.FailureConfiguration},
		{"anything of a resource", diagnostic{Summary: "Odd", Address: "a.b", Range: place}, broker.FailureOther},
	} {
		if got := classify(rules, []diagnostic{{Summary: "Odd", Address: "x.y"}, tt.d}); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

func TestErrorRulesWithMistakes(t *testing.T) {
	for _, tt := range []struct{ name, file, want, hint string }{
		{"no class", `errors { throtled = ["x"] }`, `duffy.hcl:1: there is no class of errors "throtled"`, `did you mean "throttled"?`},
		{"far from any class", `errors { abc = ["x"] }`, `duffy.hcl:1: there is no class of errors "abc"`, `the classes are`},
		{"no list", `errors { quota = "x" }`, `duffy.hcl:1: quota is not a list of texts`, `write quota = ["EXPRESSION", ...]`},
		{"no expression", "errors {\n  quota = [\"(\"]\n}", `duffy.hcl:2: "(" is no regular expression`, ""},
		{"no such block", `error {}`, `duffy.hcl:1: duffy.hcl has no such block`, "errors { ... }"},
		{"an argument", `quota = ["x"]`, `duffy.hcl:1: duffy.hcl has no argument "quota"`, "errors { ... }"},
		{"a block inside", "errors {\n  rule {}\n}", `duffy.hcl:2: an errors block has no blocks in it`, "CLASS"},
		{"no HCL", `errors {`, `duffy.hcl:1: `, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, filepath.Join(dir, "main.tf"), nodeModule)
			write(t, filepath.Join(dir, moduleFile), tt.file)
			e := testEngine(t, "no-terraform")
			_, err := e.Prepare(t.Context(), broker.Pool{Name: "a", Module: dir})
			wantError(t, err, tt.want)
			_, problems := readErrorRules(dir)
			if len(problems) != 1 || tt.hint != "" {
				wantError(t, errorText(problems[0].Hint), tt.hint)
			}
		})
	}
}

type errorText string

func (e errorText) Error() string { return string(e) }
