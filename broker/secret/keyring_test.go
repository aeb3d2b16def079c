package secret_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/duffy-broker/duffy-broker/broker/secret"
)

func open(t *testing.T, dir string) *secret.Keyring {
	t.Helper()
	k, err := secret.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestOpenCreatesTheKeyOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data", "keys")
	sealed := open(t, dir).Seal("state", "n1", []byte("x"))

	for path, want := range map[string]os.FileMode{dir: 0o700, filepath.Join(dir, "root.key"): 0o600} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("%s has mode %04o, want %04o", path, got, want)
		}
	}
	if got, err := open(t, dir).Open("state", "n1", sealed); err != nil || string(got) != "x" {
		t.Errorf("the second Open has another key: %q, %v", got, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("left behind beside the key: %v", entries)
	}
}

func TestOpenAtOnceGivesOneKey(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	var hashes [16][]byte
	var wg sync.WaitGroup
	for i := range hashes {
		wg.Go(func() {
			k, err := secret.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			hashes[i] = k.HashAPIKey("key")
		})
	}
	wg.Wait()
	for i, h := range hashes {
		if !bytes.Equal(h, hashes[0]) {
			t.Fatalf("keyring %d has another key than keyring 0", i)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := map[string]struct {
		content string
		mode    os.FileMode
		want    string
	}{
		"group may read":  {strings.Repeat("k", 32), 0o640, "mode 0640"},
		"world may write": {strings.Repeat("k", 32), 0o602, "mode 0602"},
		"empty":           {"", 0o600, "has 0 bytes, not 32"},
		"too short":       {"short", 0o600, "has 5 bytes, not 32"},
		"too long":        {strings.Repeat("k", 33), 0o600, "more than 32 bytes"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "root.key")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, err := secret.Open(filepath.Dir(path))
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with the path and %q", err, tt.want)
			}
			if got, _ := os.ReadFile(path); string(got) != tt.content {
				t.Error("the refused file was changed")
			}
		})
	}
}

func TestSealIsBoundToPurposeObjectAndKey(t *testing.T) {
	k := open(t, t.TempDir())
	plain := []byte("a state with a password in it")
	sealed := k.Seal("state", "n1", plain)
	if bytes.Contains(sealed, []byte("password")) {
		t.Error("the sealed text holds the plain one")
	}
	if bytes.Equal(sealed, k.Seal("state", "n1", plain)) {
		t.Error("sealing twice gives the same: the nonce is not random")
	}
	if got, err := k.Open("state", "n1", sealed); err != nil || !bytes.Equal(got, plain) {
		t.Fatalf("got %q, %v", got, err)
	}

	damaged := bytes.Clone(sealed)
	damaged[len(damaged)-1] ^= 1
	future := bytes.Clone(sealed)
	future[0] = 9
	tests := map[string]struct {
		keyring      *secret.Keyring
		purpose, aad string
		sealed       []byte
		want         string
	}{
		"other purpose":  {k, "token", "n1", sealed, "was damaged"},
		"other object":   {k, "state", "n2", sealed, "was damaged"},
		"other root key": {open(t, t.TempDir()), "state", "n1", sealed, "needs the root key " + k.Current().ID() + ", which is not here"},
		"changed":        {k, "state", "n1", damaged, "damaged"},
		"cut":            {k, "state", "n1", sealed[:5], "damaged"},
		"empty":          {k, "state", "n1", nil, "is empty"},
		"unknown format": {k, "state", "n1", future, "format 9"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tt.keyring.Open(tt.purpose, tt.aad, tt.sealed)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %q, %v; want an error with %q", got, err, tt.want)
			}
		})
	}
}

func TestAPIKeyHash(t *testing.T) {
	k := open(t, t.TempDir())
	hash := k.HashAPIKey("key")
	if !k.EqualAPIKey("key", hash) {
		t.Error("the key is not equal to its own hash")
	}
	if k.EqualAPIKey("kez", hash) || k.EqualAPIKey("", hash) || k.EqualAPIKey("key", nil) {
		t.Error("something else is equal to the hash")
	}
	if bytes.Equal(hash, open(t, t.TempDir()).HashAPIKey("key")) {
		t.Error("the hash does not depend on the root key")
	}
}
