package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/gin-gonic/gin"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// readObject reads the JSON object in the body of a request. Names of fields are
// exact, the last of several equal ones counts.
func readObject(c *gin.Context) (map[string]any, error) {
	body, err := readBody(c)
	if err != nil {
		return nil, err
	}
	if len(body) == 0 {
		return nil, bodyError{fields: []v1.FieldError{missing("body")}}
	}
	if !isJSON(c.GetHeader("Content-Type")) {
		return nil, nil // as Duffy: there is a body, and nothing in it
	}
	v, err := decode(body)
	if err != nil {
		return nil, err
	}
	if v == nil {
		return nil, bodyError{fields: []v1.FieldError{missing("body")}}
	}
	object, _ := v.(map[string]any) // anything else has none of our fields
	return object, nil
}

func readBody(c *gin.Context) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxBodyBytes))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return nil, errTooLarge()
	}
	if err != nil {
		return nil, broker.Wrap(broker.CodeInvalid, err, "the request body can't be read to its end")
	}
	return body, nil
}

// isJSON tells whether a content type means JSON. None at all does, too.
func isJSON(contentType string) bool {
	if contentType == "" {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return false
	}
	return mediaType == "application/json" ||
		strings.HasPrefix(mediaType, "application/") && strings.HasSuffix(mediaType, "+json")
}

// decode reads one JSON value, with numbers as they were written.
func decode(body []byte) (v any, err error) {
	var raw json.RawMessage
	if err := json.Unmarshal(body, &raw); err != nil {
		return nil, syntaxError(body, err)
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		return nil, syntaxError(body, err)
	}
	return v, nil
}

// syntaxError says where the JSON ends to be JSON, in the words of Python's
// parser for the mistakes that happen.
func syntaxError(body []byte, err error) error {
	pos, msg := 0, err.Error()
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		pos = int(syntax.Offset)
		if !strings.Contains(msg, "unexpected end") {
			pos-- // the offset counts the bad byte, too
		}
		pos = min(max(pos, 0), len(body))
	}
	switch {
	case strings.Contains(msg, "in literal"):
		for pos > 0 && isLetter(body[pos-1]) {
			pos--
		}
		msg = "Expecting value"
	case strings.Contains(msg, "beginning of value"), strings.Contains(msg, "unexpected end"):
		msg = "Expecting value"
	}
	before := body[:pos]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := 1 + utf8.RuneCount(before[bytes.LastIndexByte(before, '\n')+1:])
	char := utf8.RuneCount(before)
	return bodyError{
		fields: []v1.FieldError{{
			Loc:  []any{"body", char},
			Msg:  fmt.Sprintf("%s: line %d column %d (char %d)", msg, line, column, char),
			Type: "value_error.jsondecode",
			Ctx:  map[string]any{"msg": msg, "doc": string(body), "pos": char, "lineno": line, "colno": column},
		}},
	}
}

func isLetter(b byte) bool { return 'a' <= b && b <= 'z' || 'A' <= b && b <= 'Z' }

func missing(loc ...any) v1.FieldError {
	return v1.FieldError{Loc: loc, Msg: "field required", Type: "value_error.missing"}
}

// checker reads the values of a request as leniently as Duffy does, and collects
// what can't be read.
type checker struct{ fields []v1.FieldError }

func (k *checker) fail(loc []any, msg, kind string, ctx map[string]any) {
	k.fields = append(k.fields, v1.FieldError{Loc: slices.Clone(loc), Msg: msg, Type: kind, Ctx: ctx})
}

// err gives what was collected, or nil.
func (k *checker) err(hint string) error {
	if len(k.fields) == 0 {
		return nil
	}
	return bodyError{fields: k.fields, hint: hint}
}

// required gives a field that must be there and not be null.
func (k *checker) required(object map[string]any, loc []any, name string) (any, bool) {
	v, ok := object[name]
	switch {
	case !ok:
		k.fields = append(k.fields, missing(append(slices.Clone(loc), name)...))
		return nil, false
	case v == nil:
		k.fail(append(loc, name), "none is not an allowed value", "type_error.none.not_allowed", nil)
		return nil, false
	}
	return v, true
}

// integer reads a whole number from a number (its fraction is cut off), a string
// or a boolean. What is beyond 64 bits becomes the nearest number: no object has
// it as an id, and no pool has as many nodes.
func (k *checker) integer(v any, loc ...any) int64 {
	switch v := v.(type) {
	case bool:
		if v {
			return 1
		}
		return 0
	case json.Number:
		if n, ok := wholeNumber(v.String()); ok {
			return n
		}
		if f, err := v.Float64(); err == nil {
			n, _ := big.NewFloat(f).Int64() // towards zero, to the nearest end
			return n
		}
	case string:
		if n, ok := wholeNumber(strings.TrimSpace(v)); ok {
			return n
		}
	}
	k.fail(loc, "value is not a valid integer", "type_error.integer", nil)
	return 0
}

