package terraform

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	hclv1 "github.com/hashicorp/hcl"
	"github.com/hashicorp/hcl/hcl/ast"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/terraform/duffyprovider"
)

// The broker brings a provider of its own along, "duffy-broker/duffy": its own
// program, under another name. Nothing is downloaded for it. Its place in a filesystem
// mirror is a link to the program, and what init has installed of it in a kept module
// is made a link to that place: it is always the provider of the broker that runs. So
// modules are not initialised again for a new broker, and their nodes are not stale.

// ownSource is what modules write into required_providers.
const ownSource = duffyprovider.Namespace + "/" + duffyprovider.Type

// defaultHosts are the registries that a source without a host belongs to: that of
// Terraform and that of OpenTofu.
var defaultHosts = [...]string{"registry.terraform.io", "registry.opentofu.org"} //nolint:gochecknoglobals // a constant

// isOwn tells whether an address, with or without a host, is that of the broker's own
// provider. No lock file need have it.
func isOwn(address string) bool {
	if address == ownSource {
		return true
	}
	for _, host := range defaultHosts {
		if address == host+"/"+ownSource {
			return true
		}
	}
	return false
}

// mirrorDir is a filesystem mirror with the broker's own provider alone.
func (e *Engine) mirrorDir() string { return filepath.Join(e.Dir, "plugins") }

// ownPackage is the path of the package below a mirror, or below what init makes.
func ownPackage(host string) string {
	return filepath.Join(host, filepath.FromSlash(ownSource), duffyprovider.Version, platform())
}

// mirrorOwn sees to it that the mirror has the provider, which is this program.
func (e *Engine) mirrorOwn() error {
	for _, host := range defaultHosts {
		link := filepath.Join(e.mirrorDir(), ownPackage(host), duffyprovider.FileName())
		if target, err := os.Readlink(link); err == nil && target == e.Executable {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(link), 0o700); err != nil {
			return fmt.Errorf("mirror of the broker's own provider: %w", err)
		}
		// In its place at once: a run may be starting it.
		fresh := filepath.Join(e.mirrorDir(), unfinishedPrefix+broker.NewUID())
		if err := os.Symlink(e.Executable, fresh); err != nil {
			return fmt.Errorf("mirror of the broker's own provider: %w", err)
		}
		if err := os.Rename(fresh, link); err != nil {
			return errors.Join(fmt.Errorf("mirror of the broker's own provider: %w", err), os.Remove(fresh))
		}
	}
	return nil
}

// refreshOwn is mirrorOwn for runs of a kept module that uses the provider.
func (e *Engine) refreshOwn(template string) error {
	for _, host := range defaultHosts {
		if exists(filepath.Join(template, ".terraform", "providers", ownPackage(host))) {
			return e.mirrorOwn()
		}
	}
	return nil
}

// linkOwn makes what init has installed of the provider in dir a link into the mirror.
// It is relative, so that the data directory can be moved.
func (e *Engine) linkOwn(dir string) error {
	for _, host := range defaultHosts {
		installed := filepath.Join(dir, ".terraform", "providers", ownPackage(host))
		if !exists(installed) {
			continue
		}
		target, err := filepath.Rel(filepath.Dir(installed), filepath.Join(e.mirrorDir(), ownPackage(host)))
		if err == nil {
			err = os.RemoveAll(installed)
		}
		if err == nil {
			err = os.Symlink(target, installed)
		}
		if err != nil {
			return fmt.Errorf("the broker's own provider: %w", err)
		}
	}
	return nil
}

// isOwnPackage tells whether the path of a package below the directory of all is that
// of the broker's own provider.
func isOwnPackage(providers, path string) bool {
	for _, host := range defaultHosts {
		if path == filepath.Join(providers, ownPackage(host)) {
			return true
		}
	}
	return false
}

// impliedMirror is the directory in a module's own that init takes providers from
// where the CLI configuration says nothing about that.
const impliedMirror = "terraform.d/plugins"

// offerOwn lets an init in dir find the provider, whatever the CLI configuration says
// of where providers come from. It gives what the environment of init must have more,
// and a function that takes it all back.
//
// Where the CLI configuration has no provider_installation block, that is a mirror in
// dir, which goes for this provider only: for others all stays as it is. A
// provider_installation block rules that out, and there can be one only: then
// init gets a copy of the configuration, in which this provider has a mirror of its
// own and is left out of all other methods.
func (e *Engine) offerOwn(dir string) (env []string, done func() error, err error) {
	done = func() error { return nil }
	if e.Executable == "" {
		return nil, done, nil
	}
	if err := errors.Join(e.mirrorOwn(), dropOwnLock(filepath.Join(dir, lockFileName))); err != nil {
		return nil, done, err
	}
	var made []string
	done = func() error {
		var problems []error
		for _, path := range slices.Backward(made) {
			problems = append(problems, os.RemoveAll(path))
		}
		return errors.Join(problems...)
	}
	for _, host := range defaultHosts {
		link := filepath.Join(dir, filepath.FromSlash(impliedMirror), ownPackage(host))
		if exists(link) { // the module ships one: ours counts
			continue
		}
		made = append(made, firstMissing(link))
		err := os.MkdirAll(filepath.Dir(link), 0o700)
		if err == nil {
			err = os.Symlink(filepath.Join(e.mirrorDir(), ownPackage(host)), link)
		}
		if err != nil {
			return nil, done, err
		}
	}
	config, err := e.mergedConfig()
	if err != nil || config == "" {
		return nil, done, err
	}
	path := filepath.Join(dir, ownDir, "cli.tfrc")
	made = append(made, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, done, err
	}
	return []string{cliConfigVariable + "=" + path}, done, writeFile(path, []byte(config))
}

