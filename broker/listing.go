package broker

import (
	"context"
	"regexp"
	"time"
)

// Lister says what exists, by asking those who have made it: the ground truth
// that records are compared with. It changes nothing.
type Lister interface {
	// List asks about everything with this broker's tag that the pool's module
	// can see, nodes of other pools too. It is called for pools with
	// [Source.Sweeps] only.
	List(ctx context.Context, p Pool) (Listing, error)
}

// Listing is what exists, as far as one module can tell.
type Listing struct {
	// Complete: whoever was asked vouches for it that nothing is left out.
	Complete bool
	Nodes    []ListedNode // in no order; the same one may be there more than once
}

// ListedNode is what exists of one node.
type ListedNode struct {
	UID       string
	Pool      string    // whose it is by its tag; "" if the listing does not tell
	Address   string    // "" if it is not known
	CreatedAt time.Time // zero if it is not known
	// Remains: the node itself is not there, only something that it had. What remains
	// of a node that nobody knows is a leak as any other; of a node that should exist
	// it proves nothing.
	Remains bool
	// Resources are the import ids of what it consists of, by resource address in
	// the pool's module.
	Resources map[string]string
}

// Sweep says how a pool's records are compared with what exists.
type Sweep struct {
	Interval time.Duration `json:"interval,omitempty"` // 0: never
	// MaxDestroys is how many nodes one sweep may hand over to be destroyed.
	MaxDestroys int `json:"max_destroys,omitempty"`
}

var uidForm = regexp.MustCompile(`^[0-9a-f]{16}$`)

// ValidUID tells whether a text has the form of what [NewUID] gives.
func ValidUID(uid string) bool { return uidForm.MatchString(uid) }
