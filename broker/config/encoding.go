package config

import (
	"bytes"
	"compress/gzip"
	"crypto/md5"  //nolint:gosec // Terraform's function, to compare files
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"os"
	"path/filepath"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/ianaindex"
)

// textFunction is a function from texts to a text.
func textFunction(apply func(args []string) (string, error), names ...string) function.Function {
	parameters := make([]function.Parameter, len(names))
	for i, name := range names {
		parameters[i] = parameter(name, cty.String)
	}
	return function.New(&function.Spec{
		Params: parameters,
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			texts := make([]string, len(args))
			for i, a := range args {
				texts[i] = a.AsString()
			}
			result, err := apply(texts)
			if err != nil {
				return cty.NilVal, err
			}
			return cty.StringVal(result), nil
		},
	})
}

// hashFunctions gives the functions that hash a text, or a file in dir, beyond
// those of the library.
func hashFunctions(dir string) map[string]function.Function {
	ofText := func(sum func() hash.Hash) function.Function {
		return textFunction(func(args []string) (string, error) {
			h := sum()
			h.Write([]byte(args[0]))
			return base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
		}, "str")
	}
	ofFile := func(sum func() hash.Hash, write func([]byte) string) function.Function {
		return textFunction(func(args []string) (string, error) {
			src, err := readFile(dir, args[0])
			if err != nil {
				return "", err
			}
			h := sum()
			h.Write(src)
			return write(h.Sum(nil)), nil
		}, "path")
	}
	return map[string]function.Function{
		"base64sha256":     ofText(sha256.New),
		"base64sha512":     ofText(sha512.New),
		"filebase64sha256": ofFile(sha256.New, base64.StdEncoding.EncodeToString),
		"filebase64sha512": ofFile(sha512.New, base64.StdEncoding.EncodeToString),
		"filemd5":          ofFile(md5.New, hex.EncodeToString),
		"filesha1":         ofFile(sha1.New, hex.EncodeToString),
		"filesha256":       ofFile(sha256.New, hex.EncodeToString),
		"filesha512":       ofFile(sha512.New, hex.EncodeToString),
	}
}

// readFile reads a file that is named in an expression.
func readFile(dir, path string) ([]byte, error) {
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	src, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, errors.New(path + " " + problem(err))
	}
	return src, nil
}

// gzipped compresses a text. The header has no time in it: the same text gives the
// same bytes.
func gzipped() function.Function {
	return textFunction(func(args []string) (string, error) {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, err := w.Write([]byte(args[0]))
		if err := errors.Join(err, w.Close()); err != nil {
			return "", err
		}
		return base64.StdEncoding.EncodeToString(out.Bytes()), nil
	}, "str")
}

// textEncode gives a text in another character encoding, as base64.
func textEncode() function.Function {
	return textFunction(func(args []string) (string, error) {
		enc, err := characters(args[1])
		if err != nil {
			return "", err
		}
		encoded, err := enc.NewEncoder().String(args[0])
		if err != nil {
			return "", fmt.Errorf("the text has characters that %s has not", args[1])
		}
		return base64.StdEncoding.EncodeToString([]byte(encoded)), nil
	}, "string", "encoding")
}

// textDecode is the opposite of textEncode.
func textDecode() function.Function {
	return textFunction(func(args []string) (string, error) {
		enc, err := characters(args[1])
		if err != nil {
			return "", err
		}
		encoded, err := base64.StdEncoding.DecodeString(args[0])
		if err != nil {
			return "", fmt.Errorf("the source is not base64: %w", err)
		}
		text, err := enc.NewDecoder().String(string(encoded))
		if err != nil {
			return "", fmt.Errorf("the source is not %s", args[1])
		}
		return text, nil
	}, "source", "encoding")
}

// characters gives a character encoding by its IANA name.
func characters(name string) (encoding.Encoding, error) {
	enc, err := ianaindex.IANA.Encoding(name)
	if err != nil || enc == nil {
		return nil, fmt.Errorf("%q is no character encoding that is known here; UTF-16LE is one", name)
	}
	return enc, nil
}
