package main

import (
	"testing"
	"time"
)

// A reload that the policy forbids changes nothing.
func TestPolicyAtReload(t *testing.T) {
	t.Parallel()
	s := newServer(t, plainPool(t, 1))
	s.start()
	s.full(time.Minute)
	const policy = `
policy {
  deny "small" {
    condition = new != null && new.fill_level > 1
    message   = "pool ${new.name} has a fill level of ${new.fill_level}"
  }
  warn "any" {
    condition = old != null
    message   = "${stock.ready} nodes are ready"
  }
}
`
	s.writePools(plainPool(t, 2) + policy)
	s.reload()
	s.logs("the policy forbids the new pools: policy small: pool plain has a fill level of 2")
	s.logs("1 nodes are ready")
	if got := len(s.knownNodes()); got != 1 {
		t.Errorf("%d nodes, want the one as before", got)
	}
	s.writePools(plainPool(t, 1) + policy)
	s.reload()
	s.logs("pools reloaded")
	s.stop()
}
