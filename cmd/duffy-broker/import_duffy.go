package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/duffyv3"
	"github.com/duffy-broker/duffy-broker/broker/secret"
	"github.com/duffy-broker/duffy-broker/broker/ssh"
	"github.com/duffy-broker/duffy-broker/cmd/duffy-broker/view"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// duffyImport is what the command line says.
type duffyImport struct {
	url, dump, data, format string
	dryRun, skipInvalid     bool
}

func newImportDuffyCommand(s streams) *cobra.Command {
	var o duffyImport
	cmd := &cobra.Command{
		Use:   "duffy-v3 {--database-url URL | --dump FILE}",
		Short: "Take over the tenants of a CentOS Duffy v3; the broker must be stopped",
		Long: "Take over the tenants of a CentOS Duffy v3, from its database, which is only read, or from a dump of it: name, admin or not, API key,\n" +
			"SSH keys, node quota, session lifetimes, retired or not. API keys go on working: the first login with one replaces Duffy's hash of it.\n" +
			"Sessions and nodes are not taken over: the output says how many Duffy still has.\n\n" +
			"The broker must have run once, so that its data directory is there, and be stopped now. Tenants whose name is there already are left as\n" +
			"they are, so that the command may be repeated. If one can't be imported none is, unless --skip-invalid is given.\n\n" +
			"A password in the URL can be seen in the list of processes: PGPASSWORD or ~/.pgpass are better places.",
		Example: "  duffy-broker import duffy-v3 --database-url postgres://duffy@db.example.com/duffy --dry-run\n" +
			"  pg_dump duffy > duffy.sql && duffy-broker import duffy-v3 --dump duffy.sql\n" +
			"  pg_restore -f - duffy.dump | duffy-broker import duffy-v3 --dump -",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return importDuffy(cmd.Context(), s, o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.url, "database-url", "", "`URL` of Duffy's PostgreSQL database")
	f.StringVar(&o.dump, "dump", "", "`file` with a dump of it as SQL, also compressed by gzip; - is standard input")
	addDataDirFlag(cmd, &o.data, "`directory` of the broker")
	f.StringVar(&o.format, "format", view.Table, "how to print what becomes of each tenant: "+strings.Join(view.Formats(), ", "))
	f.BoolVar(&o.dryRun, "dry-run", false, "only show what would become of each tenant, and write nothing")
	f.BoolVar(&o.skipInvalid, "skip-invalid", false, "import the others, if one can't be imported")
	cmd.MarkFlagsMutuallyExclusive("database-url", "dump")
	cmd.MarkFlagsOneRequired("database-url", "dump")
	_ = cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(view.Formats(), cobra.ShellCompDirectiveNoFileComp)) // fails for an unknown flag only
	return cmd
}

func importDuffy(ctx context.Context, s streams, o duffyImport) (err error) {
	if err := view.Check(o.format); err != nil {
		return err
	}
	dir, err := openExistingDataDir(o.data)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	source, err := readDuffy(ctx, s, o)
	if err != nil {
		return err
	}
	store, err := bolt.Open(dir.join("broker.db"), bolt.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fmtErr("close the store", store.Close())) }()
	tenants := make([]broker.TenantImport, 0, len(source.Tenants))
	for _, t := range source.Tenants {
		tenants = append(tenants, fromDuffy(t))
	}
	plan, importErr := broker.ImportTenants(ctx, store, tenants, broker.ImportOptions{
		From: "Duffy v3", Now: time.Now(), DryRun: o.dryRun, SkipInvalid: o.skipInvalid,
	})
	if importErr != nil && broker.CodeOf(importErr) != broker.CodeInvalid {
		return importErr
	}
	raw, err := json.Marshal(struct {
		Import duffyReport `json:"import"`
	}{newDuffyReport(source, plan, o.dryRun, importErr == nil && !o.dryRun)})
	if err != nil {
		return err
	}
	if err := view.Format(s.out, o.format, raw); err != nil {
		return err
	}
	return importErr
}

// readDuffy reads where the command line says.
func readDuffy(ctx context.Context, s streams, o duffyImport) (duffyv3.Source, error) {
	if o.url != "" {
		return duffyv3.ReadDatabase(ctx, o.url)
	}
	in := s.in
	if o.dump != "-" {
		info, err := os.Stat(o.dump)
		if err == nil && info.IsDir() {
			return duffyv3.Source{}, broker.Errorf(broker.CodeInvalid, "the dump %s is a directory, which only pg_restore can read", o.dump).
				WithHint("make SQL of it first: pg_restore -f - %s > FILE.sql", o.dump)
		}
		f, err := os.Open(o.dump)
		if err != nil {
			return duffyv3.Source{}, broker.Wrap(broker.CodeInvalid, err, "the dump can't be read").
				WithHint("name a file that pg_dump has written")
		}
		defer func() { _ = f.Close() }()
		in = f
	}
	return duffyv3.ReadDump(contextReader{ctx, in})
}

