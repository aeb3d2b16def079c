package terraform

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclwrite"
)

// ownPackages makes the provider packages of an initialised module, which init
// has just compared with the lock file, part of it. What init linked to, in a
// mirror, is copied: a node must go with what it came with, whatever becomes of
// the mirror. Then the module's private lock file loses its hashes, so that
// Terraform does not read whole providers in each run to compare them once more:
// nobody but the broker can write there. That is a tenth of the CPU of a run with
// a provider of 20 MB, and a quarter with one of 80 MB.
func ownPackages(dir string) error {
	providers := filepath.Join(dir, ".terraform", "providers")
	if !exists(providers) {
		return nil // it needs none, or only those that are part of Terraform
	}
	err := filepath.WalkDir(providers, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.Type()&fs.ModeSymlink == 0 || isOwnPackage(providers, path) {
			return err
		}
		from, err := filepath.EvalSymlinks(path)
		if err != nil {
			return err
		}
		if err := os.Remove(path); err != nil { //nolint:gosec // nobody else writes there
			return err
		}
		return copyPackage(from, path)
	})
	if err != nil {
		return fmt.Errorf("provider packages: %w", err)
	}
	return removeHashes(filepath.Join(dir, lockFileName))
}

// copyPackage copies a provider package, a directory.
func copyPackage(from, to string) error {
	tree, err := os.OpenRoot(from)
	if err != nil {
		return err
	}
	defer func() { _ = tree.Close() }()
	return fs.WalkDir(tree.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, filepath.FromSlash(name))
		if d.IsDir() {
			return os.Mkdir(target, 0o700)
		}
		return copyFile(tree, name, target)
	})
}

// removeHashes takes the hashes out of a lock file; versions stay.
func removeHashes(path string) error {
	return editLock(path, func(lock *hclwrite.Body) {
		for _, block := range lock.Blocks() {
			if block.Type() == "provider" {
				block.Body().RemoveAttribute("hashes")
			}
		}
	})
}

// dropOwnLock takes the broker's own provider out of a lock file, if there is one: its
// hash is another one with each broker.
func dropOwnLock(path string) error {
	if !exists(path) {
		return nil
	}
	return editLock(path, func(lock *hclwrite.Body) {
		for _, block := range lock.Blocks() {
			if block.Type() == "provider" && len(block.Labels()) == 1 && isOwn(block.Labels()[0]) {
				lock.RemoveBlock(block)
			}
		}
	})
}

func editLock(path string, edit func(lock *hclwrite.Body)) error {
	text, err := os.ReadFile(path) //nolint:gosec // a file of ours
	if err != nil {
		return err
	}
	lock, diags := hclwrite.ParseConfig(text, filepath.Base(path), hcl.InitialPos)
	if diags.HasErrors() {
		return diags
	}
	edit(lock.Body())
	return writeFile(path, lock.Bytes())
}
