package broker

import (
	"errors"
	"fmt"
)

// Code says what kind of error happened. It decides the HTTP status and is
// part of the API: values are never renamed.
type Code string

// The codes. Anything without one counts as [CodeInternal].
const (
	// CodeInvalid: the request can't be right, whatever the state of the broker.
	CodeInvalid Code = "invalid"
	// CodeNotFound: the named object does not exist.
	CodeNotFound Code = "not_found"
	// CodeConflict: the object exists already, or is not in the state needed.
	CodeConflict Code = "conflict"
	// CodeForbidden: the caller is known and may not do this.
	CodeForbidden Code = "forbidden"
	// CodeUnauthorized: the caller is not known.
	CodeUnauthorized Code = "unauthorized"
	// CodeQuota: the tenant's quota does not allow it.
	CodeQuota Code = "quota"
	// CodeCapacity: not enough ready nodes.
	CodeCapacity Code = "capacity"
	// CodeUnavailable: it should work later; try again.
	CodeUnavailable Code = "unavailable"
	// CodeInternal: a defect or a broken environment. Its text is for logs, not
	// for clients.
	CodeInternal Code = "internal"
)

// Error is an error with a code and a text that may be shown to clients.
type Error struct {
	Code    Code
	Message string // lower case, names the object; safe to show to a client
	Hint    string // what to do about it, or ""
	Err     error  // the cause, for logs only, or nil
}

// Error gives the message, and the cause behind it.
func (e *Error) Error() string {
	if e.Err == nil {
		return e.Message
	}
	return e.Message + ": " + e.Err.Error()
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Errorf makes an [Error] with a code and no cause.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Wrap makes an [Error] with a cause, whose text goes to logs only.
func Wrap(code Code, cause error, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Err: cause}
}

// WithHint returns e with what to do about it.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// CodeOf gives the code of err, [CodeInternal] where it has none, and "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	if IsTransition(err) {
		return CodeConflict
	}
	return CodeInternal
}

// MessageOf gives the text of err that clients may see: that of the outermost
// [Error], or a bland one, since unknown errors can hold anything.
func MessageOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Code != CodeInternal {
		return e.Message
	}
	return "internal error"
}

// HintOf gives the hint of err, or "".
func HintOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok && e.Code != CodeInternal {
		return e.Hint
	}
	if IsTransition(err) {
		return "look at it as it is now: its state has changed meanwhile, or does not allow that"
	}
	return ""
}

// TransitionError says that an object may not go from one state to another, or
// that it was not in the state that the change expected.
type TransitionError struct {
	Object   string // "node 12"
	From, To string
	Expected string // the state that the writer expected, "" when the table forbids it
}

// Error describes the transition.
func (e *TransitionError) Error() string {
	if e.Expected != "" {
		return fmt.Sprintf("%s is %s, not %s", e.Object, e.From, e.Expected)
	}
	return fmt.Sprintf("%s can't go from %s to %s", e.Object, e.From, e.To)
}

// IsTransition tells whether err is a [TransitionError]: somebody else was
// faster, or the caller asked for a step that the table forbids.
func IsTransition(err error) bool {
	_, ok := errors.AsType[*TransitionError](err)
	return ok
}
