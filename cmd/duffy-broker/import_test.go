package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest/postgres"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

// duffyRow is a tenant in Duffy's database.
type duffyRow struct {
	name, sshKey, hash string
	admin              bool
	retired, quota     string // SQL
	lifetime, longest  string // SQL
}

func (r duffyRow) sql() string {
	text := func(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }
	value := func(s string) string {
		if s == "" {
			return "NULL"
		}
		return s
	}
	return fmt.Sprintf("INSERT INTO tenants (name, is_admin, ssh_key, api_key, retired_at, node_quota, session_lifetime, session_lifetime_max) VALUES (%s, %t, %s, %s, %s, %s, %s, %s);\n",
		text(r.name), r.admin, text(r.sshKey), text(r.hash), value(r.retired), value(r.quota), value(r.lifetime), value(r.longest))
}

// duffySchema is that of Duffy's migrations.
func duffySchema(t *testing.T) string {
	t.Helper()
	schema, err := os.ReadFile("../../broker/duffyv3/testdata/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	return string(schema)
}

// importDuffy runs the command on a data directory, and gives its exit code and
// what it prints to both streams.
func (s *server) importDuffy(data string, stdin []byte, args ...string) (code int, out, problems string) {
	s.t.Helper()
	cmd := s.command(s.t.Context(), append([]string{"import", "duffy-v3", "--data", data}, args...)...)
	var outBuffer, errBuffer bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &outBuffer, &errBuffer
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		s.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), outBuffer.String(), errBuffer.String()
}

// imports runs the command, which must succeed.
func (s *server) imports(data string, stdin []byte, args ...string) string {
	s.t.Helper()
	code, out, problems := s.importDuffy(data, stdin, args...)
	if code != 0 {
		s.t.Fatalf("import duffy-v3 %v: exit %d\n%s%s", args, code, out, problems)
	}
	return out
}

