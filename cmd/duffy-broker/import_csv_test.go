package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/api"
	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/memory"
)

type testKeys struct{}

func (testKeys) HashAPIKey(key string) []byte  { h := sha256.Sum256([]byte(key)); return h[:] }
func (testKeys) CurrentAPIKeyHash([]byte) bool { return true }
func (k testKeys) EqualAPIKey(key string, hash []byte) bool {
	return bytes.Equal(hash, k.HashAPIKey(key))
}

// inventoryServer is the API of a broker without pools, and runs commands against
// it as its admin.
type inventoryServer struct {
	t     *testing.T
	store *memory.Store
	posts atomic.Int64
	// failAt is the number of the POST, from 1, that breaks; 0 for none.
	failAt atomic.Int64
}

func newInventoryServer(t *testing.T) *inventoryServer {
	t.Helper()
	s := &inventoryServer{t: t, store: memory.New()}
	b := broker.New(broker.Config{
		Store: s.store, Keys: testKeys{}, Pools: new(broker.PoolSet), Log: slog.New(slog.DiscardHandler), Now: time.Now, Wake: func() {},
	})
	for _, tenant := range []broker.Tenant{{Name: "admin", IsAdmin: true}, {Name: "demo"}} {
		if err := b.CreateTenants(t.Context(), broker.NewTenant{Tenant: tenant, APIKey: "key of " + tenant.Name}); err != nil {
			t.Fatal(err)
		}
	}
	h := api.New(api.Config{Broker: b, Log: slog.New(slog.DiscardHandler)})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && s.posts.Add(1) == s.failAt.Load() {
			http.Error(w, "no gateway", http.StatusBadGateway)
			return
		}
		h.ServeHTTP(w, r)
	}))
	t.Cleanup(srv.Close)
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	t.Setenv("DUFFY_BROKER_URL", srv.URL)
	s.as("admin")
	return s
}

// as says whose key the commands use from now on.
func (s *inventoryServer) as(name string) {
	s.t.Setenv("DUFFY_BROKER_AUTH_NAME", name)
	s.t.Setenv("DUFFY_BROKER_AUTH_KEY", "key of "+name)
}

// run carries a command out, and gives its exit code and what it prints.
func (s *inventoryServer) run(in string, args ...string) (code int, out, errOut string) {
	s.t.Helper()
	var o, e bytes.Buffer
	code = run(context.Background(), args, strings.NewReader(in), &o, &e)
	return code, o.String(), e.String()
}

func (s *inventoryServer) must(args ...string) string {
	s.t.Helper()
	code, out, errOut := s.run("", args...)
	if code != 0 {
		s.t.Fatalf("%v: exit %d: %s", args, code, errOut)
	}
	return out
}

