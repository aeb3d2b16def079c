package view

import "fmt"

// validationTable says that a file of pools is valid; what is wrong with one that
// is not has been shown with its lines.
func validationTable(v value) string {
	if !v.get("valid").yes {
		return ""
	}
	n := len(v.get("pools").items)
	noun := "pools"
	if n == 1 {
		noun = "pool"
	}
	return fmt.Sprintf("%s is valid: %d %s\n", printable(v.get("file").text), n, noun)
}

func flatValidation(v value) []string {
	lines := []string{assignments("file", v.get("file"), "valid", v.get("valid"))}
	for _, pool := range v.get("pools").items {
		lines = append(lines, assignments("pool_name", pool))
	}
	for _, d := range v.get("diagnostics").items {
		lines = append(lines, assignments(
			"severity", d.get("severity"), "file", d.get("file"), "line", d.get("line"), "column", d.get("column"),
			"summary", d.get("summary"), "detail", d.get("detail"),
		))
	}
	return lines
}
