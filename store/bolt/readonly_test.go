package bolt_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/bolt"
)

func TestOpenReadOnly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.db")
	if _, err := bolt.OpenReadOnly(path, bolt.Options{}); broker.CodeOf(err) != broker.CodeNotFound {
		t.Errorf("no file: %v, want not_found", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Fatal("it made a file")
	}
	s, err := bolt.Open(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	n := broker.Node{UID: "0123456789abcdef", Pool: "a", State: broker.NodeReady}
	err = s.Update(t.Context(), func(tx broker.Tx) error { return tx.CreateNode(&n) })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bolt.OpenReadOnly(path, bolt.Options{Timeout: 10 * time.Millisecond}); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("while a broker runs: %v, want conflict", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}

	s, err = bolt.OpenReadOnly(path, bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	other, err := bolt.OpenReadOnly(path, bolt.Options{})
	if err != nil {
		t.Errorf("a second reader: %v", err)
	} else if err := other.Close(); err != nil {
		t.Error(err)
	}
	err = s.View(t.Context(), func(tx broker.ReadTx) error {
		got, err := tx.Node(n.ID)
		if err == nil && got.UID != n.UID {
			t.Errorf("node %+v", got)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	err = s.Update(context.Background(), func(tx broker.Tx) error { return tx.DeleteNode(n.ID) })
	if broker.CodeOf(err) != broker.CodeForbidden {
		t.Errorf("an update: %v, want forbidden", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if after, err := os.ReadFile(path); err != nil || string(after) != string(before) {
		t.Errorf("the file changed, or is lost: %v", err)
	}
}
