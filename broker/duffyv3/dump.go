package duffyv3

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

// ReadDump reads from a dump of Duffy's database as SQL: what pg_dump writes by
// itself, or with --inserts, or what pg_restore makes of its other formats; also
// compressed by gzip.
//
// Errors: CodeInvalid, with the line, if it is no such dump, if it has not come to
// its end, or is none of Duffy's.
func ReadDump(in io.Reader) (Source, error) {
	r, err := plainText(in)
	if err != nil {
		return Source{}, err
	}
	d := dump{scanner: newScanner(r), columns: make(map[string][]string), from: make(map[string]string)}
	d.source.Nodes = make(map[string]int)
	if err := d.read(); err != nil {
		if broker.CodeOf(err) == broker.CodeInvalid {
			return Source{}, err
		}
		return Source{}, broker.Wrap(broker.CodeInvalid, err, "the dump can't be read at line %d", d.line).
			WithHint("make it anew: pg_dump DATABASE > FILE")
	}
	slices.SortFunc(d.source.Tenants, byID)
	return d.source, nil
}

// plainText unpacks a dump, and refuses one that is not SQL.
func plainText(in io.Reader) (io.Reader, error) {
	r := bufio.NewReader(in)
	begin, err := r.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, broker.Wrap(broker.CodeInvalid, err, "the dump can't be read").
			WithHint("name a file that pg_dump has written")
	}
	switch {
	case bytes.HasPrefix(begin, []byte{0x1f, 0x8b}):
		unpacked, err := gzip.NewReader(r)
		if err != nil {
			return nil, broker.Wrap(broker.CodeInvalid, err, "the dump can't be unpacked").
				WithHint("check it with gzip -t FILE")
		}
		return plainText(unpacked)
	case bytes.HasPrefix(begin, []byte("PGDMP")), bytes.HasPrefix(begin, []byte("toc.dat")):
		return nil, broker.Errorf(broker.CodeInvalid, "the dump is in a format of pg_dump that only pg_restore can read").
			WithHint("make SQL of it first: pg_restore -f - FILE > FILE.sql, and name FILE.sql, or hand it over by a pipe with --dump -")
	}
	return r, nil
}

// dump is a dump that is being read.
type dump struct {
	*scanner

	columns map[string][]string // of the tables made so far
	from    map[string]string   // the schema that a table's rows come from
	source  Source
	tenants bool // there is a table of tenants
}

func (d *dump) read() error {
	for {
		tokens, err := d.statement()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if err := d.execute(&sql{tokens: tokens}); err != nil {
			return err
		}
	}
	if !d.tenants {
		return errNoTable("the dump")
	}
	if !d.complete {
		return errors.New("it is cut off: its last line is not there")
	}
	return nil
}

// execute looks at a statement. Most are of no interest.
func (d *dump) execute(q *sql) error {
	switch {
	case q.accept("set", "standard_conforming_strings", "="):
		d.escapes = q.accept("off")
	case q.accept("create", "table"):
		return d.createTable(q)
	case q.accept("copy"):
		return d.copy(q)
	case q.accept("insert", "into"):
		return d.insert(q)
	}
	return nil
}

// createTable learns the columns of a table, which an INSERT may leave out.
func (d *dump) createTable(q *sql) error {
	q.accept("if", "not", "exists")
	schema, table := q.table()
	if !ours(table) {
		return nil
	}
	if _, twice := d.columns[table]; twice {
		return errTwice(table)
	}
	d.from[table] = schema
	var columns []string
	for _, element := range q.list() {
		first := element[0]
		constraint := slices.ContainsFunc([]string{"constraint", "primary", "unique", "check", "foreign", "exclude", "like"}, first.is)
		if !constraint {
			columns = append(columns, first.name())
		}
	}
	d.columns[table] = columns
	return d.know(table, columns)
}

// know notes that a table is there.
func (d *dump) know(table string, columns []string) error {
	if table != tableTenants {
		return nil
	}
	d.tenants = true
	return checkColumns(columns)
}

