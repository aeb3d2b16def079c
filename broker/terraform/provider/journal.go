package provider

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// Resource is an object that a provider says it has made.
type Resource struct {
	Provider      string // source address: registry.terraform.io/hashicorp/aws
	Type          string
	SchemaVersion int64
	Attributes    json.RawMessage // as in a state file
	Private       []byte          // what the provider keeps with it
}

// entry is a line of a journal.
type entry struct {
	Provider      string `json:"provider"`
	Type          string `json:"type"`
	SchemaVersion int64  `json:"schema_version"`
	State         []byte `json:"state"` // a DynamicValue of the protocol
	Private       []byte `json:"private,omitempty"`
}

// journal keeps the answers to the creates of a run. Its file is locked while a
// change is under way.
type journal struct {
	mu       sync.Mutex
	file     *os.File
	underWay int
}

func openJournal(path string) (*journal, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // a file of ours
	return &journal{file: f}, err
}

func (j *journal) begin() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.underWay == 0 {
		if err := flock(j.file, syscall.LOCK_EX); err != nil {
			return err
		}
	}
	j.underWay++
	return nil
}

func (j *journal) end() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.underWay--
	if j.underWay == 0 {
		_ = flock(j.file, syscall.LOCK_UN) // it can't fail on an open file
	}
}

func (j *journal) busy() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.underWay > 0
}

// add writes an entry. It is no use to sync it: the file survives the process,
// and a machine that goes down takes Terraform's own state file along.
func (j *journal) add(e entry) error {
	line, err := json.Marshal(e)
	if err != nil {
		return err
	}
	_, err = j.file.Write(append(line, '\n'))
	return err
}

// ReadJournal gives what the creates of a run have made, in the order of the
// answers. A run that has no journal made nothing through a host. With an error,
// the rest is valid all the same.
func ReadJournal(path string) ([]Resource, error) {
	f, err := os.Open(path) //nolint:gosec // a file of ours
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	var all []Resource
	var problems []error
	for lines := bufio.NewReader(f); ; {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return all, errors.Join(problems...) // a last line without an end was cut
		}
		if err != nil {
			return all, errors.Join(append(problems, err)...)
		}
		r, err := parseEntry(line)
		if err != nil {
			problems = append(problems, err)
			continue
		}
		all = append(all, r)
	}
}

func parseEntry(line []byte) (Resource, error) {
	var e entry
	if err := json.Unmarshal(line, &e); err != nil {
		return Resource{}, fmt.Errorf("journal: %w", err)
	}
	attributes, err := toJSON(e.State)
	if err != nil {
		return Resource{}, fmt.Errorf("journal: the state of a %s: %w", e.Type, err)
	}
	return Resource{Provider: e.Provider, Type: e.Type, SchemaVersion: e.SchemaVersion, Attributes: attributes, Private: e.Private}, nil
}

// toJSON gives a DynamicValue as it stands in a state file.
func toJSON(dynamic []byte) (json.RawMessage, error) {
	packed := field(dynamic, dynamicMsgpack).bytes
	if len(packed) == 0 {
		text := field(dynamic, dynamicJSON).bytes
		if !json.Valid(text) {
			return nil, errors.New("it is neither msgpack nor JSON")
		}
		return text, nil
	}
	v, err := unpack(msgpack.NewDecoder(bytes.NewReader(packed)))
	if err != nil {
		return nil, err
	}
	return json.Marshal(v)
}

// typed is a value whose type the schema leaves open.
type typed struct {
	Value any             `json:"value"`
	Type  json.RawMessage `json:"type"`
}

// unpack reads the next value as cty packs it. Numbers that are too large for
// msgpack are strings, which a state file may hold as well.
func unpack(d *msgpack.Decoder) (any, error) {
	code, err := d.PeekCode()
	switch {
	case err != nil:
		return nil, err
	case msgpcode.IsExt(code): // unknown: there is nothing to know about it any more
		_, length, err := d.DecodeExtHeader()
		if err != nil {
			return nil, err
		}
		return nil, d.ReadFull(make([]byte, length))
	case msgpcode.IsFixedMap(code), code == msgpcode.Map16, code == msgpcode.Map32:
		return unpackMap(d)
	case msgpcode.IsFixedArray(code), code == msgpcode.Array16, code == msgpcode.Array32:
		return unpackArray(d)
	}
	return d.DecodeInterface()
}

func unpackMap(d *msgpack.Decoder) (any, error) {
	length, err := d.DecodeMapLen()
	if err != nil {
		return nil, err
	}
	all := map[string]any{}
	for range length {
		key, err := d.DecodeString()
		if err != nil {
			return nil, err
		}
		if all[key], err = unpack(d); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func unpackArray(d *msgpack.Decoder) (any, error) {
	length, err := d.DecodeArrayLen()
	if err != nil {
		return nil, err
	}
	all := []any{}
	for range length {
		v, err := unpack(d)
		if err != nil {
			return nil, err
		}
		all = append(all, v)
	}
	// Bytes are nothing but the type in front of such a value.
	if len(all) == 2 {
		if kind, ok := all[0].([]byte); ok {
			return typed{Value: all[1], Type: kind}, nil
		}
	}
	return all, nil
}
