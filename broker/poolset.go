package broker

import (
	"slices"
	"sync/atomic"
)

// PoolSet holds the accepted pools. A new set replaces the old one whole, so
// that nobody ever sees half of a changed file. The zero value is empty.
type PoolSet struct {
	pools atomic.Pointer[[]Pool]
}

// Set replaces all pools.
func (s *PoolSet) Set(pools []Pool) {
	pools = slices.Clone(pools)
	s.pools.Store(&pools)
}

// All gives the pools in the order of the file.
func (s *PoolSet) All() []Pool {
	if p := s.pools.Load(); p != nil {
		return slices.Clone(*p)
	}
	return nil
}

// Get gives the pool of that name.
func (s *PoolSet) Get(name string) (Pool, bool) {
	if p := s.pools.Load(); p != nil {
		for _, pool := range *p {
			if pool.Name == name {
				return pool, true
			}
		}
	}
	return Pool{}, false
}