// contextReader ends reading when the context does.
type contextReader struct {
	ctx context.Context //nolint:containedctx // that is what it is
	in  io.Reader
}

// Read implements [io.Reader].
func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.in.Read(p)
}

// fromDuffy makes a tenant of ours of one of Duffy's.
func fromDuffy(t duffyv3.Tenant) broker.TenantImport {
	problem := t.Problem
	for _, err := range []error{secret.Bcrypt{}.Check([]byte(t.KeyHash)), ssh.CheckKeys(t.SSHKey)} {
		if err != nil && problem == "" {
			problem = err.Error()
		}
	}
	return broker.TenantImport{Problem: problem, Tenant: broker.Tenant{
		Name: t.Name, IsAdmin: t.IsAdmin, CreatedAt: t.CreatedAt, RetiredAt: t.RetiredAt,
		SSHKey: t.SSHKey, KeyHash: broker.ImportedHash([]byte(t.KeyHash)),
		NodeQuota: t.NodeQuota, SessionLifetime: t.SessionLifetime, SessionLifetimeMax: t.SessionLifetimeMax,
	}}
}

// duffyReport is the result of an import, for machines and people.
type duffyReport struct {
	DryRun  bool `json:"dry_run"`
	Written bool `json:"written"` // what was to be imported is in the store
	// How many tenants have which action.
	Imported int                 `json:"to_import"`
	Kept     int                 `json:"exist"`
	Refused  int                 `json:"refused"`
	Tenants  []duffyTenantReport `json:"tenants"`
	Left     duffyLeft           `json:"left_in_duffy"`
}

type duffyTenantReport struct {
	DuffyID int64  `json:"duffy_id"`
	ID      *int64 `json:"id"` // here; null if it was not stored
	Name    string `json:"name"`
	IsAdmin bool   `json:"is_admin"`
	Active  bool   `json:"active"`
	// null: the defaults of the broker.
	NodeQuota          *int     `json:"node_quota"`
	SessionLifetime    *float64 `json:"session_lifetime"` // seconds
	SessionLifetimeMax *float64 `json:"session_lifetime_max"`
	Action             string   `json:"action"`
	Note               string   `json:"note"`
}

// duffyLeft is what Duffy still has out, and what is not imported.
type duffyLeft struct {
	ActiveSessions int            `json:"active_sessions"`
	Nodes          int            `json:"nodes"`
	NodesByState   map[string]int `json:"nodes_by_state"`
}

func newDuffyReport(source duffyv3.Source, plan []broker.TenantImport, dryRun, written bool) duffyReport {
	r := duffyReport{DryRun: dryRun, Written: written, Tenants: []duffyTenantReport{}}
	r.Left = duffyLeft{ActiveSessions: source.ActiveSessions, NodesByState: source.Nodes}
	for _, n := range source.Nodes {
		r.Left.Nodes += n
	}
	for i, p := range plan {
		t := duffyTenantReport{
			DuffyID: source.Tenants[i].ID, Name: p.Tenant.Name, IsAdmin: p.Tenant.IsAdmin, Active: p.Tenant.Active(),
			NodeQuota: p.Tenant.NodeQuota, SessionLifetime: inSeconds(p.Tenant.SessionLifetime), SessionLifetimeMax: inSeconds(p.Tenant.SessionLifetimeMax),
		}
		switch {
		case p.Exists:
			r.Kept++
			t.Action, t.Note = "keep", "the broker has a tenant of this name, which stays as it is"
		case p.Problem != "":
			r.Refused++
			t.Action, t.Note = "refuse", p.Problem
		default:
			r.Imported++
			t.Action = "import"
			if !ssh.HasKey(p.Tenant.SSHKey) {
				t.Note = "has no SSH key: of no use for pools that want one"
			}
			if written {
				t.ID = &p.Tenant.ID
			}
		}
		r.Tenants = append(r.Tenants, t)
	}
	return r
}

func inSeconds(d *time.Duration) *float64 {
	if d == nil {
		return nil
	}
	seconds := d.Seconds()
	return &seconds
}
