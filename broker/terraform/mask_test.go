package terraform

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// Texts are found in all the forms in which a log may have them.
func TestMaskTexts(t *testing.T) {
	const secret = "one \"quoted\" & <tagged>\\\"\""
	in := func(v any, html bool) string {
		var b strings.Builder
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(html)
		if err := e.Encode(v); err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(b.String())
	}
	nested := in(map[string]string{"x": secret}, true)
	for name, text := range map[string]string{
		"as it is": secret, "in JSON": in(secret, true), "in JSON with <>": in(secret, false), "in JSON in a message": in(nested, true),
	} {
		got := maskTexts([]string{secret}).Replace("[" + text + "]")
		if strings.Contains(got, "quoted") || !strings.Contains(got, masked) || strings.Contains(got, `\]`) {
			t.Errorf("%s: %s", name, got)
		}
	}
	lines := maskTexts([]string{"-----BEGIN KEY-----\nAAAABBBBCCCC\nshort\n"})
	if got := lines.Replace("(local-exec): AAAABBBBCCCC short"); got != "(local-exec): "+masked+" short" {
		t.Errorf("a line of a key: %s", got)
	}
	if got := maskTexts([]string{"abcdef", "abcdefgh"}).Replace("abcdefgh"); got != masked {
		t.Errorf("the longer of two: %s", got)
	}
}

// Sensitive attributes are found where Terraform says they are, in values of any
// type, too.
func TestStateSensitive(t *testing.T) {
	for name, tt := range map[string]struct{ attributes, path, want string }{
		"attribute":                 {`{"a":"secret-a","b":"visible"}`, `[{"type":"get_attr","value":"a"}]`, "secret-a"},
		"number":                    {`{"a":123456789012}`, `[{"type":"get_attr","value":"a"}]`, "123456789012"},
		"in a list":                 {`{"a":["visible","secret-b"]}`, `[{"type":"get_attr","value":"a"},{"type":"index","value":{"value":1,"type":"number"}}]`, "secret-b"},
		"in a map":                  {`{"a":{"k":"secret-c"}}`, `[{"type":"get_attr","value":"a"},{"type":"index","value":{"value":"k","type":"string"}}]`, "secret-c"},
		"in a value of any type":    {`{"a":{"value":["secret-d","visible"],"type":["tuple",["string","string"]]}}`, `[{"type":"get_attr","value":"a"},{"type":"index","value":{"value":0,"type":"number"}}]`, "secret-d"},
		"any type, an object":       {`{"a":{"value":{"k":"secret-e"},"type":["object",{"k":"string"}]}}`, `[{"type":"get_attr","value":"a"},{"type":"get_attr","value":"k"}]`, "secret-e"},
		"a path that leads nowhere": {`{"a":"secret-f"}`, `[{"type":"get_attr","value":"a"},{"type":"get_attr","value":"k"}]`, "secret-f"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := parseState([]byte(`{"version":4,"lineage":"L","resources":[{"mode":"managed","type":"t","name":"n","instances":[{"attributes":` +
				tt.attributes + `,"sensitive_attributes":[` + tt.path + `]}]}]}`))
			if err != nil {
				t.Fatal(err)
			}
			got := " " + strings.Join(s.sensitive(), " ") + " "
			if !strings.Contains(got, " "+tt.want+" ") || strings.Contains(got, "visible") {
				t.Errorf("got %q, want %s", got, tt.want)
			}
		})
	}
}

// What the real Terraform prints and stores of a sensitive variable is masked,
// wherever the module puts it.
func TestSensitiveVariablesAreMasked(t *testing.T) {
	const secret, generated = "variable-\"secret\"-1", "attribute-secret-2"
	e := testEngine(t, brokertest.NeedProgram(t, "terraform"))
	n := broker.NewNode(prepared(t, e, modulePool(t, `
variable "broker" {}
variable "login" {
  type      = object({ name = string, password = string })
  sensitive = true
}
resource "terraform_data" "node" {
  triggers_replace = ["visible", sensitive("`+generated+`")]
  input            = "x"
  provisioner "local-exec" {
    command     = "printf '%s\\n' \"$LOGIN\" '`+generated+`' visible"
    environment = { LOGIN = nonsensitive(var.login.password) }
  }
}
resource "terraform_data" "bad" {
  depends_on = [terraform_data.node]
  provisioner "local-exec" {
    command     = "printf '%s\\n' \"it was $LOGIN\"; exit 1"
    environment = { LOGIN = nonsensitive(var.login.password) }
  }
}
output "ipaddr" { value = "127.0.0.1" }
`, map[string]any{"login": map[string]any{"name": "somebody", "password": secret}})), time.Now())
	result, err := e.Apply(t.Context(), n)
	if err == nil {
		t.Fatal("the apply succeeds")
	}
	wantError(t, err, "it was "+masked)
	got := openLog(t, e, n, result.Runs[0])
	for what, text := range map[string]string{"error": err.Error(), "log": got, "record": result.Runs[0].Failure} {
		if strings.Contains(text, "secret") {
			t.Errorf("the %s holds a secret:\n%s", what, text)
		}
	}
	if !strings.Contains(got, "(local-exec): visible") {
		t.Errorf("too much is masked:\n%s", got)
	}
	destroy(t, e, n, result.State)
}
