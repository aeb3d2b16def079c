package fakecloud

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"
)

// Operation is a kind of call.
type Operation string

// The operations.
const (
	Create Operation = "create"
	Read   Operation = "read"
	Delete Operation = "delete"
	List   Operation = "list"
)

// Class is a way to fail. The classes of errors are also the codes of the API.
type Class string

// The classes. Those up to InvalidConfiguration answer with an error.
const (
	Throttled            Class = "Throttled"
	InsufficientCapacity Class = "InsufficientCapacity"
	QuotaExceeded        Class = "QuotaExceeded"
	AuthFailure          Class = "AuthFailure"
	InvalidConfiguration Class = "InvalidConfiguration"
	NotFound             Class = "NotFound"
	// DependencyViolation refuses a delete; other operations don't meet it.
	DependencyViolation Class = "DependencyViolation"
	// Unreachable closes the connection without an answer.
	Unreachable Class = "Unreachable"
	// Timeout keeps the connection open and never answers.
	Timeout Class = "Timeout"
	// NeverBoots lets a create succeed and leaves its instance pending for ever.
	NeverBoots Class = "NeverBoots"
	// PartialListing gives half of what a page of a listing should have, as the
	// last page, and says that it is not complete.
	PartialListing Class = "PartialListing"
)

// only gives the operation that a class is for, "" for all of them.
func (c Class) only() Operation {
	return map[Class]Operation{DependencyViolation: Delete, NeverBoots: Create, PartialListing: List}[c]
}

// alters tells whether a class changes what a call does instead of failing it.
func (c Class) alters() bool { return c == NeverBoots || c == PartialListing }

// describe gives the HTTP status and the text of an error's class; 0 for what is
// no class, or one that has no answer.
func (c Class) describe() (status int, text string) {
	answer := map[Class]struct {
		status int
		text   string
	}{
		Throttled:            {http.StatusTooManyRequests, "request rate exceeded"},
		InsufficientCapacity: {http.StatusServiceUnavailable, "no host has room for an instance of this size"},
		QuotaExceeded:        {http.StatusForbidden, "the account may have no more instances"},
		AuthFailure:          {http.StatusUnauthorized, "the credentials are not valid"},
		InvalidConfiguration: {http.StatusBadRequest, "the request is not valid"},
		NotFound:             {http.StatusNotFound, "there is no such instance"},
		DependencyViolation:  {http.StatusConflict, "the instance is still in use by another object"},
	}[c]
	return answer.status, answer.text
}

// Error is an error of the API: its JSON is the body of the answer.
type Error struct {
	Code    Class  `json:"code"`
	Message string `json:"message"`
}

// Error gives the code and the message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Failure is one thing that goes wrong, each time or sometimes.
type Failure struct {
	// Operation is what it hits; "" is every operation that the class is for.
	Operation Operation `json:"operation,omitempty"`
	Class     Class     `json:"class"`
	// Rate is the chance of a call to be hit; 0 hits every one.
	Rate float64 `json:"rate,omitempty"`
	// Times is how many calls it hits before it is over; 0 is no end.
	Times int `json:"times,omitempty"`
	// Late failures hit the answer: the call has had its effect.
	Late bool `json:"late,omitempty"`
}

func (f Failure) hits(op Operation) bool {
	only := f.Class.only()
	return (f.Operation == "" || f.Operation == op) && (only == "" || only == op)
}

// Faults are all that is not as one would wish. The zero value is a cloud without
// limits that does everything at once. Durations are nanoseconds in JSON.
type Faults struct {
	// Latency is how long calls take.
	Latency map[Operation]time.Duration `json:"latency,omitempty"`
	// BootTime is for how long new instances are pending.
	BootTime time.Duration `json:"boot_time,omitempty"`
	// ListingLag makes listings show the cloud as it was that long ago.
	ListingLag time.Duration `json:"listing_lag,omitempty"`
	// Quota is how many instances may exist; 0 is no quota.
	Quota int `json:"quota,omitempty"`
	// RateLimit is how many calls a second are let through, 0 for all, and Burst
	// how many at once (at least 1).
	RateLimit float64 `json:"rate_limit,omitempty"`
	Burst     int     `json:"burst,omitempty"`
	// Failures are tried in order; a call meets the first that hits it.
	Failures []Failure `json:"failures,omitempty"`
}

func (f Faults) clone() Faults {
	f.Latency, f.Failures = maps.Clone(f.Latency), slices.Clone(f.Failures)
	return f
}

// check finds words that mean nothing here, and so would never take effect.
func (f Faults) check() error {
	operations := []Operation{Create, Read, Delete, List}
	for op := range f.Latency {
		if !slices.Contains(operations, op) {
			return fmt.Errorf("latency: there is no operation %q", op)
		}
	}
	for i, failure := range f.Failures {
		status, _ := failure.Class.describe()
		silent := failure.Class == Unreachable || failure.Class == Timeout
		if status == 0 && !silent && !failure.Class.alters() {
			return fmt.Errorf("failure %d: there is no class %q", i, failure.Class)
		}
		if !slices.ContainsFunc(operations, failure.hits) {
			return fmt.Errorf("failure %d: no operation %q meets %s", i, failure.Operation, failure.Class)
		}
	}
	return nil
}

// pick gives the failure that a call meets; chance is from 0 to below 1. It
// counts down.
func (f *Faults) pick(op Operation, chance func() float64) Failure {
	for i, failure := range f.Failures {
		if !failure.hits(op) || failure.Rate > 0 && chance() >= failure.Rate {
			continue
		}
		if failure.Times > 0 {
			f.Failures[i].Times--
			if f.Failures[i].Times == 0 {
				f.Failures = slices.Delete(f.Failures, i, i+1)
			}
		}
		return failure
	}
	return Failure{}
}
