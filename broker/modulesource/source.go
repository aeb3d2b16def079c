// Package modulesource reads what `module` says in pools.hcl where that is no
// directory: a module that is shipped with the program, or one from elsewhere in
// Terraform's own writing.
//
// What comes from elsewhere must be pinned. A source that gives another module
// tomorrow would let the nodes of a pool differ with nobody having changed anything,
// and the plan of a pull request differ from what then happens.
package modulesource

import (
	"fmt"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/hashicorp/go-version"
)

// builtinPrefix marks the modules of the program.
const builtinPrefix = "builtin:"

// Source is where a module comes from, other than a directory of this machine.
type Source struct {
	// Builtin is the name of a module of the program, or "".
	Builtin string
	// Address is the source in a module block of Terraform's, and Version the one
	// beside it: for modules of a registry only.
	Address, Version string
}

var (
	commit = regexp.MustCompile(`^([0-9a-f]{40}|[0-9a-f]{64})$`)
	// release is a tag named after a version, such as v1.2.3 or vm/1.2.3-rc.1. Two
	// numbers would be the name of many a branch, too.
	release = regexp.MustCompile(`^([0-9A-Za-z_./-]*[/_-])?v?[0-9]+\.[0-9]+\.[0-9]+([-+.][0-9A-Za-z.+-]+)?$`)
	// registry is NAMESPACE/NAME/PROVIDER, after a host or not, and a directory in it.
	registry = regexp.MustCompile(`^([0-9A-Za-z-]+(\.[0-9A-Za-z-]+)+(:[0-9]+)?/|localhost:[0-9]+/)?[0-9A-Za-z][0-9A-Za-z_-]*/[0-9A-Za-z][0-9A-Za-z_-]*/[0-9a-z]+(//.+)?$`)
	// shorthand is what Terraform takes for a git repository without git::.
	shorthand = regexp.MustCompile(`^(github\.com/|bitbucket\.org/|git@[^/]+:)`)
	checksum  = regexp.MustCompile(`^(md5:[0-9a-f]{32}|sha1:[0-9a-f]{40}|sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128})$`)
	archive   = regexp.MustCompile(`\.(zip|tar\.gz|tgz|tar\.bz2|tbz2|tar\.xz|txz)$`)
)

// Is tells whether `module` names a source, whether right or wrong: everything else
// is a directory.
func Is(module string) bool {
	_, is, _ := Parse(module)
	return is
}

// Parse reads a source. is is false where module is the path of a directory. A
// problem is how a sentence goes on that begins with "module ".
func Parse(module string) (s Source, is bool, problem string) {
	if name, ok := strings.CutPrefix(module, builtinPrefix); ok {
		return Source{Builtin: name}, true, ""
	}
	location, query, asked := strings.Cut(module, "?")
	forced, rest, isForced := strings.Cut(location, "::")
	if !isForced {
		rest = location
		switch {
		case shorthand.MatchString(location):
			forced = "git"
		case strings.HasPrefix(location, "https://"), strings.HasPrefix(location, "http://"):
			forced = "https"
		case strings.Contains(location, "://"):
			return s, true, fmt.Sprintf("has the source %s, and what %s stands for is not known. Write git::%s for a git repository, or https:// for an archive.", show(module), scheme(location), show(location))
		case asked && registry.MatchString(location):
			forced = "registry"
		default:
			return s, false, ""
		}
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return s, true, "has a source in which what follows ? can't be read. Write NAME=VALUE, with & between them."
	}
	if unreadable(rest) {
		return s, true, "has a source whose URL can't be read. In a URL, % must be followed by two hex digits, and a port is a number."
	}
	if hasPassword(rest) {
		return s, true, fmt.Sprintf("has a password in the source %s: others can read it here. Leave it to git's credential helper, .netrc or an SSH key of the broker's user.", show(module))
	}
	if !isLocal(subdirectory(rest)) {
		return s, true, fmt.Sprintf("has the source %s, whose directory leads out of it.", show(module))
	}
	kind, known := kinds()[forced]
	if !known {
		return s, true, fmt.Sprintf("has the source %s, and %s:: is not known. There are git::, hg::, s3::, gcs::, archives at https:// and modules of a registry.", show(module), forced)
	}
	if problem = kind.check(rest, values); problem != "" {
		return s, true, fmt.Sprintf("has the source %s, which %s", show(module), problem)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains(kind.parameters, name) {
			return s, true, fmt.Sprintf("has %s in the source %s, where only %s may follow the ?.", name, show(module), strings.Join(kind.parameters, " and "))
		}
	}
	if forced == "registry" {
		return Source{Address: location, Version: values.Get("version")}, true, ""
	}
	return Source{Address: module}, true, ""
}

// kind is one kind of source: what may follow the ?, and whether it is pinned.
type kind struct {
	parameters []string
	check      func(location string, values url.Values) (problem string)
}

