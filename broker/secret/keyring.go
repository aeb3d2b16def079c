// Package secret holds the broker's keys and what is done with them: sealing what
// is stored, hashing API keys, and keys that no log shows.
//
// There is one current root key of 32 random bytes, in a file of its own, or
// handed in from outside. Every purpose has its own subkey, derived with
// HKDF-SHA256, so that what was sealed for one purpose can't be opened for
// another.
//
// # Rotation
//
// The current key may be replaced by a new one. Whatever is sealed or hashed from
// then on uses the new key, and says so: it carries the key's id. Old keys are
// kept, to open what they sealed, until nothing needs them.
//
//	DIR/root.key      the current key, unless it comes from outside
//	DIR/old/ID.key    a key that was current: as it is where root.key is there,
//	                  and sealed with the current one where that is outside, so
//	                  that DIR alone opens nothing
package secret

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

const (
	rootKeyFile = "root.key"
	oldKeysDir  = "old"
	oldSuffix   = ".key"
	// ownerOnly are the permissions that files in the key directory must not have.
	ownerOnly = 0o077

	// sealedV1 is AES-256-GCM with a random 96-bit nonce in front of the text.
	sealedV1 byte = 1
	// sealedV2 is the same, with the id of the key in front of the nonce.
	sealedV2 byte = 2
	// hashedV2 is an HMAC with the id of the key in front. An older hash is the
	// bare HMAC, which is shorter.
	hashedV2 byte = 2
	// prefixSize is what both have in front.
	prefixSize = 1 + idSize

	// hashPurpose names the subkey of API-key hashes.
	hashPurpose = "api-key-hash"
	// oldKeyPurpose names the subkey that old root keys are sealed with.
	oldKeyPurpose = "old-root-key"
)

// Keyring seals and hashes with the current root key, and opens and compares with
// old ones too. It may be used by many goroutines at once.
type Keyring struct {
	keys []Key // the current one first, then old ones, no key twice
}

// Open reads the keys in dir, and makes directory and current key on first use.
// Several processes may do so at once: all get the same key. It refuses a key
// file that others can read, or that is not a key.
func Open(dir string) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // the operator names it
		return nil, fmt.Errorf("key directory: %w", err)
	}
	path := filepath.Join(dir, rootKeyFile)
	root, err := readKey(path, ownerOnly)
	if errors.Is(err, fs.ErrNotExist) {
		old, oldErr := oldKeyFiles(dir)
		if oldErr != nil {
			return nil, oldErr
		}
		if len(old) > 0 {
			return nil, fmt.Errorf("there are old keys in %s, but no current one in %s: put it back from a backup, or name the file that it is in",
				filepath.Join(dir, oldKeysDir), path)
		}
		if err := CreateKeyFile(path); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		root, err = readKey(path, ownerOnly)
	}
	if err != nil {
		return nil, err
	}
	return withOld(dir, root)
}

// OpenWith takes the current key from outside, and old ones from dir. It makes
// the directory on first use, and no key.
func OpenWith(dir string, current Key) (*Keyring, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil { //nolint:gosec // the operator names it
		return nil, fmt.Errorf("key directory: %w", err)
	}
	return withOld(dir, current)
}

// withOld adds the old keys of dir to the current one. Those that are sealed may
// be so with any key of the ring: a rotation that was cut short leaves some that
// are sealed with the key before. One that no key opens is an error: what it has
// sealed would be lost unseen.
func withOld(dir string, current Key) (*Keyring, error) {
	k := &Keyring{keys: []Key{current}}
	waiting, err := oldKeyFiles(dir)
	if err != nil {
		return nil, err
	}
	for progress := true; progress && len(waiting) > 0; {
		progress = false
		var closed []string
		for _, path := range waiting {
			old, err := k.readOld(path)
			if err != nil {
				return nil, err
			}
			if old == nil {
				closed = append(closed, path)
				continue
			}
			progress = true
			if !k.has(*old) {
				k.keys = append(k.keys, *old)
			}
		}
		waiting = closed
	}
	if len(waiting) > 0 {
		return nil, fmt.Errorf("old key %s is sealed with another key than the current one (%s): "+
			"is that the right one? If this old key is not needed any more, move it away", waiting[0], current.ID())
	}
	slices.SortFunc(k.keys[1:], func(a, b Key) int { return b.Since.Compare(a.Since) }) // newest first
	return k, nil
}

func oldKeyFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(dir, oldKeysDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("old keys: %w", err)
	}
	var paths []string
	for _, entry := range entries {
		if name := entry.Name(); filepath.Ext(name) == oldSuffix && name[0] != '.' {
			paths = append(paths, filepath.Join(dir, oldKeysDir, name))
		}
	}
	return paths, nil
}

// readOld reads an old key, nil if it is sealed with a key that the ring lacks.
func (k *Keyring) readOld(path string) (*Key, error) {
	content, since, err := readPrivate(path, ownerOnly)
	if err != nil {
		return nil, err
	}
	if len(content) != keySize {
		if len(content) < prefixSize || content[0] != sealedV2 {
			return nil, fmt.Errorf("old key %s has %d bytes, and is no key: restore it from a backup", path, len(content))
		}
		if _, ok := k.find(content); !ok {
			return nil, nil
		}
		if content, err = k.Open(oldKeyPurpose, filepath.Base(path), content); err != nil {
			return nil, fmt.Errorf("old key %s: %w", path, err)
		}
	}
	old := newKey(content)
	if want := filepath.Base(path); want != old.ID()+oldSuffix {
		return nil, fmt.Errorf("old key %s is the key %s: restore it from a backup", path, old.ID())
	}
	old.Since, old.Path = since, path
	return &old, nil
}