// wholeNumber reads decimal digits with an optional sign.
func wholeNumber(s string) (int64, bool) {
	n, err := strconv.ParseInt(s, 10, 64) // gives the nearest end beyond the range
	return n, err == nil || errors.Is(err, strconv.ErrRange)
}

// boolean reads a boolean, or one of the words for it.
func (k *checker) boolean(v any, loc ...any) bool {
	var word string
	switch v := v.(type) {
	case bool:
		return v
	case json.Number:
		if f, err := v.Float64(); err == nil {
			word = strconv.FormatFloat(f, 'f', -1, 64)
		}
	case string:
		word = strings.ToLower(v)
	}
	switch word {
	case "1", "true", "t", "yes", "y", "on":
		return true
	case "0", "false", "f", "no", "n", "off":
		return false
	}
	k.fail(loc, "value could not be parsed to a boolean", "type_error.bool", nil)
	return false
}

// text reads a string; a number counts as its digits.
func (k *checker) text(v any, loc ...any) string {
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	k.fail(loc, "str type expected", "type_error.str", nil)
	return ""
}

// pathID reads the id in the path.
func (k *checker) pathID(c *gin.Context) int64 { return k.integer(c.Param("id"), "path", "id") }

// sessionRequest reads the body of POST /sessions.
func sessionRequest(c *gin.Context) (broker.SessionRequest, error) {
	object, err := readObject(c)
	if err != nil {
		return broker.SessionRequest{}, err
	}
	return parseSessionRequest(object)
}

func parseSessionRequest(object map[string]any) (broker.SessionRequest, error) {
	var k checker
	var req broker.SessionRequest
	if v := object["tenant_id"]; v != nil {
		id := k.integer(v, "body", "tenant_id")
		req.TenantID = &id
	}
	if v, ok := k.required(object, []any{"body"}, "nodes_specs"); ok {
		req.Specs = k.nodesSpecs(v)
	}
	if object == nil {
		return req, k.err("send a JSON object, as application/json")
	}
	return req, k.err("")
}

func (k *checker) nodesSpecs(v any) []broker.NodesSpec {
	list, ok := v.([]any)
	if !ok {
		k.fail([]any{"body", "nodes_specs"}, "value is not a valid list", "type_error.list", nil)
		return nil
	}
	specs := make([]broker.NodesSpec, 0, len(list))
	for i, v := range list {
		loc := []any{"body", "nodes_specs", i}
		object, ok := v.(map[string]any)
		if v == nil {
			k.fail(loc, "none is not an allowed value", "type_error.none.not_allowed", nil)
			continue
		}
		if !ok {
			k.fail(loc, "value is not a valid dict", "type_error.dict", nil)
			continue
		}
		var spec broker.NodesSpec
		if v, ok := k.required(object, loc, "quantity"); ok {
			spec.Quantity = k.quantity(v, append(slices.Clone(loc), "quantity"))
		}
		if v, ok := k.required(object, loc, "pool"); ok {
			spec.Pool = k.text(v, append(slices.Clone(loc), "pool")...)
		}
		specs = append(specs, spec)
	}
	return specs
}

func (k *checker) quantity(v any, loc []any) int {
	before := len(k.fields)
	n := k.integer(v, loc...)
	if len(k.fields) == before && n < 1 {
		k.fail(loc, "ensure this value is greater than or equal to 1", "value_error.number.not_ge", map[string]any{"limit_value": 1})
	}
	// Sums of these must not overflow; no pool has as many nodes anyway.
	return int(min(n, math.MaxInt32))
}

// sessionUpdate reads path and body of PUT /sessions/ID.
func sessionUpdate(c *gin.Context) (id int64, u broker.SessionUpdate, err error) {
	object, err := readObject(c)
	if err != nil {
		return 0, u, err
	}
	var k checker
	id = k.pathID(c)
	if object == nil {
		// Duffy takes this as "change nothing" and answers 200; then a client that
		// forgot the content type believes that its session is retired.
		k.fields = append(k.fields, missing("body"))
		return id, u, k.err("send a JSON object, as application/json")
	}
	hint := ""
	u, hint = k.sessionUpdate(object)
	return id, u, k.err(hint)
}

func (k *checker) sessionUpdate(object map[string]any) (u broker.SessionUpdate, hint string) {
	if v := object["active"]; v != nil {
		before := len(k.fields)
		u.Retire = !k.boolean(v, "body", "active") && len(k.fields) == before
	}
	if v := object["expires_at"]; v != nil {
		expiry, err := parseExpiry(v)
		if err == nil {
			u.Expires = &expiry
			return u, ""
		}
		if wrong, ok := errors.AsType[bodyError](err); ok {
			k.fields = append(k.fields, wrong.fields...)
			hint = wrong.hint
		}
	}
	return u, hint
}
