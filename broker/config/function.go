package config

import (
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/hashicorp/go-cty-funcs/cidr"
	"github.com/hashicorp/go-cty-funcs/collection"
	"github.com/hashicorp/go-cty-funcs/crypto"
	"github.com/hashicorp/go-cty-funcs/encoding"
	"github.com/hashicorp/go-cty-funcs/filesystem"
	"github.com/hashicorp/go-cty-funcs/uuid"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/tryfunc"
	yaml "github.com/zclconf/go-cty-yaml"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

// evalContext gives what expressions may use, before there are locals.
func (l *loader) evalContext() *hcl.EvalContext {
	l.functions = functions(l.dir, l.root)
	l.functions["env"] = l.env()
	return &hcl.EvalContext{
		Variables: map[string]cty.Value{
			// Absolute, since Terraform runs elsewhere.
			"path": cty.ObjectVal(map[string]cty.Value{"root": cty.StringVal(l.root)}),
		},
		Functions: l.functions,
	}
}

// leftOut says why functions of Terraform are not there.
func leftOut() map[string]string {
	const (
		changes = "Terraform's gives another result each time, which would make all nodes stale at each reload."
		plain   = "Nothing is marked as sensitive here: the variables of the module say what is."
	)
	return map[string]string{
		"bcrypt": changes, "plantimestamp": changes, "timestamp": changes, "uuid": changes + " uuidv5 does not.",
		"ephemeralasnull": plain, "issensitive": plain, "nonsensitive": plain, "sensitive": plain,
	}
}

// functions gives Terraform's functions under Terraform's names, but those that
// are left out: see the package comment. Relative paths belong to dir, whose
// absolute form is root.
func functions(dir, root string) map[string]function.Function {
	all := plainFunctions(dir, root)
	maps.Copy(all, hashFunctions(dir))
	file, text := templateFile(dir, maps.Clone(all)), templateString(maps.Clone(all))
	all["templatefile"], all["templatestring"] = file, text
	return all
}

func plainFunctions(dir, root string) map[string]function.Function {
	return map[string]function.Function{
		"abs":              stdlib.AbsoluteFunc,
		"abspath":          absolutePath(root),
		"alltrue":          quantifier(true),
		"anytrue":          quantifier(false),
		"base64decode":     encoding.Base64DecodeFunc,
		"base64encode":     encoding.Base64EncodeFunc,
		"base64gzip":       gzipped(),
		"basename":         filesystem.BasenameFunc,
		"can":              tryfunc.CanFunc,
		"ceil":             stdlib.CeilFunc,
		"chomp":            stdlib.ChompFunc,
		"chunklist":        stdlib.ChunklistFunc,
		"cidrhost":         cidr.HostFunc,
		"cidrnetmask":      cidr.NetmaskFunc,
		"cidrsubnet":       cidr.SubnetFunc,
		"cidrsubnets":      cidr.SubnetsFunc,
		"coalesce":         collection.CoalesceFunc,
		"coalescelist":     stdlib.CoalesceListFunc,
		"compact":          stdlib.CompactFunc,
		"concat":           stdlib.ConcatFunc,
		"contains":         stdlib.ContainsFunc,
		"csvdecode":        stdlib.CSVDecodeFunc,
		"dirname":          filesystem.DirnameFunc,
		"distinct":         stdlib.DistinctFunc,
		"element":          stdlib.ElementFunc,
		"endswith":         predicate(strings.HasSuffix),
		"file":             filesystem.MakeFileFunc(dir, false),
		"filebase64":       filesystem.MakeFileFunc(dir, true),
		"fileexists":       filesystem.MakeFileExistsFunc(dir),
		"fileset":          filesystem.MakeFileSetFunc(dir),
		"flatten":          stdlib.FlattenFunc,
		"floor":            stdlib.FloorFunc,
		"format":           stdlib.FormatFunc,
		"formatdate":       stdlib.FormatDateFunc,
		"formatlist":       stdlib.FormatListFunc,
		"indent":           stdlib.IndentFunc,
		"index":            index(),
		"join":             stdlib.JoinFunc,
		"jsondecode":       stdlib.JSONDecodeFunc,
		"jsonencode":       stdlib.JSONEncodeFunc,
		"keys":             stdlib.KeysFunc,
		"length":           length(),
		"log":              stdlib.LogFunc,
		"lookup":           stdlib.LookupFunc,
		"lower":            stdlib.LowerFunc,
		"matchkeys":        matchkeys(),
		"max":              stdlib.MaxFunc,
		"md5":              crypto.Md5Func,
		"merge":            stdlib.MergeFunc,
		"min":              stdlib.MinFunc,
		"one":              one(),
		"parseint":         stdlib.ParseIntFunc,
		"pathexpand":       filesystem.PathExpandFunc,
		"pow":              stdlib.PowFunc,
		"range":            stdlib.RangeFunc,
		"regex":            stdlib.RegexFunc,
		"regexall":         stdlib.RegexAllFunc,
		"replace":          replace(),
		"reverse":          stdlib.ReverseListFunc,
		"rsadecrypt":       crypto.RsaDecryptFunc,
		"setintersection":  stdlib.SetIntersectionFunc,
		"setproduct":       stdlib.SetProductFunc,
		"setsubtract":      stdlib.SetSubtractFunc,
		"setunion":         stdlib.SetUnionFunc,
		"sha1":             crypto.Sha1Func,
		"sha256":           crypto.Sha256Func,
		"sha512":           crypto.Sha512Func,
		"signum":           stdlib.SignumFunc,
		"slice":            stdlib.SliceFunc,
		"sort":             stdlib.SortFunc,
		"split":            stdlib.SplitFunc,
		"startswith":       predicate(strings.HasPrefix),
		"strcontains":      predicate(strings.Contains),
		"strrev":           stdlib.ReverseFunc,
		"substr":           stdlib.SubstrFunc,
		"sum":              sum(),
		"textdecodebase64": textDecode(),
		"textencodebase64": textEncode(),
		"timeadd":          stdlib.TimeAddFunc,
		"timecmp":          timecmp(),
		"title":            stdlib.TitleFunc,
		"tobool":           stdlib.MakeToFunc(cty.Bool),
		"tolist":           stdlib.MakeToFunc(cty.List(cty.DynamicPseudoType)),
		"tomap":            stdlib.MakeToFunc(cty.Map(cty.DynamicPseudoType)),
		"tonumber":         stdlib.MakeToFunc(cty.Number),
		"toset":            stdlib.MakeToFunc(cty.Set(cty.DynamicPseudoType)),
		"tostring":         stdlib.MakeToFunc(cty.String),
		"transpose":        transpose(),
		"trim":             stdlib.TrimFunc,
		"trimprefix":       stdlib.TrimPrefixFunc,
		"trimspace":        stdlib.TrimSpaceFunc,
		"trimsuffix":       stdlib.TrimSuffixFunc,
		"try":              tryfunc.TryFunc,
		"upper":            stdlib.UpperFunc,
		"urlencode":        encoding.URLEncodeFunc,
		"uuidv5":           uuid.V5Func,
		"values":           stdlib.ValuesFunc,
		"yamldecode":       yaml.YAMLDecodeFunc,
		"yamlencode":       yaml.YAMLEncodeFunc,
		"zipmap":           stdlib.ZipmapFunc,
	}
}

// parameter is a parameter of a function, named for error messages.
func parameter(name string, kind cty.Type) function.Parameter {
	return function.Parameter{Name: name, Type: kind}
}

// length counts collections, which the library does, and the attributes of
// objects and the characters of strings.
func length() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("value", cty.DynamicPseudoType)},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			switch kind := args[0].Type(); {
			case kind == cty.String:
				return stdlib.Strlen(args[0])
			case kind.IsObjectType():
				return cty.NumberIntVal(int64(len(kind.AttributeTypes()))), nil
			}
			return stdlib.Length(args[0])
		},
	})
}

