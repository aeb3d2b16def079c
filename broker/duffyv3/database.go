package duffyv3

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/duffy-broker/duffy-broker/broker"
)

// connectTimeout is how long a connection may take if the URL does not say.
const connectTimeout = 15 * time.Second

// ReadDatabase reads from Duffy's database, in one read-only transaction. url is
// what PostgreSQL's own clients take, and what stands in Duffy's configuration,
// where the scheme also names a driver (postgresql+asyncpg://); what it does not
// say comes from the environment (PGPASSWORD and others) as with those clients.
//
// Errors, none of which shows the password: CodeInvalid if the URL or the
// database is none of Duffy's, CodeUnavailable if it can't be read.
func ReadDatabase(ctx context.Context, url string) (s Source, err error) {
	if scheme, rest, ok := strings.Cut(url, "://"); ok {
		scheme, _, _ = strings.Cut(scheme, "+")
		url = scheme + "://" + rest
	}
	cfg, err := pgx.ParseConfig(url)
	if err != nil {
		return s, broker.Wrap(broker.CodeInvalid, err, "the URL of the database can't be read").
			WithHint("it has the form postgres://USER@HOST:PORT/DATABASE")
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	// The forms that a dump has, too.
	cfg.RuntimeParams["datestyle"] = "ISO"
	cfg.RuntimeParams["intervalstyle"] = "postgres"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return s, broker.Wrap(broker.CodeUnavailable, err, "Duffy's database can't be reached").
			WithHint("the URL stands in Duffy's configuration, under database.sqlalchemy.sync_url; a password may be in PGPASSWORD instead")
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // everything is read by then
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly})
	if err == nil {
		s, err = readTables(ctx, tx.Conn().PgConn())
		err = errors.Join(err, tx.Rollback(ctx))
	}
	if err != nil && broker.CodeOf(err) == broker.CodeInternal {
		err = broker.Wrap(broker.CodeUnavailable, err, "Duffy's database can't be read")
	}
	return s, err
}

func readTables(ctx context.Context, conn *pgconn.PgConn) (s Source, err error) {
	tables, err := query(ctx, conn, fmt.Sprintf("SELECT to_regclass('%s') AS tenants, to_regclass('%s') AS sessions, to_regclass('%s') AS nodes",
		tableTenants, tableSessions, tableNodes))
	if err != nil {
		return s, err
	}
	if tables.rows[0]["tenants"] == nil {
		return s, errNoTable("the database")
	}
	// All columns, whichever there are.
	tenants, err := query(ctx, conn, "SELECT * FROM "+tableTenants)
	if err != nil {
		return s, err
	}
	if err := checkColumns(tenants.columns); err != nil {
		return s, err
	}
	for _, r := range tenants.rows {
		s.Tenants = append(s.Tenants, readTenant(r))
	}
	slices.SortFunc(s.Tenants, byID)
	if tables.rows[0]["sessions"] != nil {
		sessions, err := query(ctx, conn, "SELECT id FROM "+tableSessions+" WHERE retired_at IS NULL")
		if err != nil {
			return s, err
		}
		s.ActiveSessions = len(sessions.rows)
	}
	s.Nodes = make(map[string]int)
	if tables.rows[0]["nodes"] != nil {
		nodes, err := query(ctx, conn, "SELECT state FROM "+tableNodes+" WHERE retired_at IS NULL")
		if err != nil {
			return s, err
		}
		for _, r := range nodes.rows {
			s.Nodes[r.get("state")]++
		}
	}
	return s, nil
}

// answer is what a query gave.
type answer struct {
	columns []string
	rows    []row
}

// query gives all rows as text.
func query(ctx context.Context, conn *pgconn.PgConn, sql string) (a answer, err error) {
	result := conn.ExecParams(ctx, sql, nil, nil, nil, nil).Read()
	if result.Err != nil {
		return a, result.Err
	}
	for _, f := range result.FieldDescriptions {
		a.columns = append(a.columns, f.Name)
	}
	for _, raw := range result.Rows {
		values := make([]*string, len(raw))
		for i, v := range raw {
			if v != nil {
				text := string(v)
				values[i] = &text
			}
		}
		a.rows = append(a.rows, newRow(a.columns, values))
	}
	return a, nil
}
