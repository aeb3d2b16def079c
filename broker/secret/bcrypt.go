package secret

import (
	"errors"
	"fmt"
	"regexp"

	"golang.org/x/crypto/bcrypt"
)

const (
	// maxBcryptCost is the highest cost of a hash that is accepted: about a second
	// of CPU. Each step more doubles that.
	maxBcryptCost = 14
	// maxBcryptKey is how many bytes of a key bcrypt looks at.
	maxBcryptKey = 72
)

// bcryptForm is a bcrypt hash: version, cost, salt and hash. The versions differ
// in nothing that matters for an ASCII key.
var bcryptForm = regexp.MustCompile(`^\$2[aby]\$\d\d\$[./A-Za-z0-9]{53}$`)

// Bcrypt compares API keys with the bcrypt hashes that Duffy v3 has made. A
// comparison with one of Duffy's takes about 200 ms of CPU, on purpose.
type Bcrypt struct{}

// Check tells what is wrong with a hash, without showing it.
func (Bcrypt) Check(hash []byte) error {
	if !bcryptForm.Match(hash) {
		return errors.New("the hash of the API key is no bcrypt hash")
	}
	cost, err := bcrypt.Cost(hash)
	if err != nil {
		return fmt.Errorf("the hash of the API key: %w", err)
	}
	if cost > maxBcryptCost {
		return fmt.Errorf("the hash of the API key has cost %d: more than %d takes too long at a login", cost, maxBcryptCost)
	}
	return nil
}

// EqualImportedKey tells whether hash is one of key. One that [Bcrypt.Check]
// refuses fits no key.
func (b Bcrypt) EqualImportedKey(key string, hash []byte) bool {
	return len(key) <= maxBcryptKey && b.Check(hash) == nil && bcrypt.CompareHashAndPassword(hash, []byte(key)) == nil
}
