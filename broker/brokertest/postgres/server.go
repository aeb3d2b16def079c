// Package postgres runs a real PostgreSQL for tests: a cluster of its own in a
// temporary directory, reached by a unix socket, and gone at the end of the test.
package postgres

import (
	"context"
	"errors"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// superuser is the only user of the cluster.
const superuser = "postgres"

// startTimeout is how long a server may take to start on a busy machine.
const startTimeout = time.Minute

// Server is a running PostgreSQL.
type Server struct {
	t      testing.TB
	bin    string // directory of the programs
	socket string // directory of the socket
	as     *syscall.Credential
}

// Start makes a cluster and runs a server on it until the test ends. Several calls
// give servers that know nothing of each other. PostgreSQL refuses to run as root,
// so that a test that is root runs it as the system's user postgres. Where it is not
// installed the test is skipped as [brokertest.NeedProgram] does.
func Start(t testing.TB) *Server {
	t.Helper()
	s := &Server{t: t, bin: programs(t)}
	dir, err := os.MkdirTemp("", "pg-") //nolint:usetesting // other users can't reach t.TempDir, and a socket's path may have 107 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	s.socket = dir
	if os.Getuid() == 0 {
		s.as = credential(t)
		if err := os.Chown(dir, int(s.as.Uid), int(s.as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
	data := filepath.Join(dir, "data")
	s.run("", "initdb", "--pgdata", data, "--username", superuser, "--auth", "trust", "--encoding", "UTF8", "--no-locale", "--no-sync", "--no-instructions")

	server := s.command(context.Background(), "postgres", "-D", data, "-k", dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=20", "-c", "shared_buffers=16MB", "-c", "logging_collector=off")
	log, err := os.Create(filepath.Join(dir, "log")) //nolint:gosec // our own directory
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	said := func() []byte {
		text, _ := os.ReadFile(log.Name()) // for messages of failed tests only
		return text
	}
	server.Stdout, server.Stderr = log, log
	server.SysProcAttr.Pdeathsig = syscall.SIGQUIT // it must not outlive a test that is killed
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// A fast shutdown: it ends connections that a failed test has left.
		if err := errors.Join(server.Process.Signal(syscall.SIGINT), server.Wait()); err != nil {
			t.Errorf("PostgreSQL ended with %v: %s", err, said())
		}
	})
	for end := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		err := s.command(t.Context(), "pg_isready", "--quiet", "--host", dir).Run()
		if err == nil {
			return s
		}
		if _, ran := errors.AsType[*exec.ExitError](err); !ran || time.Now().After(end) {
			t.Fatalf("PostgreSQL does not start: %v\n%s", err, said())
		}
	}
}

// programs gives the directory of PostgreSQL's programs: of the newest version
// where Debian puts them, which is out of PATH, else what PATH has.
func programs(t testing.TB) string {
	t.Helper()
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return filepath.Dir(brokertest.NeedProgram(t, "initdb"))
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4]) // 0 for a name that is none
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }))
}

// credential is that of the user that PostgreSQL's package has made.
func credential(t testing.TB) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		brokertest.Skip(t, "there is no user postgres: this test needs it when root runs it")
	}
	uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(uidErr, gidErr); err != nil {
		t.Fatal(err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// command is one of PostgreSQL's programs, run as its user.
func (s *Server) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, program), args...) //nolint:gosec // tests name it
	cmd.Dir = s.socket
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH"), "PGUSER=" + superuser, "PGHOST=" + s.socket}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.as}
	return cmd
}

// run runs a program with an input, and gives what it prints.
func (s *Server) run(input, program string, args ...string) string {
	s.t.Helper()
	cmd := s.command(s.t.Context(), program, args...)
	cmd.Stdin = strings.NewReader(input)
	var problems strings.Builder
	cmd.Stderr = &problems
	out, err := cmd.Output()
	if err != nil {
		s.t.Fatalf("%s %v: %v\n%s", program, args, err, &problems)
	}
	return string(out)
}

// CreateDatabase makes a database, runs a script of SQL in it, and gives its URL.
func (s *Server) CreateDatabase(name, script string) (databaseURL string) {
	s.t.Helper()
	s.run("", "createdb", name)
	s.Execute(name, script)
	return "postgres://" + superuser + "@/" + url.PathEscape(name) + "?host=" + url.QueryEscape(s.socket)
}

// Execute runs a script of SQL in a database, and gives what it prints: values
// alone, with | between them.
func (s *Server) Execute(database, script string) string {
	s.t.Helper()
	return s.run(script, "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1", "--dbname", database)
}

// Dump gives what pg_dump prints of a database.
func (s *Server) Dump(database string, args ...string) []byte {
	s.t.Helper()
	return []byte(s.run("", "pg_dump", append(args, database)...))
}
