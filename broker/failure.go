package broker

import "errors"

// FailureClass says what kind of trouble a failure is. It decides what is worth
// trying again, and is part of the API: values are never renamed.
type FailureClass string

// The classes of failures. "" is no failure.
const (
	FailureThrottled     FailureClass = "throttled"     // too many requests in a time: later it works
	FailureNoCapacity    FailureClass = "no_capacity"   // the provider has none of what was asked for
	FailureQuota         FailureClass = "quota"         // the account may not have more
	FailureAuth          FailureClass = "auth"          // credentials are missing, wrong or too weak
	FailureConfiguration FailureClass = "configuration" // the module or its variables are wrong
	FailureUnreachable   FailureClass = "unreachable"   // a server does not answer
	FailureTimeout       FailureClass = "timeout"       // it took too long
	FailureInterrupted   FailureClass = "interrupted"   // it was ended from outside
	FailureOther         FailureClass = "other"
)

// FailureClasses lists the classes.
func FailureClasses() []FailureClass {
	return []FailureClass{
		FailureThrottled, FailureNoCapacity, FailureQuota, FailureAuth, FailureConfiguration,
		FailureUnreachable, FailureTimeout, FailureInterrupted, FailureOther,
	}
}

// Certain tells whether the next try fails as well unless somebody mends
// something, so that trying again costs money for nothing.
func (c FailureClass) Certain() bool {
	return c == FailureAuth || c == FailureConfiguration
}

// Elsewhere tells whether there may be what was asked for in another place, or
// in another size.
func (c FailureClass) Elsewhere() bool {
	return c == FailureNoCapacity || c == FailureQuota
}

// Failure is an error with a class.
type Failure struct {
	Class FailureClass
	Err   error // required
}

// Error gives the text of the cause.
func (f *Failure) Error() string { return f.Err.Error() }

// Unwrap gives the cause.
func (f *Failure) Unwrap() error { return f.Err }

// FailureClassOf gives the class of err, [FailureOther] where it has none, and
// "" for nil.
func FailureClassOf(err error) FailureClass {
	if err == nil {
		return ""
	}
	if f, ok := errors.AsType[*Failure](err); ok {
		return f.Class
	}
	return FailureOther
}
