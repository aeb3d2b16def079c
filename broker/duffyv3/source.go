package duffyv3

import (
	"slices"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Source is what was read.
type Source struct {
	Tenants []Tenant // by id
	// ActiveSessions is how many sessions have not ended.
	ActiveSessions int
	// Nodes counts the nodes that are not retired, by their state.
	Nodes map[string]int
}

// The tables that are read.
const (
	tableTenants  = "tenants"
	tableSessions = "sessions"
	tableNodes    = "nodes"
)

// requiredColumns are those of the tenants without which nothing can be imported.
func requiredColumns() []string { return []string{"id", "name", "ssh_key", "api_key"} }

// row is a row of a table: columns by name, nil for null.
type row map[string]*string

// get gives a column, "" where it is null or is not there.
func (r row) get(column string) string {
	if v := r[column]; v != nil {
		return *v
	}
	return ""
}

// active tells whether the row is not retired.
func (r row) active() bool { return r["retired_at"] == nil }

// newRow pairs columns with values.
func newRow(columns []string, values []*string) row {
	r := make(row, len(columns))
	for i, column := range columns {
		r[column] = values[i]
	}
	return r
}

func checkColumns(columns []string) error {
	for _, column := range requiredColumns() {
		if !slices.Contains(columns, column) {
			return broker.Errorf(broker.CodeInvalid, "the table %s has no column %s, only %s", tableTenants, column, strings.Join(columns, ", ")).
				WithHint("this is not the database of a Duffy v3: name the one that stands in its configuration, under database.sqlalchemy.sync_url")
		}
	}
	return nil
}

func errNoTable(where string) error {
	return broker.Errorf(broker.CodeInvalid, "%s holds no table %s", where, tableTenants).
		WithHint("name the database that stands in Duffy's configuration, under database.sqlalchemy.sync_url")
}
