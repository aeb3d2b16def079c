package view

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// YAML libraries for Go write other styles than PyYAML: other quotes, no folded
// lines, Unicode as it is. So this is a writer of our own for the little that JSON
// values need. A test compares it with PyYAML.

const (
	yamlWidth  = 80 // a line is folded at the first chance after this column
	yamlIndent = 2
	// yamlSimpleKey is from what length on a key is written with a question mark:
	// PyYAML's 128, less what it counts for the tag.
	yamlSimpleKey = 123
)

// yamlOther is text that would be read as something else than a string if it were
// not quoted: booleans, numbers (sexagesimal ones, too), null, timestamps, and the
// signs for merging and for a default value.
var yamlOther = regexp.MustCompile(`^(?:` + strings.Join([]string{
	`yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF`,
	`~|[nN]ull|NULL|<<|=`,
	`[-+]?[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?`,
	`\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?`,
	`[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+\.[0-9_]*`,
	`[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)`,
	`[-+]?0b[01_]+|[-+]?0[0-7_]+|[-+]?(?:0|[1-9][0-9_]*)|[-+]?0x[0-9a-fA-F_]+`,
	`[-+]?[1-9][0-9_]*(?::[0-5]?[0-9])+`,
	`[0-9]{4}-[0-9]{2}-[0-9]{2}`,
	`[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?` +
		`(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::[0-9]{2})?))?`,
}, "|") + `)$`)

// pythonYAML writes a value as yaml.dump does by default: block style, keys
// sorted, lists at the column of their key.
func pythonYAML(v value) string {
	var y yamlWriter
	y.node(v, -yamlIndent, false)
	if len(y.out) == 0 || y.out[len(y.out)-1] != '\n' {
		y.out = append(y.out, '\n')
	}
	return string(y.out)
}

type yamlWriter struct {
	out    []byte
	column int
	// fresh: nothing but indentation and "-", "?" or ":" stands on this line, so
	// that a block may start on it.
	fresh bool
}

func (y *yamlWriter) write(s string) {
	y.out = append(y.out, s...)
	y.column += len(s)
}

func (y *yamlWriter) newline(indent int) {
	y.out = append(y.out, '\n')
	y.column = 0
	y.write(strings.Repeat(" ", indent))
}

// at moves to a column, on this line if a block may start here.
func (y *yamlWriter) at(column int) {
	if len(y.out) == 0 || y.fresh && y.column <= column {
		y.write(strings.Repeat(" ", column-y.column))
		return
	}
	y.newline(column)
}

// indicator starts an entry: "-", "?" or ":" at a column.
func (y *yamlWriter) indicator(s string, column int) {
	y.at(column)
	y.write(s)
	y.fresh = true
}

// space parts a scalar from what stands before it.
func (y *yamlWriter) space() {
	if n := len(y.out); n > 0 && y.out[n-1] != ' ' && y.out[n-1] != '\n' {
		y.write(" ")
	}
	y.fresh = false
}

// node writes a value whose parent block is at the column indent. afterKey says
// that it follows "key:" on the same line.
func (y *yamlWriter) node(v value, indent int, afterKey bool) {
	switch {
	case v.kind == isList && len(v.items) > 0:
		column := indent + yamlIndent
		if afterKey {
			column = indent
		}
		for _, item := range v.items {
			y.indicator("-", column)
			y.node(item, column, false)
		}
	case v.kind == isObject && len(v.members) > 0:
		y.mapping(v, indent+yamlIndent)
	default:
		y.space()
		y.scalar(v, indent+yamlIndent, true)
	}
}