// firstMissing gives the first part of a path that does not exist.
func firstMissing(path string) string {
	for parent := filepath.Dir(path); !exists(parent); parent = filepath.Dir(path) {
		path = parent
	}
	return path
}

// mergedConfig gives the CLI configuration that is in force with a mirror for the
// broker's own provider in its provider_installation block; "" if it has none, or can't
// be read: then Terraform says why.
func (e *Engine) mergedConfig() (string, error) {
	var merged strings.Builder
	found := false
	for _, path := range cliConfigFiles(e.Binary.Product) {
		text, err := os.ReadFile(path) //nolint:gosec // the operator's
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", err
		}
		changed, has, err := withOwnMirror(string(text), e.mirrorDir())
		if err != nil {
			return "", nil //nolint:nilerr // Terraform's to complain of
		}
		found = found || has
		merged.WriteString(changed + "\n")
	}
	if !found {
		return "", nil
	}
	return merged.String(), nil
}

// cliConfigFiles lists the CLI configuration files that Terraform, or OpenTofu,
// reads.
func cliConfigFiles(product Product) []string {
	for _, variable := range []string{cliConfigVariable, "TERRAFORM_CONFIG"} {
		if path := os.Getenv(variable); path != "" {
			return []string{path} // and no others
		}
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return nil
	}
	main, dirs := []string{".terraformrc"}, []string{filepath.Join(home, ".terraform.d")}
	if product == OpenTofu {
		main = []string{".tofurc", ".terraformrc"}
		if config := os.Getenv("XDG_CONFIG_HOME"); config != "" && !exists(dirs[0]) {
			dirs = []string{filepath.Join(config, "opentofu")}
		}
	}
	var files []string
	for _, name := range main {
		if path := filepath.Join(home, name); exists(path) {
			files = append(files, path)
			break
		}
	}
	for _, dir := range dirs {
		found, _ := filepath.Glob(filepath.Join(escapeGlob(dir), "*.tfrc")) // only a bad pattern is an error
		files = append(files, found...)
	}
	return files
}

// withOwnMirror inserts into the text of a CLI configuration what makes init take the
// broker's own provider from a mirror, and tells whether there is a
// provider_installation block. The language is HCL's first version.
func withOwnMirror(text, mirror string) (changed string, has bool, err error) {
	f, err := hclv1.ParseString(text)
	if err != nil {
		return "", false, err
	}
	root, ok := f.Node.(*ast.ObjectList)
	if !ok || strings.HasPrefix(strings.TrimSpace(text), "{") {
		return text, false, nil
	}
	addresses := make([]string, len(defaultHosts))
	for i, host := range defaultHosts {
		addresses[i] = strconv.Quote(host + "/" + ownSource)
	}
	list := strings.Join(addresses, ", ")
	inserts := map[int]string{} // by offset
	for _, block := range root.Filter("provider_installation").Items {
		body, ok := block.Val.(*ast.ObjectType)
		if !ok {
			continue
		}
		has = true
		inserts[body.Rbrace.Offset] = fmt.Sprintf("\n  filesystem_mirror {\n    path    = %s\n    include = [%s]\n  }\n", strconv.Quote(mirror), list)
		for _, method := range body.List.Items {
			settings, ok := method.Val.(*ast.ObjectType)
			if !ok || len(method.Keys) == 0 || method.Keys[0].Token.Value() == "dev_overrides" {
				continue
			}
			at, insert := settings.Rbrace.Offset, "\n    exclude = ["+list+"]\n  "
			for _, setting := range settings.List.Filter("exclude").Items {
				if excluded, ok := setting.Val.(*ast.ListType); ok {
					at, insert = excluded.Lbrack.Offset+1, list
					if len(excluded.List) > 0 {
						insert += ", "
					}
				}
			}
			inserts[at] = insert
		}
	}
	offsets := make([]int, 0, len(inserts))
	for at := range inserts {
		offsets = append(offsets, at)
	}
	slices.Sort(offsets)
	for _, at := range slices.Backward(offsets) {
		text = text[:at] + inserts[at] + text[at:]
	}
	return text, has, nil
}
