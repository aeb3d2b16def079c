package terraform

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/google/go-cmp/cmp"

	"github.com/duffy-broker/duffy-broker/broker"
	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

// program makes a script that answers "version" with a text.
func program(t *testing.T, path, text string) string {
	t.Helper()
	write(t, path, programText(text))
	if err := os.Chmod(path, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func programText(text string) string { return "#!/bin/sh\ncat <<'EOF'\n" + text + "\nEOF\n" }

// releaseServer serves like HashiCorp's, with programs by version.
type releaseServer struct {
	*httptest.Server

	key      string
	requests int
	// spoil changes a file before it is sent.
	spoil func(name string, content []byte) []byte
}

func newReleaseServer(t *testing.T, programs map[string]string) *releaseServer {
	t.Helper()
	entity, err := openpgp.NewEntity("test", "", "test@example.org", nil)
	if err != nil {
		t.Fatal(err)
	}
	var key bytes.Buffer
	w, err := armor.Encode(&key, openpgp.PublicKeyType, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := entity.Serialize(w); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}

	files := map[string][]byte{}
	versions := map[string]any{}
	for v, content := range programs {
		name := fmt.Sprintf("terraform_%s_%s_%s.zip", v, runtime.GOOS, runtime.GOARCH)
		var archive bytes.Buffer
		z := zip.NewWriter(&archive)
		f, err := z.Create("terraform")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		sums := fmt.Sprintf("%x  %s\n", sha256.Sum256(archive.Bytes()), name)
		var signature bytes.Buffer
		if err := openpgp.DetachSign(&signature, entity, strings.NewReader(sums), nil); err != nil {
			t.Fatal(err)
		}
		base := "/terraform/" + v + "/"
		sumsName := "terraform_" + v + "_SHA256SUMS"
		files[base+name], files[base+sumsName], files[base+sumsName+".sig"] = archive.Bytes(), []byte(sums), signature.Bytes()
		versions[v] = map[string]any{
			"name": "terraform", "version": v, "shasums": sumsName, "shasums_signature": sumsName + ".sig",
			"builds": []any{map[string]any{"name": "terraform", "version": v, "os": runtime.GOOS, "arch": runtime.GOARCH, "filename": name, "url": base + name}},
		}
	}
	index, err := json.Marshal(map[string]any{"name": "terraform", "versions": versions})
	if err != nil {
		t.Fatal(err)
	}
	files["/terraform/index.json"] = index

	s := &releaseServer{key: key.String(), spoil: func(_ string, content []byte) []byte { return content }}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests++
		content, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		switch filepath.Ext(r.URL.Path) {
		case ".json":
			w.Header().Set("Content-Type", "application/json")
		case ".zip":
			w.Header().Set("Content-Type", "application/zip")
		}
		content = s.spoil(filepath.Base(r.URL.Path), bytes.Clone(content))
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content)
	}))
	t.Cleanup(s.Close)
	return s
}

func options(t *testing.T, s *releaseServer, constraint string) FindOptions {
	t.Helper()
	o := FindOptions{Constraint: constraint, InstallDir: filepath.Join(t.TempDir(), "terraform"), Log: logTo(testWriter{t})}
	if s != nil {
		o.ReleasesURL, o.ReleasesKey = s.URL, s.key
	}
	return o
}

