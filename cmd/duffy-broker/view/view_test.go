package view

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

var update = flag.Bool("update", false, "write the golden files anew")

var now = time.Date(2026, 11, 23, 18, 0, 0, 0, time.UTC)

func inputs(t *testing.T) map[string][]byte {
	t.Helper()
	files, err := filepath.Glob("testdata/*.in.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no inputs: %v", err)
	}
	in := make(map[string][]byte)
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		in[strings.TrimSuffix(filepath.Base(file), ".in.json")] = b
	}
	return in
}

func TestFormat(t *testing.T) {
	for name, raw := range inputs(t) {
		for _, format := range Formats() {
			t.Run(name+"/"+format, func(t *testing.T) {
				var got bytes.Buffer
				if err := formatAt(&got, format, raw, now); err != nil {
					t.Fatal(err)
				}
				golden := filepath.Join("testdata", name+"."+format+".golden")
				if *update {
					if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(golden)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), got.String()); diff != "" {
					t.Errorf("differs from %s (-want +got):\n%s", golden, diff)
				}
			})
		}
	}
}

// pythonFormats answers every line of JSON with what json.dumps and yaml.dump
// make of it.
const pythonFormats = `
import json, sys, yaml
for line in sys.stdin:
    value = json.loads(line)
    print(json.dumps([json.dumps(value), yaml.dump(value)]))
`

func TestFormat_agreesWithPython(t *testing.T) {
	python := brokertest.NeedProgram(t, "python3")
	if err := exec.CommandContext(t.Context(), python, "-c", "import yaml").Run(); err != nil {
		brokertest.Skip(t, "python3 has no yaml module: this test needs it")
	}
	var docs [][]byte
	for _, raw := range inputs(t) {
		var b bytes.Buffer
		if err := json.Compact(&b, raw); err != nil {
			t.Fatal(err)
		}
		docs = append(docs, b.Bytes())
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 3000 {
		b, err := json.Marshal(map[string]any{randomText(r): randomValue(r, 4), randomText(r): randomText(r)})
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, b)
	}

	cmd := exec.CommandContext(t.Context(), python, "-c", pythonFormats)
	cmd.Stdin = bytes.NewReader(append(bytes.Join(docs, []byte("\n")), '\n'))
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	wrong := 0
	for _, doc := range docs {
		var want [2]string
		if !lines.Scan() || json.Unmarshal(lines.Bytes(), &want) != nil {
			t.Fatal("python gave fewer answers than questions")
		}
		v, err := parse(doc)
		if err != nil {
			t.Fatalf("%s: %v", doc, err)
		}
		if diff := cmp.Diff(want, [2]string{pythonJSON(v), pythonYAML(v)}); diff != "" {
			t.Errorf("%s (-python +ours):\n%s", doc, diff)
			if wrong++; wrong == 5 {
				t.Fatal("and so on")
			}
		}
	}
}

func randomValue(r *rand.Rand, depth int) any {
	switch n := r.IntN(10); {
	case n < 2 && depth > 0:
		list := make([]any, r.IntN(4))
		for i := range list {
			list[i] = randomValue(r, depth-1)
		}
		return list
	case n < 5 && depth > 0:
		object := make(map[string]any)
		for range r.IntN(4) {
			object[randomText(r)] = randomValue(r, depth-1)
		}
		return object
	case n == 5:
		return nil
	case n == 6:
		return r.IntN(2) == 0
	case n == 7:
		return r.IntN(100000) - 50000
	case n == 8:
		return json.RawMessage([]string{"1.0", "1e16", "123456789012345678", "1.5e-7", "0.0001", "1E5", "-0.0", "1e22", "1e400"[:3], "99999999999999999999.5"}[r.IntN(10)])
	}
	return randomText(r)
}

