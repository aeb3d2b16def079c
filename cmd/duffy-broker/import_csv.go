package main

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/api/client"
	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
)

// csvImport is the machines of a file on their way into the inventory of the API.
type csvImport struct {
	name   string // of the file, for messages
	dryRun bool
	rows   []*csvRow
}

// csvRow is one machine.
type csvRow struct {
	line   int
	node   v1.NodeCreate
	host   broker.Host // how the broker will know it
	result string      // resultCreated and so on; "" while nothing was done
	nodeID int64
}

// What comes of a row.
const (
	resultCreated     = "created"
	resultWouldCreate = "would be created"
	resultExists      = "exists"
)

func newImportCSVCommand(s streams) *cobra.Command {
	o := clientOptions{admin: true}
	var imp csvImport
	cmd := &cobra.Command{
		Use:   "csv FILE",
		Short: "Add the machines of a CSV file to the inventory of the API",
		Long: "Add the machines of a CSV file to the inventory of the API, over the API, with the key of an admin. FILE may be - for standard input.\n\n" +
			"The first line names the columns: hostname and ipaddr, and perhaps comment, pool, reusable (true or false), data (a JSON object)\n" +
			"and data.NAME (a text in the data). Lines that begin with # are comments.\n\n" +
			"The whole file is checked before anything is sent. Machines that are there already are left as they are: a second run does no harm.",
		Example: "  duffy-broker import csv machines.csv --dry-run\n  duffy-broker import csv machines.csv",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := view.Check(o.format); err != nil {
				return err
			}
			if err := imp.open(args[0], s.in); err != nil {
				return err
			}
			c, _, err := o.client()
			if err != nil {
				return err
			}
			if err := imp.compare(cmd.Context(), c); err != nil {
				return o.refused(s, err)
			}
			err = imp.send(cmd.Context(), c)
			// What was done counts also when something went wrong after it.
			return errors.Join(imp.show(s.out, o.format), err)
		},
	}
	o.addFlags(cmd)
	cmd.Flags().BoolVar(&imp.dryRun, "dry-run", false, "show what would happen, and change nothing")
	return cmd
}

// maxCSV bounds what is read, in bytes: more machines than anybody has.
const maxCSV = 32 << 20

// open reads the file of that name, or standard input for "-".
func (imp *csvImport) open(name string, in io.Reader) error {
	imp.name = name
	if name == "-" {
		imp.name = "standard input"
	} else {
		f, err := os.Open(name) //nolint:gosec // the user's own file
		if err != nil {
			return broker.Errorf(broker.CodeInvalid, "the machines can't be read: %v", err).WithHint("name a CSV file, or - for standard input")
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxCSV+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", imp.name, err)
	}
	if len(text) > maxCSV {
		return broker.Errorf(broker.CodeInvalid, "%s is longer than %d bytes", imp.name, maxCSV).WithHint("split it")
	}
	return imp.read(text)
}

// read reads the rows and finds every mistake that can be found without asking.
func (imp *csvImport) read(text []byte) error {
	r := csv.NewReader(bytes.NewReader(bytes.TrimPrefix(text, []byte("\ufeff"))))
	r.Comment, r.FieldsPerRecord, r.TrimLeadingSpace = '#', -1, true
	var found mistakes
	columns, err := r.Read()
	if errors.Is(err, io.EOF) {
		return broker.Errorf(broker.CodeInvalid, "%s is empty", imp.name).WithHint("its first line names the columns: hostname,ipaddr,comment")
	}
	if err != nil {
		return found.add(imp.name, csvLine(err), csvText(err)).err()
	}
	for i := range columns {
		columns[i] = strings.TrimSpace(columns[i])
	}
	if err := checkColumns(columns); err != nil {
		line, _ := r.FieldPos(0)
		found.add(imp.name, line, err.Error())
		return found.err()
	}
	lines := make(map[string]int) // of claims
	for {
		cells, err := r.Read()
		if errors.Is(err, io.EOF) {
			return found.err()
		}
		if err != nil { // where the next row begins is anybody's guess
			return found.add(imp.name, csvLine(err), csvText(err)).err()
		}
		line, _ := r.FieldPos(0)
		row, err := newCSVRow(line, columns, cells)
		if err != nil {
			found.add(imp.name, line, err.Error())
			continue
		}
		for _, claim := range row.host.Claims() {
			if other, ok := lines[claim]; ok {
				what, is, _ := strings.Cut(claim, " ")
				found.add(imp.name, line, fmt.Sprintf("%s %s is in line %d already", what, is, other))
			}
			lines[claim] = line
		}
		imp.rows = append(imp.rows, row)
	}
}

func csvLine(err error) int {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return e.Line
	}
	return 1
}