func installedNames(t *testing.T, dir string) []string {
	t.Helper()
	entries, _ := os.ReadDir(dir)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestFindOnPath(t *testing.T) {
	tests := map[string]struct {
		name, text, path, constraint string
		want                         Binary
		wantErr                      []string
	}{
		"terraform":              {name: "terraform", text: "Terraform v1.11.4\non linux_amd64", constraint: ">= 1.5, < 2", want: Binary{Version: "1.11.4", Product: Terraform}},
		"any version":            {name: "terraform", text: "Terraform v0.12.0", want: Binary{Version: "0.12.0", Product: Terraform}},
		"warnings first":         {name: "terraform", text: "There are problems\n\nTerraform v1.6.0", want: Binary{Version: "1.6.0", Product: Terraform}},
		"tofu by name":           {name: "tofu", text: "OpenTofu v1.8.2\non linux_amd64", path: "tofu", constraint: ">= 1.5", want: Binary{Version: "1.8.2", Product: OpenTofu}},
		"tofu named terraform":   {name: "terraform", text: "OpenTofu v1.8.2", want: Binary{Version: "1.8.2", Product: OpenTofu}},
		"named, too old":         {name: "tofu", text: "OpenTofu v1.4.0", path: "tofu", constraint: ">= 1.5", wantErr: []string{"tofu is OpenTofu 1.4.0", "must be >= 1.5"}},
		"named, not there":       {name: "tofu", path: "tofux", wantErr: []string{`no program "tofux"`}},
		"named, another program": {name: "tofu", text: "GNU tar", path: "tofu", wantErr: []string{"tofu", `says "GNU tar"`}},
		"bad constraint":         {name: "terraform", text: "Terraform v1.11.4", constraint: "newest", wantErr: []string{`constraint "newest"`}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tt.want.Path = program(t, filepath.Join(dir, tt.name), tt.text)
			t.Setenv("PATH", dir+":/usr/bin:/bin")
			o := options(t, nil, tt.constraint)
			o.Path, o.ReleasesURL = tt.path, "http://127.0.0.1:1" // no network is needed
			got, err := Find(t.Context(), o)
			if len(tt.wantErr) > 0 {
				wantError(t, err, tt.wantErr...)
				if broker.CodeOf(err) != broker.CodeInvalid {
					t.Errorf("code %s", broker.CodeOf(err))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("found (-want +got):\n%s", diff)
			}
		})
	}
}

func TestFindTheRealOne(t *testing.T) {
	path := brokertest.NeedProgram(t, "terraform")
	got, err := Find(t.Context(), FindOptions{Path: path, Constraint: ">= 1.4", Log: logTo(testWriter{t})})
	want := Terraform
	if os.Getenv(brokertest.TerraformVariable) != "" {
		want = got.Product // either
	}
	if err != nil || got.Product != want || got.Path != path {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestFindInstallsTheNewestThatFits(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	s := newReleaseServer(t, map[string]string{
		"1.5.7": programText("Terraform v1.5.7"), "1.12.1": programText("Terraform v1.12.1"),
		"1.13.0-rc1": programText("Terraform v1.13.0-rc1"), "2.0.0": programText("Terraform v2.0.0"),
	})
	old := program(t, filepath.Join(t.TempDir(), "terraform"), "Terraform v1.4.0")
	t.Setenv("PATH", filepath.Dir(old)+":/usr/bin:/bin")
	o := options(t, s, ">= 1.5, < 2")
	write(t, filepath.Join(o.InstallDir, "1.12.1", "terraform"), "half of one") // of a crash
	got, err := Find(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := Binary{Path: filepath.Join(o.InstallDir, "1.12.1", "terraform"), Version: "1.12.1", Product: Terraform}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("found (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"1.12.1"}, installedNames(t, o.InstallDir)); diff != "" {
		t.Errorf("installed (-want +got):\n%s", diff)
	}

	requests := s.requests
	if again, err := Find(t.Context(), o); err != nil || again != got || s.requests != requests {
		t.Errorf("second time: %+v, %v, %d requests", again, err, s.requests-requests)
	}
}

func TestFindRefusesWhatIsNotWhatWasAsked(t *testing.T) {
	tests := map[string]struct {
		programs map[string]string
		spoil    func(name string, content []byte) []byte
		want     string
	}{
		"damaged archive": {spoil: func(name string, content []byte) []byte {
			if strings.HasSuffix(name, ".zip") {
				content[len(content)/2] ^= 0xff
			}
			return content
		}, want: "has the checksum"},
		"changed checksums": {spoil: func(name string, content []byte) []byte {
			if strings.HasSuffix(name, "SUMS") {
				content[0] ^= 1
			}
			return content
		}, want: "signature"},
		"another version": {programs: map[string]string{"1.6.0": programText("Terraform v1.5.0")}, want: "is Terraform 1.5.0"},
		"not a program":   {programs: map[string]string{"1.6.0": "#!/bin/sh\nexit 3\n"}, want: "exit status 3"},
		"none that fits":  {programs: map[string]string{"1.2.0": programText("Terraform v1.2.0")}, want: "no matching version"},
		"server says no":  {programs: map[string]string{"1.6.0": ""}, spoil: func(string, []byte) []byte { return []byte("<html>") }, want: "unmarshal"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("PATH", "/usr/bin:/bin")
			if tt.programs == nil {
				tt.programs = map[string]string{"1.6.0": programText("Terraform v1.6.0")}
			}
			s := newReleaseServer(t, tt.programs)
			if tt.spoil != nil {
				s.spoil = tt.spoil
			}
			o := options(t, s, ">= 1.5")
			got, err := Find(t.Context(), o)
			if err == nil {
				t.Fatalf("found %+v", got)
			}
			wantError(t, err, "no usable terraform >= 1.5: none on PATH, none in "+o.InstallDir, tt.want)
			if left := installedNames(t, o.InstallDir); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestFindWithoutTerraformAndNetwork(t *testing.T) {
	old := program(t, filepath.Join(t.TempDir(), "terraform"), "Terraform v1.1.0")
	t.Setenv("PATH", filepath.Dir(old)+":/usr/bin:/bin")
	o := options(t, nil, ">= 1.5")
	o.ReleasesURL = "http://127.0.0.1:1"
	_, err := Find(t.Context(), o)
	wantError(t, err, "no usable terraform >= 1.5: "+old+" is 1.1.0, none in "+o.InstallDir+", and it can't be downloaded", "connection refused")
	if hint := broker.HintOf(err); broker.CodeOf(err) != broker.CodeUnavailable || !strings.Contains(hint, "--terraform tofu") {
		t.Errorf("code %s, hint %q", broker.CodeOf(err), hint)
	}
}

// hc-install reports no error when the disk fills up while it unpacks.
func TestIncompleteProgramIsRefused(t *testing.T) {
	dir := t.TempDir()
	var content bytes.Buffer
	z := zip.NewWriter(&content)
	f, err := z.Create("terraform")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("all of it")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	archive := filepath.Join(dir, "archive.zip")
	write(t, archive, content.String())
	for text, want := range map[string]string{"all of it": "", "all of": "not unpacked completely", "all of IT": "not unpacked completely"} {
		file, err := os.Open(archive)
		if err != nil {
			t.Fatal(err)
		}
		w := &witness{archiveName: "terraform_1.zip", archive: file}
		fmt.Fprintf(&w.sums, "%x  terraform_1.zip\n", sha256.Sum256(content.Bytes()))
		write(t, filepath.Join(dir, "terraform"), text)
		err = w.check(filepath.Join(dir, "terraform"))
		if want == "" && err != nil {
			t.Errorf("the whole program: %v", err)
		}
		if want != "" {
			wantError(t, err, want)
		}
		if err := file.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