// hosts gives what the store holds, each as "id hostname address retired".
func (s *inventoryServer) hosts() (list []string) {
	s.t.Helper()
	err := s.store.View(s.t.Context(), func(tx broker.ReadTx) error {
		hosts, err := tx.Hosts(broker.HostQuery{})
		for _, h := range hosts {
			list = append(list, fmt.Sprintf("%d %s %s %t", h.ID, h.Hostname, h.Address, !h.RetiredAt.IsZero()))
		}
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

func (s *inventoryServer) file(text string) string {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "machines.csv")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// A machine is added, shown and retired on the command line.
func TestNodeCreate(t *testing.T) {
	s := newInventoryServer(t)
	shows(t, s.must("node", "create", "n1.example.net", "192.0.2.1", "--comment", "in rack 4", "--data", `{"arch": "x86_64"}`),
		`^id +1$`, `^state +unused$`, `^comment +in rack 4$`, `^data +\{"arch": "x86_64"\}$`, `^inventory +api$`, `^reusable +yes$`)
	shows(t, s.must("node", "list"), `^1 +- +n1.example.net +192.0.2.1 .* unused +unused$`)
	shows(t, s.must("node", "list", "--inventory", "api"), `n1.example.net`)
	if out := s.must("node", "list", "--inventory", "lab"); strings.Contains(out, "n1") {
		t.Errorf("of another inventory: %s", out)
	}
	if out := s.must("node", "list", "--format", "flat"); out != "node_id=1 state='unused' pool= hostname='n1.example.net' ipaddr='192.0.2.1'\n" {
		t.Errorf("flat: %s", out)
	}
	shows(t, s.must("events"), `host .*host 'n1.example.net' \(192.0.2.1\) of inventory 'api' created by admin`)
	for _, refused := range []struct {
		want string
		args []string
	}{
		{"node 1 has the host name 'n1.example.net' already", []string{"node", "create", "n1.example.net", "192.0.2.2"}},
		{"not a valid IPv4 or IPv6 address", []string{"node", "create", "n2", "n2.example.net"}},
		{`"-" is no host name`, []string{"node", "create", "-", "192.0.2.2"}},
		{"no JSON object", []string{"node", "create", "n2", "192.0.2.2", "--data", "[1]"}},
		{`node "one" is not a number`, []string{"node", "retire", "one"}},
		{"there is no node 7", []string{"node", "retire", "7"}},
	} {
		if code, _, errOut := s.run("", refused.args...); code != 1 || !strings.Contains(errOut, refused.want) {
			t.Errorf("%v: exit %d: %s, want %s", refused.args, code, errOut, refused.want)
		}
	}
	shows(t, s.must("admin", "node", "retire", "1"), `^state +done$`, `^condition +retired$`, `^active +no$`)
	shows(t, s.must("node", "show", "1"), `^condition +retired$`)
	if out := s.must("node", "list"); strings.Contains(out, "n1") {
		t.Errorf("a retired machine is listed: %s", out)
	}
	if code, _, errOut := s.run("", "node", "retire", "1"); code != 1 || !strings.Contains(errOut, "node 1 is retired") {
		t.Errorf("retired twice: exit %d: %s", code, errOut)
	}
	if diff := cmp.Diff([]string{"1 n1.example.net 192.0.2.1 true"}, s.hosts()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

const machines = "\ufeffhostname, ipaddr, comment, pool, reusable, data, data.arch\n" +
	"# the first rack\n" +
	"n1.example.net,192.0.2.1,,,,,x86_64\n" +
	`n2.example.net , 2001:DB8::2 ,"in rack 4, at the top",bare,FALSE,"{""cores"": 16}",aarch64` + "\n"

// A file is imported once, however often the command runs, and not at all by a
// dry run.
func TestImportCSV(t *testing.T) {
	s := newInventoryServer(t)
	file := s.file(machines)

	shows(t, s.must("import", "csv", file, "--dry-run"), `^3 +would be created +- +n1.example.net +192.0.2.1$`, `^4 +would be created`, `^2 would be created$`)
	if got := s.hosts(); got != nil || s.posts.Load() != 0 {
		t.Errorf("a dry run created %v", got)
	}

	shows(t, s.must("import", "csv", file), `^3 +created +1 +n1.example.net +192.0.2.1$`, `^4 +created +2 +n2.example.net +2001:db8::2$`, `^2 created$`)
	want := []string{"1 n1.example.net 192.0.2.1 false", "2 n2.example.net 2001:db8::2 false"}
	if diff := cmp.Diff(want, s.hosts()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var shown struct {
		Node struct {
			Comment, Pool string
			Reusable      bool
			Data          map[string]any
		}
	}
	if err := json.Unmarshal([]byte(s.must("node", "show", "2", "--format", "json")), &shown); err != nil {
		t.Fatal(err)
	}
	if n := shown.Node; n.Comment != "in rack 4, at the top" || n.Pool != "bare" || n.Reusable || !cmp.Equal(n.Data, map[string]any{"cores": 16.0, "arch": "aarch64"}) {
		t.Errorf("%+v", n)
	}

	// One of them is in use by now, and there is one more.
	err := s.store.Update(t.Context(), func(tx broker.Tx) error {
		h, err := tx.Host(1)
		if err != nil {
			return err
		}
		h.NodeID = 99
		return tx.UpdateHost(broker.HostFree, h)
	})
	if err != nil {
		t.Fatal(err)
	}
	more := s.file(machines + "N3,192.0.2.3,,,,,\n")
	out := s.must("import", "csv", more, "--format", "json")
	var imported struct {
		Nodes []struct {
			Line   int
			Result string
			NodeID int64 `json:"node_id"`
		} `json:"imported_nodes"`
	}
	if err := json.Unmarshal([]byte(out), &imported); err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	if diff := cmp.Diff("[{3 exists 1} {4 exists 2} {5 created 3}]", fmt.Sprint(imported.Nodes)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	posts := s.posts.Load()
	code, out, errOut := s.run(strings.ToUpper(strings.Split(machines, "\n")[0])+"\n", "import", "csv", "-") // names of columns are exact
	if code != 1 || !strings.Contains(errOut, `standard input:1: column "HOSTNAME" is not known`) {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
	code, out, errOut = s.run("hostname,ipaddr\nn3,192.0.2.3\n", "import", "csv", "-", "--format", "flat")
	if code != 0 || out != "line=2 result='exists' node_id=3 hostname='n3' ipaddr='192.0.2.3'\n" || s.posts.Load() != posts {
		t.Errorf("exit %d: %s%s", code, out, errOut)
	}
}

// Whatever is wrong is found before anything is sent, all at once, with its line.
func TestImportCSV_refused(t *testing.T) {
	s := newInventoryServer(t)
	s.must("node", "create", "old", "192.0.2.9")
	before, posts := s.hosts(), s.posts.Load()
	many := "hostname,ipaddr\n" + strings.Repeat("n,x\n", 30)
	for text, want := range map[string]string{
		"":                                    "%s is empty",
		"hostname\nn\n":                       "%s:1: there is no column ipaddr",
		"hostname,ipaddr,ip\n":                `%s:1: column "ip" is not known: there are hostname, ipaddr, comment`,
		"hostname,ipaddr,data.\n":             `%s:1: column "data." is not known`,
		"hostname,ipaddr,hostname\n":          `%s:1: column "hostname" is there twice`,
		"hostname,\"ipaddr\nn,192.0.2.1\n":    "%s:2: extraneous or missing",
		"hostname,ipaddr\nn,192.0.2.1\na\"b,": `%s:3: bare "`,
		"hostname,ipaddr\nn,192.0.2.1,c\n,\nm,192.0.2.300\n":                "%[1]s:2: 3 cells, and there are 2 columns\n%[1]s:3: \"\" is no host name\n%[1]s:4: \"192.0.2.300\" is no IPv4 or IPv6 address\n",
		"hostname,ipaddr\n# one\na,192.0.2.1\n\nA,192.0.2.2\nb,192.0.2.1\n": "%[1]s:5: hostname a is in line 3 already\n%[1]s:6: ipaddr 192.0.2.1 is in line 3 already\n",
		"hostname,ipaddr,reusable\na,192.0.2.1,maybe\n":                     `%s:2: reusable is "maybe": it must be true or false`,
		"hostname,ipaddr,data\na,192.0.2.1,x86_64\n":                        "%s:2: the data are no JSON object",
		"hostname,ipaddr,data,data.a\na,192.0.2.1,\"{\"\"a\"\": 1}\",2\n":   "%s:2: data.a is in the column data, too",
		"hostname,ipaddr\nnew,192.0.2.1\nOLD,192.0.2.2\nb,192.0.2.9\n":      "%[1]s:3: node 1 is old, and has the address 192.0.2.9\n%[1]s:4: node 1 has the address 192.0.2.9, and is old\n",
		many: "%[1]s:21: \"x\" is no IPv4 or IPv6 address\nand 10 more\n",
	} {
		file := s.file(text)
		code, out, errOut := s.run("", "import", "csv", file)
		want = fmt.Sprintf(want, file)
		if code != 1 || out != "" || !strings.Contains(errOut, want) {
			t.Errorf("%q: exit %d: %s%s, want %s", text, code, out, errOut, want)
		}
	}
	if code, _, errOut := s.run("", "import", "csv", "missing.csv"); code != 1 || !strings.Contains(errOut, "missing.csv") {
		t.Errorf("exit %d: %s", code, errOut)
	}
	s.as("demo")
	if code, _, errOut := s.run("hostname,ipaddr\nnew,192.0.2.1\n", "import", "csv", "-"); code != 1 || !strings.Contains(errOut, "standard input:2: Forbidden") {
		t.Errorf("a tenant: exit %d: %s", code, errOut)
	}
	if diff := cmp.Diff(before, s.hosts()); diff != "" || s.posts.Load() != posts+1 {
		t.Errorf("something was sent (-before +after):\n%s", diff)
	}
}

// When the broker fails in the middle, what was done is shown, and the next run
// does the rest.
func TestImportCSV_interrupted(t *testing.T) {
	s := newInventoryServer(t)
	file := s.file("hostname,ipaddr\na,192.0.2.1\nb,192.0.2.2\nc,192.0.2.3\n")
	s.failAt.Store(2)
	code, out, errOut := s.run("", "import", "csv", file)
	if code != 1 || !strings.Contains(errOut, file+":3: ") || !strings.Contains(errOut, "1 were created; run the command again") {
		t.Errorf("exit %d: %s", code, errOut)
	}
	shows(t, out, `^2 +created +1 +a`, `^1 created$`)
	shows(t, s.must("import", "csv", file), `^2 +exists +1 +a`, `^3 +created`, `^4 +created`, `^2 created, 1 exists$`)
	if got := s.hosts(); len(got) != 3 {
		t.Errorf("%v", got)
	}
}
