package ssh

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// keyLine gives a public key as it is recorded: "type base64".
func keyLine(key ssh.PublicKey) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key)))
}

func parseHostKeys(lines []string) ([]ssh.PublicKey, error) {
	var keys []ssh.PublicKey
	for _, line := range lines {
		key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line))
		if err != nil {
			return nil, fmt.Errorf("%q is none: %w", line, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// hostKeyAlgorithms gives what to ask a node for: the kinds recorded, so that it
// does not show a good key of another kind; for a new node all that are sound.
func hostKeyAlgorithms(known []ssh.PublicKey) []string {
	var algorithms []string
	for _, key := range known {
		kinds := []string{key.Type()}
		if key.Type() == ssh.KeyAlgoRSA {
			kinds = []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
		}
		for _, kind := range kinds {
			if !slices.Contains(algorithms, kind) {
				algorithms = append(algorithms, kind)
			}
		}
	}
	if len(algorithms) > 0 {
		return algorithms
	}
	return []string{
		ssh.KeyAlgoED25519, ssh.KeyAlgoECDSA256, ssh.KeyAlgoECDSA384, ssh.KeyAlgoECDSA521,
		ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256,
	}
}

// checkHostKey gives an error unless key is one of the known ones.
func checkHostKey(key ssh.PublicKey, known []ssh.PublicKey) error {
	for _, k := range known {
		if bytes.Equal(k.Marshal(), key.Marshal()) {
			return nil
		}
	}
	return fmt.Errorf("%w: it shows %s, recorded is %s", ErrHostKeyChanged, fingerprints([]ssh.PublicKey{key}), fingerprints(known))
}

// missingKind finds in the error of a handshake that the node has no key of the
// known kinds: nil if it is about something else.
func missingKind(err error, known []ssh.PublicKey) error {
	kinds := (*ssh.AlgorithmNegotiationError)(nil)
	if errors.As(err, &kinds) && kinds.What == "host key" && len(known) > 0 {
		return fmt.Errorf("%w: it has none of the recorded kinds; recorded is %s", ErrHostKeyChanged, fingerprints(known))
	}
	return nil
}

func fingerprints(keys []ssh.PublicKey) string {
	var prints []string
	for _, key := range keys {
		prints = append(prints, key.Type()+" "+ssh.FingerprintSHA256(key))
	}
	return strings.Join(prints, ", ")
}
