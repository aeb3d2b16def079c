package config

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Schema gives the JSON Schema (2020-12) of a file of pools in HCL's JSON syntax:
// blocks are objects, and their names are keys. It is what [Load] accepts of a file
// in HCL's own syntax, as far as that can be told without reading it, and is for
// editors and generators. A value may be an expression everywhere: a text with
// ${ } in it.
func Schema() []byte {
	file := Describe()
	whole := blockSchema(file)
	whole["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	whole["title"] = "pools.hcl"
	whole["description"] = "The pools of a duffy-broker, in the JSON syntax of HCL"
	defs := schema{"expression": schema{"type": "string", "pattern": `\$\{`, "description": "an expression, as \"${ ... }\""}}
	for _, b := range file.Blocks {
		defs[b.Name] = blockSchema(b)
	}
	whole["$defs"] = defs
	src, err := json.MarshalIndent(whole, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("the schema is not the JSON that it was made of: %v", err))
	}
	return append(src, '\n')
}

// blockSchema gives the schema of the inside of a block.
func blockSchema(b *Block) schema {
	properties := schema{"//": schema{"description": "a comment"}}
	required := []string{}
	for _, s := range b.Settings {
		properties[s.Name] = s.jsonSchema()
		if s.Required {
			required = append(required, s.Name)
		}
	}
	for _, nested := range b.Blocks {
		inside := blockSchema(nested)
		if b.Name == "" {
			inside = schema{"$ref": "#/$defs/" + nested.Name}
		}
		outside := inside
		if !nested.Once {
			outside = schema{"anyOf": []schema{inside, {"type": "array", "items": inside}}}
		}
		if nested.Labelled {
			outside = schema{"type": "object", "additionalProperties": outside}
		}
		outside["description"] = plain(nested.Doc)
		properties[nested.Name] = outside
	}
	s := schema{"type": "object", "properties": properties, "additionalProperties": b.AnySetting != ""}
	if len(required) > 0 {
		slices.Sort(required)
		s["required"] = required
	}
	return s
}

// jsonSchema gives the schema of the value of a setting.
func (s Setting) jsonSchema() schema {
	value := schema{}
	switch text := s.schema["type"] == "string" && s.schema["pattern"] == nil; { // an expression is a text, too
	case text && s.Required:
		value["type"] = "string"
	case text:
		value["type"] = []string{"string", "null"} // null: not set
	case s.Required:
		value["anyOf"] = []schema{s.schema, {"$ref": "#/$defs/expression"}}
	default:
		value["anyOf"] = []schema{s.schema, {"$ref": "#/$defs/expression"}, {"type": "null"}}
	}
	value["description"] = plain(s.Doc)
	if s.value != nil {
		value["default"] = s.value
	}
	return value
}

// plain takes the marks of Markdown out of a text.
func plain(doc string) string {
	doc = strings.ReplaceAll(doc, "`", "")
	for {
		text, rest, found := strings.Cut(doc, "](")
		open := strings.LastIndex(text, "[")
		_, rest, closed := strings.Cut(rest, ")")
		if !found || open < 0 || !closed {
			return doc
		}
		doc = text[:open] + text[open+1:] + rest
	}
}
