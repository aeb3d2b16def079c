// Package secret holds the broker's key and what is done with it: sealing what
// is stored, hashing API keys, and a string that no log shows.
//
// There is one root key of 32 random bytes, in a file of its own. Every purpose
// has its own subkey, derived with HKDF-SHA256, so that what was sealed for one
// purpose can't be opened for another.
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

const (
	rootKeyFile = "root.key"
	keySize     = 32

	// sealedV1 is AES-256-GCM with a random 96-bit nonce in front of the text.
	sealedV1 byte = 1
	// hashPurpose names the subkey of API-key hashes.
	hashPurpose = "api-key-hash"
)

// Keyring seals, opens and hashes with keys derived from one root key. It may be
// used by many goroutines at once.
type Keyring struct {
	root []byte
}

// Open reads the root key in dir, and makes both on first use. Several processes
// may do so at once: all get the same key. It refuses a key file that others can
// read, or that is not a key.
func Open(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("key directory: %w", err)
	}
	path := filepath.Join(dir, rootKeyFile)
	root, err := readKey(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(path); err != nil {
			return nil, err
		}
		root, err = readKey(path)
	}
	if err != nil {
		return nil, err
	}
	return &Keyring{root: root}, nil
}

func readKey(path string) ([]byte, error) {
	f, err := os.Open(path) //nolint:gosec // the operator names the directory
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() {
		return nil, fmt.Errorf("root key %s is not a regular file", path)
	} else if mode.Perm()&0o077 != 0 {
		return nil, fmt.Errorf("root key %s has mode %04o, so that other users can get at it: chmod 600 it, "+
			"and replace it if they may have read it", path, mode.Perm())
	}
	key, err := io.ReadAll(io.LimitReader(f, keySize+1))
	if err != nil {
		return nil, fmt.Errorf("root key: %w", err)
	}
	switch {
	case len(key) > keySize:
		return nil, fmt.Errorf("root key %s has more than %d bytes: restore it from a backup", path, keySize)
	case len(key) < keySize:
		return nil, fmt.Errorf("root key %s has %d bytes, not %d: restore it from a backup", path, len(key), keySize)
	}
	return key, nil
}

// createKey writes a new key so that a crash leaves either all of it or nothing.
// A link, unlike a rename, never replaces the key of a process that was faster:
// all that was sealed with that one would be lost.
func createKey(path string) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".root.key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("new root key: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // never fails: it ends the program instead (crypto/rand)
	_, err = tmp.Write(key)
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err != nil {
		return fmt.Errorf("new root key: %w", err)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("new root key: %w", err)
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("new root key: %w", err)
	}
	if err := errors.Join(dir.Sync(), dir.Close()); err != nil {
		return fmt.Errorf("new root key: %w", err)
	}
	return nil
}

// subkey derives the key of one purpose.
func (k *Keyring) subkey(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, k.root, nil, "duffy-broker/"+purpose, keySize)
	if err != nil {
		panic(err) // only for more output than HKDF can give
	}
	return key
}

func (k *Keyring) aead(purpose string) cipher.AEAD {
	block, err := aes.NewCipher(k.subkey(purpose))
	if err != nil {
		panic(err) // only for a wrong key size
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		panic(err) // only for a block size other than AES's
	}
	return aead
}

// Seal encrypts plain for a purpose. aad is bound to it, unencrypted: it names
// the object that plain belongs to, so that sealed values can't be exchanged.
// Sealing the same twice gives different results.
func (k *Keyring) Seal(purpose, aad string, plain []byte) []byte {
	return k.aead(purpose).Seal([]byte{sealedV1}, nil, plain, []byte(aad)) //nolint:gosec // this AEAD makes its own random nonce
}

// Open gives back what [Keyring.Seal] was given, if purpose, aad and root key are
// the same and nothing was changed.
func (k *Keyring) Open(purpose, aad string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, fmt.Errorf("sealed %s of %q is empty", purpose, aad)
	}
	if sealed[0] != sealedV1 {
		return nil, fmt.Errorf("sealed %s of %q has format %d, which this version does not know", purpose, aad, sealed[0])
	}
	plain, err := k.aead(purpose).Open(nil, nil, sealed[1:], []byte(aad))
	if err != nil {
		return nil, fmt.Errorf("sealed %s of %q was damaged, or sealed with another root key", purpose, aad)
	}
	return plain, nil
}

// HashAPIKey gives the keyed hash under which an API key is stored. API keys are
// random, so that no slow hash is needed.
func (k *Keyring) HashAPIKey(key string) []byte {
	mac := hmac.New(sha256.New, k.subkey(hashPurpose))
	mac.Write([]byte(key))
	return mac.Sum(nil)
}

// EqualAPIKey tells whether hash is the keyed hash of key, in a time that does
// not depend on where they differ.
func (k *Keyring) EqualAPIKey(key string, hash []byte) bool {
	return hmac.Equal(k.HashAPIKey(key), hash)
}
