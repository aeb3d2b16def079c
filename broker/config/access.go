package config

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
)

// everyTenant in a list of tenants undoes a shorter list that is inherited.
const everyTenant = "*"

// tenantNames parses a list of names; an empty one is for admins alone.
func tenantNames(v cty.Value) ([]string, complaint) {
	v, err := convert.Convert(v, cty.List(cty.String))
	if err != nil {
		return nil, `must be a list of names, such as ["ci", "release"].`
	}
	names := []string{}
	if slices.ContainsFunc(v.AsValueSlice(), func(name cty.Value) bool { return name.RawEquals(cty.StringVal(everyTenant)) }) {
		return nil, ""
	}
	for _, name := range v.AsValueSlice() {
		if name.IsNull() || name.AsString() == "" {
			return nil, "has a name without letters."
		}
		if !slices.Contains(names, name.AsString()) {
			names = append(names, name.AsString())
		}
	}
	return names, ""
}

var environmentName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// environmentOf parses variables of the environment.
func environmentOf(v cty.Value) (map[string]string, complaint) {
	values, wrong := texts(v)
	if wrong != "" {
		return nil, `must be an object of texts, such as { AWS_REGION = "eu-west-1" }.`
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		switch {
		case !environmentName.MatchString(name):
			return nil, complaint(fmt.Sprintf("has %q, which can't be the name of a variable of the environment.", name))
		case strings.HasPrefix(name, "TF_VAR_"):
			return nil, complaint(fmt.Sprintf("has %s: inputs of the module stand in variables = { ... }.", name))
		case strings.HasPrefix(name, "TF_") && name != "TF_CLI_CONFIG_FILE", strings.HasPrefix(name, "DUFFY_BROKER"):
			return nil, complaint(fmt.Sprintf("has %s, which is the broker's to set.", name))
		case strings.ContainsRune(values[name], 0):
			return nil, complaint(fmt.Sprintf("has a zero byte in %s.", name))
		}
	}
	if len(values) == 0 {
		return nil, ""
	}
	return values, ""
}

// credentialsOf parses references to secrets.
func credentialsOf(v cty.Value) (map[string]string, complaint) {
	values, wrong := environmentOf(v)
	if wrong != "" {
		return nil, wrong
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		kind, at, _ := strings.Cut(values[name], ":")
		switch {
		case kind == "file" && strings.HasPrefix(at, "/"), kind == "env" && environmentName.MatchString(at):
		case kind == "file":
			return nil, complaint(fmt.Sprintf("has file:%s for %s: a file's path must begin with /.", at, name))
		default: // it may be the secret itself: it is not shown
			return nil, complaint(fmt.Sprintf(`must name where the secret of %s is: "file:/PATH" or "env:NAME".`, name))
		}
	}
	return values, ""
}
