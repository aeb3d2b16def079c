package config

import (
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
)

// Reload says what a reload may destroy without a plan that was confirmed.
type Reload struct {
	// ConfirmAbove is the part of the stock that may go: 1 for all.
	ConfirmAbove float64
	// ConfirmFrom is how many nodes must be to go before that counts.
	ConfirmFrom int
}

const (
	defaultConfirmAbove = 0.5
	// defaultConfirmFrom leaves a handful of nodes to their owner.
	defaultConfirmFrom = 10
)

// reloads reads the reload block.
func (l *loader) reloads(blocks []*hclsyntax.Block) Reload {
	l.once(blocks)
	l.mark(blocks, func(b *Block) { b.Once = true })
	r := Reload{ConfirmAbove: defaultConfirmAbove, ConfirmFrom: defaultConfirmFrom}
	for i, block := range blocks {
		b := l.open(block.Body, "a reload block")
		above := read(b, "confirm_above", form[float64]{part, "a number, 0 to 1", schema{"type": "number", "minimum": 0, "maximum": 1}},
			"The part of the stock that a reload may destroy unconfirmed, also where other nodes take its place; 1 for all of it.", defaultConfirmAbove)
		from := read(b, "confirm_from", atLeast(1), "A reload that destroys fewer nodes needs no confirmation.", defaultConfirmFrom)
		b.finish()
		if i == 0 {
			r = Reload{ConfirmAbove: above.or(r.ConfirmAbove), ConfirmFrom: from.or(r.ConfirmFrom)}
		}
	}
	return r
}

// part parses a number from 0 to 1.
func part(v cty.Value) (float64, complaint) {
	if v.Type() != cty.Number {
		return 0, mustBe("a number", v)
	}
	f, _ := v.AsBigFloat().Float64()
	if f < 0 || f > 1 {
		return 0, mustBe("from 0 to 1", v)
	}
	return f, ""
}
