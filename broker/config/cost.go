package config

import (
	"fmt"
	"maps"
	"slices"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// mostCost is far above what any machine costs, and far from where sums lose
// their cents.
const mostCost = 1e6

// cost parses what a node costs an hour: a number that is not negative.
func cost(v cty.Value) (float64, complaint) {
	number, err := convert.Convert(v, cty.Number)
	if err != nil {
		return 0, mustBe("a number, such as 0.25", v)
	}
	f, _ := number.AsBigFloat().Float64()
	switch {
	case f < 0:
		return 0, mustBe("0 or more", number)
	case f > mostCost:
		return 0, mustBe(fmt.Sprintf("%d at most", int(mostCost)), number)
	}
	return f, ""
}

// labelMap parses texts by name.
func labelMap(v cty.Value) (map[string]string, complaint) {
	if !v.Type().IsObjectType() && !v.Type().IsMapType() {
		return nil, mustBe("an object of texts, { NAME = \"TEXT\", ... }", v)
	}
	labels := make(map[string]string)
	values := v.AsValueMap()
	for _, name := range slices.Sorted(maps.Keys(values)) {
		value := values[name]
		label, wrong := "", complaint("")
		if value.IsNull() {
			continue // as everywhere: not set
		}
		if label, wrong = text(value); wrong != "" {
			return nil, complaint(fmt.Sprintf("has %q, which %s", name, wrong))
		}
		labels[name] = label
	}
	return labels, ""
}
