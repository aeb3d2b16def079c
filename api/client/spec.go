package client

import (
	"strconv"
	"strings"

	v1 "github.com/duffy-broker/duffy-broker/api/v1"
	"github.com/duffy-broker/duffy-broker/broker"
)

// specHint shows the form of a spec.
const specHint = "write it like pool=local-small,quantity=2; list-pools shows the pools"

// ParseNodesSpec reads one argument of request-session: pool=NAME,quantity=N, in
// any order, both required. Errors are [broker.CodeInvalid] and say what is wrong.
func ParseNodesSpec(arg string) (v1.NodesSpec, error) {
	var none v1.NodesSpec
	fail := func(format string, args ...any) error {
		args = append([]any{arg}, args...)
		return broker.Errorf(broker.CodeInvalid, "nodes spec %q: "+format, args...).WithHint(specHint)
	}
	values := make(map[string]string)
	for part := range strings.SplitSeq(arg, ",") {
		key, value, ok := strings.Cut(part, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		if !ok {
			return none, fail("%q is not key=value", part)
		}
		if key != "pool" && key != "quantity" {
			return none, fail("unknown key %q", key)
		}
		if _, twice := values[key]; twice {
			return none, fail("%s is given twice", key)
		}
		if value == "" {
			return none, fail("%s has no value", key)
		}
		values[key] = value
	}
	for _, key := range []string{"pool", "quantity"} {
		if _, ok := values[key]; !ok {
			return none, fail("%s is missing", key)
		}
	}
	quantity, err := strconv.Atoi(values["quantity"])
	if err != nil {
		return none, fail("quantity %q is not a whole number", values["quantity"])
	}
	if quantity < 1 {
		return none, fail("quantity must be at least 1")
	}
	return v1.NodesSpec{Pool: values["pool"], Quantity: quantity}, nil
}