func (y *yamlWriter) mapping(v value, column int) {
	members := slices.Clone(v.members)
	slices.SortStableFunc(members, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	for _, m := range members {
		key := value{kind: isString, text: m.name}
		if m.name == "" || strings.Contains(m.name, "\n") || hasYAMLBreak(m.name) || len([]rune(m.name)) >= yamlSimpleKey {
			y.indicator("?", column)
			y.node(key, column, false)
			y.indicator(":", column)
			y.node(m.value, column, false)
			continue
		}
		y.at(column)
		y.fresh = false
		y.scalar(key, column, false)
		y.write(":")
		y.node(m.value, column, true)
	}
}

// hasYAMLBreak tells whether s has one of the rarer characters that end a line.
func hasYAMLBreak(s string) bool { return strings.ContainsAny(s, "\u0085\u2028\u2029") }

// scalar writes a value on one line, or folded to the column indent if it may be.
func (y *yamlWriter) scalar(v value, indent int, fold bool) {
	switch v.kind {
	case isNull:
		y.write("null")
	case isBool:
		y.write(fmt.Sprint(v.yes))
	case isNumber:
		y.write(yamlNumber(v.text))
	case isList:
		y.write("[]")
	case isObject:
		y.write("{}")
	case isString:
		switch yamlStyleOf(v.text) {
		case yamlPlain:
			y.folded(v.text, indent, fold)
		case yamlSingle:
			y.write("'")
			y.folded(strings.ReplaceAll(v.text, "'", "''"), indent, fold)
			y.write("'")
		case yamlDouble:
			y.doubleQuoted([]rune(v.text), indent, fold)
		}
	}
}

// yamlNumber gives numbers with an exponent the dot without which they would be
// strings.
func yamlNumber(s string) string {
	if mantissa, exponent, ok := strings.Cut(s, "e"); ok && !strings.Contains(mantissa, ".") {
		return mantissa + ".0e" + exponent
	}
	return s
}

type yamlStyle int

const (
	yamlPlain yamlStyle = iota
	yamlSingle
	yamlDouble
)

// yamlStyleOf gives the plainest style that keeps s what it is.
func yamlStyleOf(s string) yamlStyle {
	for _, r := range s {
		if r != '\n' && (r < ' ' || r > '~') {
			return yamlDouble
		}
	}
	switch {
	case strings.Contains(s, " \n"), strings.Contains(s, "\n "):
		return yamlDouble // single quotes would lose the blank
	case s == "", strings.Contains(s, "\n"), strings.HasPrefix(s, " "), strings.HasSuffix(s, " "),
		strings.HasPrefix(s, "---"), strings.HasPrefix(s, "..."),
		strings.ContainsRune("#,[]{}&*!|>'\"%@`", rune(s[0])),
		s == "?", s == ":", s == "-",
		strings.HasPrefix(s, "? "), strings.HasPrefix(s, "- "),
		strings.Contains(s, ": "), strings.HasSuffix(s, ":"), strings.Contains(s, " #"),
		yamlOther.MatchString(s):
		return yamlSingle
	}
	return yamlPlain
}

// folded writes text whose single blanks may become line breaks, and whose line
// breaks become empty lines. Blanks at either end stay.
func (y *yamlWriter) folded(s string, indent int, fold bool) {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case ' ':
			alone := i > 0 && i < len(s)-1 && s[i-1] != ' ' && s[i+1] != ' '
			if fold && alone && y.column > yamlWidth {
				y.newline(indent)
				continue
			}
			y.write(" ")
		case '\n':
			y.out = append(y.out, '\n')
			for ; i < len(s) && s[i] == '\n'; i++ {
				y.out = append(y.out, '\n')
			}
			i--
			y.column = 0
			y.write(strings.Repeat(" ", indent))
		default:
			y.write(s[i : i+1])
		}
	}
}

// doubleQuoted writes text in ASCII with escapes. It may be folded at a blank and
// beside an escape; a backslash ends a folded line, and starts the next one if a
// blank comes first there.
func (y *yamlWriter) doubleQuoted(text []rune, indent int, fold bool) {
	y.write(`"`)
	escapedBefore := true // as at the start
	for i, r := range text {
		escaped := yamlEscape(r)
		reached := y.column
		next := i
		if escaped != "" {
			y.write(escaped)
			reached = y.column - 1
			next = i + 1
		}
		chance := r == ' ' || escaped != "" || escapedBefore
		if fold && chance && 0 < i && i < len(text)-1 && reached > yamlWidth {
			y.write(`\`)
			y.newline(indent)
			if text[next] == ' ' {
				y.write(`\`)
			}
		}
		if escaped == "" {
			y.write(string(r))
		}
		escapedBefore = escaped != ""
	}
	y.write(`"`)
}

// yamlEscape gives the escape for a character, "" where it needs none.
func yamlEscape(r rune) string {
	names := map[rune]string{
		0: "0", 7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 27: "e",
		'"': `"`, '\\': `\`, 0x85: "N", 0xa0: "_", 0x2028: "L", 0x2029: "P",
	}
	if name, ok := names[r]; ok {
		return `\` + name
	}
	switch {
	case ' ' <= r && r <= '~':
		return ""
	case r <= 0xff:
		return fmt.Sprintf(`\x%02X`, r)
	case r <= 0xffff:
		return fmt.Sprintf(`\u%04X`, r)
	}
	return fmt.Sprintf(`\U%08X`, r)
}
