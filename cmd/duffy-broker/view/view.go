// Package view writes answers of the API for people and programs.
//
// Three of the formats are those of `duffy client`, byte for byte, since scripts
// depend on them: json and yaml as Python's json and PyYAML write them, flat as
// shell assignments. The fourth, table, is for people and may change.
package view

import (
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// The formats.
const (
	JSON  = "json"
	YAML  = "yaml"
	Flat  = "flat"
	Table = "table"
)

// Formats lists the formats, for help texts and completion.
func Formats() []string { return []string{JSON, YAML, Flat, Table} }

// Check gives [broker.CodeInvalid] if there is no such format.
func Check(format string) error {
	if slices.Contains(Formats(), format) {
		return nil
	}
	return broker.Errorf(broker.CodeInvalid, "there is no format %q", format).
		WithHint("choose one of %s", strings.Join(Formats(), ", "))
}

// Format writes raw, an answer of the API as it came, in one of the formats. Flat
// and table know the answers that commands ask for, what commands find out by
// themselves, and errors.
func Format(w io.Writer, format string, raw json.RawMessage) error {
	return formatAt(w, format, raw, time.Now())
}

// Error writes err in one of the formats, in the shape {"error": {...}} that
// Duffy's client has for refusals.
func Error(w io.Writer, format string, err error) error {
	answer := struct {
		Error v1.Error `json:"error"`
	}{v1.Error{Detail: err.Error(), Code: string(broker.CodeOf(err))}}
	// The whole text of a coded error may be shown here: the cause, if any, is of
	// this side.
	if coded, ok := errors.AsType[*broker.Error](err); ok {
		answer.Error.Detail, answer.Error.Hint = coded.Message, coded.Hint
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	return Format(w, format, raw)
}

func formatAt(w io.Writer, format string, raw json.RawMessage, now time.Time) error {
	if err := Check(format); err != nil {
		return err
	}
	v, err := parse(raw)
	if err != nil {
		return broker.Wrap(broker.CodeInvalid, err, "the answer is not JSON")
	}
	var text string
	switch format {
	case JSON:
		text = pythonJSON(v) + "\n"
	case YAML:
		text = pythonYAML(v) + "\n" // Duffy prints it, which ends the line once more
	case Flat:
		text, err = flat(v)
	case Table:
		text, err = table(v, now)
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(w, text)
	return err
}