// storedTenants are the tenants in the store of a broker that is stopped.
func storedTenants(t *testing.T, data string) map[string]broker.Tenant {
	t.Helper()
	store, err := bolt.Open(filepath.Join(data, "broker.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	tenants := make(map[string]broker.Tenant)
	err = store.View(context.Background(), func(tx broker.ReadTx) error {
		list, err := tx.Tenants()
		for _, tenant := range list {
			tenants[tenant.Name] = tenant
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return tenants
}

// The tenants of a real Duffy database move over, by its URL and by dumps of it,
// and their jobs notice nothing: the same keys log in.
func TestImportDuffy(t *testing.T) {
	t.Parallel()
	pg := postgres.Start(t)
	s := newServer(t, plainPool(t, 1))
	s.start()
	code, _, problems := s.importDuffy(s.data, nil, "--dump", os.DevNull)
	if code != 1 || !strings.Contains(problems, "held by the broker with process id") {
		t.Errorf("beside a running broker: exit %d\n%s", code, problems)
	}
	s.stop()

	const (
		adminKey = "0a3c5c0e-4b1c-4bdc-9d71-3c9f0c7a1c11"
		ciKey    = "ae6c10d0-0b13-554c-b976-a05d8a18f0cc"
		goneKey  = "75aaede1-b573-50c4-a587-177a08c95aa5"
		// Made by another program than ours, with Duffy's version and cost.
		ciHash = "$2b$12$0/HCCIr1DnhDqnzGvBlrTuoYnu1C3HugyW7dSZe82AkfMqrEoLtDq"
	)
	hash := func(key string) string {
		b, err := bcrypt.GenerateFromPassword([]byte(key), 12)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Replace(string(b), "$2a$", "$2b$", 1)
	}
	key, err := os.ReadFile(filepath.Join(s.data, "keys", "ssh_ed25519.pub"))
	if err != nil {
		t.Fatal(err)
	}
	sshKeys := "# both of ours\n" + string(key) + string(key)
	url := pg.CreateDatabase("duffy", duffySchema(t)+
		duffyRow{name: "root", admin: true, sshKey: "# please override this in production", hash: hash(adminKey)}.sql()+
		duffyRow{name: "ci", sshKey: sshKeys, hash: ciHash, quota: "3", lifetime: "'4 hours'", longest: "'1 day 12:00'"}.sql()+
		duffyRow{name: "gone", sshKey: sshKeys, hash: hash(goneKey), retired: "'2023-01-02 03:04:05.678'"}.sql()+
		duffyRow{name: "demo", sshKey: sshKeys, hash: hash(ciKey)}.sql()+ // the broker has one of this name
		"INSERT INTO sessions (tenant_id, retired_at) VALUES (2, NULL), (2, NULL), (3, '2023-01-01');"+
		"INSERT INTO nodes (hostname, state, retired_at) VALUES ('a', 'deployed', NULL), ('b', 'ready', NULL), ('c', 'ready', NULL), ('d', 'done', '2023-01-01');")
	before := storedTenants(t, s.data)

	// The dry run shows what is done later, and does nothing.
	dry := s.imports(s.data, nil, "--database-url", url, "--dry-run")
	shows(t, dry,
		`^1 +root +yes +yes +default +default +default +import +has no SSH key`, `^2 +ci +yes +no +3 +4h +36h +import +-$`,
		`^3 +gone +no +no +default +default +default +import`, `^4 +demo .* keep +the broker has a tenant of this name`,
		`^to import: 3, there already: 1, refused: 0\. Nothing was written: this was a dry run\.$`,
		`not imported: active sessions: 2, nodes: 3 \(deployed 1, ready 2\)\.$`, `^Duffy must run until its sessions have ended\.$`)
	if diff := cmp.Diff(before, storedTenants(t, s.data)); diff != "" {
		t.Errorf("the dry run has changed the store:\n%s", diff)
	}

	// One row that can't be imported stops all, unless it is left out.
	bad := pg.CreateDatabase("bad", duffySchema(t)+
		duffyRow{name: "a:b", sshKey: sshKeys, hash: ciHash}.sql()+
		duffyRow{name: "nokey", sshKey: "ssh-ed25519 AAAA", hash: ciHash}.sql()+
		duffyRow{name: "nohash", sshKey: sshKeys, hash: ciKey}.sql()+
		duffyRow{name: "never", sshKey: sshKeys, hash: ciHash, lifetime: "'-1 hours'"}.sql()+
		duffyRow{name: "good", sshKey: sshKeys, hash: ciHash}.sql())
	for _, args := range [][]string{{"--database-url", bad}, {"--database-url", bad, "--dry-run"}} {
		code, out, problems := s.importDuffy(s.data, nil, args...)
		if code != 1 || !strings.Contains(problems, "4 of 5 tenants can't be imported, so none is") || !strings.Contains(problems, "--skip-invalid") {
			t.Errorf("%v: exit %d, and says\n%s", args, code, problems)
		}
		shows(t, out, `^1 +a:b .* refuse +the name of a tenant is made of`, `^2 +nokey .* refuse +line 1 of the ssh keys is no public key$`,
			`^3 +nohash .* refuse +the hash of the API key is no bcrypt hash$`, `^4 +never .* refuse +session_lifetime: "-01:00:00" is not more`, `^5 +good .* import`)
		if strings.Contains(out, ciKey) || strings.Contains(out, ciHash) {
			t.Errorf("a key or a hash is shown:\n%s", out)
		}
		if diff := cmp.Diff(before, storedTenants(t, s.data)); diff != "" {
			t.Errorf("%v has changed the store:\n%s", args, diff)
		}
	}
	copied := func(name string) string {
		t.Helper()
		data := filepath.Join(t.TempDir(), name)
		if out, err := exec.Command("cp", "-a", s.data, data).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return data
	}
	skipping := copied("skipping")
	s.imports(skipping, nil, "--database-url", bad, "--skip-invalid")
	if got := storedTenants(t, skipping); len(got) != len(before)+1 || got["good"].Name != "good" {
		t.Errorf("with --skip-invalid: %v", got)
	}

	// Every way gives the same.
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(pg.Dump("duffy")) // into memory
	_ = w.Close()
	file := func(name string, content []byte) string {
		t.Helper()
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	var result string
	for _, way := range []struct {
		name, data string
		args       []string
		stdin      []byte
	}{
		{name: "copy", data: copied("copy"), args: []string{"--dump", file("duffy.sql", pg.Dump("duffy"))}},
		{name: "inserts", data: copied("inserts"), args: []string{"--dump", file("duffy.sql", pg.Dump("duffy", "--inserts"))}},
		{name: "gzip", data: copied("gzip"), args: []string{"--dump", file("duffy.sql.gz", packed.Bytes())}},
		{name: "pipe", data: copied("pipe"), args: []string{"--dump", "-"}, stdin: pg.Dump("duffy")},
		{name: "url", data: s.data, args: []string{"--database-url", url}},
	} {
		name, data, one := way.name, way.data, result
		result = s.imports(data, way.stdin, append(way.args, "--format", "json")...)
		if one != "" && result != one {
			t.Errorf("%s gives\n%s\nand the way before it\n%s", name, result, one)
		}
		got := storedTenants(t, data)
		for name, tenant := range got {
			if before[name].Name == "" {
				tenant.CreatedAt = time.Time{} // when Duffy made them, which is now
				got[name] = tenant
			}
		}
		retired := time.Date(2023, 1, 2, 3, 4, 5, 678e6, time.UTC)
		quota, lifetime, longest := 3, 4*time.Hour, 36*time.Hour
		want := map[string]broker.Tenant{
			"root": {ID: 3, Name: "root", IsAdmin: true, SSHKey: "# please override this in production", KeyHash: got["root"].KeyHash},
			"ci": {
				ID: 4, Name: "ci", SSHKey: sshKeys, KeyHash: broker.ImportedHash([]byte(ciHash)),
				NodeQuota: &quota, SessionLifetime: &lifetime, SessionLifetimeMax: &longest,
			},
			"gone": {ID: 5, Name: "gone", SSHKey: sshKeys, KeyHash: got["gone"].KeyHash, RetiredAt: retired},
		}
		maps.Copy(want, before)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: stored tenants (-want +got):\n%s", name, diff)
		}
	}
	var report struct{ Import duffyReport }
	if err := json.Unmarshal([]byte(result), &report); err != nil || !report.Import.Written || report.Import.Imported != 3 || *report.Import.Tenants[1].ID != 4 {
		t.Errorf("%v: %s", err, result)
	}
	after := storedTenants(t, s.data)
	shows(t, s.imports(s.data, nil, "--database-url", url), `^to import: 0, there already: 4, refused: 0`)
	if diff := cmp.Diff(after, storedTenants(t, s.data)); diff != "" {
		t.Errorf("the second run has changed the store:\n%s", diff)
	}
	code, _, problems = s.importDuffy(s.data, nil, "--dump", file("duffy.dump", pg.Dump("duffy", "-Fc")))
	if code != 1 || !strings.Contains(problems, "pg_restore -f - FILE") {
		t.Errorf("a dump in the custom format: exit %d\n%s", code, problems)
	}

	// The broker, with the keys that Duffy gave out.
	s.start()
	s.full(time.Minute)
	status := func(name, key string, want int) {
		t.Helper()
		s.profile.Tenants[name] = profileTenant{APIKey: key}
		if got, _, err := s.call(name, "GET", "/sessions", nil); err != nil || got != want {
			t.Errorf("%s with key %s: %d, %v; want %d", name, key, got, err, want)
		}
	}
	status("ci", goneKey, 401)
	status("ci", "", 401)
	status("ci", ciKey, 200)
	status("ci", ciKey, 200)
	status("ci", goneKey, 401)
	status("root", adminKey, 200)
	status("gone", goneKey, 403)
	status("ci", ciKey, 200)
	s.must(201, "ci", "POST", "/sessions", map[string]any{"nodes_specs": []any{map[string]any{"pool": "plain", "quantity": 1}}})
	if strings.Contains(s.log.String(), ciKey) || strings.Contains(s.log.String(), ciHash) {
		t.Error("a key or a hash is in the log")
	}

	// Their keys are rotated as any.
	out := s.admin("tenant", "reset-key", "ci", "--keep-previous")
	_, second, _ := strings.Cut(out, "API key: ")
	second = strings.TrimSpace(second[:36])
	status("ci", ciKey, 200)
	status("ci", second, 200)
	s.stop()
	for name, tenant := range storedTenants(t, s.data) {
		for _, hash := range [][]byte{tenant.KeyHash, tenant.PreviousKeyHash} {
			if bytes.Contains(hash, []byte("$2")) {
				t.Errorf("%s still has an imported hash", name)
			}
		}
	}
	// And so is the root key.
	s.key("rotate")
	s.start()
	status("ci", ciKey, 200)
	status("ci", second, 200)
	s.admin("tenant", "reset-key", "ci", "--drop-previous")
	status("ci", ciKey, 401)
	status("ci", second, 200)
	s.stop()
}
