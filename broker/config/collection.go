package config

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"
	"github.com/zclconf/go-cty/cty/function"
)

// index gives the place of a value in a list, counted from 0.
func index() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("list", cty.DynamicPseudoType), parameter("value", cty.DynamicPseudoType)},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if kind := args[0].Type(); !kind.IsListType() && !kind.IsTupleType() {
				return cty.NilVal, function.NewArgErrorf(0, "must be a list")
			}
			if !args[0].IsWhollyKnown() || !args[1].IsWhollyKnown() {
				return cty.UnknownVal(cty.Number), nil
			}
			for i, element := range args[0].AsValueSlice() {
				if equal, err := convert.Convert(args[1], element.Type()); err == nil && equal.RawEquals(element) {
					return cty.NumberIntVal(int64(i)), nil
				}
			}
			return cty.NilVal, function.NewArgErrorf(1, "is not in the list")
		},
	})
}

// matchkeys gives those elements of a list whose keys, at the same places of
// another list, are searched for.
func matchkeys() function.Function {
	kind := cty.List(cty.DynamicPseudoType)
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("values", kind), parameter("keys", kind), parameter("searchset", kind)},
		Type: func(args []cty.Value) (cty.Type, error) {
			if unified, _ := convert.UnifyUnsafe([]cty.Type{args[1].Type(), args[2].Type()}); unified == cty.NilType {
				return cty.NilType, function.NewArgErrorf(2, "must have elements of the type of those of keys")
			}
			return args[0].Type(), nil
		},
		Impl: func(args []cty.Value, kind cty.Type) (cty.Value, error) {
			values, keys := args[0].AsValueSlice(), args[1].AsValueSlice()
			if len(values) != len(keys) {
				return cty.NilVal, function.NewArgErrorf(1, "must be as long as values")
			}
			if !args[0].IsWhollyKnown() || !args[1].IsWhollyKnown() || !args[2].IsWhollyKnown() {
				return cty.UnknownVal(kind), nil
			}
			var found []cty.Value
			for i, key := range keys {
				for _, wanted := range args[2].AsValueSlice() {
					if same, err := convert.Convert(wanted, key.Type()); err == nil && same.RawEquals(key) {
						found = append(found, values[i])
						break
					}
				}
			}
			if len(found) == 0 {
				return cty.ListValEmpty(kind.ElementType()), nil
			}
			return cty.ListVal(found), nil
		},
	})
}

// transpose exchanges the keys and the values of a map of lists of texts.
func transpose() function.Function {
	kind := cty.Map(cty.List(cty.String))
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("values", kind)},
		Type:   function.StaticReturnType(kind),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if !args[0].IsWhollyKnown() {
				return cty.UnknownVal(kind), nil
			}
			lists := args[0].AsValueMap()
			keysOf := make(map[string][]cty.Value)
			for _, key := range slices.Sorted(maps.Keys(lists)) {
				if lists[key].IsNull() {
					return cty.NilVal, function.NewArgErrorf(0, "has no list under %q, but null", key)
				}
				for _, v := range lists[key].AsValueSlice() {
					if v.IsNull() {
						return cty.NilVal, function.NewArgErrorf(0, "has a null in the list under %q", key)
					}
					keysOf[v.AsString()] = append(keysOf[v.AsString()], cty.StringVal(key))
				}
			}
			if len(keysOf) == 0 {
				return cty.MapValEmpty(cty.List(cty.String)), nil
			}
			result := make(map[string]cty.Value)
			for key, values := range keysOf {
				result[key] = cty.ListVal(values)
			}
			return cty.MapVal(result), nil
		},
	})
}

// timecmp compares two points in time: -1, 0 or 1.
func timecmp() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("timestamp_a", cty.String), parameter("timestamp_b", cty.String)},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			var times [2]time.Time
			for i, arg := range args {
				t, err := time.Parse(time.RFC3339, arg.AsString())
				if err != nil {
					return cty.NilVal, function.NewArgError(i, fmt.Errorf("must be a time such as %q", "2026-01-31T12:00:00Z"))
				}
				times[i] = t
			}
			return cty.NumberIntVal(int64(times[0].Compare(times[1]))), nil
		},
	})
}
