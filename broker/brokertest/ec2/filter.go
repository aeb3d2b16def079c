package ec2

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
)

// fieldsOf is what filters can ask about one thing, by the name of the filter.
type fieldsOf map[string][]string

// tagged adds the tags.
func (f fieldsOf) tagged(tags map[string]string) fieldsOf {
	f["tag-key"] = slices.Sorted(maps.Keys(tags))
	for key, value := range tags {
		f["tag:"+key] = []string{value}
	}
	return f
}

// fit tells whether all filters of a call let it through: each needs one of its values.
func (f fieldsOf) fit(p *params) (bool, error) {
	for _, filter := range p.list("Filter") {
		name := filter.get("Name")
		got, known := f[name]
		if !known && !strings.HasPrefix(name, "tag:") {
			return false, &fault{"InvalidParameterValue", fmt.Sprintf("The filter '%s' is invalid", name)}
		}
		if !slices.ContainsFunc(filter.texts("Value"), func(pattern string) bool {
			return slices.ContainsFunc(got, func(value string) bool { return matches(pattern, value) })
		}) {
			return false, nil
		}
	}
	return true, nil
}

// matches knows * and ?, which may stand for slashes too.
func matches(pattern, value string) bool {
	plain := strings.NewReplacer("[", `\[`, "]", `\]`, "/", "\x00")
	ok, err := path.Match(plain.Replace(pattern), strings.ReplaceAll(value, "/", "\x00"))
	return ok && err == nil
}
