package view

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// importTable shows what came of the rows of a file, and how many rows of each
// kind there are.
func importTable(imported []value) string {
	rows := [][]string{{"LINE", "RESULT", "ID", "HOSTNAME", "IPADDR"}}
	counts := make(map[string]int)
	var results []string
	for _, n := range imported {
		result := n.get("result").text
		if counts[result]++; counts[result] == 1 {
			results = append(results, result)
		}
		rows = append(rows, []string{n.get("line").text, result, cmp.Or(n.get("node_id").text, "-"), n.get("hostname").text, n.get("ipaddr").text})
	}
	if len(imported) == 0 {
		return "no rows\n"
	}
	slices.Sort(results)
	for i, result := range results {
		results[i] = fmt.Sprintf("%d %s", counts[result], printable(result))
	}
	return columns(rows...) + "\n" + strings.Join(results, ", ") + "\n"
}

func flatImport(n value) string {
	return assignments(
		"line", n.get("line"), "result", n.get("result"), "node_id", n.get("node_id"), "hostname", n.get("hostname"), "ipaddr", n.get("ipaddr"),
	)
}
