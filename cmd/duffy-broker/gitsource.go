package main

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/config"
)

const (
	// gitPrefix marks a repository, as in Terraform's module sources.
	gitPrefix = "git::"
	// gitTimeout bounds one call of git: a remote that doesn't answer must not keep
	// a reload waiting for ever.
	gitTimeout = 2 * time.Minute
)

// gitSource reads pools from a branch of a git repository. Each commit has a
// directory of its own, and that of the pools that run is kept: modules are read
// from it, and a broker that can't reach the repository starts with it.
type gitSource struct {
	url  string // for git
	path string // of the pools, in the repository; "" for all of its root
	ref  string // branch or tag; "" for the repository's default branch
	dir  string // in the data directory

	fetched string // the commit that was given last
}

// newGitSource takes what stands after git::, URL//PATH?ref=NAME.
func newGitSource(source, dir string) (*gitSource, error) {
	s := &gitSource{dir: dir}
	location, query, _ := strings.Cut(source, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, broker.Wrap(broker.CodeInvalid, err, "--pools %s: what stands after ? can't be read", redacted(source)).WithHint("write git::URL//PATH?ref=BRANCH")
	}
	s.ref = values.Get("ref")
	values.Del("ref")
	if len(values) > 0 {
		return nil, broker.Errorf(broker.CodeInvalid, "--pools %s: only ref may stand after ?", redacted(source)).WithHint("write git::URL//PATH?ref=BRANCH")
	}
	start := 0
	if i := strings.Index(location, "://"); i >= 0 {
		start = i + len("://")
	}
	s.url = location
	if i := strings.Index(location[start:], "//"); i >= 0 {
		s.url, s.path = location[:start+i], location[start+i+len("//"):]
	}
	if s.path != "" && !filepath.IsLocal(s.path) {
		return nil, broker.Errorf(broker.CodeInvalid, "--pools %s: the path %s leads out of the repository", redacted(source), s.path)
	}
	// git would take them for options.
	if s.url == "" || strings.HasPrefix(s.url, "-") || strings.HasPrefix(s.ref, "-") {
		return nil, broker.Errorf(broker.CodeInvalid, "--pools %s%s names no repository", gitPrefix, redacted(source)).WithHint("write git::URL//PATH?ref=BRANCH")
	}
	if _, err := exec.LookPath("git"); err != nil {
		return nil, broker.Wrap(broker.CodeUnavailable, err, "--pools names a git repository, and git is not installed").WithHint("install git, or name a file or directory")
	}
	return s, nil
}

// redacted is a URL without its password.
func redacted(location string) string {
	u, err := url.Parse(location)
	if err != nil {
		return location
	}
	return u.Redacted()
}

func (s *gitSource) String() string {
	text := gitPrefix + redacted(s.url)
	if s.path != "" {
		text += "//" + s.path
	}
	if s.ref != "" {
		text += "?ref=" + s.ref
	}
	return text
}

func (s *gitSource) change() string { return "a commit" }

// wanted is the ref to ask the remote for.
func (s *gitSource) wanted() string {
	if s.ref == "" {
		return "HEAD"
	}
	return s.ref
}

func (s *gitSource) changed(ctx context.Context) (bool, error) {
	out, err := s.git(ctx, "", "ls-remote", "--exit-code", "--", s.url, s.wanted(), s.wanted()+"^{}")
	if err != nil {
		return false, err
	}
	// The last line is what an annotated tag points at, where there is one.
	lines := strings.Split(strings.TrimSpace(out), "\n")
	commit, _, _ := strings.Cut(lines[len(lines)-1], "\t")
	return commit != s.fetched, nil
}

func (s *gitSource) fetch(ctx context.Context) (path, revision string, err error) {
	repository := filepath.Join(s.dir, "repository")
	if err := os.MkdirAll(repository, 0o700); err != nil {
		return "", "", broker.Wrap(broker.CodeUnavailable, err, "there is no place for the repository of the pools")
	}
	if _, err := s.git(ctx, repository, "init", "--quiet", "--bare"); err != nil {
		return "", "", err
	}
	if _, err := s.git(ctx, repository, "fetch", "--quiet", "--depth=1", "--no-tags", "--", s.url, s.wanted()); err != nil {
		return "", "", err
	}
	commit, err := s.git(ctx, repository, "rev-parse", "FETCH_HEAD^{commit}")
	if err != nil {
		return "", "", err
	}
	commit = strings.TrimSpace(commit)
	tree := s.tree(commit)
	if _, err := os.Stat(tree); err != nil {
		fresh := tree + ".new"
		if err := errors.Join(os.RemoveAll(fresh), os.MkdirAll(fresh, 0o700)); err != nil {
			return "", "", broker.Wrap(broker.CodeUnavailable, err, "there is no place for commit %s of the pools", commit)
		}
		if _, err := s.git(ctx, repository, "--work-tree="+fresh, "checkout", "--quiet", "--force", commit, "--", "."); err != nil {
			return "", "", err
		}
		if err := os.Rename(fresh, tree); err != nil {
			return "", "", broker.Wrap(broker.CodeUnavailable, err, "there is no place for commit %s of the pools", commit)
		}
	}
	s.fetched = commit
	if err := s.point(commit); err != nil {
		return "", "", err
	}
	return s.pools(), commit, nil
}

