package bmc

import (
	"context"
	"errors"
	"fmt"
)

// Class says what kind of failure an [Error] is.
type Class string

// The classes.
const (
	ClassAuth          Class = "auth"          // the controller does not let us in
	ClassUnreachable   Class = "unreachable"   // it does not answer, or not as one
	ClassBusy          Class = "busy"          // it asks to come again later
	ClassUnsupported   Class = "unsupported"   // it can't do that
	ClassConfiguration Class = "configuration" // we are asked for something that makes no sense
	ClassTimeout       Class = "timeout"       // it did not do in time what it was told to
	ClassInterrupted   Class = "interrupted"   // the caller gave up
	ClassOther         Class = "other"
)

// passes tells whether another try may come out differently.
func (c Class) passes() bool {
	switch c {
	case ClassBusy, ClassUnreachable:
		return true
	case ClassAuth, ClassUnsupported, ClassConfiguration, ClassTimeout, ClassInterrupted, ClassOther:
	}
	return false
}

// Error is what every failure of this package is.
type Error struct {
	Class   Class
	Address string
	Doing   string // such as "switch it on"
	Hint    string // what to do; may be ""
	Err     error
}

// Error gives one line, without the hint.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Address, e.Doing, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// ClassOf gives the class of an error; [ClassOther] for one that is none of ours.
func ClassOf(err error) Class {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Class
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return ClassInterrupted
	}
	return ClassOther
}

// HintOf says what to do about an error, or "".
func HintOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Hint
	}
	return ""
}
