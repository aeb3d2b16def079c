package plan

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/duffy-broker/duffy-broker/broker"
)

// leaf is a setting with a value of its own.
type leaf struct {
	name  string
	value json.RawMessage
	zero  bool // it is what it is if nobody sets it
}

// leaves takes a setting apart, by the names in its JSON: members of structs and
// maps have names of their own, lists are one value each, unless their elements
// have names. New fields need nothing here.
func leaves(name string, v reflect.Value) []leaf {
	switch v.Interface().(type) {
	case time.Duration:
		return []leaf{{name, marshal(Duration(time.Duration(v.Int()))), v.IsZero()}}
	case time.Time, json.RawMessage:
		return []leaf{{name, marshal(v.Interface()), v.IsZero()}}
	}
	switch v.Kind() { //nolint:exhaustive // all others have one value
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		return leaves(name, v.Elem())
	case reflect.Struct:
		var all []leaf
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if own := jsonName(f); own != "" {
				all = append(all, leaves(join(name, own), v.Field(i))...)
			} else if f.Anonymous {
				all = append(all, leaves(name, v.Field(i))...)
			}
		}
		return all
	case reflect.Map:
		var all []leaf
		for _, key := range slices.SortedFunc(slices.Values(v.MapKeys()), func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) }) {
			all = append(all, leaves(join(name, key.String()), v.MapIndex(key))...)
		}
		return all
	case reflect.Slice:
		if v.IsNil() { // a list that is empty says something, none does not
			return nil
		}
		if v.Type().Elem().Kind() == reflect.Struct {
			return elements(name, v)
		}
	}
	return []leaf{{name, marshal(v.Interface()), v.IsZero()}}
}

// elements takes a list of structs apart: by the names of its elements, or by
// their places. All of an element is set by somebody.
func elements(name string, v reflect.Value) []leaf {
	var all []leaf
	for i := range v.Len() {
		at := fmt.Sprintf("%s[%d]", name, i)
		own := v.Index(i).FieldByName("Name")
		named := own.IsValid() && own.Kind() == reflect.String && own.String() != ""
		if named {
			at = join(name, own.String())
		}
		for _, l := range leaves(at, v.Index(i)) {
			if named && l.name == join(at, "name") {
				continue
			}
			l.zero = false
			all = append(all, l)
		}
	}
	return all
}

func join(name, member string) string {
	if name == "" {
		return member
	}
	return name + "." + member
}

// jsonName gives the name that a field has in JSON, "" where it has none.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case !f.IsExported(), name == "-", f.Anonymous && name == "":
		return ""
	case name != "":
		return name
	}
	return snake(f.Name)
}

// snake writes a Go name as settings are written.
func snake(name string) string {
	var b strings.Builder
	for i, r := range name {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// marshal writes a value, with texts as they are.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return marshal(fmt.Sprint(v)) // no number, or the like: at least it is told
	}
	return bytes.TrimSpace(b.Bytes())
}

// Duration writes a duration as people do: 15m, not 15m0s.
func Duration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// differences compares two lists of settings. They come in the order of the new
// one, then those that are gone.
func differences(old, after []leaf) []Field {
	before := make(map[string]leaf, len(old))
	for _, l := range old {
		before[l.name] = l
	}
	var fields []Field
	known := make(map[string]bool, len(after))
	for _, l := range after {
		known[l.name] = true
		was, set := before[l.name]
		switch {
		case set && bytes.Equal(was.value, l.value):
		case set:
			fields = append(fields, Field{Name: l.name, Old: was.value, New: l.value})
		case !l.zero:
			fields = append(fields, Field{Name: l.name, New: l.value})
		}
	}
	for _, l := range old {
		if !known[l.name] && !l.zero {
			fields = append(fields, Field{Name: l.name, Old: l.value})
		}
	}
	return fields
}

