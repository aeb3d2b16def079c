package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/secret"
)

func TestStringShowsNothing(t *testing.T) {
	const value = "hunter2"
	s := secret.String(value)
	type holder struct{ Key secret.String }

	var out bytes.Buffer
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%X", "%d", "%t"} {
		fmt.Fprintf(&out, verb+"\n", s)
		fmt.Fprintf(&out, verb+"\n", holder{s})
		fmt.Fprintf(&out, verb+"\n", []secret.String{s})
	}
	fmt.Fprintln(&out, s, s.String())
	for _, v := range []any{s, holder{s}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	slog.New(slog.NewTextHandler(&out, nil)).Info("text", "key", s, "in", holder{s})
	slog.New(slog.NewJSONHandler(&out, nil)).Info("json", "key", s, "in", holder{s})

	for _, shown := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%X", value)} {
		if strings.Contains(out.String(), shown) {
			t.Errorf("the secret is shown as %q in:\n%s", shown, out.String())
		}
	}
	if got := string(s); got != value {
		t.Errorf("string(s) = %q, want the value", got)
	}
}
