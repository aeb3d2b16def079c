package ssh

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

func TestLoadOrCreateKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys", "ssh")
	signer, line, err := LoadOrCreateKey(path)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(line, "ssh-ed25519 ") || strings.Contains(line, "\n") || !strings.HasPrefix(line, keyLine(signer.PublicKey())) {
		t.Errorf("public key is %q", line)
	}
	for name, want := range map[string]os.FileMode{"": 0o600, ".pub": 0o644} {
		info, err := os.Stat(path + name)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != want {
			t.Errorf("mode of key%s is %o, want %o", name, got, want)
		}
	}
	if text, _ := os.ReadFile(path + ".pub"); string(text) != line+"\n" {
		t.Errorf(".pub is %q", text)
	}
	if err := os.Remove(path + ".pub"); err != nil {
		t.Fatal(err)
	}
	_, again, err := LoadOrCreateKey(path)
	if err != nil || again != line {
		t.Errorf("second load: %q, %v", again, err)
	}
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(entries) != 2 {
		t.Errorf("files %v, %v: want the key and its .pub", entries, err)
	}
	// OpenSSH reads it too.
	out, err := exec.Command(brokertest.NeedProgram(t, "ssh-keygen"), "-y", "-f", path).Output()
	if err != nil || strings.TrimSpace(string(out)) != line {
		t.Errorf("ssh-keygen -y: %q, %v", out, err)
	}
}

func TestLoadOrCreateKey_manyAtOnceGetOne(t *testing.T) {
	path := filepath.Join(t.TempDir(), "ssh")
	lines := make([]string, 8)
	var work sync.WaitGroup
	for i := range lines {
		work.Go(func() {
			var err error
			if _, lines[i], err = LoadOrCreateKey(path); err != nil {
				t.Error(err)
			}
		})
	}
	work.Wait()
	for _, line := range lines {
		if diff := cmp.Diff(lines[0], line); diff != "" {
			t.Errorf("-first +other\n%s", diff)
		}
	}
}

func TestLoadOrCreateKey_refuses(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	locked, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		text []byte
		mode os.FileMode
		want string
	}{
		"others may read it": {pem.EncodeToMemory(plain), 0o640, "others may read it (mode 0640): run chmod 600"},
		"passphrase":         {pem.EncodeToMemory(locked), 0o600, "has a passphrase"},
		"not a key":          {[]byte("hello"), 0o600, "no key found"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "ssh")
			if err := os.WriteFile(path, tt.text, tt.mode); err != nil {
				t.Fatal(err)
			}
			_, _, err := LoadOrCreateKey(path)
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if text, _ := os.ReadFile(path); string(text) != string(tt.text) {
				t.Error("the file changed")
			}
		})
	}
}