// Keys gives the keys, the current one first, then old ones from the newest to
// the oldest.
func (k *Keyring) Keys() []Key { return slices.Clone(k.keys) }

// Current gives the key that is used for what is sealed and hashed now.
func (k *Keyring) Current() Key { return k.keys[0] }

// KeyOf gives the id of the key that a sealed value, or the hash of an API key,
// was made with; "" where it does not say, as in the older formats.
func (k *Keyring) KeyOf(value []byte) string {
	if id, ok := keyID(value); ok {
		return hex.EncodeToString(id[:])
	}
	return ""
}

// keyID reads the key's id in front of a sealed value or a hash.
func keyID(value []byte) (id [idSize]byte, ok bool) {
	// A bare hash may begin with any byte, but is not as long.
	if len(value) <= sha256.Size || value[0] != sealedV2 {
		return id, false
	}
	copy(id[:], value[1:])
	return id, true
}

func (k *Keyring) find(value []byte) (Key, bool) {
	id, ok := keyID(value)
	i := slices.IndexFunc(k.keys, func(key Key) bool { return key.id == id })
	if !ok || i < 0 {
		return Key{}, false
	}
	return k.keys[i], true
}

// SealedByCurrent tells whether a sealed value was made with the current key, and
// says so. If not, it is to be sealed anew.
func (k *Keyring) SealedByCurrent(sealed []byte) bool { return k.KeyOf(sealed) == k.Current().ID() }

func (k Key) aead(purpose string) cipher.AEAD {
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

// Seal encrypts plain for a purpose, with the current key. aad is bound to it,
// unencrypted: it names the object that plain belongs to, so that sealed values
// can't be exchanged. Sealing the same twice gives different results.
func (k *Keyring) Seal(purpose, aad string, plain []byte) []byte {
	return k.Current().seal(purpose, aad, plain)
}

func (k Key) seal(purpose, aad string, plain []byte) []byte {
	prefix := append([]byte{sealedV2}, k.id[:]...)
	return k.aead(purpose).Seal(prefix, nil, plain, []byte(aad)) //nolint:gosec // this AEAD makes its own random nonce
}

// Open gives back what [Keyring.Seal] was given, if purpose and aad are the same,
// nothing was changed, and the root key is still in the ring.
func (k *Keyring) Open(purpose, aad string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 {
		return nil, fmt.Errorf("sealed %s of %q is empty", purpose, aad)
	}
	switch sealed[0] {
	case sealedV1:
		for _, key := range k.keys {
			if plain, err := key.aead(purpose).Open(nil, nil, sealed[1:], []byte(aad)); err == nil {
				return plain, nil
			}
		}
		return nil, fmt.Errorf("sealed %s of %q was damaged, or sealed with another root key", purpose, aad)
	case sealedV2:
		key, ok := k.find(sealed)
		if !ok && len(sealed) > sha256.Size {
			return nil, fmt.Errorf("sealed %s of %q needs the root key %s, which is not here: put it back from a backup, as old/%s%s in the key directory",
				purpose, aad, k.KeyOf(sealed), k.KeyOf(sealed), oldSuffix)
		}
		if ok {
			if plain, err := key.aead(purpose).Open(nil, nil, sealed[prefixSize:], []byte(aad)); err == nil {
				return plain, nil
			}
		}
		return nil, fmt.Errorf("sealed %s of %q was damaged", purpose, aad)
	}
	return nil, fmt.Errorf("sealed %s of %q has format %d, which this version does not know", purpose, aad, sealed[0])
}

// HashAPIKey gives the keyed hash under which an API key is stored, made with the
// current key. API keys are random, so that no slow hash is needed.
func (k *Keyring) HashAPIKey(apiKey string) []byte {
	key := k.Current()
	return append(append([]byte{hashedV2}, key.id[:]...), key.hash(apiKey)...)
}

func (k Key) hash(apiKey string) []byte {
	mac := hmac.New(sha256.New, k.hmac)
	mac.Write([]byte(apiKey))
	return mac.Sum(nil)
}

// EqualAPIKey tells whether hash is a keyed hash of apiKey, made with any key of
// the ring, in a time that depends on neither.
func (k *Keyring) EqualAPIKey(apiKey string, hash []byte) bool {
	id, named := keyID(hash)
	if named {
		hash = hash[prefixSize:]
	}
	equal := false
	for _, key := range k.keys {
		// In this order: the comparison is made for every key.
		equal = hmac.Equal(key.hash(apiKey), hash) && (!named || key.id == id) || equal
	}
	return equal
}

// CurrentAPIKeyHash tells whether a hash was made with the current key. If not,
// it is to be replaced as soon as the API key is seen.
func (k *Keyring) CurrentAPIKeyHash(hash []byte) bool { return k.KeyOf(hash) == k.Current().ID() }
