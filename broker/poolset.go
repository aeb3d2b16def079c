package broker

import (
	"slices"
	"sync/atomic"
)

// PoolSet holds the accepted pools, and the accounts that they name. A new set
// replaces the old one whole, so that nobody ever sees half of a changed file.
// The zero value is empty.
type PoolSet struct {
	current atomic.Pointer[poolSet]
}

type poolSet struct {
	pools    []Pool
	accounts []Account
}

// Set replaces all pools and accounts.
func (s *PoolSet) Set(pools []Pool, accounts ...Account) {
	s.current.Store(&poolSet{pools: slices.Clone(pools), accounts: slices.Clone(accounts)})
}

// All gives the pools in the order of the file.
func (s *PoolSet) All() []Pool {
	pools, _ := s.File()
	return pools
}

// File gives pools and accounts in the order of the file, both of the same one.
func (s *PoolSet) File() ([]Pool, []Account) {
	if c := s.current.Load(); c != nil {
		return slices.Clone(c.pools), slices.Clone(c.accounts)
	}
	return nil, nil
}

// Get gives the pool of that name.
func (s *PoolSet) Get(name string) (Pool, bool) {
	if c := s.current.Load(); c != nil {
		for _, pool := range c.pools {
			if pool.Name == name {
				return pool, true
			}
		}
	}
	return Pool{}, false
}
