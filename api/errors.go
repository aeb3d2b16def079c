package api

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// retryAfter is the advice, in seconds, that goes with 503.
const retryAfter = "10"

// statusOf is the one map from error codes to HTTP. Capacity is 422, as in
// Duffy.
func statusOf(code broker.Code) int {
	switch code {
	case broker.CodeInvalid, broker.CodeCapacity:
		return http.StatusUnprocessableEntity
	case broker.CodeNotFound:
		return http.StatusNotFound
	case broker.CodeConflict:
		return http.StatusConflict
	case broker.CodeForbidden, broker.CodeQuota:
		return http.StatusForbidden
	case broker.CodeUnauthorized:
		return http.StatusUnauthorized
	case broker.CodeUnavailable:
		return http.StatusServiceUnavailable
	case broker.CodeInternal:
		return http.StatusInternalServerError
	}
	return http.StatusInternalServerError
}

// statusError is an error of HTTP itself, with a status of its own.
type statusError struct {
	status int
	error
}

func (e statusError) Unwrap() error { return e.error }

func errNoRoute() error { return broker.Errorf(broker.CodeNotFound, "Not Found") }

func errMethod() error {
	return statusError{http.StatusMethodNotAllowed, broker.Errorf(broker.CodeInvalid, "Method Not Allowed")}
}

func errTooLarge() error {
	return statusError{
		http.StatusRequestEntityTooLarge,
		broker.Errorf(broker.CodeInvalid, "the request body is larger than %d bytes", maxBodyBytes),
	}
}

// bodyError says what is wrong with a request, place by place, in Duffy's terms.
type bodyError struct {
	fields []v1.FieldError
	hint   string
}

// Error sums the places up in one line.
func (e bodyError) Error() string {
	lines := make([]string, 0, len(e.fields))
	for _, f := range e.fields {
		lines = append(lines, place(f.Loc)+": "+f.Msg)
	}
	return strings.Join(lines, "; ")
}

// place writes a location for people: nodes_specs[0].quantity.
func place(loc []any) string {
	var b strings.Builder
	for _, step := range loc[1:] {
		switch step := step.(type) {
		case int:
			if b.Len() > 0 {
				fmt.Fprintf(&b, "[%d]", step)
			}
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			fmt.Fprint(&b, step)
		}
	}
	if b.Len() == 0 {
		return fmt.Sprint(loc[0])
	}
	return b.String()
}

// errorAnswer gives the status and the body for err.
func errorAnswer(err error) (int, v1.Error) {
	if body, ok := errors.AsType[bodyError](err); ok {
		return statusOf(broker.CodeInvalid), v1.Error{
			Detail: body.Error(), Code: string(broker.CodeInvalid), Hint: body.hint, Errors: body.fields,
		}
	}
	code := broker.CodeOf(err)
	status := statusOf(code)
	if own, ok := errors.AsType[statusError](err); ok {
		status = own.status
	}
	answer := v1.Error{Detail: broker.MessageOf(err), Code: string(code), Hint: broker.HintOf(err)}
	if code == broker.CodeConflict && broker.IsTransition(err) {
		answer.Detail = "the object has changed meanwhile; try again"
	}
	return status, answer
}

// asDuffy gives refusals the bare words that Duffy has for them, which clients
// compare with; ours become the hint.
func asDuffy(err error) error {
	code := broker.CodeOf(err)
	if code != broker.CodeNotFound && code != broker.CodeForbidden && code != broker.CodeUnauthorized {
		return err
	}
	hint := broker.HintOf(err)
	if hint == "" {
		hint = broker.MessageOf(err)
	}
	return broker.Wrap(code, err, "%s", http.StatusText(statusOf(code))).WithHint("%s", hint)
}