// poolLeaves gives the settings of a pool, but its name, its variables, and what
// they, the module and the outputs that it follows come to.
func poolLeaves(p *broker.Pool) []leaf {
	if p == nil {
		return nil
	}
	plain := *p
	plain.Name, plain.Variables, plain.Source, plain.Followed = "", nil, broker.Source{}, broker.Followed{}
	all := leaves("", reflect.ValueOf(plain))
	if len(p.Variants) > 0 {
		names := make([]string, 0, len(p.Variants))
		for _, v := range p.Variants {
			names = append(names, v.Name)
		}
		all = append(all, leaf{"variants", marshal(names), false}) // their order counts
	}
	all = asWritten(all)
	return slices.DeleteFunc(all, func(l leaf) bool {
		if len(p.Follow.Outputs) == 0 && strings.HasPrefix(l.name, "follow.") {
			return true // there is no such block
		}
		return l.name == "name" || l.name == "variables" || strings.HasPrefix(l.name, "source.") || strings.HasPrefix(l.name, "followed.") || variantLeaf(l.name)
	})
}

// asWritten gives settings that a pool keeps as the opposite the names and values
// that they have in the file.
func asWritten(all []leaf) []leaf {
	names := map[string]string{"no_legacy": "legacy", "rollout.no_stale": "rollout.serve_stale"}
	for i, l := range all {
		if name := names[l.name]; name != "" {
			all[i] = leaf{name, marshal(l.zero), l.zero}
		}
	}
	return all
}

// variantLeaf tells whether a leaf is what a variant's variables and the module
// come to, or its name.
func variantLeaf(name string) bool {
	if !strings.HasPrefix(name, "variants.") {
		return false
	}
	return strings.HasSuffix(name, ".variables") || strings.HasSuffix(name, ".name") ||
		slices.ContainsFunc([]string{".source.template", ".source.variables", ".source.generation", ".source.sweeps"}, func(end string) bool {
			return strings.HasSuffix(name, end)
		})
}

// poolFields compares two definitions of a pool, of which one may be nil.
func (c *computation) poolFields(old, after *broker.Pool) []Field {
	fields := differences(poolLeaves(old), poolLeaves(after))
	for _, f := range fields { // the module first: it says what the pool is
		if f.Name == "module" {
			fields = slices.DeleteFunc(fields, func(f Field) bool { return f.Name == "module" })
			fields = slices.Insert(fields, 0, f)
			break
		}
	}
	return append(fields, c.variableFields(old, after)...)
}

// variables gives a pool's variables by name.
func variables(p *broker.Pool) map[string]json.RawMessage {
	all := make(map[string]json.RawMessage)
	if p != nil && len(p.Variables) > 0 {
		_ = json.Unmarshal(p.Variables, &all) // of what is no object nothing can be told
	}
	return all
}

// variableFields compares variables key by key.
func (c *computation) variableFields(old, after *broker.Pool) []Field {
	var fields []Field
	for _, v := range c.variableChanges(old, after) {
		f := Field{Name: "variables." + v.name, Old: compact(v.old), New: compact(v.after), Sensitive: v.secret}
		if v.variant != "" {
			f.Name = "variants." + v.variant + ".variables." + strings.TrimPrefix(v.name, v.variant+".")
		}
		if v.secret {
			f.Old, f.New = nil, nil
		}
		fields = append(fields, f)
	}
	return fields
}

func (c *computation) mask(value json.RawMessage) json.RawMessage {
	if len(value) == 0 || broker.IsMasked(value) {
		return value
	}
	return broker.Mask(c.options.MaskKey, value)
}

func union(a, b map[string]json.RawMessage) map[string]json.RawMessage {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func compact(value json.RawMessage) json.RawMessage {
	if len(value) == 0 {
		return nil
	}
	var b bytes.Buffer
	if json.Compact(&b, value) != nil {
		return value
	}
	return b.Bytes()
}

func equalJSON(a, b json.RawMessage) bool { return bytes.Equal(compact(a), compact(b)) }
