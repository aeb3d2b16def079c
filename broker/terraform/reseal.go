package terraform

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/duffy-broker/duffy-broker/broker"
)

var _ broker.Resealer = (*Engine)(nil)

// Reseal implements [broker.Resealer].
func (e *Engine) Reseal(n broker.Node, state []byte) (broker.Source, []byte, error) {
	source := n.Source
	if sealed, err := sealedVariables(source); err != nil {
		return source, state, err
	} else if sealed != nil && !e.Keyring.SealedByCurrent(sealed) {
		plain, err := e.unsealVariables(source)
		if err != nil {
			return source, state, fmt.Errorf("variables: %w", err)
		}
		if source.Variables, err = e.sealVariables(source.Generation, plain); err != nil {
			return source, state, err
		}
	}
	if state == nil || e.Keyring.SealedByCurrent(state) {
		return source, state, nil
	}
	plain, err := e.Keyring.Open(statePurpose, n.UID, state)
	if err != nil {
		return source, state, err
	}
	return source, e.Keyring.Seal(statePurpose, n.UID, plain), nil
}

// SealedWith implements [broker.Resealer].
func (e *Engine) SealedWith(n broker.Node, state []byte) []string {
	var ids []string
	variables, err := sealedVariables(n.Source)
	for _, sealed := range [][]byte{variables, state} {
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
