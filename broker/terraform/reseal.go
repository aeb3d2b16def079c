package terraform

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/duffy-broker/duffy-broker/broker"
)

var _ broker.Resealer = (*Engine)(nil)

// Reseal implements [broker.Resealer].
func (e *Engine) Reseal(n broker.Node, state []byte) (broker.Node, []byte, error) {
	fresh := n
	if sealed, err := sealedVariables(n.Source); err != nil {
		return n, state, err
	} else if sealed != nil && !e.Keyring.SealedByCurrent(sealed) {
		plain, err := e.unsealVariables(n.Source)
		if err != nil {
			return n, state, fmt.Errorf("variables: %w", err)
		}
		if fresh.Source.Variables, err = e.sealVariables(n.Source.Generation, plain); err != nil {
			return n, state, err
		}
	}
	if len(n.Identity) > 0 && !e.Keyring.SealedByCurrent(n.Identity) {
		i, err := e.identity(n)
		if err != nil {
			return n, state, fmt.Errorf("identity: %w", err)
		}
		fresh.Identity = e.Keyring.Seal(identityPurpose, n.UID, i.seed)
	}
	if state == nil || e.Keyring.SealedByCurrent(state) {
		return fresh, state, nil
	}
	plain, err := e.Keyring.Open(statePurpose, n.UID, state)
	if err != nil {
		return n, state, err
	}
	return fresh, e.Keyring.Seal(statePurpose, n.UID, plain), nil
}

// SealedWith implements [broker.Resealer].
func (e *Engine) SealedWith(n broker.Node, state []byte) []string {
	var ids []string
	variables, err := sealedVariables(n.Source)
	for _, sealed := range [][]byte{variables, n.Identity, state} {
		if sealed != nil && !slices.Contains(ids, e.Keyring.KeyOf(sealed)) {
			ids = append(ids, e.Keyring.KeyOf(sealed))
		}
	}
	if err != nil && !slices.Contains(ids, "") {
		ids = append(ids, "") // whatever it is, it is needed
	}
	return ids
}

// sealedVariables gives the sealed variables of a source, nil for none.
func sealedVariables(s broker.Source) (sealed []byte, err error) {
	if len(s.Variables) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(s.Variables, &sealed); err != nil {
		return nil, fmt.Errorf("variables: %w", err)
	}
	return sealed, nil
}
