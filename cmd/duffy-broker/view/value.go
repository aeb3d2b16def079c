package view

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// A value is a JSON value with what encoding/json's maps forget: the order of
// members and how numbers were written.
type value struct {
	kind    kind
	text    string // of a string, or of a number as Python writes it
	yes     bool   // of a boolean
	items   []value
	members []member
}

type member struct {
	name  string
	value value
}

type kind int

const (
	isNull kind = iota
	isBool
	isNumber
	isString
	isList
	isObject
)

// get gives a member of an object; null when there is none.
func (v value) get(name string) value {
	for _, m := range v.members {
		if m.name == name {
			return m.value
		}
	}
	return value{}
}

func (v value) has(name string) bool {
	for _, m := range v.members {
		if m.name == name {
			return true
		}
	}
	return false
}

// set adds a member, or replaces the one of that name where it stands, as
// Python's dictionaries do.
func (v *value) set(name string, of value) {
	for i := range v.members {
		if v.members[i].name == name {
			v.members[i].value = of
			return
		}
	}
	v.members = append(v.members, member{name, of})
}

func parse(raw []byte) (value, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	v, err := read(dec)
	if err != nil {
		return value{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return value{}, errors.New("there is something after the JSON value")
	}
	return v, nil
}

func read(dec *json.Decoder) (value, error) {
	token, err := dec.Token()
	if err != nil {
		return value{}, err
	}
	switch token := token.(type) {
	case nil:
		return value{}, nil
	case bool:
		return value{kind: isBool, yes: token}, nil
	case json.Number:
		return value{kind: isNumber, text: pythonNumber(token.String())}, nil
	case string:
		return value{kind: isString, text: token}, nil
	case json.Delim:
		if token == '[' {
			return readList(dec)
		}
		return readObject(dec)
	}
	return value{}, fmt.Errorf("unexpected token %v", token)
}

func readList(dec *json.Decoder) (value, error) {
	v := value{kind: isList}
	for dec.More() {
		item, err := read(dec)
		if err != nil {
			return value{}, err
		}
		v.items = append(v.items, item)
	}
	_, err := dec.Token()
	return v, err
}

func readObject(dec *json.Decoder) (value, error) {
	v := value{kind: isObject}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return value{}, err
		}
		of, err := read(dec)
		if err != nil {
			return value{}, err
		}
		v.set(name.(string), of) // the decoder gives nothing else here
	}
	_, err := dec.Token()
	return v, err
}

// pythonNumber writes a number as Python does after reading it: whole numbers as
// they are, others with the fewest digits that tell them apart, and with an
// exponent below 0.0001 and from 10^16 on.
func pythonNumber(s string) string {
	if !strings.ContainsAny(s, ".eE") {
		if s == "-0" {
			return "0"
		}
		return s
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil { // too large
		return s
	}
	scientific := strconv.FormatFloat(f, 'e', -1, 64)
	_, exponent, _ := strings.Cut(scientific, "e")
	if e, err := strconv.Atoi(exponent); err == nil && (e < -4 || e >= 16) {
		return scientific
	}
	plain := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(plain, ".") {
		plain += ".0"
	}
	return plain
}
