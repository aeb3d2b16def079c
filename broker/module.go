package broker

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Module is what there is to know of the module tree that a [Source.Template]
// stands for.
type Module struct {
	// Files are the digests of its files, by path in the tree.
	Files map[string]string `json:"files"`
	// LockUnknown: Files lacks the lock file, which may exist all the same.
	LockUnknown bool `json:"lock_unknown,omitempty"`
	// Sensitive names the variables whose values nobody is to see: those that the
	// module declares so, and those whose names look so.
	Sensitive []string `json:"sensitive,omitempty"`
}

// ModuleReader knows the modules that pools and nodes are made from.
type ModuleReader interface {
	// ReadModule gives the module of a template; CodeNotFound where it is not kept.
	ReadModule(template string) (Module, error)
}

// MaskedValue stands for the value of a sensitive variable: equal values that are
// masked with the same key have equal masks.
type MaskedValue struct {
	Sensitive string `json:"$sensitive"`
}

// Mask gives what stands for a value that nobody is to see: its hash, under a key
// that is worth nothing elsewhere. Who has the key can test guesses.
func Mask(key []byte, value json.RawMessage) json.RawMessage {
	compact := new(bytes.Buffer)
	if err := json.Compact(compact, value); err != nil {
		compact = bytes.NewBuffer(value)
	}
	h := hmac.New(sha256.New, key)
	_, _ = h.Write(compact.Bytes()) // hashes take all
	masked, err := json.Marshal(MaskedValue{hex.EncodeToString(h.Sum(nil)[:16])})
	if err != nil {
		panic(fmt.Sprintf("a mask is not JSON: %v", err)) // a string always is
	}
	return masked
}

// IsMasked tells whether a value is a [MaskedValue].
func IsMasked(value json.RawMessage) bool {
	var members map[string]string
	return json.Unmarshal(value, &members) == nil && len(members) == 1 && members["$sensitive"] != ""
}

// MaskVariables masks the sensitive ones of a pool's variables. What is masked
// already stays as it is.
func MaskVariables(key []byte, variables json.RawMessage, sensitive []string) (json.RawMessage, error) {
	if len(variables) == 0 {
		return nil, nil
	}
	all := make(map[string]json.RawMessage)
	if err := json.Unmarshal(variables, &all); err != nil {
		return nil, fmt.Errorf("a pool's variables: %w", err)
	}
	for name, value := range all {
		if slices.Contains(sensitive, name) && !IsMasked(value) {
			all[name] = Mask(key, value)
		}
	}
	return json.Marshal(all)
}
