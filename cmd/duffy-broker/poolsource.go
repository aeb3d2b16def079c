package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/duffy-broker/duffy-broker/broker/config"
)

// poolSource is where pools are read from.
type poolSource interface {
	fmt.Stringer
	// fetch gives the path of the pools, and the commit that they are of, if any.
	fetch(context.Context) (path, revision string, err error)
	// accept notes that the pools of a revision run.
	accept(revision string) error
	// reject notes that what fetch gave is not to run.
	reject() error
	// changed tells whether there is something that fetch has not given yet, as far
	// as that can be told without checking it.
	changed(context.Context) (bool, error)
	// change names what changed finds.
	change() string
}

// newPoolSource takes the value of --pools: a path or, with the prefix git::, a
// repository.
func newPoolSource(pools string, dir *dataDir) (poolSource, error) {
	if rest, ok := strings.CutPrefix(pools, gitPrefix); ok {
		return newGitSource(rest, dir.join("pools"))
	}
	return &fileSource{path: pools}, nil
}

// fileSource reads pools from this machine's disk.
type fileSource struct {
	path string
	// seen is what was there when the pools were read last, pending what was there
	// at the last look.
	seen, pending string
}

func (s *fileSource) String() string      { return s.path }
func (s *fileSource) accept(string) error { return nil }
func (s *fileSource) reject() error       { return nil }
func (s *fileSource) change() string      { return "a change of the files" }

func (s *fileSource) fetch(context.Context) (path, revision string, err error) {
	s.seen = s.fingerprint()
	s.pending = s.seen
	return s.path, "", nil
}

// changed waits until the files have been alike at two looks: what is being
// written is not read.
func (s *fileSource) changed(context.Context) (bool, error) {
	now := s.fingerprint()
	settled := now == s.pending
	s.pending = now
	return settled && now != s.seen, nil
}

// fingerprint is equal as long as the pools are, and no file of them and of their
// modules has another size or time. A file that can't be read counts as that: the
// reload says what is wrong with it.
func (s *fileSource) fingerprint() string {
	h := sha256.New()
	roots := []string{s.path}
	if file, diags := config.Load(s.path); !diags.HasErrors() {
		// Expressions may read other files.
		_ = json.NewEncoder(h).Encode([]any{file.Pools, file.Accounts, file.Inventories, file.TenantDefaults})
		for _, p := range file.Pools {
			roots = append(roots, p.Module)
		}
	}
	for _, root := range roots {
		// A git checkout or a config map is a link to what is current.
		if target, err := filepath.EvalSymlinks(root); err == nil {
			root = target
		}
		_ = filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
			if err == nil && e.IsDir() && path != root && strings.HasPrefix(e.Name(), ".") {
				return fs.SkipDir // .terraform, .git
			}
			info, statErr := os.Stat(path)
			if err = errors.Join(err, statErr); err != nil {
				_, _ = fmt.Fprintln(h, path, err)
				return nil
			}
			if !info.IsDir() {
				_, _ = fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano())
			}
			return nil
		})
	}
	return string(h.Sum(nil))
}
