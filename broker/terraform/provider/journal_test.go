package provider

import (
	"encoding/json"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"
	ctymsgpack "github.com/zclconf/go-cty/cty/msgpack"
	"google.golang.org/protobuf/encoding/protowire"
)

// text makes a field of bytes.
func text(number protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, number, protowire.BytesType), content)
}

func number(n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), v)
}

func join(parts ...[]byte) message {
	var m message
	for _, p := range parts {
		m = append(m, p...)
	}
	return m
}

// What a state file has for a value must come out of what a provider sends.
func TestValuesAreThoseOfStateFiles(t *testing.T) {
	inner := cty.Object(map[string]cty.Type{"a": cty.String, "n": cty.Number})
	huge, _ := new(big.Float).SetPrec(512).SetString("123456789012345678901234567890.5")
	tests := map[string]struct {
		value cty.Value
		as    cty.Type // the schema's, where it is not the value's
	}{
		"primitive": {value: cty.ObjectVal(map[string]cty.Value{"s": cty.StringVal("<ä>\n"), "t": cty.True, "f": cty.False, "none": cty.NullVal(cty.String)})},
		"numbers": {value: cty.ObjectVal(map[string]cty.Value{
			"zero": cty.Zero, "minus": cty.NumberIntVal(-70000), "max": cty.NumberIntVal(1<<63 - 1), "half": cty.NumberFloatVal(0.5),
		})},
		"collections": {value: cty.ObjectVal(map[string]cty.Value{
			"list": cty.ListVal([]cty.Value{cty.StringVal("x"), cty.StringVal("y")}), "set": cty.SetVal([]cty.Value{cty.NumberIntVal(1)}),
			"map": cty.MapVal(map[string]cty.Value{"k": cty.StringVal("v")}), "empty": cty.ListValEmpty(inner), "none": cty.MapValEmpty(cty.String),
			"objects": cty.ListVal([]cty.Value{cty.ObjectVal(map[string]cty.Value{"a": cty.StringVal("1"), "n": cty.Zero})}),
			"long":    cty.ListVal(make40()),
		})},
		"open type": {
			value: cty.ObjectVal(map[string]cty.Value{"any": cty.TupleVal([]cty.Value{cty.StringVal("x"), cty.Zero}), "null": cty.NullVal(cty.DynamicPseudoType)}),
			as:    cty.Object(map[string]cty.Type{"any": cty.DynamicPseudoType, "null": cty.DynamicPseudoType}),
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			kind := tt.as
			if kind == cty.NilType {
				kind = tt.value.Type()
			}
			packed, err := ctymsgpack.Marshal(tt.value, kind)
			if err != nil {
				t.Fatal(err)
			}
			want, err := ctyjson.Marshal(tt.value, kind)
			if err != nil {
				t.Fatal(err)
			}
			for _, dynamic := range [][]byte{text(dynamicMsgpack, packed), text(dynamicJSON, want)} {
				got, err := toJSON(dynamic)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(decoded(t, want), decoded(t, got)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
	packed, err := ctymsgpack.Marshal(cty.NumberVal(huge), cty.Number)
	if err != nil {
		t.Fatal(err)
	}
	got, err := toJSON(text(dynamicMsgpack, packed))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := ctyjson.Unmarshal(got, cty.Number); err != nil || !v.RawEquals(cty.NumberVal(huge)) {
		t.Errorf("a huge number comes out as %s, %v", got, err)
	}
	unknown, err := ctymsgpack.Marshal(cty.ObjectVal(map[string]cty.Value{"u": cty.UnknownVal(cty.String), "r": cty.UnknownVal(cty.String).RefineNotNull()}),
		cty.Object(map[string]cty.Type{"u": cty.String, "r": cty.String}))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := toJSON(text(dynamicMsgpack, unknown)); err != nil || string(got) != `{"r":null,"u":null}` {
		t.Errorf("unknown values come out as %s, %v", got, err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "cut": text(dynamicMsgpack, packed[:2]), "no JSON": text(dynamicJSON, []byte("{"))} {
		if got, err := toJSON(bad); err == nil {
			t.Errorf("%s comes out as %s", name, got)
		}
	}
}

func make40() []cty.Value {
	var all []cty.Value
	for range 40 {
		all = append(all, cty.StringVal(strings.Repeat("long ", 60)))
	}
	return all
}

func decoded(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestIsNull(t *testing.T) {
	for name, tt := range map[string]struct {
		dynamic []byte
		want    bool
	}{
		"absent":         {nil, true},
		"null":           {text(dynamicMsgpack, []byte{0xc0}), true},
		"null in JSON":   {text(dynamicJSON, []byte("null\n")), true},
		"object":         {text(dynamicMsgpack, []byte{0x80}), false},
		"object in JSON": {text(dynamicJSON, []byte("{}")), false},
	} {
		if got := isNull(tt.dynamic); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

func TestDamagedJournal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	if made, err := ReadJournal(path); made != nil || err != nil {
		t.Errorf("without a file: %v, %v", made, err)
	}
	j, err := openJournal(path)
	if err != nil {
		t.Fatal(err)
	}
	object := func(id string) []byte {
		return text(dynamicJSON, []byte(`{"id":"`+id+`"}`))
	}
	for _, e := range []entry{
		{Provider: "p", Type: "vm", SchemaVersion: 3, State: object("1"), Private: []byte{0, 1}},
		{Provider: "p", Type: "vm", State: []byte("damaged")},
		{Provider: "p", Type: "disk", State: object("2")},
	} {
		if err := j.add(e); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := j.file.WriteString(`{"provider":"p","type":"cut`); err != nil {
		t.Fatal(err)
	}
	if err := j.file.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJournal(path)
	if err == nil || !strings.Contains(err.Error(), "the state of a vm") {
		t.Errorf("error %v, want one about the damaged entry", err)
	}
	want := []Resource{
		{Provider: "p", Type: "vm", SchemaVersion: 3, Attributes: []byte(`{"id":"1"}`), Private: []byte{0, 1}},
		{Provider: "p", Type: "disk", Attributes: []byte(`{"id":"2"}`)},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v: others may read it", info.Mode(), err)
	}
}