// kinds are the kinds of source, by what stands before :: or would.
func kinds() map[string]kind {
	return map[string]kind{
		"git": {[]string{"ref"}, func(_ string, values url.Values) string {
			return pinnedTo(values.Get("ref"), "ref", "a tag named after a version", release)
		}},
		"hg": {[]string{"rev"}, func(_ string, values url.Values) string {
			return pinnedTo(values.Get("rev"), "rev", "", nil)
		}},
		"https": {[]string{"checksum", "archive"}, checkArchive},
		"s3":    {[]string{"checksum", "archive", "version", "region", "aws_profile"}, checkArchive},
		"gcs":   {[]string{"checksum", "archive"}, checkArchive},
		"registry": {[]string{"version"}, func(_ string, values url.Values) string {
			v := values.Get("version")
			if _, err := version.NewSemver(v); err != nil || strings.HasPrefix(v, "v") || strings.Count(v, ".") < 2 {
				return "must be pinned to one version. Write ?version=1.2.3 behind it, with all three numbers."
			}
			return ""
		}},
	}
}

// pins are the parameters that may be shown.
func pins() []string { return []string{"ref", "rev", "version", "checksum", "archive"} }

// pinnedTo says what is wrong with a revision that is none.
func pinnedTo(revision, name, alternative string, other *regexp.Regexp) string {
	if commit.MatchString(revision) || other != nil && other.MatchString(revision) {
		return ""
	}
	also := ""
	if alternative != "" {
		also = ", or " + alternative + ", such as v1.2.3"
	}
	if revision == "" {
		return fmt.Sprintf("is not pinned: what it gives may be another tomorrow. Write ?%s= and a commit behind it, with all of its digits%s.", name, also)
	}
	return fmt.Sprintf("is not pinned: %s=%s may be another commit tomorrow. Write a commit, with all of its digits%s.", name, revision, also)
}

// checkArchive asks for what is downloaded to be an archive with a checksum.
func checkArchive(location string, values url.Values) string {
	packed, _, _ := strings.Cut(afterScheme(location), "//")
	switch {
	// Without an archive the server would name another place, whose checksum nobody asks for.
	case !archive.MatchString(packed) && !values.Has("archive"), values.Has("archive") && !archive.MatchString("."+values.Get("archive")):
		return "is no archive (.zip, .tar.gz, .tar.bz2 or .tar.xz). A git repository has git:: before it."
	case !values.Has("checksum"):
		return "is not pinned: the file may be another tomorrow. Write ?checksum=sha256: and the archive's SHA-256 behind it."
	case !checksum.MatchString(values.Get("checksum")):
		return "has a checksum that is none. Write checksum=sha256: and its 64 digits."
	}
	return ""
}

// String gives the source as it stands in pools.hcl.
func (s Source) String() string {
	switch {
	case s.Builtin != "":
		return builtinPrefix + s.Builtin
	case s.Version != "":
		return s.Address + "?version=" + s.Version
	}
	return s.Address
}

// subdirectory gives what stands behind // in a location.
func subdirectory(location string) string {
	_, directory, _ := strings.Cut(afterScheme(location), "//")
	return directory
}

func afterScheme(location string) string {
	if _, rest, ok := strings.Cut(location, "://"); ok {
		return rest
	}
	return location
}

func scheme(location string) string {
	before, _, _ := strings.Cut(location, "://")
	return before + "://"
}

// isLocal tells whether a path stays in its directory.
func isLocal(name string) bool {
	clean := path.Clean(name)
	return clean != ".." && !strings.HasPrefix(clean, "../") && !strings.HasPrefix(clean, "/")
}

func hasPassword(location string) bool {
	u, err := url.Parse(location)
	if err != nil || u.User == nil {
		return false
	}
	_, has := u.User.Password()
	return has || u.Scheme == "https" || u.Scheme == "http" // there a user alone is a token
}

// HasSecret tells whether `module` may have a password or a key in it, and should not
// be shown.
func HasSecret(module string) bool { return show(module) != module }

// unreadable tells whether something is meant to be a URL and is none. Nobody knows
// then what in it is a password.
func unreadable(location string) bool {
	_, err := url.Parse(location)
	return err != nil && strings.Contains(location, "://")
}

// show gives a source for a message, without a password, and without what follows
// the ? where that is none of what pins a source: some take keys there.
func show(module string) string {
	location, query, asked := strings.Cut(module, "?")
	if asked {
		values, err := url.ParseQuery(query)
		for name := range values {
			if err != nil || !slices.Contains(pins(), name) {
				return show(location) + "?..."
			}
		}
	}
	forced, rest, ok := strings.Cut(module, "::")
	if !ok {
		forced, rest = "", module
	} else {
		forced += "::"
	}
	u, err := url.Parse(rest)
	if err != nil && unreadable(rest) {
		return forced + "..."
	}
	if err != nil || u.User == nil {
		return module
	}
	if u.Scheme == "https" || u.Scheme == "http" {
		u.User = url.User("xxxxx")
	}
	return forced + u.Redacted()
}
