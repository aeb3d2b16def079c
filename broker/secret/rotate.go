package secret

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// Rotate makes a new current key in dir and keeps the one before as an old one.
// No other process may use dir meanwhile. It gives the ring as it is then.
//
// The old key is copied before the new one takes its place, and each is durable
// before the next step: a crash at any point leaves the ring with the old key or
// with both, and Rotate may be repeated. [fs.ErrNotExist] if dir has no current
// key.
func Rotate(dir string) (*Keyring, error) { return rotate(dir, func() {}) }

// rotate calls step after everything that it does to a file.
func rotate(dir string, step func()) (*Keyring, error) {
	path := filepath.Join(dir, rootKeyFile)
	old, err := readKey(path, ownerOnly)
	if err != nil {
		return nil, err
	}
	k, err := withOld(dir, old)
	if err != nil {
		return nil, err
	}
	if err := prepareOldKeys(dir, step); err != nil {
		return nil, err
	}
	if err := replaceFile(oldKeyFile(dir, old), old.root, step); err != nil {
		return nil, fmt.Errorf("keep the old key: %w", err)
	}
	fresh := randomKey()
	for k.has(fresh) {
		fresh = randomKey()
	}
	if err := replaceFile(path, fresh.root, step); err != nil {
		return nil, fmt.Errorf("new root key: %w", err)
	}
	return Open(dir)
}

// RotateTo makes the key in a file outside of dir the current one. A file that is
// not there is made, with a new key in it. The keys of k, which was opened on
// dir, are kept in dir as old ones, sealed with the new key. A current key that
// dir itself held is removed from there in the end. No other process may use dir
// meanwhile. It gives the ring as it is then.
//
// The new key is durable before anything is sealed with it, and all old ones are
// before one is removed: after a crash at any point one of both keys opens the
// ring, and RotateTo may be repeated.
func RotateTo(dir string, k *Keyring, newFile string) (*Keyring, error) {
	return rotateTo(dir, k, newFile, func() {})
}

func rotateTo(dir string, k *Keyring, newFile string, step func()) (*Keyring, error) {
	fresh, err := ReadKeyFile(newFile)
	if errors.Is(err, fs.ErrNotExist) {
		if err := createKey(newFile, randomKey(), step); err != nil {
			return nil, err
		}
		fresh, err = ReadKeyFile(newFile)
	}
	if err != nil {
		return nil, err
	}
	old := k.Current()
	if old.ID() == fresh.ID() {
		return nil, fmt.Errorf("%s holds the current key (%s): name a file that is not there yet, or one with another key", newFile, old.ID())
	}
	if err := prepareOldKeys(dir, step); err != nil {
		return nil, err
	}
	for _, key := range k.keys {
		if key.ID() == fresh.ID() {
			continue
		}
		path := oldKeyFile(dir, key)
		if err := replaceFile(path, fresh.seal(oldKeyPurpose, filepath.Base(path), key.root), step); err != nil {
			return nil, fmt.Errorf("keep the old key %s: %w", key.ID(), err)
		}
		if key.ID() != old.ID() { // it is not older than it was
			if err := os.Chtimes(path, time.Time{}, key.Since); err != nil {
				return nil, fmt.Errorf("keep the old key %s: %w", key.ID(), err)
			}
		}
	}
	if old.Path == filepath.Join(dir, rootKeyFile) {
		if err := os.Remove(old.Path); err != nil {
			return nil, fmt.Errorf("remove the old key: %w", err)
		}
		step()
		if err := syncDir(dir); err != nil {
			return nil, err
		}
	}
	return OpenWith(dir, fresh)
}

func oldKeyFile(dir string, k Key) string {
	return filepath.Join(dir, oldKeysDir, k.ID()+oldSuffix)
}

// prepareOldKeys makes the directory of old keys, and removes what a crash left.
func prepareOldKeys(dir string, step func()) error {
	old := filepath.Join(dir, oldKeysDir)
	if err := os.MkdirAll(old, 0o700); err != nil { //nolint:gosec // the operator names it
		return fmt.Errorf("old keys: %w", err)
	}
	step()
	for _, d := range []string{dir, old} {
		entries, err := os.ReadDir(d)
		if err != nil {
			return fmt.Errorf("old keys: %w", err)
		}
		for _, entry := range entries {
			if leftover, _ := filepath.Match(temporaryPattern, entry.Name()); !leftover {
				continue
			}
			if err := os.Remove(filepath.Join(d, entry.Name())); err != nil { //nolint:gosec // a name that we gave
				return fmt.Errorf("leftover of a crash: %w", err)
			}
			step()
		}
	}
	return syncDir(dir)
}

func (k *Keyring) has(key Key) bool {
	for _, known := range k.keys {
		if known.id == key.id {
			return true
		}
	}
	return false
}
