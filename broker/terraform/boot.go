package terraform

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/duffy-broker/duffy-broker/broker"
)

const (
	// bootDir is where a module leaves files in a node's directory for it to boot
	// from, and bootDoneFile is where the module finds that it has.
	bootDir      = "boot"
	bootDoneFile = "boot-done.json"
)

var (
	_ broker.NodeIdentities = (*Engine)(nil)
	_ broker.BootFiles      = (*Engine)(nil)
)

// BootURL implements [broker.NodeIdentities].
func (e *Engine) BootURL(n broker.Node) string {
	i, err := e.identity(n)
	if err != nil || i.seed == nil || e.NodeURL == "" {
		return ""
	}
	return e.NodeURL + "/boot/" + i.token()
}

// nodeDir opens the directory of a node; nil if there is none.
func (e *Engine) nodeDir(n broker.Node) (*os.Root, error) {
	if _, err := e.run(n, opApply); err != nil { // no valid uid
		return nil, err
	}
	dir := filepath.Join(e.nodesDir(), n.UID)
	if info, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil, nil
	}
	return os.OpenRoot(dir)
}

// OpenBootFile implements [broker.BootFiles]. What the module writes is trusted, but
// not that it meant what a link leads to.
func (e *Engine) OpenBootFile(n broker.Node, name string) (broker.BootFile, error) {
	missing := broker.Errorf(broker.CodeNotFound, "node %d has no such boot file", n.ID).
		WithHint("its module writes them to broker.directory, below " + bootDir + "/")
	if !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "\\\x00") {
		return nil, missing
	}
	root, err := e.nodeDir(n)
	if err != nil {
		return nil, err
	}
	if root == nil {
		return nil, missing
	}
	defer func() { _ = root.Close() }()
	name = path.Join(bootDir, name)
	// Each step on the way: links are followed inside of the directory else.
	for i, c := range name + "/" {
		if c != '/' {
			continue
		}
		info, err := root.Lstat(name[:i])
		last := i == len(name)
		if err != nil || last && !info.Mode().IsRegular() || !last && !info.IsDir() {
			return nil, missing
		}
	}
	// Not blocked by what became of it meanwhile.
	f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, missing
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(missing, f.Close())
	}
	return f, nil
}

// Booted implements [broker.BootFiles].
func (e *Engine) Booted(n broker.Node) (bool, error) {
	root, err := e.nodeDir(n)
	if root == nil || err != nil {
		return false, err
	}
	defer func() { _ = root.Close() }()
	_, err = root.Lstat(bootDoneFile)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// ReportBoot implements [broker.BootFiles]. The file appears whole or not at all. The
// boot files go with it: nobody gets them any more, and they hold the node's secrets.
func (e *Engine) ReportBoot(n broker.Node, r broker.BootReport) error {
	root, err := e.nodeDir(n)
	if err != nil {
		return err
	}
	if root == nil {
		return broker.Errorf(broker.CodeConflict, "node %d has no directory in which its module could find the report", n.ID).
			WithHint("a module that boots machines makes broker.directory before it starts them")
	}
	defer func() { _ = root.Close() }()
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	fresh := bootDoneFile + "." + broker.NewUID()
	err = root.WriteFile(fresh, append(text, '\n'), 0o600)
	if err == nil {
		// A link, unlike a rename, leaves the report of a request that was faster.
		if err = root.Link(fresh, bootDoneFile); errors.Is(err, fs.ErrExist) {
			err = nil
		}
	}
	if err == nil {
		err = root.RemoveAll(bootDir)
	}
	if removeErr := root.Remove(fresh); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
		err = errors.Join(err, removeErr)
	}
	if err != nil {
		return fmt.Errorf("report of node %s: %w", n.UID, err)
	}
	return nil
}