// enter finds the table that rows are of, and its columns. ok is false for a
// table of no interest.
func (d *dump) enter(q *sql) (table string, columns []string, ok bool, err error) {
	schema, table := q.table()
	if !ours(table) {
		return table, nil, false, nil
	}
	if known, seen := d.from[table]; seen && known != schema {
		return table, nil, false, errTwice(table)
	}
	d.from[table] = schema
	for _, element := range q.list() {
		columns = append(columns, element[0].name())
	}
	if columns == nil {
		columns = d.columns[table]
	}
	if columns == nil {
		return table, nil, false, broker.Errorf(broker.CodeInvalid, "the dump does not say which columns the table %s has", table).
			WithHint("make it without --data-only, or with --column-inserts")
	}
	return table, columns, true, d.know(table, columns)
}

// copy reads the rows that follow a COPY.
func (d *dump) copy(q *sql) error {
	if !slices.ContainsFunc(q.tokens, func(t token) bool { return t.is("stdin") }) {
		return nil
	}
	table, columns, wanted, err := d.enter(q)
	if err != nil {
		return err
	}
	if _, err := d.rest(); err != nil { // of the line with the statement
		return err
	}
	for {
		values, more, err := d.copyRow()
		if err != nil || !more {
			return err
		}
		if !wanted {
			continue
		}
		if err := d.add(table, columns, values); err != nil {
			return err
		}
	}
}

// insert reads the rows of an INSERT.
func (d *dump) insert(q *sql) error {
	table, columns, wanted, err := d.enter(q)
	if err != nil || !wanted {
		return err
	}
	q.accept("overriding", "system", "value")
	if !q.accept("values") {
		return fmt.Errorf("an INSERT into %s without VALUES", table)
	}
	for {
		var values []*string
		for _, element := range q.list() {
			values = append(values, literal(element))
		}
		if err := d.add(table, columns, values); err != nil {
			return err
		}
		if !q.accept(",") {
			return nil
		}
	}
}

func (d *dump) add(table string, columns []string, values []*string) error {
	if len(values) != len(columns) {
		return fmt.Errorf("a row of %s has %d values for %d columns", table, len(values), len(columns))
	}
	r := newRow(columns, values)
	switch {
	case table == tableTenants:
		d.source.Tenants = append(d.source.Tenants, readTenant(r))
	case !r.active():
	case table == tableSessions:
		d.source.ActiveSessions++
	case table == tableNodes:
		d.source.Nodes[r.get("state")]++
	}
	return nil
}

func ours(table string) bool {
	return table == tableTenants || table == tableSessions || table == tableNodes
}

func errTwice(table string) error {
	return broker.Errorf(broker.CodeInvalid, "the dump has more than one table %s", table).
		WithHint("dump the database of Duffy alone: pg_dump DATABASE > FILE")
}

// sql is a statement, read from its beginning.
type sql struct{ tokens []token }

// accept reads these keywords or symbols, if they all come next.
func (q *sql) accept(words ...string) bool {
	for i, word := range words {
		if i >= len(q.tokens) || !q.tokens[i].is(word) {
			return false
		}
	}
	q.tokens = q.tokens[len(words):]
	return true
}

// table reads the name of a table.
func (q *sql) table() (schema, table string) {
	for len(q.tokens) > 0 {
		table = q.tokens[0].name()
		q.tokens = q.tokens[1:]
		if !q.accept(".") {
			break
		}
		schema = table
	}
	return schema, table
}

// list reads the elements of a list in parentheses; none if there is no list.
func (q *sql) list() (elements [][]token) {
	if !q.accept("(") {
		return nil
	}
	depth, begin := 0, 0
	for i, t := range q.tokens {
		if depth == 0 && (t.is(",") || t.is(")")) {
			if i > begin {
				elements = append(elements, q.tokens[begin:i])
			}
			begin = i + 1
			if t.is(")") {
				break
			}
		}
		switch {
		case t.is("("):
			depth++
		case t.is(")"):
			depth--
		}
	}
	q.tokens = q.tokens[begin:]
	return elements
}

// name gives a name as PostgreSQL knows it.
func (t token) name() string {
	if t.kind == isName {
		return t.text
	}
	return strings.ToLower(t.text)
}

// literal gives a value as text, nil for NULL.
func literal(tokens []token) *string {
	if len(tokens) == 1 && tokens[0].is("null") {
		return nil
	}
	var b strings.Builder
	for _, t := range tokens {
		b.WriteString(t.text)
	}
	text := b.String()
	return &text
}