func randomText(r *rand.Rand) string {
	words := []string{
		"a", "node", "some words", "  ", " ", "\n", "\n\n", "\t", "'", `"`, `\`, ":", ": ", "-", "- ", "?", "? ", "#", " #", ",", "[", "{", "&", "*", "!", "|", ">", "%", "@", "`",
		"---", "...", "é", "€", "😀", "\u0085", "\u00a0", "\u2028", "\ufeff", "\x00", "\x1b", "\x7f", "true", "Yes", "null", "~", "=", "<<", "1", "0755", "0x1f", "0b1", "1_000", "1.5", ".5", "1e5", "1.0e+5",
		".inf", ".nan", "1:30", "1:30.5", "2026-11-23", "2026-11-23T17:32:29.383593+00:00", "2026-11-23 17:32:29", "ssh-ed25519", "AAAAC3NzaC1lZDI1NTE5AAAAIA",
	}
	n := r.IntN(4)
	if r.IntN(8) == 0 {
		n = r.IntN(60)
	}
	var b strings.Builder
	for range n {
		b.WriteString(words[r.IntN(len(words))])
		if r.IntN(3) == 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

func TestFormat_refuses(t *testing.T) {
	tests := map[string]struct {
		format, raw string
	}{
		"unknown format":     {"xml", `{}`},
		"no JSON":            {JSON, `nonsense`},
		"two values":         {JSON, `{} {}`},
		"broken list":        {JSON, `[1,`},
		"broken object":      {JSON, `{"a":`},
		"flat of something":  {Flat, `{"something": {}}`},
		"table of something": {Table, `[1]`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			err := Format(&b, test.format, []byte(test.raw))
			if broker.CodeOf(err) != broker.CodeInvalid {
				t.Errorf("got error %v, want one that is invalid", err)
			}
			if b.Len() > 0 {
				t.Errorf("wrote %q", b.String())
			}
		})
	}
}

func TestError(t *testing.T) {
	coded := broker.Wrap(broker.CodeCapacity, errors.New("cause"), "it's empty").WithHint("wait")
	tests := map[string]struct {
		err    error
		format string
		want   string
	}{
		"json":  {coded, JSON, `{"error": {"detail": "it's empty", "code": "capacity", "hint": "wait"}}` + "\n"},
		"yaml":  {coded, YAML, "error:\n  code: capacity\n  detail: it's empty\n  hint: wait\n\n"},
		"flat":  {coded, Flat, `error='it'"'"'s empty'` + "\n"},
		"table": {coded, Table, "error: it's empty\nhint: wait\n"},
		"plain": {errors.New("no such file"), Table, "error: no such file\n"},
		// Errors that come back from a server are safe to show whatever their code.
		"internal": {broker.Errorf(broker.CodeInternal, "internal error").WithHint("see id 7"), Table, "error: internal error\nhint: see id 7\n"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Error(&b, test.format, test.err); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, b.String()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The events of a stream are written as those of a list, and each is complete.
func TestEvent(t *testing.T) {
	const raw = `{"seq": 8, "at": "2026-11-23T17:32:31+00:00", "kind": "node", "pool": "small", "node_id": 12, "from": "ready", "to": "deployed"}`
	for format, want := range map[string]string{
		JSON:  raw + "\n",
		YAML:  "---\nat: '2026-11-23T17:32:31+00:00'\nfrom: ready\nkind: node\nnode_id: 12\npool: small\nseq: 8\nto: deployed\n",
		Flat:  "seq=8 at='2026-11-23T17:32:31+00:00' kind='node' pool='small' node_id=12 session_id= tenant_id= from='ready' to='deployed' message=\n",
		Table: "8 2026-11-23T17:32:31+00:00 node 12 of small ready -> deployed\n",
	} {
		var b bytes.Buffer
		if err := Event(&b, format, []byte(raw)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
}

func TestExpiresIn(t *testing.T) {
	tests := []struct{ at, want string }{
		{"2026-11-23T18:00:00+00:00", "now"},
		{"2026-11-23T18:00:59.9Z", "59s"},
		{"2026-11-23T18:59:59+00:00", "59m"},
		{"2026-11-23T23:05:00+00:00", "5h05m"},
		{"2026-11-26T18:00:00+00:00", "3d"},
		{"", ""},
	}
	for _, test := range tests {
		session := value{kind: isObject}
		session.set("active", value{kind: isBool, yes: true})
		session.set("expires_at", value{kind: isString, text: test.at})
		if got := expiresIn(session, now); got != test.want {
			t.Errorf("expiresIn(%q) = %q, want %q", test.at, got, test.want)
		}
	}
}

// A log is for people, and in the other formats for programs; what is no JSON is
// passed on.
func TestLogLine(t *testing.T) {
	lines := []string{
		`{"@level":"error","@message":"Error: a\u001b[31m","type":"diagnostic","diagnostic":{"detail":"one\ntwo"}}`,
		`{"@message":"terraform apply","type":"run_start","operation":"apply","run":7}`,
		`{"@message":"terraform apply failed: quota","type":"run_end","failure":"too many"}`,
		`no JSON`,
	}
	for format, want := range map[string]string{
		Table: "         Error: a[31m\n         one\n         two\n         == terraform apply (run 7)\n         == terraform apply failed: quota\n         too many\nno JSON\n",
		JSON: `{"@level": "error", "@message": "Error: a\u001b[31m", "type": "diagnostic", "diagnostic": {"detail": "one\ntwo"}}` + "\n" +
			`{"@message": "terraform apply", "type": "run_start", "operation": "apply", "run": 7}` + "\n" +
			`{"@message": "terraform apply failed: quota", "type": "run_end", "failure": "too many"}` + "\nno JSON\n",
		YAML: "---\n'@level': error\n'@message': \"Error: a\\e[31m\"\ndiagnostic:\n  detail: 'one\n\n    two'\ntype: diagnostic\n" +
			"---\n'@message': terraform apply\noperation: apply\nrun: 7\ntype: run_start\n" +
			"---\n'@message': 'terraform apply failed: quota'\nfailure: too many\ntype: run_end\nno JSON\n",
		Flat: "timestamp= level='error' type='diagnostic' run= message='Error: a\x1b[31m' detail='one\ntwo' failure=\n" +
			"timestamp= level= type='run_start' run=7 message='terraform apply' detail= failure=\n" +
			"timestamp= level= type='run_end' run= message='terraform apply failed: quota' detail= failure='too many'\nno JSON\n",
	} {
		var b bytes.Buffer
		for _, line := range lines {
			if err := LogLine(&b, format, []byte(line+"\n")); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", format, diff)
		}
	}
	if err := LogLine(io.Discard, "xml", []byte(`{}`)); broker.CodeOf(err) != broker.CodeInvalid {
		t.Errorf("an unknown format: %v", err)
	}
}