func (s *gitSource) tree(commit string) string { return filepath.Join(s.dir, "tree-"+commit) }

// pools is the same path for every commit: it is part of what nodes are made from
// where expressions use path.root.
func (s *gitSource) pools() string { return filepath.Join(s.dir, "tree", s.path) }

// point makes the path of the pools lead to a commit.
func (s *gitSource) point(commit string) error {
	link := filepath.Join(s.dir, "tree")
	fresh := link + ".new"
	err := os.Remove(fresh)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		err = os.Symlink(filepath.Base(s.tree(commit)), fresh)
	}
	if err == nil {
		err = os.Rename(fresh, link)
	}
	if err != nil {
		return broker.Wrap(broker.CodeUnavailable, err, "there is no place for commit %s of the pools", commit)
	}
	return nil
}

// reject makes the path of the pools lead to those that run again.
func (s *gitSource) reject() error {
	if commit, ok := s.accepted(); ok {
		return s.point(commit)
	}
	return nil
}

// accept notes the commit, for a start without the repository, and removes the
// trees of others.
func (s *gitSource) accept(commit string) error {
	current := filepath.Join(s.dir, "current")
	fresh := current + ".new"
	err := os.WriteFile(fresh, []byte(commit+"\n"), 0o600)
	if err == nil {
		err = os.Rename(fresh, current)
	}
	if err != nil {
		return broker.Wrap(broker.CodeUnavailable, err, "the commit of the pools can't be written down in %s", s.dir)
	}
	trees, _ := filepath.Glob(filepath.Join(s.dir, "tree-*"))
	for _, tree := range trees {
		if tree != s.tree(commit) {
			_ = os.RemoveAll(tree) // tried again the next time
		}
	}
	return nil
}

// accepted gives the commit whose pools ran last, and whether there is one.
func (s *gitSource) accepted() (commit string, ok bool) {
	text, err := os.ReadFile(filepath.Join(s.dir, "current"))
	if err != nil {
		return "", false
	}
	commit = strings.TrimSpace(string(text))
	_, err = os.Stat(s.tree(commit))
	return commit, err == nil
}

// git runs git, which asks nobody anything: credentials are those of git's own
// configuration and of the SSH agent.
func (s *gitSource) git(ctx context.Context, dir string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	if dir != "" {
		args = append([]string{"--git-dir=" + dir}, args...)
	}
	cmd := exec.CommandContext(ctx, "git", args...) //nolint:gosec // the operator names the repository
	cmd.Env = append(os.Environ(), "GIT_TERMINAL_PROMPT=0", "LC_ALL=C")
	if os.Getenv("GIT_SSH_COMMAND") == "" {
		cmd.Env = append(cmd.Env, "GIT_SSH_COMMAND=ssh -o BatchMode=yes")
	}
	cmd.WaitDelay = 10 * time.Second
	var out, problem bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problem
	if err := cmd.Run(); err != nil {
		text := strings.TrimSpace(strings.ReplaceAll(problem.String(), s.url, redacted(s.url)))
		if ctx.Err() != nil {
			text = "it took longer than " + gitTimeout.String()
		}
		if text == "" {
			text = err.Error()
		}
		return "", broker.Errorf(broker.CodeUnavailable, "%s can't be read: git: %s", s, text).
			WithHint("try git ls-remote %s as the broker's user", redacted(s.url))
	}
	return out.String(), nil
}

// firstPools gives the pools to start with: those of the newest commit, or, if it
// can't be had or has mistakes, those that ran last.
func firstPools(ctx context.Context, s streams, log *slog.Logger, source *gitSource) (*config.File, string, error) {
	path, revision, err := source.fetch(ctx)
	var file *config.File
	if err == nil {
		file, err = loadPools(ctx, s, path)
	}
	if err == nil {
		return file, revision, nil
	}
	revision, ok := source.accepted()
	if !ok || ctx.Err() != nil {
		return nil, "", err
	}
	if err := source.reject(); err != nil {
		return nil, "", err
	}
	log.ErrorContext(ctx, "starting with the pools that ran last", "source", source.String(), "commit", revision, "error", err, "hint", hintOf(err))
	file, err = loadPools(ctx, s, source.pools())
	return file, revision, err
}
