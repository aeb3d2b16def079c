package postgres_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/duffy-broker/duffy-broker/broker/brokertest/postgres"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server works, and leaves nothing behind.
func TestStart(t *testing.T) {
	tmp := t.TempDir()
	if err := os.Chmod(filepath.Dir(tmp), 0o755); err != nil { // for another user
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", tmp)
	t.Run("server", func(t *testing.T) {
		s := postgres.Start(t)
		url := s.CreateDatabase("one", "CREATE TABLE a (b int); INSERT INTO a VALUES (7);")
		if got := s.Execute("one", "SELECT b, NULL, b + 1 FROM a"); got != "7||8\n" {
			t.Errorf("got %q", got)
		}
		if !strings.Contains(url, "/one?host=") {
			t.Errorf("the URL is %s", url)
		}
		if dump := string(s.Dump("one", "--inserts")); !strings.Contains(dump, "INSERT INTO public.a VALUES (7);") {
			t.Errorf("the dump is\n%s", dump)
		}
	})
	left, err := os.ReadDir(tmp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
