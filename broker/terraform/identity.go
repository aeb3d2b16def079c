package terraform

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// identityPurpose names the subkey that identities are sealed with.
	identityPurpose = "node-identity"
	identitySize    = 32
	// opensshBlock is what an unencrypted key is padded to: PROTOCOL.key of OpenSSH.
	opensshBlock = 8
)

// NewIdentity gives the sealed identity of a new node: random bytes that its token
// and its host key are made from. It is kept with the node and sealed anew when the
// root key changes, so that both stay the same for as long as the node lives, and
// need no old root key.
func (e *Engine) NewIdentity(uid string) []byte {
	seed := make([]byte, identitySize)
	_, _ = rand.Read(seed) // never fails: it ends the program instead (crypto/rand)
	return e.Keyring.Seal(identityPurpose, uid, seed)
}

// identity is what a node proves that it is itself with. The zero value is that of
// a node without one, which an older version has made.
type identity struct {
	uid  string
	seed []byte
}

func (e *Engine) identity(n broker.Node) (identity, error) {
	if len(n.Identity) == 0 {
		return identity{}, nil
	}
	seed, err := e.Keyring.Open(identityPurpose, n.UID, n.Identity)
	return identity{n.UID, seed}, err
}

func (i identity) derive(purpose string) []byte {
	key, err := hkdf.Key(sha256.New, i.seed, nil, "duffy-broker/node/"+purpose, sha256.Size)
	if err != nil {
		panic(err) // only for more output than HKDF can give
	}
	return key
}

// token is what the node names itself with to the broker: its uid, which is
// public, and 64 hex digits. "" for no identity.
func (i identity) token() string {
	if i.seed == nil {
		return ""
	}
	return i.uid + "-" + hex.EncodeToString(i.derive("token"))
}

// hostKey gives an SSH host key, both halves as OpenSSH's files have them: the same
// text each time.
func (i identity) hostKey() (private, public string) {
	key := ed25519.NewKeyFromSeed(i.derive("ssh-host-key"))
	half, _ := key.Public().(ed25519.PublicKey) // it is one
	signer, err := ssh.NewPublicKey(half)
	if err != nil {
		panic(err) // only for a kind of key that SSH has not
	}
	return opensshKey(key, signer, i.derive("ssh-host-key-check")), strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer)))
}

// opensshKey writes a key as ssh-keygen does. check is what the library that could
// do it takes from chance: the text would be another each time, and Terraform would
// see a change of every resource that the key is in.
func opensshKey(key ed25519.PrivateKey, public ssh.PublicKey, check []byte) string {
	half := public.Marshal()
	word := binary.BigEndian.Uint32(check)
	secret := ssh.Marshal(struct {
		Check1, Check2  uint32
		Type            string
		Public, Private []byte
		Comment         string
		Padding         []byte `ssh:"rest"`
	}{word, word, public.Type(), half[len(half)-ed25519.PublicKeySize:], key, "", nil})
	for pad := byte(1); len(secret)%opensshBlock != 0; pad++ {
		secret = append(secret, pad)
	}
	whole := ssh.Marshal(struct {
		Cipher, KDF, KDFOptions string
		Keys                    uint32
		Public, Secret          []byte
	}{"none", "none", "", 1, half, secret})
	return string(pem.EncodeToMemory(&pem.Block{Type: "OPENSSH PRIVATE KEY", Bytes: append([]byte("openssh-key-v1\x00"), whole...)}))
}

// identify adds to what a module is told about a node what the node and the broker
// need to know each other.
func (e *Engine) identify(about map[string]any, n broker.Node) error {
	about["url"], about["token"], about["ssh_host_key"] = nil, nil, nil
	i, err := e.identity(n)
	if err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	if e.NodeURL != "" {
		about["url"] = e.NodeURL
	}
	if i.seed == nil {
		return nil
	}
	if e.NodeURL != "" {
		about["token"] = i.token()
	}
	private, public := i.hostKey()
	about["ssh_host_key"] = map[string]string{"private_key": private, "public_key": public}
	return nil
}

// secrets lists the texts that nobody but the node may see.
func (i identity) secrets() []string {
	if i.seed == nil {
		return nil
	}
	token := i.token()
	private, _ := i.hostKey()
	// Also in base64, as clouds want user data, where it stands alone.
	return []string{token, private, base64.StdEncoding.EncodeToString([]byte(private)), base64.StdEncoding.EncodeToString([]byte(token))}
}

// identitySecrets lists those of a node; none, if its identity can't be opened: no
// run has seen them then, either.
func (e *Engine) identitySecrets(n broker.Node) []string {
	i, err := e.identity(n)
	if err != nil {
		return nil
	}
	return i.secrets()
}

// VerifyToken tells whether a token is that of a node, in a time that depends on
// neither.
func (e *Engine) VerifyToken(n broker.Node, token string) bool {
	i, err := e.identity(n)
	if err != nil || i.seed == nil {
		return false
	}
	return subtle.ConstantTimeCompare([]byte(i.token()), []byte(token)) == 1
}
