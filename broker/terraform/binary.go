package terraform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-version"

	"github.com/duffy-broker/duffy-broker/broker"
)

// Product is a program that the engine can work with.
type Product string

// The products.
const (
	Terraform Product = "Terraform"
	OpenTofu  Product = "OpenTofu"
)

// versionTimeout bounds the question for a program's version.
const versionTimeout = 30 * time.Second

// Binary is a Terraform or OpenTofu program.
type Binary struct {
	Path    string
	Version string
	Product Product
}

// FindOptions say which program is wanted. Path, Constraint, ReleasesURL and
// ReleasesKey may be empty.
type FindOptions struct {
	// Path is a program's path or name. It is used, or an error. Empty means
	// terraform from PATH, an earlier installation in InstallDir, or a new one.
	Path string
	// Constraint is what the version must satisfy, as ">= 1.5, < 2"; "" takes any.
	Constraint string
	// InstallDir is where Terraform is installed, in a directory per version.
	InstallDir string
	// ReleasesURL is a server in place of HashiCorp's, with the same layout, and
	// ReleasesKey the armored public key that signs its checksums.
	ReleasesURL string
	ReleasesKey string
	Log         *slog.Logger
}

// Find gives a program that satisfies the options. It goes to the network only
// where none is found on this host.
func Find(ctx context.Context, o FindOptions) (Binary, error) {
	if path := os.Getenv(cliConfigVariable); isMissing(path) {
		o.Log.WarnContext(ctx, "there is no such Terraform CLI configuration: going on without one", "variable", cliConfigVariable, "path", path)
	}
	var constraint version.Constraints
	wanted := "terraform"
	if o.Constraint != "" {
		var err error
		if constraint, err = version.NewConstraint(o.Constraint); err != nil {
			return Binary{}, broker.Wrap(broker.CodeInvalid, err, "terraform version constraint %q can't be read", o.Constraint).
				WithHint(`write it as in a module's required_version: ">= 1.5, < 2"`)
		}
		wanted += " " + o.Constraint
	}
	if o.Path != "" {
		return findNamed(ctx, o.Path, o.Constraint, constraint)
	}

	var err error
	if o.InstallDir, err = filepath.Abs(o.InstallDir); err != nil { // runs have another working directory
		return Binary{}, err
	}
	onPath := "none on PATH"
	if path, err := exec.LookPath("terraform"); err == nil {
		b, err := inspect(ctx, path)
		switch {
		case err != nil:
			onPath = err.Error()
		case satisfies(b.Version, constraint):
			return b, nil
		default:
			onPath = fmt.Sprintf("%s is %s", path, b.Version)
		}
	}
	if b, ok := findInstalled(ctx, o.InstallDir, constraint); ok {
		return b, nil
	}
	o.Log.InfoContext(ctx, "terraform is not here: downloading it", "wanted", wanted, "reason", onPath, "to", o.InstallDir)
	b, err := install(ctx, o, constraint)
	if err != nil {
		if ctx.Err() != nil {
			return Binary{}, ctx.Err()
		}
		return Binary{}, broker.Wrap(broker.CodeUnavailable, err,
			"no usable %s: %s, none in %s, and it can't be downloaded", wanted, onPath, o.InstallDir).
			WithHint("install Terraform, name one with --terraform PATH, or use OpenTofu with --terraform tofu")
	}
	return b, nil
}

// findNamed gives the program that somebody asked for by path or name.
func findNamed(ctx context.Context, name, wanted string, constraint version.Constraints) (Binary, error) {
	path, err := exec.LookPath(name)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return Binary{}, broker.Wrap(broker.CodeInvalid, err, "there is no program %q to use as terraform", name).
			WithHint("--terraform takes a path, or the name of a program on PATH")
	}
	if path, err = filepath.Abs(path); err != nil { // runs have another working directory
		return Binary{}, err
	}
	b, err := inspect(ctx, path)
	if err != nil {
		return Binary{}, broker.Wrap(broker.CodeInvalid, err, "%s can't be used as terraform", path)
	}
	if !satisfies(b.Version, constraint) {
		return Binary{}, broker.Errorf(broker.CodeInvalid, "%s is %s %s, but the version must be %s", path, b.Product, b.Version, wanted).
			WithHint("name another one with --terraform, or change the version constraint")
	}
	return b, nil
}

// findInstalled gives the newest earlier installation that satisfies constraint.
func findInstalled(ctx context.Context, dir string, constraint version.Constraints) (Binary, bool) {
	entries, _ := os.ReadDir(dir) // none there: none installed
	var versions []*version.Version
	for _, entry := range entries {
		v, err := version.NewVersion(entry.Name())
		if err == nil && satisfies(v.Original(), constraint) {
			versions = append(versions, v)
		}
	}
	slices.SortFunc(versions, func(a, b *version.Version) int { return b.Compare(a) })
	for _, v := range versions {
		b, err := inspect(ctx, filepath.Join(dir, v.Original(), "terraform"))
		if err == nil && b.Version == v.Original() {
			return b, true
		}
	}
	return Binary{}, false
}

func satisfies(text string, constraint version.Constraints) bool {
	v, err := version.NewVersion(text)
	return err == nil && constraint.Check(v)
}

// inspect runs a program to learn what it is. The plain form of "version" is the
// one that tells Terraform and OpenTofu apart.
func inspect(ctx context.Context, path string) (Binary, error) {
	ctx, cancel := context.WithTimeout(ctx, versionTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, "version")
	cmd.Env = environment()
	cmd.WaitDelay = time.Second
	out, err := cmd.Output()
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return Binary{}, err
	}
	if err != nil {
		return Binary{}, fmt.Errorf("%s version: %w", path, err)
	}
	match := regexp.MustCompile(`(?m)^(Terraform|OpenTofu) v(\S+)`).FindSubmatch(out)
	if match == nil {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return Binary{}, fmt.Errorf("%s says %q when asked for its version, which neither Terraform nor OpenTofu does", path, first)
	}
	return Binary{Path: path, Version: string(match[2]), Product: Product(match[1])}, nil
}
