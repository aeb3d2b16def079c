package config

import (
	"fmt"
	"strings"
	"time"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Block describes a kind of block, as its reader declares it. The file itself is
// one without a name.
type Block struct {
	Name     string
	Doc      string
	Labelled bool // has a name, such as pool "NAME"
	Once     bool // may stand once where it stands; others may be repeated
	Settings []Setting
	// AnySetting says what the arguments are where their names are free; "" else.
	AnySetting string
	Blocks     []*Block
}

// Setting describes an argument of a block.
type Setting struct {
	Name     string
	Doc      string
	Kind     string // what is written: "a whole number, 1 or more"
	Default  string // "" for none
	Required bool

	schema schema
	value  any // the default, where it is a plain value
}

// schema is a piece of JSON Schema.
type schema map[string]any

// form is how the values of settings are written: one declaration that reads
// them, and tells docs/pools.md and editors of them.
type form[T any] struct {
	parse  func(cty.Value) (T, complaint)
	kind   string
	schema schema
}

// The forms of more than one setting.
//
//nolint:gochecknoglobals // a table: nothing writes it
var (
	textForm           = form[string]{text, "text", schema{"type": "string"}}
	booleanForm        = form[bool]{boolean, "`true` or `false`", schema{"type": "boolean"}}
	durationForm       = form[time.Duration]{duration, "a length of time, such as `\"90s\"`, `\"10m\"`, `\"1h30m\"` or `\"1d\"`", schema{"type": "string"}}
	durationOrNoneForm = form[time.Duration]{durationOrNone, "a length of time, or `\"0s\"`", schema{"type": "string"}}
)

// needed stands for the default of a setting that has none and can't be left out.
type needed struct{}

// describe notes a setting, when the file is described instead of read.
func (b *block) describe(name, kind string, s schema, doc string, otherwise []any) {
	if b.about == nil {
		return
	}
	x := Setting{Name: name, Doc: doc, Kind: kind, schema: s}
	for _, d := range otherwise {
		switch d := d.(type) {
		case needed:
			x.Required = true
		case string: // words, or a value in quotes
			x.Default = d
		case time.Duration:
			x.Default = "`\"" + shortDuration(d) + "\"`"
			x.value = shortDuration(d)
		default:
			x.Default = fmt.Sprintf("`%v`", d)
			x.value = d
		}
	}
	b.about.Settings = append(b.about.Settings, x)
}

// describeBlock notes a kind of nested block, and gives an empty one to read.
func (b *block) describeBlock(kind, doc string) []*hclsyntax.Block {
	about := &Block{Name: kind, Doc: doc}
	b.about.Blocks = append(b.about.Blocks, about)
	body := new(hclsyntax.Body)
	b.l.described[body] = about
	return []*hclsyntax.Block{{Type: kind, Body: body}}
}

// mark notes a property of a kind of block, when the file is described.
func (l *loader) mark(blocks []*hclsyntax.Block, set func(*Block)) {
	for _, block := range blocks {
		if about := l.described[block.Body]; about != nil {
			set(about)
		}
	}
}

// Describe gives what a pools.hcl may contain. It is found by reading an empty
// file, so it is what [Load] accepts.
func Describe() *Block {
	file := new(Block)
	body := new(hclsyntax.Body)
	l := &loader{described: map[*hclsyntax.Body]*Block{body: file}, context: &hcl.EvalContext{}, places: newPlaces()}
	l.file(body, new(Terraform)) // an empty file has mistakes: nobody hears of them
	return file
}

// shortDuration writes a length of time as people do.
func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