func csvText(err error) string {
	if e, ok := errors.AsType[*csv.ParseError](err); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// dataPrefix begins the names of columns whose cells are texts of the data.
const dataPrefix = "data."

func checkColumns(columns []string) error {
	known := []string{"hostname", "ipaddr", "comment", "pool", "reusable", "data"}
	for i, name := range columns {
		switch {
		case slices.Contains(columns[:i], name):
			return broker.Errorf(broker.CodeInvalid, "column %q is there twice", name)
		case !slices.Contains(known, name) && (!strings.HasPrefix(name, dataPrefix) || name == dataPrefix):
			return broker.Errorf(broker.CodeInvalid, "column %q is not known: there are %s and %sNAME", name, strings.Join(known, ", "), dataPrefix)
		}
	}
	for _, name := range known[:2] {
		if !slices.Contains(columns, name) {
			return broker.Errorf(broker.CodeInvalid, "there is no column %s: the first line names the columns", name)
		}
	}
	return nil
}

func newCSVRow(line int, columns, cells []string) (*csvRow, error) {
	if len(cells) != len(columns) {
		return nil, broker.Errorf(broker.CodeInvalid, "%d cells, and there are %d columns", len(cells), len(columns))
	}
	row := &csvRow{line: line, host: broker.Host{Inventory: broker.APIInventory}}
	data := make(map[string]json.RawMessage)
	for i, name := range columns {
		cell := strings.TrimSpace(cells[i])
		if cell == "" {
			continue // also of the needed ones: the broker's own check says it
		}
		switch name {
		case "hostname":
			row.node.Hostname = cell
		case "ipaddr":
			row.node.IPAddr = cell
		case "comment":
			row.node.Comment = &cell
		case "pool":
			row.node.Pool = &cell
		case "reusable":
			yes, err := strconv.ParseBool(strings.ToLower(cell))
			if err != nil {
				return nil, broker.Errorf(broker.CodeInvalid, "reusable is %q: it must be true or false", cell)
			}
			row.node.Reusable = &yes
		case "data":
			object, err := dataObject(cell)
			if err != nil {
				return nil, err
			}
			row.node.Data = object
		default:
			text, err := json.Marshal(cell)
			if err != nil {
				return nil, err
			}
			data[strings.TrimPrefix(name, dataPrefix)] = text
		}
	}
	if err := row.addData(data); err != nil {
		return nil, err
	}
	h, err := broker.NewHost(broker.Host{
		Inventory: broker.APIInventory, Hostname: row.node.Hostname, Address: row.node.IPAddr, Data: row.node.Data,
	}, time.Time{})
	row.host = h
	return row, err
}

// addData puts texts into the data.
func (row *csvRow) addData(texts map[string]json.RawMessage) (err error) {
	if len(texts) == 0 {
		return nil
	}
	if row.node.Data != nil {
		var data map[string]json.RawMessage
		if err := json.Unmarshal(row.node.Data, &data); err != nil {
			return err
		}
		for name, v := range data {
			if _, ok := texts[name]; ok {
				return broker.Errorf(broker.CodeInvalid, "%s%s is in the column data, too", dataPrefix, name)
			}
			texts[name] = v
		}
	}
	row.node.Data, err = json.Marshal(texts)
	return err
}

// compare finds the rows that are in the inventory already, and those that can't
// get into it.
func (imp *csvImport) compare(ctx context.Context, c *client.Client) error {
	known, err := c.Hosts(ctx, broker.APIInventory)
	if err != nil {
		return err
	}
	owners := make(map[string]v1.Node)
	for _, n := range known.Value.Nodes {
		for _, claim := range (broker.Host{Hostname: n.Hostname, Address: n.IPAddr}).Claims() {
			owners[claim] = n
		}
	}
	var found mistakes
	for _, row := range imp.rows {
		claims := row.host.Claims()
		byName, named := owners[claims[0]]
		byAddress, addressed := owners[claims[1]]
		switch {
		case named && addressed && byName.ID == byAddress.ID:
			row.result, row.nodeID = resultExists, byName.ID
		case named:
			found.add(imp.name, row.line, fmt.Sprintf("node %d is %s, and has the address %s", byName.ID, byName.Hostname, byName.IPAddr))
		case addressed:
			found.add(imp.name, row.line, fmt.Sprintf("node %d has the address %s, and is %s", byAddress.ID, byAddress.IPAddr, byAddress.Hostname))
		case imp.dryRun:
			row.result = resultWouldCreate
		}
	}
	return found.err()
}

// send creates what is not there yet, up to the first error.
func (imp *csvImport) send(ctx context.Context, c *client.Client) error {
	created := 0
	for _, row := range imp.rows {
		if row.result != "" {
			continue
		}
		a, err := c.CreateNode(ctx, row.node)
		if err != nil {
			return broker.Errorf(broker.CodeOf(err), "%s:%d: %v", imp.name, row.line, err).
				WithHint("%d were created; run the command again when this is mended: what is there is left out", created)
		}
		row.result, row.nodeID = resultCreated, a.Value.Node.ID
		created++
	}
	return nil
}

// show prints what came of the rows.
func (imp *csvImport) show(out io.Writer, format string) error {
	type wireRow struct {
		Line     int    `json:"line"`
		Result   string `json:"result"`
		NodeID   *int64 `json:"node_id"`
		Hostname string `json:"hostname"`
		IPAddr   string `json:"ipaddr"`
	}
	rows := []wireRow{}
	for _, row := range imp.rows {
		if row.result == "" {
			continue
		}
		w := wireRow{Line: row.line, Result: row.result, Hostname: row.host.Hostname, IPAddr: row.host.Address}
		if row.nodeID != 0 {
			w.NodeID = &row.nodeID
		}
		rows = append(rows, w)
	}
	raw, err := json.Marshal(map[string]any{"imported_nodes": rows})
	if err != nil {
		return err
	}
	return view.Format(out, format, raw)
}

// mistakes are what is wrong with a file, place by place.
type mistakes []string

// maxMistakes bounds what is printed of them.
const maxMistakes = 20

func (m *mistakes) add(file string, line int, text string) *mistakes {
	*m = append(*m, fmt.Sprintf("%s:%d: %s", file, line, text))
	return m
}

// err gives all of them as one error, or nil.
func (m *mistakes) err() error {
	list := *m
	if len(list) == 0 {
		return nil
	}
	if more := len(list) - maxMistakes; more > 0 {
		list = append(slices.Clone(list[:maxMistakes]), fmt.Sprintf("and %d more", more))
	}
	return broker.Errorf(broker.CodeInvalid, "%s", strings.Join(list, "\n")).WithHint("nothing was changed: mend the file and run the command again")
}
