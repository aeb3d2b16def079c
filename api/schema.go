package api

import (
	"encoding/json"
	"reflect"
	"strings"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
)

// object is a JSON object of the document.
type object = map[string]any

// schemas collects the JSON Schemas of named types, by name. It knows what
// package v1 needs, and no more of Go.
type schemas object

// of gives the schema of a type: a reference for a named struct, which it adds.
func (s schemas) of(t reflect.Type) object {
	switch t {
	case reflect.TypeFor[v1.Time]():
		return object{"type": []string{"string", "null"}, "format": "date-time"}
	case reflect.TypeFor[v1.Seconds]():
		return object{"type": "number", "description": "seconds"}
	case reflect.TypeFor[v1.Action]():
		return object{"type": "string", "enum": []v1.Action{v1.ActionGet, v1.ActionPost, v1.ActionPut, v1.ActionDelete}}
	case reflect.TypeFor[json.RawMessage]():
		return object{"type": "object"} // all of ours are
	}
	switch t.Kind() { //nolint:exhaustive // the others are refused at the end
	case reflect.Pointer:
		return nullable(s.of(t.Elem()))
	case reflect.Struct:
		s.add(t)
		return object{"$ref": "#/components/schemas/" + t.Name()}
	case reflect.Slice:
		return object{"type": "array", "items": s.of(t.Elem())}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": s.of(t.Elem())}
	case reflect.Interface:
		return object{} // anything
	case reflect.String:
		return object{"type": "string"}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Int:
		return object{"type": "integer"}
	case reflect.Int64:
		return object{"type": "integer", "format": "int64"}
	default:
		panic("the API has no schema for type " + t.String()) // every test of the document finds it
	}
}

// add describes a struct as encoding/json writes it. Fields that may be left out
// are not required, nor are those that come by an embedded pointer.
func (s schemas) add(t reflect.Type) {
	if _, known := s[t.Name()]; known {
		return
	}
	properties, required := object{}, []string{}
	s[t.Name()] = object{} // for a type that holds itself
	for _, f := range reflect.VisibleFields(t) {
		if f.Anonymous {
			continue // its fields come by themselves
		}
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		schema := s.of(f.Type)
		if options != "" { // omitempty or omitzero: what would be null is left out
			schema = s.of(dereferenced(f.Type))
			if f.Type == reflect.TypeFor[v1.Time]() {
				schema["type"] = "string"
			}
		} else if !byPointer(t, f.Index) {
			required = append(required, name)
		}
		properties[name] = schema
	}
	s[t.Name()] = object{"type": "object", "properties": properties, "required": required}
}

func nullable(schema object) object {
	if name, ok := schema["type"].(string); ok {
		schema["type"] = []string{name, "null"}
		return schema
	}
	return object{"anyOf": []object{schema, {"type": "null"}}}
}

func dereferenced(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// byPointer tells whether the way to a field leads through an embedded pointer.
func byPointer(t reflect.Type, index []int) bool {
	for _, i := range index[:len(index)-1] {
		f := dereferenced(t).Field(i)
		if f.Type.Kind() == reflect.Pointer {
			return true
		}
		t = f.Type
	}
	return false
}
