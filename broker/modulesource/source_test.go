package modulesource

import (
	"strings"
	"testing"
)

const (
	hex40 = "0123456789abcdef0123456789abcdef01234567"
	hex64 = hex40 + "0123456789abcdef01234567"
)

func TestParse(t *testing.T) {
	for module, want := range map[string]Source{
		"builtin:aws-ec2": {Builtin: "aws-ec2"},
		"git::https://git.example.org/modules.git//vm?ref=" + hex40:                      {Address: "git::https://git.example.org/modules.git//vm?ref=" + hex40},
		"git::https://git.example.org/modules.git?ref=" + hex64:                          {Address: "git::https://git.example.org/modules.git?ref=" + hex64},
		"git::ssh://git@git.example.org/modules.git?ref=v1.2.3":                          {Address: "git::ssh://git@git.example.org/modules.git?ref=v1.2.3"},
		"git::/srv/modules.git?ref=vm/2.0.0-rc.1":                                        {Address: "git::/srv/modules.git?ref=vm/2.0.0-rc.1"},
		"git::git@git.example.org:a/b.git?ref=vm-v1.2.3":                                 {Address: "git::git@git.example.org:a/b.git?ref=vm-v1.2.3"},
		"git@github.com:a/b.git?ref=" + hex40:                                            {Address: "git@github.com:a/b.git?ref=" + hex40},
		"github.com/a/b//vm?ref=1.2.3":                                                   {Address: "github.com/a/b//vm?ref=1.2.3"},
		"hg::https://hg.example.org/modules?rev=" + hex40:                                {Address: "hg::https://hg.example.org/modules?rev=" + hex40},
		"https://example.org/vm-1.tar.gz//vm?checksum=sha256:" + hex64:                   {Address: "https://example.org/vm-1.tar.gz//vm?checksum=sha256:" + hex64},
		"http://127.0.0.1:8000/vm?archive=zip&checksum=sha256:" + hex64:                  {Address: "http://127.0.0.1:8000/vm?archive=zip&checksum=sha256:" + hex64},
		"s3::https://s3.amazonaws.com/b/vm.zip?checksum=sha256:" + hex64:                 {Address: "s3::https://s3.amazonaws.com/b/vm.zip?checksum=sha256:" + hex64},
		"acme/vm/aws?version=1.2.3":                                                      {Address: "acme/vm/aws", Version: "1.2.3"},
		"registry.example.org/acme/vm/aws//modules/spot?version=2.0.0-beta1":             {Address: "registry.example.org/acme/vm/aws//modules/spot", Version: "2.0.0-beta1"},
		"localhost:8443/acme/vm/aws?version=1.2.3":                                       {Address: "localhost:8443/acme/vm/aws", Version: "1.2.3"},
		"gcs::https://www.googleapis.com/storage/v1/b/vm.zip?checksum=md5:" + hex40[:32]: {Address: "gcs::https://www.googleapis.com/storage/v1/b/vm.zip?checksum=md5:" + hex40[:32]},
	} {
		got, is, problem := Parse(module)
		if got != want || !is || problem != "" {
			t.Errorf("%s: %+v, %t, %s", module, got, is, problem)
		}
		if got.String() != module {
			t.Errorf("%s is written %s", module, got)
		}
	}
}

// The others are directories, whatever they look like.
func TestParse_directory(t *testing.T) {
	for _, module := range []string{"./modules/local", "../x", "/srv/modules/x", "modules/local", "acme/vm/aws", "github/x", "", "what?", "a/b?x=1"} {
		if _, is, problem := Parse(module); is || problem != "" {
			t.Errorf("%s is a source: %s", module, problem)
		}
	}
}

// What may give something else tomorrow is refused, and so is what others may not
// read.
func TestParse_refused(t *testing.T) {
	const sum = "?checksum=sha256:" + hex64
	for module, want := range map[string]string{
		"git::https://git.example.org/m.git":                                  "not pinned: what it gives",
		"git::https://git.example.org/m.git?ref=main":                         "ref=main may be another commit",
		"git::https://git.example.org/m.git?ref=release-1.2":                  "release-1.2 may be another",
		"git::https://git.example.org/m.git?ref=release/1.2.x":                "release/1.2.x may be another",
		"git::https://git.example.org/m.git?ref=" + hex40[:12]:                "may be another commit",
		"git::https://git.example.org/m.git?ref=v1.2.3&depth=1":               "has depth in the source",
		"git::https://git.example.org/m.git//../x?ref=v1.2.3":                 "leads out of it",
		"git::https://ci:hunter2@git.example.org/m.git?ref=v1.2.3":            "has a password",
		"git::https://hunter2@git.example.org/m.git?ref=v1.2.3":               "has a password",
		"git::ssh://git:hunter2@git.example.org/m.git?ref=v1.2.3":             "has a password",
		"git::https://ci:hunter2%x@git.example.org/m.git?ref=v1.2.3":          "can't be read",
		"git::https://ci:hunter2%x@git.example.org/m.git":                     "can't be read",
		"svn::https://ci:hunter2%x@git.example.org/m.git":                     "can't be read",
		"git+x://ci:hunter2%x@git.example.org/m.git":                          "is not known",
		"git::ssh://git@git.example.org/m.git?ref=v1.2.3&sshkey=hunter2":      "has sshkey in the source git::ssh://git@git.example.org/m.git?...,",
		"git::ssh://git@git.example.org/m.git?sshkey=hunter2":                 "not pinned",
		"s3::https://s3.amazonaws.com/b/vm.zip?aws_access_key_secret=hunter2": "not pinned",
		"github.com/a/b":                                      "not pinned",
		"hg::https://hg.example.org/m?rev=tip":                "rev=tip may be another commit",
		"https://example.org/vm.zip":                          "not pinned: the file",
		"https://example.org/vm.zip?checksum=1234":            "a checksum that is none",
		"https://example.org/vm" + sum:                        "no archive",
		"https://example.org/vm.zip" + sum + "&archive=false": "no archive",
		"https://example.org/vm" + sum + "&archive=":          "no archive",
		"https://example.org/vm.git//a.zip" + sum:             "no archive",
		"https://example.org/vm.zip" + sum + "&X-Signature=1": "has X-Signature",
		"ssh://git@git.example.org/m.git?ref=v1.2.3":          "what ssh:// stands for is not known",
		"svn::https://svn.example.org/m":                      "svn:: is not known",
		"registry::acme/vm/aws":                               "one version",
		"acme/vm/aws?version=~> 1.2":                          "one version",
		"acme/vm/aws?version=1.2":                             "one version",
		"acme/vm/aws?version=v1.2.3":                          "one version",
		"acme/vm/aws?version=1.2.3&ref=v1.2.3":                "has ref",
		"git::https://git.example.org/m.git?ref=%zz":          "can't be read",
	} {
		_, is, problem := Parse(module)
		if !is || !strings.Contains(problem, want) || strings.Contains(problem, "hunter2") || !strings.HasSuffix(problem, ".") {
			t.Errorf("%s: %t, %q", module, is, problem)
		}
		if Is(module) != is {
			t.Errorf("%s: Is", module)
		}
	}
}
