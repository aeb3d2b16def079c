package secret

import (
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	keySize = 32
	idSize  = 4
	// idPurpose names the subkey that a key's id is cut from.
	idPurpose = "key-id"
)

// Key is a root key. It prints as its id. The zero value is no key.
type Key struct {
	root []byte
	id   [idSize]byte
	hmac []byte // the subkey of API-key hashes: it is wanted at every request

	// Since is when the key came into the place where it is: the modification time
	// of its file. For the current key that is when it was made; for an old one,
	// when it was replaced. Zero where it did not come from a file.
	Since time.Time
	// Path is the key's file, "" where it did not come from one.
	Path string
}

func newKey(root []byte) Key {
	k := Key{root: root}
	copy(k.id[:], k.subkey(idPurpose))
	k.hmac = k.subkey(hashPurpose)
	return k
}

// randomKey gives a new key that is in no file yet.
func randomKey() Key {
	root := make([]byte, keySize)
	_, _ = rand.Read(root) // never fails: it ends the program instead (crypto/rand)
	return newKey(root)
}

// ID is 8 hex digits that tell the key from others and nothing about it.
func (k Key) ID() string { return hex.EncodeToString(k.id[:]) }

// String gives the id: the key itself is never printed.
func (k Key) String() string { return "key " + k.ID() }

// GoString gives what String does.
func (k Key) GoString() string { return k.String() }

// LogValue gives the id.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.ID()) }

// Derive gives the key of one purpose that the rest of the program has for it.
// Nothing else can be told from it.
func (k Key) Derive(purpose string) []byte { return k.subkey("derived/" + purpose) }

// subkey derives the key of one purpose.
func (k Key) subkey(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, k.root, nil, "duffy-broker/"+purpose, keySize)
	if err != nil {
		panic(err) // only for more output than HKDF can give
	}
	return key
}

// ParseKey reads a key from text: base64 (standard, padded or not) of 32 bytes.
// White space around it is allowed. Errors don't show the text.
func ParseKey(text string) (Key, error) {
	text = strings.TrimRight(strings.TrimSpace(text), "=")
	root, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return Key{}, errors.New("it is not base64 (of 32 bytes)")
	}
	if len(root) != keySize {
		return Key{}, fmt.Errorf("it is base64 of %d bytes, not of %d", len(root), keySize)
	}
	return newKey(root), nil
}

// ReadKeyFile reads a key that the operator keeps outside of the data directory:
// 32 raw bytes. The file may be readable by its group, as secrets are that
// systemd or Kubernetes hand to a service, and otherwise by its owner only.
func ReadKeyFile(path string) (Key, error) { return readKey(path, 0o037) }

// readKey reads a file of 32 bytes, which must have none of the forbidden
// permissions.
func readKey(path string, forbidden fs.FileMode) (Key, error) {
	content, since, err := readPrivate(path, forbidden)
	if err != nil {
		return Key{}, err
	}
	switch {
	case len(content) > keySize:
		return Key{}, fmt.Errorf("root key %s has more than %d bytes: restore it from a backup (a key is %d raw bytes, not text)", path, keySize, keySize)
	case len(content) < keySize:
		return Key{}, fmt.Errorf("root key %s has %d bytes, not %d: restore it from a backup (a key is raw bytes, not text)", path, len(content), keySize)
	}
	k := newKey(content)
	k.Since, k.Path = since, path
	return k, nil
}

// maxKeyFile is more than any key file has.
const maxKeyFile = 256

func readPrivate(path string, forbidden fs.FileMode) (content []byte, since time.Time, err error) {
	f, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return nil, since, fmt.Errorf("root key: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, since, fmt.Errorf("root key: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() {
		return nil, since, fmt.Errorf("root key %s is not a regular file", path)
	} else if mode.Perm()&forbidden != 0 {
		return nil, since, fmt.Errorf("root key %s has mode %04o, so that other users can get at it: chmod 600 it, "+
			"and replace it if they may have read it", path, mode.Perm())
	}
	content, err = io.ReadAll(io.LimitReader(f, maxKeyFile))
	if err != nil {
		return nil, since, fmt.Errorf("root key: %w", err)
	}
	return content, info.ModTime(), nil
}

// CreateKeyFile makes a new key in a file of its own, mode 0600. A crash leaves
// all of it or nothing. A file that is there already is an error that is
// [fs.ErrExist], and stays as it is.
func CreateKeyFile(path string) error { return createKey(path, randomKey(), func() {}) }

// createKey writes a new key so that a crash leaves either all of it or nothing.
// A link, unlike a rename, never replaces the key of a process that was faster:
// all that was sealed with that one would be lost.
func createKey(path string, k Key, step func()) error {
	tmp, err := writeTemporary(path, k.root, step)
	if err != nil {
		return fmt.Errorf("new root key: %w", err)
	}
	defer func() { _ = os.Remove(tmp) }() //nolint:gosec // the operator names the directory
	if err := os.Link(tmp, path); err != nil {
		return fmt.Errorf("new root key: %w", err)
	}
	step()
	return syncDir(filepath.Dir(path))
}

// replaceFile puts content in the place of whatever is at path, so that a crash
// leaves the one or the other.
func replaceFile(path string, content []byte, step func()) error {
	tmp, err := writeTemporary(path, content, step)
	if err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return errors.Join(err, os.Remove(tmp))
	}
	step()
	return syncDir(filepath.Dir(path))
}

// temporaryPattern is how files are called that have no name yet: one that is
// older than the process that looks at it is left over from a crash.
const temporaryPattern = ".new-*.key"

func writeTemporary(path string, content []byte, step func()) (string, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), temporaryPattern) // mode 0600
	if err != nil {
		return "", err
	}
	step()
	_, err = tmp.Write(content)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	step()
	if err != nil {
		return "", errors.Join(err, os.Remove(tmp.Name())) //nolint:gosec // the operator names the directory
	}
	return tmp.Name(), nil
}

func syncDir(path string) error {
	dir, err := os.Open(path) //nolint:gosec // the operator names it
	if err != nil {
		return fmt.Errorf("key directory: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("key directory: %w", err)
	}
	return nil
}
