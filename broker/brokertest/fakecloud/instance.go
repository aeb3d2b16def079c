package fakecloud

import (
	"context"
	"maps"
	"slices"
	"time"
)

// State is where an instance is in its life.
type State string

// The states.
const (
	Pending State = "pending"
	Running State = "running"
	Failed  State = "failed" // its boot has failed; it exists all the same
)

// Request asks for an instance.
type Request struct {
	Name   string            `json:"name"`
	Size   string            `json:"size"`
	Region string            `json:"region"`
	Tags   map[string]string `json:"tags"`
	// SSH asks for a real SSH server, see [Config].Boot, that lets in SSHPublicKeys
	// (authorized_keys lines).
	SSH           bool     `json:"ssh"`
	SSHPublicKeys []string `json:"ssh_public_keys"`
}

// Instance is a machine that exists.
type Instance struct {
	Request

	ID        string    `json:"id"`
	State     State     `json:"state"`
	Address   string    `json:"address"` // "" until an instance with SSH runs
	SSHPort   int       `json:"ssh_port"`
	CreatedAt time.Time `json:"created_at"`
}

func (i Instance) clone() Instance {
	i.Tags, i.SSHPublicKeys = maps.Clone(i.Tags), slices.Clone(i.SSHPublicKeys)
	return i
}

// matches tells whether an instance has all of the tags.
func (i Instance) matches(tags map[string]string) bool {
	for key, value := range tags {
		if got, ok := i.Tags[key]; !ok || got != value {
			return false
		}
	}
	return true
}

// Page is a part of a listing.
type Page struct {
	Instances []Instance `json:"instances"`
	Next      string     `json:"next"` // for after=; "" on the last page
	Complete  bool       `json:"complete"`
}

// record is an instance that exists or has existed.
type record struct {
	instance   Instance // but for its state
	readyAt    time.Time
	neverBoots bool
	bootErr    error
	deletedAt  time.Time // zero: it exists

	// Of an instance with SSH, else nil.
	cancelBoot context.CancelFunc
	booted     chan struct{} // closed when Boot has returned
}

// at gives what is seen of a record.
func (r *record) at(now time.Time) Instance {
	seen := r.instance.clone()
	seen.State = Running
	switch {
	case r.bootErr != nil:
		seen.State = Failed
	case r.neverBoots, now.Before(r.readyAt), r.booted != nil && seen.Address == "":
		seen.State = Pending
	}
	return seen
}

func (r *record) existed(then time.Time) bool {
	return !r.instance.CreatedAt.After(then) && (r.deletedAt.IsZero() || r.deletedAt.After(then))
}
