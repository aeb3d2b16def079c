package api

import (
	"fmt"
	"math"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/duffy-broker/duffy-broker/broker"
)

// limit reads how many a list may have; 0 for all.
func (k *checker) limit(c *gin.Context) int { return int(min(k.atLeast(c, "limit", 1), math.MaxInt32)) }

// after reads the id to go on from.
func (k *checker) after(c *gin.Context) int64 { return k.atLeast(c, "after", 0) }

// atLeast reads a number of the query, 0 where there is none.
func (k *checker) atLeast(c *gin.Context, name string, least int64) int64 {
	text, ok := c.GetQuery(name)
	if !ok {
		return 0
	}
	before := len(k.fields)
	n := k.integer(text, "query", name)
	if len(k.fields) == before && n < least {
		k.fail([]any{"query", name}, fmt.Sprintf("ensure this value is greater than or equal to %d", least),
			"value_error.number.not_ge", map[string]any{"limit_value": least})
	}
	return n
}

// states reads the wire states that nodes and hosts of a list may have, none of
// both for all.
func (k *checker) states(c *gin.Context) (states []broker.NodeState, hosts []broker.HostState) {
	text, ok := c.GetQuery("state")
	if !ok {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		found := false
		for _, s := range broker.NodeStates() {
			if s.Wire() == word {
				states, found = append(states, s), true
			}
		}
		for _, s := range broker.HostStates() {
			if s.Wire() == word {
				hosts, found = append(hosts, s), true
			}
		}
		if !found {
			k.fail([]any{"query", "state"}, "there is no state "+word, "value_error.enum", nil)
		}
	}
	return states, hosts
}
