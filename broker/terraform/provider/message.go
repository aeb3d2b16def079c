package provider

import (
	"bytes"
	"fmt"
	"iter"

	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// message is one message of the plugin protocol, as it is on the wire.
type message []byte

// codec passes messages on without decoding them, so that one relay serves every
// version of the protocol.
type codec struct{}

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*message)
	if !ok {
		return nil, fmt.Errorf("a relay sends messages, not a %T", v)
	}
	return mem.BufferSlice{mem.SliceBuffer(*m)}, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	m, ok := v.(*message)
	if !ok {
		return fmt.Errorf("a relay receives messages, not a %T", v)
	}
	*m = data.Materialize()
	return nil
}

// Name is that of the usual codec, which everybody else uses.
func (codec) Name() string { return "proto" }

// value is that of a field: bytes of strings and messages, number of integers.
type value struct {
	bytes  []byte
	number uint64
}

// fields gives the fields of a message, up to where it is damaged, if it is.
func fields(m []byte) iter.Seq2[protowire.Number, value] {
	return func(yield func(protowire.Number, value) bool) {
		for len(m) > 0 {
			number, kind, n := protowire.ConsumeTag(m)
			if n < 0 {
				return
			}
			m = m[n:]
			var v value
			switch kind { //nolint:exhaustive // what is not looked at is skipped
			case protowire.BytesType:
				v.bytes, n = protowire.ConsumeBytes(m)
			case protowire.VarintType:
				v.number, n = protowire.ConsumeVarint(m)
			default:
				n = protowire.ConsumeFieldValue(number, kind, m)
			}
			if n < 0 || !yield(number, v) {
				return
			}
			m = m[n:]
		}
	}
}

// field gives the value of a field that is there once at most.
func field(m []byte, number protowire.Number) value {
	var found value
	for n, v := range fields(m) {
		if n == number {
			found = v
		}
	}
	return found
}

// The fields that a relay looks at. They are the same in versions 5 and 6 of the
// protocol: tfplugin5.proto, tfplugin6.proto.
const (
	schemasOfResources = 2 // of the answer with schemas: a map
	mapKey             = 1
	mapValue           = 2
	schemaVersion      = 1

	configureVersion     = 1 // of a configuration: Terraform's
	configureConfig      = 2
	configureDiagnostics = 1 // of its answer
	diagnosticSeverity   = 1
	diagnosticSummary    = 2
	diagnosticDetail     = 3
	severityError        = 1

	changeType       = 1 // of the request for a change
	changePriorState = 2
	changedState     = 1 // of its answer
	changedPrivate   = 2

	dynamicMsgpack = 1 // of a value of any type
	dynamicJSON    = 2
)

// isNull tells whether a value of any type is absent or null.
func isNull(dynamic []byte) bool {
	packed, text := field(dynamic, dynamicMsgpack).bytes, field(dynamic, dynamicJSON).bytes
	if len(packed) > 0 {
		return bytes.Equal(packed, []byte{0xc0}) // nil in msgpack
	}
	return len(text) == 0 || string(bytes.TrimSpace(text)) == "null"
}

// schemaVersions gives the version of each resource type's schema.
func schemaVersions(schemas message) map[string]int64 {
	versions := map[string]int64{}
	for number, v := range fields(schemas) {
		if number == schemasOfResources {
			version := field(field(v.bytes, mapValue).bytes, schemaVersion).number
			versions[string(field(v.bytes, mapKey).bytes)] = int64(version) //nolint:gosec // it was an int64
		}
	}
	return versions
}

// sameConfiguration tells whether two requests configure a provider alike. They
// also say what Terraform can do, which differs between its plan and its apply: that
// it can put off what depends on unknown values. A shared configuration has none.
func sameConfiguration(a, b message) bool {
	return bytes.Equal(field(a, configureVersion).bytes, field(b, configureVersion).bytes) &&
		bytes.Equal(field(a, configureConfig).bytes, field(b, configureConfig).bytes)
}

// configured tells whether an answer to a configuration reports no error.
func configured(answer message) bool {
	for number, v := range fields(answer) {
		if number == configureDiagnostics && field(v.bytes, diagnosticSeverity).number == severityError {
			return false
		}
	}
	return true
}

// refusal is an answer to a configuration that reports an error.
func refusal(summary, detail string) message {
	var d []byte
	d = protowire.AppendTag(d, diagnosticSeverity, protowire.VarintType)
	d = protowire.AppendVarint(d, severityError)
	d = protowire.AppendTag(d, diagnosticSummary, protowire.BytesType)
	d = protowire.AppendString(d, summary)
	d = protowire.AppendTag(d, diagnosticDetail, protowire.BytesType)
	d = protowire.AppendString(d, detail)
	m := protowire.AppendTag(nil, configureDiagnostics, protowire.BytesType)
	return protowire.AppendBytes(m, d)
}
