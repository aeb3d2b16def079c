package ssh

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

	"golang.org/x/crypto/ssh"
)

// keyComment is what the public key's line ends with.
const keyComment = "duffy-broker"

// LoadOrCreateKey gives the private key in the file path, and its public half as
// an authorized_keys line without an end of line. A missing file is made, as an
// ed25519 key in OpenSSH's format, mode 0600, with the public line in path+".pub"
// beside it; of several processes that do this at once one wins and all get its
// key. A key that others may read, or one with a passphrase, is refused.
func LoadOrCreateKey(path string) (ssh.Signer, string, error) {
	text, err := readPrivate(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, "", fmt.Errorf("ssh key %s: %w", path, err)
		}
		text, err = readPrivate(path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("ssh key %s: %w", path, err)
	}
	signer, line, err := parseKey(path, text)
	if err != nil {
		return nil, "", err
	}
	if _, err := os.Stat(path + ".pub"); errors.Is(err, fs.ErrNotExist) {
		if err := writeFile(path+".pub", []byte(line+"\n"), 0o644, os.Rename); err != nil {
			return nil, "", fmt.Errorf("ssh key %s.pub: %w", path, err)
		}
	}
	return signer, line, nil
}

// LoadKey is [LoadOrCreateKey] for a key that must be there, and writes nothing.
func LoadKey(path string) (ssh.Signer, string, error) {
	text, err := readPrivate(path)
	if err != nil {
		return nil, "", fmt.Errorf("ssh key %s: %w", path, err)
	}
	return parseKey(path, text)
}

func parseKey(path string, text []byte) (ssh.Signer, string, error) {
	signer, err := ssh.ParsePrivateKey(text)
	if missing := (*ssh.PassphraseMissingError)(nil); errors.As(err, &missing) {
		return nil, "", fmt.Errorf("ssh key %s: has a passphrase, which the broker can't ask for: give a key without one", path)
	}
	if err != nil {
		return nil, "", fmt.Errorf("ssh key %s: %w", path, err)
	}
	return signer, string(bytes.TrimSpace(ssh.MarshalAuthorizedKey(signer.PublicKey()))) + " " + keyComment, nil
}

func readPrivate(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return nil, fmt.Errorf("others may read it (mode %04o): run chmod 600 on it", mode)
	}
	return os.ReadFile(path) //nolint:gosec // the operator names the file
}

func createKey(path string) error {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	block, err := ssh.MarshalPrivateKey(private, keyComment)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// A link, unlike a rename, does not replace the key of a faster process.
	link := func(from, to string) error {
		if err := os.Link(from, to); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		return os.Remove(from)
	}
	return writeFile(path, pem.EncodeToMemory(block), 0o600, link)
}

// writeFile writes a file beside path and has place put it there in one step.
func writeFile(path string, text []byte, mode fs.FileMode, place func(from, to string) error) error {
	temp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	_, err = temp.Write(text)
	err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close())
	if err == nil {
		err = place(temp.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(temp.Name()))
	}
	return nil
}