// replace takes the text to be replaced, or a regular expression in slashes.
func replace() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("str", cty.String), parameter("substr", cty.String), parameter("replace", cty.String)},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			if s := args[1].AsString(); len(s) > 1 && s[0] == '/' && s[len(s)-1] == '/' {
				return stdlib.RegexReplace(args[0], cty.StringVal(s[1:len(s)-1]), args[2])
			}
			return stdlib.Replace(args[0], args[1], args[2])
		},
	})
}

// predicate is a question about two strings.
func predicate(holds func(s, part string) bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("str", cty.String), parameter("part", cty.String)},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			return cty.BoolVal(holds(args[0].AsString(), args[1].AsString())), nil
		},
	})
}

// quantifier tells whether all of a list are true, or any.
func quantifier(all bool) function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("list", cty.List(cty.Bool))},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			for _, v := range args[0].AsValueSlice() {
				if holds := !v.IsNull() && v.True(); holds != all {
					return cty.BoolVal(!all), nil
				}
			}
			return cty.BoolVal(all), nil
		},
	})
}

// sum adds the numbers of a list.
func sum() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("list", cty.List(cty.Number))},
		Type:   function.StaticReturnType(cty.Number),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			total := cty.Zero
			for i, v := range args[0].AsValueSlice() {
				if v.IsNull() {
					return cty.NilVal, function.NewArgErrorf(0, "element %d is null", i)
				}
				total = total.Add(v)
			}
			if args[0].LengthInt() == 0 {
				return cty.NilVal, function.NewArgErrorf(0, "cannot sum an empty list")
			}
			return total, nil
		},
	})
}

// one gives the only element of a list or set, and null for none.
func one() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{parameter("list", cty.DynamicPseudoType)},
		Type: func(args []cty.Value) (cty.Type, error) {
			kind := args[0].Type()
			switch {
			case kind.IsListType() || kind.IsSetType():
				return kind.ElementType(), nil
			case kind.IsTupleType() && kind.Length() == 0:
				return cty.DynamicPseudoType, nil
			case kind.IsTupleType() && kind.Length() == 1:
				return kind.TupleElementType(0), nil
			}
			return cty.NilType, function.NewArgErrorf(0, "must be a list, set or tuple of at most one element")
		},
		Impl: func(args []cty.Value, kind cty.Type) (cty.Value, error) {
			switch elements := args[0].AsValueSlice(); len(elements) {
			case 0:
				return cty.NullVal(kind), nil
			case 1:
				return elements[0], nil
			}
			return cty.NilVal, function.NewArgErrorf(0, "must be a list, set or tuple of at most one element")
		},
	})
}

// absolutePath completes a path with the directory of the file, which is the same
// wherever the broker was started.
func absolutePath(root string) function.Function {
	return textFunction(func(args []string) (string, error) {
		if filepath.IsAbs(args[0]) {
			return filepath.Clean(args[0]), nil
		}
		return filepath.Join(root, args[0]), nil
	}, "path")
}

// Functions gives the names of all functions, sorted.
func Functions() []string {
	l := &loader{}
	l.evalContext()
	return slices.Sorted(maps.Keys(l.functions))
}
