package duffyv3_test

import (
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/postgres"
	"github.com/duffy-broker/duffy-broker/broker/duffyv3"
)

// wanted is what rows are.
func wanted() duffyv3.Source {
	hours := func(h int) *time.Duration { d := time.Duration(h) * time.Hour; return &d }
	quota := func(n int) *int { return &n }
	exact := 26*time.Hour + 3*time.Minute + 4500*time.Millisecond
	return duffyv3.Source{
		Tenants: []duffyv3.Tenant{
			{ID: 1, Name: "admin", IsAdmin: true, SSHKey: "# please override this", KeyHash: "hash 1", CreatedAt: time.Date(2022, 5, 9, 16, 40, 6, 491392000, time.UTC)},
			{
				ID: 3, Name: "long; 'life' é", KeyHash: "$2b$12$abc", CreatedAt: time.Date(2022, 6, 2, 1, 2, 3, 0, time.UTC),
				NodeQuota: quota(0), SessionLifetime: &exact, SessionLifetimeMax: hours((365 + 60 + 3) * 24),
			},
			{
				ID: 4, Name: `\N`, SSHKey: `\.`, CreatedAt: time.Date(2022, 6, 2, 1, 2, 3, 0, time.UTC),
				NodeQuota: quota(10), SessionLifetime: hours(1), SessionLifetimeMax: hours(7 * 24),
			},
			{
				ID: 7, Name: "gone", SSHKey: "ssh-ed25519 AAAA one\nssh-ed25519 BBBB two\\three\t'quoted'; --\r\n", KeyHash: "hash 7",
				CreatedAt: time.Date(2022, 6, 1, 0, 0, 0, 0, time.UTC), RetiredAt: time.Date(2023, 7, 1, 12, 0, 0, 500e6, time.UTC),
				NodeQuota: quota(5), SessionLifetime: hours(6), SessionLifetimeMax: hours(12),
			},
		},
		ActiveSessions: 2,
		Nodes:          map[string]int{"ready": 2, "deployed": 1},
	}
}

