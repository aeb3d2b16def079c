package view

import (
	"fmt"
	"strings"
)

// rootKeysTable lists root keys, and when that was found out.
func rootKeysTable(v value) string {
	rows := [][]string{{"KEY", "USE", "SINCE", "NEEDED BY"}}
	for _, k := range v.get("root_keys").items {
		since := "-"
		if k.get("since").kind != isNull {
			date, _, _ := strings.Cut(k.get("since").text, "T")
			since = fmt.Sprintf("%s (%s)", date, k.get("age").text)
		}
		rows = append(rows, []string{k.get("id").text, k.get("use").text, since, neededBy(k, "nothing: it can be removed")})
	}
	return columns(rows...) + "as of " + v.get("as_of").text + "\n"
}

// neededBy lists what needs a key in one text.
func neededBy(k value, nothing string) string {
	var words []string
	for _, item := range k.get("needed_by").items {
		words = append(words, item.text)
	}
	if len(words) == 0 {
		return nothing
	}
	return strings.Join(words, ", ")
}

func flatRootKeys(v value) []string {
	var lines []string
	for _, k := range v.get("root_keys").items {
		lines = append(lines, assignments(
			"key_id", k.get("id"), "use", k.get("use"), "since", k.get("since"), "needed_by", value{kind: isString, text: neededBy(k, "")},
		))
	}
	return lines
}

// newRootKey says where a new root key is, and where the one before it.
func newRootKey(k value) string {
	return fmt.Sprintf("The root key is now %s, in %s. The one before, %s, is kept in %s: the broker says in its log when it is not needed any more.\n"+
		"Back up both now.\n", k.get("id").text, printable(k.get("path").text), k.get("previous_id").text, printable(k.get("previous_path").text))
}

func flatRootKey(k value) string {
	return assignments("key_id", k.get("id"), "path", k.get("path"), "previous_key_id", k.get("previous_id"), "previous_path", k.get("previous_path"))
}
