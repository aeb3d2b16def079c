package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
	"github.com/duffy-broker/duffy-broker/broker/plan"
)

// assumedRuns is how many Terraform runs at once are taken for granted where
// neither a broker nor the file says.
const assumedRuns = 8

// withBase compares with a revision in git. Of its broker nothing is known: the
// stock counts as full.
func (o planOptions) withBase(ctx context.Context, s streams, file *config.File, modules *locator) (c comparison, err error) {
	dir := absoluteDir(o.pools)
	g := checkout{dir: dir}
	prefix, err := g.git(ctx, "rev-parse", "--show-prefix")
	if err != nil {
		return c, broker.Errorf(broker.CodeInvalid, "%s is not in a git repository: there is nothing to compare with", shown(dir)).
			WithHint("compare with a broker: --server, or --data-dir DIR")
	}
	rev, name, err := g.base(ctx, o.base)
	if err != nil {
		return c, err
	}
	scratch, err := os.MkdirTemp("", "duffy-broker-plan-")
	if err != nil {
		return c, fmt.Errorf("make a directory for the base revision: %w", err)
	}
	defer func() { err = errors.Join(err, fmtErr("remove the copy of the base revision", os.RemoveAll(scratch))) }()
	tree := filepath.Join(scratch, "tree")
	if err := g.checkOut(ctx, rev, tree, filepath.Join(scratch, "index")); err != nil {
		return c, err
	}
	c = comparison{
		now: time.Now().UTC(), against: plan.Against{Kind: "base", Name: name, AssumedFull: true},
		root: dir, maskKey: newMaskKey(),
	}
	runs := cmp.Or(file.Terraform.Runs, assumedRuns)
	oldDir := filepath.Join(tree, filepath.FromSlash(prefix))
	path := oldDir
	if absolute, err := filepath.Abs(o.pools); err == nil && absolute != dir {
		path = filepath.Join(oldDir, filepath.Base(absolute))
	}
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		c.world.Runs = runs
		return c, nil // there were no pools
	}
	var mistakes bytes.Buffer
	old, err := readPools(streams{err: &mistakes}, path)
	if err == nil {
		err = modules.locate(ctx, old)
	}
	if err == nil {
		// Paths in the tree are to look as if it stood in the repository's place.
		top := strings.TrimSuffix(dir, strings.TrimSuffix(string(filepath.Separator)+filepath.FromSlash(prefix), string(filepath.Separator)))
		c.before, err = configOf(old, c.maskKey, oldDir, func(p broker.Pool) broker.Pool { return broker.Rebased(p, tree, top) })
	}
	if err != nil {
		text := strings.ReplaceAll(mistakes.String(), tree+string(filepath.Separator), "")
		_, _ = s.err.Write([]byte(text))
		return c, broker.Wrap(broker.CodeInvalid, err, "%s can't be compared with", name).
			WithHint("compare with a revision whose pools are right: --base REV")
	}
	c.before.Inventories = old.Inventories
	c.world = plan.Full(c.now, c.before, runs)
	return c, nil
}

// checkout is the working tree of a git repository that a directory is in.
type checkout struct{ dir string }

// git runs git, and gives what it prints.
func (r checkout) git(ctx context.Context, args ...string) (string, error) {
	return r.gitWith(ctx, nil, args...)
}

func (r checkout) gitWith(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", r.dir}, args...)...) //nolint:gosec // no shell reads it
	cmd.Env = append(append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "LC_ALL=C"), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		if errors.Is(err, exec.ErrNotFound) {
			return "", broker.Errorf(broker.CodeUnavailable, "git is not installed").WithHint("install it, or compare with a broker: --server, or --data-dir DIR")
		}
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(errOut.String()))
	}
	return strings.TrimRight(out.String(), "\n"), nil
}

// commit gives the id of the commit that a revision names.
func (r checkout) commit(ctx context.Context, rev string) (string, error) {
	return r.git(ctx, "rev-parse", "--verify", "--quiet", "--end-of-options", rev+"^{commit}")
}

// base gives the revision to compare with, and how to call it.
func (r checkout) base(ctx context.Context, asked string) (id, name string, err error) {
	if asked != "" {
		if id, err = r.commit(ctx, asked); err != nil {
			return "", "", broker.Errorf(broker.CodeNotFound, "there is no revision %q here", asked).
				WithHint("in a shallow clone, fetch it first: git fetch origin %s", asked)
		}
		return id, fmt.Sprintf("%s (%.10s)", asked, id), nil
	}
	branch, err := r.defaultBranch(ctx)
	if err != nil {
		return "", "", err
	}
	if branch == "" {
		if id, err = r.commit(ctx, "HEAD"); err != nil {
			return "", "", broker.Errorf(broker.CodeNotFound, "the git repository has no commit yet: there is nothing to compare with").
				WithHint("commit something, or compare with a broker: --server, or --data-dir DIR")
		}
		return id, fmt.Sprintf("HEAD (%.10s)", id), nil
	}
	if id, err = r.git(ctx, "merge-base", "HEAD", branch); err != nil {
		return "", "", broker.Errorf(broker.CodeNotFound, "HEAD and %s have no commit in common here", branch).
			WithHint("in a shallow clone, fetch more of it (git fetch --unshallow), or name the revision: --base REV")
	}
	return id, fmt.Sprintf("%.10s, where HEAD left %s", id, branch), nil
}

// defaultBranch gives the branch that changes are merged into; "" where there is
// no telling.
func (r checkout) defaultBranch(ctx context.Context) (string, error) {
	if branch, err := r.git(ctx, "rev-parse", "--abbrev-ref", "--verify", "--quiet", "origin/HEAD"); err == nil && branch != "" && branch != "origin/HEAD" {
		return branch, nil
	}
	for _, branch := range []string{"origin/main", "origin/master", "main", "master"} {
		if _, err := r.commit(ctx, branch); err == nil {
			return branch, nil
		}
		if err := ctx.Err(); err != nil {
			return "", err
		}
	}
	return "", nil
}

// checkOut writes the files of a commit into a directory, as they would be in a
// working tree, through an index of its own. The repository stays as it is.
func (r checkout) checkOut(ctx context.Context, commit, dir, index string) error {
	top, err := r.git(ctx, "rev-parse", "--show-toplevel")
	if err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	whole, env := checkout{dir: top}, []string{"GIT_INDEX_FILE=" + index}
	if _, err := whole.gitWith(ctx, env, "read-tree", commit); err != nil {
		return err
	}
	_, err = whole.gitWith(ctx, env, "checkout-index", "--all", "--prefix="+dir+string(filepath.Separator))
	return err
}
