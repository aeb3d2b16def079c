package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/duffy-broker/duffy-broker/broker"
)

// move is a moved block. from and to are empty where they have a mistake.
type move struct {
	from, to setting[string]
	at       hcl.Range
}

// moves reads the moved blocks.
func (l *loader) moves(blocks []*hclsyntax.Block) []move {
	result := make([]move, 0, len(blocks))
	for _, block := range blocks {
		l.withoutName(block)
		b := l.open(block.Body, "a moved block")
		m := move{
			from: read(b, "from", textForm, "The name that a pool had. No pool has it any more.", needed{}),
			to:   read(b, "to", textForm, "The name that it has now.", needed{}),
			at:   block.DefRange(),
		}
		meant := b.finish()
		missing := ""
		switch {
		case l.broken(block.Range()):
		case !m.from.set && !slices.Contains(meant, "from"):
			missing = "from"
		case !m.to.set && !slices.Contains(meant, "to"):
			missing = "to"
		}
		if missing != "" {
			l.report(m.at, "Missing "+missing, "A moved block says which pool has another name now. Give it two lines: from = \"OLD\" and to = \"NEW\".")
		}
		result = append(result, m)
	}
	return result
}

// checkMoves checks moves against each other and the pools that there are, and
// gives the name that each pool has in the end. whole: no pool is missing for a
// mistake of its own.
func (l *loader) checkMoves(moves []move, pools []*layer, whole bool) []broker.Move {
	poolAt := make(map[string]hcl.Range)
	var names []string
	for _, p := range pools {
		poolAt[p.name] = p.nameAt
		names = append(names, p.name)
	}
	next, sources := make(map[string]move), make(map[string]move)
	var good []move
	for _, m := range moves {
		if m.from.or("") == "" || m.to.or("") == "" {
			l.emptyMove(m)
			continue
		}
		from, to := m.from.value, m.to.value
		if other, twice := next[from]; twice {
			l.report(m.from.at, "Moved twice", "Pool %q has moved to %q already, at %s. Remove one of the two.", from, other.to.value, place(other.from.at))
			continue
		}
		if other, twice := sources[to]; twice {
			l.report(m.to.at, "Moved together", "Pool %q has moved to %q already, at %s: two pools can't become one. Let the pool %q go instead.", other.from.value, to, place(other.to.at), from)
			continue
		}
		next[from], sources[to] = m, m
		good = append(good, m)
	}
	var result []broker.Move
	circles := make(map[string]bool)
	for _, m := range good {
		from := m.from.value
		// No name is reached from two others, so this ends: nowhere, or where it began.
		path := []move{m}
		for last := m.to.value; last != from; last = path[len(path)-1].to.value {
			following, further := next[last]
			if !further {
				break
			}
			path = append(path, following)
		}
		last := path[len(path)-1].to.value
		at, exists := poolAt[from]
		switch {
		case circles[from]:
		case last == from:
			for _, step := range path {
				circles[step.from.value] = true
			}
			l.reportMoveCircle(path)
		case exists:
			l.report(m.from.at, "Moved pool exists", "There is a pool %q still, at %s. Rename it to %q, or remove this block.", from, place(at), m.to.value)
		default:
			result = append(result, broker.Move{From: from, To: last})
		}
		_, chained := next[m.to.value]
		if _, exists := poolAt[m.to.value]; exists || chained || !whole {
			continue
		}
		hint := didYouMean(m.to.value, names)
		if hint == "" {
			hint = "Write pool \"" + m.to.value + "\" { ... }, or remove this block: then the nodes of " + from + " are destroyed."
		}
		l.report(m.to.at, "Unknown pool", "There is no pool %q to move to. %s", m.to.value, hint)
	}
	return result
}

// emptyMove reports names that are nothing.
func (l *loader) emptyMove(m move) {
	for _, s := range []setting[string]{m.from, m.to} {
		if s.set && !s.bad && s.value == "" {
			l.report(s.at, "Invalid name", "A pool has no empty name. Give it two lines: from = \"OLD\" and to = \"NEW\".")
		}
	}
}

func (l *loader) reportMoveCircle(circle []move) {
	if len(circle) == 1 {
		l.report(circle[0].to.at, "Circle of moves", "%q moves to itself. Remove this block.", circle[0].from.value)
		return
	}
	var path strings.Builder
	for _, m := range circle[1:] {
		fmt.Fprintf(&path, "%q (%s), which moves to ", m.from.value, place(m.at))
	}
	l.report(circle[0].to.at, "Circle of moves", "%q moves to %s%q again. Remove the blocks that don't hold any more.", circle[0].from.value, path.String(), circle[0].from.value)
}
