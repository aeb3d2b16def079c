package duffyv3

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
)

// tokenKind is what a token of SQL is.
type tokenKind int

const (
	isWord   tokenKind = iota // a keyword, a name or a number, as it stands
	isName                    // a name that was in quotes
	isString                  // a literal, unescaped
	isSymbol                  // any other character
)

type token struct {
	kind tokenKind
	text string
}

// is tells whether the token is a keyword or a symbol.
func (t token) is(text string) bool {
	return t.kind == isSymbol && t.text == text || t.kind == isWord && strings.EqualFold(t.text, text)
}

// completeMark is the comment that pg_dump and pg_restore write at the end.
const completeMark = "PostgreSQL database dump complete"

// scanner reads a script of SQL as pg_dump writes it.
type scanner struct {
	r        *bufio.Reader
	line     int  // of the character that comes next, from 1
	complete bool // the mark was seen
	escapes  bool // in literals of the ordinary kind, too: standard_conforming_strings is off
}

func newScanner(r io.Reader) *scanner { return &scanner{r: bufio.NewReaderSize(r, 64<<10), line: 1} }

var errCutOff = errors.New("it ends in the middle of a statement")

// statement reads the tokens of the next statement, without the semicolon.
// [io.EOF] after the last.
func (s *scanner) statement() (tokens []token, err error) {
	for {
		c, err := s.next()
		if errors.Is(err, io.EOF) && len(tokens) > 0 {
			return nil, errCutOff
		}
		if err != nil {
			return nil, err
		}
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
		case c == '\\' && len(tokens) == 0:
			if _, err := s.rest(); err != nil { // for psql: \restrict, \connect
				return nil, err
			}
		case c == '-' && s.follows('-'):
			comment, err := s.rest()
			if err != nil {
				return nil, err
			}
			s.complete = s.complete || strings.Contains(comment, completeMark)
		case c == ';':
			if len(tokens) > 0 {
				return tokens, nil
			}
		default:
			t, err := s.token(c)
			if errors.Is(err, io.EOF) {
				return nil, errCutOff
			}
			if err != nil {
				return nil, err
			}
			tokens = append(tokens, t)
		}
	}
}

// token reads the token that begins with c.
func (s *scanner) token(c byte) (token, error) {
	switch {
	case c == '\'':
		text, err := s.quoted(c, s.escapes)
		return token{isString, text}, err
	case (c == 'E' || c == 'e') && s.follows('\''):
		_, _ = s.next()
		text, err := s.quoted('\'', true)
		return token{isString, text}, err
	case c == '"':
		text, err := s.quoted(c, false)
		return token{isName, text}, err
	case c == '$':
		return s.dollar()
	case wordByte(c):
		word, err := s.while(wordByte)
		return token{isWord, string(c) + word}, err
	}
	return token{isSymbol, string(c)}, nil
}

func wordByte(c byte) bool {
	return c == '_' || c >= 0x80 || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// next reads a byte.
func (s *scanner) next() (byte, error) {
	c, err := s.r.ReadByte()
	if c == '\n' && err == nil {
		s.line++
	}
	return c, err
}

// follows tells whether c comes next, without reading it.
func (s *scanner) follows(c byte) bool {
	b, err := s.r.Peek(1)
	return err == nil && b[0] == c
}

// rest reads what is left of the line, and its end.
func (s *scanner) rest() (string, error) {
	text, err := s.r.ReadString('\n')
	if err == nil {
		s.line++
	}
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return text, err
}

// while reads as long as the bytes are of a kind.
func (s *scanner) while(is func(byte) bool) (string, error) {
	var b strings.Builder
	for {
		next, err := s.r.Peek(1)
		if errors.Is(err, io.EOF) || err == nil && !is(next[0]) {
			return b.String(), nil
		}
		if err != nil {
			return "", err
		}
		c, _ := s.next() // it was there a moment ago
		b.WriteByte(c)
	}
}

// quoted reads up to the closing quote, which is doubled where it is a character.
// With escapes a backslash begins one.
func (s *scanner) quoted(quote byte, escapes bool) (string, error) {
	var b strings.Builder
	for {
		c, err := s.next()
		if err != nil {
			return "", err
		}
		switch {
		case c == quote && s.follows(quote):
			_, _ = s.next()
			b.WriteByte(quote)
		case c == quote:
			return b.String(), nil
		case c == '\\' && escapes:
			if c, err = s.next(); err != nil {
				return "", err
			}
			b.WriteString(unescape(`\` + string(c)))
		default:
			b.WriteByte(c)
		}
	}
}

// dollar reads a literal between $tag$ and $tag$, or a symbol, if it is none.
func (s *scanner) dollar() (token, error) {
	tag, err := s.while(wordByte)
	if err != nil {
		return token{}, err
	}
	if !s.follows('$') {
		return token{isSymbol, "$" + tag}, nil
	}
	_, _ = s.next()
	end := "$" + tag + "$"
	var b strings.Builder
	for !strings.HasSuffix(b.String(), end) {
		c, err := s.next()
		if err != nil {
			return token{}, err
		}
		b.WriteByte(c)
	}
	return token{isString, strings.TrimSuffix(b.String(), end)}, nil
}

// copyRow reads a line of COPY's text format; false at the end of the data.
func (s *scanner) copyRow() (values []*string, more bool, err error) {
	line, err := s.r.ReadString('\n')
	if errors.Is(err, io.EOF) {
		return nil, false, fmt.Errorf("it ends in the middle of the data of a table: %w", errCutOff)
	}
	if err != nil {
		return nil, false, err
	}
	s.line++
	line = strings.TrimRight(line, "\r\n") // a character of a value would be escaped
	if line == `\.` {
		return nil, false, nil
	}
	for field := range strings.SplitSeq(line, "\t") {
		if field == `\N` {
			values = append(values, nil)
			continue
		}
		text := unescape(field)
		values = append(values, &text)
	}
	return values, true, nil
}

// unescape resolves the escapes of one letter that PostgreSQL writes. Any other
// character stands for itself.
func unescape(text string) string {
	if !strings.Contains(text, `\`) {
		return text
	}
	letters := map[byte]byte{'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v'}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c == '\\' && i+1 < len(text) {
			i++
			if c = text[i]; letters[c] != 0 {
				c = letters[c]
			}
		}
		b.WriteByte(c)
	}
	return b.String()
}