// The same from the database, and from every kind of dump that real pg_dump makes.
func TestRead(t *testing.T) {
	server := postgres.Start(t)
	url := server.CreateDatabase("duffy", schema+rows)
	server.CreateDatabase("off", schema+"SET standard_conforming_strings = on;"+rows+"ALTER DATABASE off SET standard_conforming_strings = off; ALTER DATABASE off SET intervalstyle = 'iso_8601'; ALTER DATABASE off SET datestyle = 'German';")
	inSchema := strings.NewReplacer("CREATE TABLE ", "CREATE TABLE ci.", "INTO ", "INTO ci.", "REFERENCES ", "REFERENCES ci.", " ON nodes", " ON ci.nodes", " ON sessions_nodes", " ON ci.sessions_nodes")
	server.CreateDatabase("elsewhere", "CREATE SCHEMA ci;"+inSchema.Replace(schema+rows))
	pack := func(b []byte) []byte {
		var packed bytes.Buffer
		w := gzip.NewWriter(&packed)
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return packed.Bytes()
	}
	for name, dump := range map[string][]byte{
		"COPY":                  server.Dump("duffy"),
		"COPY, gzip":            pack(server.Dump("duffy")),
		"gzip by pg_dump":       server.Dump("duffy", "--compress=6"),
		"data only":             server.Dump("duffy", "--data-only"),
		"clean":                 server.Dump("duffy", "--clean", "--if-exists", "--create"),
		"inserts":               server.Dump("duffy", "--inserts"),
		"many rows an insert":   server.Dump("duffy", "--rows-per-insert=3", "--on-conflict-do-nothing"),
		"column inserts":        server.Dump("duffy", "--column-inserts", "--data-only"),
		"quoted":                server.Dump("duffy", "--inserts", "--quote-all-identifiers"),
		"quoted, COPY":          server.Dump("duffy", "--quote-all-identifiers"),
		"another style":         server.Dump("off"),
		"another style, insert": server.Dump("off", "--inserts"),
		"another schema":        server.Dump("elsewhere", "--inserts"),
		"with Windows lines":    []byte(strings.ReplaceAll(string(server.Dump("duffy", "--table=tenants", "--table=sessions", "--table=nodes")), "\n", "\r\n")),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := duffyv3.ReadDump(bytes.NewReader(dump))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wanted(), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for name, url := range map[string]string{
		"database":                 url,
		"URL of SQLAlchemy":        strings.Replace(url, "postgres://", "postgresql+asyncpg://", 1),
		"database, another style":  strings.Replace(url, "/duffy", "/off", 1),
		"database, another schema": strings.Replace(url, "/duffy", "/elsewhere", 1) + "&search_path=ci",
	} {
		t.Run(name, func(t *testing.T) {
			got, err := duffyv3.ReadDatabase(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wanted(), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("custom format", func(t *testing.T) {
		_, err := duffyv3.ReadDump(bytes.NewReader(server.Dump("duffy", "--format=custom")))
		if broker.CodeOf(err) != broker.CodeInvalid || !strings.Contains(broker.HintOf(err), "pg_restore -f - FILE") {
			t.Errorf("got %v, hint %q", err, broker.HintOf(err))
		}
	})
	t.Run("tar format", func(t *testing.T) {
		if _, err := duffyv3.ReadDump(bytes.NewReader(server.Dump("duffy", "--format=tar"))); !strings.Contains(broker.HintOf(err), "pg_restore -f - FILE") {
			t.Errorf("got %v, hint %q", err, broker.HintOf(err))
		}
	})
	// Wherever a dump is cut off, that is seen: it never counts as one with fewer tenants.
	t.Run("cut off", func(t *testing.T) {
		for _, args := range [][]string{nil, {"--inserts"}} {
			dump := server.Dump("duffy", args...)
			whole := bytes.LastIndex(dump, []byte(" complete")) + len(" complete")
			for n := range whole {
				if n%11 > 0 && dump[n-1] != '\n' && dump[n-1] != ';' {
					continue
				}
				got, err := duffyv3.ReadDump(bytes.NewReader(dump[:n]))
				if broker.CodeOf(err) != broker.CodeInvalid || got.Tenants != nil {
					t.Fatalf("the first %d of %d bytes of a dump %v: %v", n, len(dump), args, err)
				}
			}
		}
	})

	t.Run("older schema", func(t *testing.T) {
		server.Execute("off", "ALTER TABLE tenants DROP COLUMN session_lifetime; ALTER TABLE tenants DROP COLUMN session_lifetime_max; ALTER TABLE tenants DROP COLUMN node_quota; DROP TABLE nodes CASCADE;")
		want := wanted()
		want.Nodes = map[string]int{}
		for i := range want.Tenants {
			want.Tenants[i].NodeQuota, want.Tenants[i].SessionLifetime, want.Tenants[i].SessionLifetimeMax = nil, nil, nil
		}
		fromDatabase, err := duffyv3.ReadDatabase(t.Context(), strings.Replace(url, "/duffy", "/off", 1))
		if diff := cmp.Diff(want, fromDatabase); err != nil || diff != "" {
			t.Errorf("database: %v (-want +got):\n%s", err, diff)
		}
		fromDump, err := duffyv3.ReadDump(bytes.NewReader(server.Dump("off", "--inserts")))
		if diff := cmp.Diff(want, fromDump); err != nil || diff != "" {
			t.Errorf("dump: %v (-want +got):\n%s", err, diff)
		}
	})
	t.Run("no key yet", func(t *testing.T) {
		server.Execute("off", "ALTER TABLE tenants DROP COLUMN api_key")
		_, fromDatabase := duffyv3.ReadDatabase(t.Context(), strings.Replace(url, "/duffy", "/off", 1))
		_, fromDump := duffyv3.ReadDump(bytes.NewReader(server.Dump("off")))
		for _, err := range []error{fromDatabase, fromDump} {
			if broker.CodeOf(err) != broker.CodeInvalid || !strings.Contains(err.Error(), "no column api_key") {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("none of Duffy's", func(t *testing.T) {
		other := server.CreateDatabase("other", "CREATE TABLE a (b int); INSERT INTO a VALUES (1);")
		_, fromDatabase := duffyv3.ReadDatabase(t.Context(), other)
		_, fromDump := duffyv3.ReadDump(bytes.NewReader(server.Dump("other")))
		for _, err := range []error{fromDatabase, fromDump} {
			if broker.CodeOf(err) != broker.CodeInvalid || !strings.Contains(err.Error(), "holds no table tenants") {
				t.Errorf("got %v", err)
			}
		}
	})
	t.Run("nothing is written", func(t *testing.T) {
		server.CreateDatabase("watched", schema+rows+"CREATE FUNCTION write() RETURNS int LANGUAGE sql AS $$ INSERT INTO tenants (name, ssh_key, api_key) VALUES ('x', '', '') RETURNING id $$;"+
			"ALTER TABLE sessions RENAME TO kept; CREATE VIEW sessions AS SELECT write() AS id, NULL::timestamp AS retired_at;")
		_, err := duffyv3.ReadDatabase(t.Context(), strings.Replace(url, "/duffy", "/watched", 1))
		if broker.CodeOf(err) != broker.CodeUnavailable || !strings.Contains(err.Error(), "read-only transaction") {
			t.Errorf("got %v, want that the transaction is read-only", err)
		}
	})
}

func TestReadDatabaseErrors(t *testing.T) {
	const password = "hunter2"
	for url, want := range map[string]broker.Code{
		"postgres://duffy:" + password + "@127.0.0.1:1/duffy":              broker.CodeUnavailable,
		"postgres://duffy:" + password + "@127.0.0.1:port/duffy":           broker.CodeInvalid,
		"mysql://duffy:" + password + "@127.0.0.1/duffy":                   broker.CodeInvalid,
		"postgres://duffy:" + password + "@/duffy?host=/nowhere/to/be/had": broker.CodeUnavailable,
	} {
		_, err := duffyv3.ReadDatabase(t.Context(), url)
		if broker.CodeOf(err) != want || broker.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q; want code %s and a hint", url, err, broker.HintOf(err), want)
		}
		if err != nil && strings.Contains(err.Error(), password) {
			t.Errorf("the error shows the password: %v", err)
		}
	}
}

func TestReadDumpErrors(t *testing.T) {
	const begin = "CREATE TABLE public.tenants (id integer, name text, ssh_key text, api_key text);\n"
	const end = "\n-- PostgreSQL database dump complete\n"
	for name, test := range map[string]struct{ dump, want string }{
		"empty":           {"", "holds no table tenants"},
		"no SQL":          {"\x00\x01\x02", "the dump can't be read at line 1"},
		"cut off":         {begin, "cut off"},
		"gzip of nothing": {"\x1f\x8b", "can't be unpacked"},
		"too few values":  {begin + "INSERT INTO public.tenants VALUES (1);" + end, "line 2: a row of tenants has 1 values for 4 columns"},
		"no values":       {begin + "INSERT INTO public.tenants SELECT 1;" + end, "without VALUES"},
		"unknown columns": {"INSERT INTO public.tenants VALUES (1);" + end, "which columns the table tenants has"},
		"two databases":   {begin + `\connect other` + "\n" + begin + end, "more than one table tenants"},
		"two schemas":     {begin + "COPY other.tenants (id, name, ssh_key, api_key) FROM stdin;\n\\.\n" + end, "more than one table tenants"},
	} {
		_, err := duffyv3.ReadDump(strings.NewReader(test.dump))
		if broker.CodeOf(err) != broker.CodeInvalid || !strings.Contains(err.Error(), test.want) || broker.HintOf(err) == "" {
			t.Errorf("%s: %v, hint %q; want %q and a hint", name, err, broker.HintOf(err), test.want)
		}
	}
}

// A row that can't be read is reported with every column that is wrong.
func TestProblems(t *testing.T) {
	for _, test := range []struct{ column, value, want string }{
		{"id", "x", `id: "x" is no whole number`},
		{"is_admin", "maybe", `is_admin: "maybe" is neither true nor false`},
		{"is_admin", "t", ""},
		{"name", "\xff", "name: is not UTF-8"},
		{"ssh_key", "\xff", "ssh_key: is not UTF-8"},
		{"node_quota", "-1", "node_quota: -1 is negative"},
		{"node_quota", "99999999999", `node_quota: "99999999999" is no whole number`},
		{"retired_at", "infinity", `retired_at: "infinity" is no time`},
		{"retired_at", "2022-05-09 16:40:06.491392", ""},
		{"created_at", "2022-05-09 16:40:06+02", ""},
		{"session_lifetime", "00:00:00", `session_lifetime: "00:00:00" is not more than nothing`},
		{"session_lifetime", "-06:00:00", `session_lifetime: "-06:00:00" is not more than nothing`},
		{"session_lifetime", "1000 years", `session_lifetime: "1000 years" is no length of time`},
		{"session_lifetime_max", "P1D", `session_lifetime_max: "P1D" is no length of time`},
		{"session_lifetime_max", "1 fortnight", `session_lifetime_max: "1 fortnight" is no length of time`},
		{"session_lifetime_max", "", `session_lifetime_max: "" is no length of time`},
	} {
		columns, values := "id, name, ssh_key, api_key", "1\tn\t\t"
		if i := strings.Index(columns, test.column); i >= 0 {
			fields := strings.Split(values, "\t")
			fields[strings.Count(columns[:i], ",")] = test.value
			values = strings.Join(fields, "\t")
		} else {
			columns, values = columns+", "+test.column, values+"\t"+test.value
		}
		dump := "COPY tenants (" + columns + ") FROM stdin;\n" + values + "\n\\.\n-- PostgreSQL database dump complete\n"
		got, err := duffyv3.ReadDump(strings.NewReader(dump))
		if err != nil || len(got.Tenants) != 1 || got.Tenants[0].Problem != test.want {
			t.Errorf("%s %q: %+v, %v; want problem %q", test.column, test.value, got.Tenants, err, test.want)
		}
	}
}

func FuzzReadDump(f *testing.F) {
	const end = "\n-- PostgreSQL database dump complete\n"
	f.Add([]byte("CREATE TABLE tenants (id int, name text, ssh_key text, api_key text);INSERT INTO tenants VALUES (1, 'a', E'b\\n', $x$c$x$);" + end))
	f.Add([]byte("COPY public.\"tenants\" (id, name, ssh_key, api_key) FROM stdin;\n1\t\\N\t\\\\\tx\n\\.\n" + end))
	f.Add([]byte("\\restrict x\n/* ; */ CREATE FUNCTION a() AS $$ ; $$;" + end))
	f.Fuzz(func(t *testing.T, dump []byte) {
		_, err := duffyv3.ReadDump(bytes.NewReader(dump))
		if err != nil && broker.CodeOf(err) != broker.CodeInvalid {
			t.Errorf("got %v", err)
		}
	})
}
