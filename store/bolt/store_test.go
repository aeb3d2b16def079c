package bolt

import (
	"path/filepath"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/store/storetest"
)

func TestStore(t *testing.T) {
	open := func(t *testing.T, path string) broker.Store {
		t.Helper()
		s, err := Open(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	storetest.Run(t,
		func(t *testing.T) broker.Store { return open(t, filepath.Join(t.TempDir(), "db")) },
		storetest.Persistent(func(t *testing.T, closed broker.Store) broker.Store { return open(t, closed.(*Store).path) }),
	)
}
