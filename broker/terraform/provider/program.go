package provider

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/mod/sumdb/dirhash"
)

// hashPrefix begins the hashes of unpacked providers in a lock file.
const hashPrefix = "h1:"

// programs finds the providers that an initialised module has installed, and
// gives their programs by source address. As Terraform does at each run, it
// compares them with the lock file: a mirror may have changed since.
func programs(module string) (map[string]string, error) {
	root := filepath.Join(module, ".terraform", "providers")
	// HOST/NAMESPACE/TYPE/VERSION/PLATFORM, of which the last may be a link.
	platforms, err := fs.Glob(os.DirFS(root), "*/*/*/*/"+runtime.GOOS+"_"+runtime.GOARCH)
	if err != nil {
		return nil, err
	}
	locked, err := lockedHashes(filepath.Join(module, ".terraform.lock.hcl"))
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, inside := range platforms {
		platform := filepath.Join(root, filepath.FromSlash(inside))
		address := path.Dir(path.Dir(inside))
		if found[address] != "" {
			return nil, fmt.Errorf("%s has more than one version of provider %s", root, address)
		}
		if found[address], err = program(platform); err != nil {
			return nil, err
		}
		if err := verify(platform, locked[address]); err != nil {
			return nil, fmt.Errorf("provider %s: %w", address, err)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s has no provider for %s_%s", root, runtime.GOOS, runtime.GOARCH)
	}
	return found, nil
}

func program(dir string) (string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), "terraform-provider-") {
			return filepath.Join(dir, entry.Name()), nil
		}
	}
	return "", fmt.Errorf("%s has no provider's program", dir)
}

// verify compares an unpacked provider with the hashes that the lock file has for
// it, if any.
func verify(dir string, hashes []string) error {
	if len(hashes) == 0 {
		return nil
	}
	real, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	hash, err := dirhash.HashDir(real, "", dirhash.Hash1)
	if err != nil {
		return err
	}
	if !slices.Contains(hashes, hash) {
		return fmt.Errorf("what is in %s is not what the lock file names: it has changed since terraform init", real)
	}
	return nil
}

// lockedHashes reads the hashes of unpacked providers, by source address.
func lockedHashes(path string) (map[string][]string, error) {
	text, err := os.ReadFile(path) //nolint:gosec // of a kept module
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file, diags := hclsyntax.ParseConfig(text, path, hcl.InitialPos)
	if diags.HasErrors() {
		return nil, diags
	}
	content, _, _ := file.Body.PartialContent(&hcl.BodySchema{Blocks: []hcl.BlockHeaderSchema{{Type: "provider", LabelNames: []string{"address"}}}})
	all := map[string][]string{}
	for _, block := range content.Blocks {
		attributes, _ := block.Body.JustAttributes()
		hashes, ok := attributes["hashes"]
		if !ok {
			continue
		}
		list, _ := hcl.ExprList(hashes.Expr)
		for _, e := range list {
			v, _ := e.Value(nil)
			if v.Type() == cty.String && v.IsKnown() && !v.IsNull() && strings.HasPrefix(v.AsString(), hashPrefix) {
				all[block.Labels[0]] = append(all[block.Labels[0]], v.AsString())
			}
		}
	}
	return all, nil
}
