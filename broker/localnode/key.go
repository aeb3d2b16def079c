package localnode

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
)

// prepareHome makes what a login needs. An authorized_keys file of an earlier
// life is left as it is.
func prepareHome(o Options, l login) error {
	if err := os.MkdirAll(l.dir.path("home", ".ssh"), 0o700); err != nil {
		return err
	}
	if err := l.dir.write("login", l.script(), 0o700); err != nil {
		return err
	}
	if filepath.Base(l.shell) == "zsh" {
		// Without it zsh greets everybody with its set-up menu.
		if err := createOnce(l.dir, filepath.Join("home", ".zshrc"), nil); err != nil {
			return err
		}
	}
	return createOnce(l.dir, filepath.Join("home", ".ssh", "authorized_keys"), []byte(strings.Join(o.Keys, "\n")+"\n"))
}

func createOnce(dir directory, name string, text []byte) error {
	if _, err := os.Lstat(dir.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return dir.write(name, text, 0o600)
}

// hostKey gives the node's host key, made at its first start.
func hostKey(dir directory) (ssh.Signer, error) {
	text, err := os.ReadFile(dir.path("host_key"))
	if errors.Is(err, fs.ErrNotExist) {
		text, err = newHostKey()
		if err == nil {
			err = dir.write("host_key", text, 0o600)
		}
	}
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", dir.path("host_key"), err)
	}
	return signer, dir.write("host_key.pub", bytes.TrimSpace(ssh.MarshalAuthorizedKey(signer.PublicKey())), 0o600)
}

func newHostKey() ([]byte, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(block), nil
}
