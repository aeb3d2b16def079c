package terraform

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/hashicorp/go-version"
	"github.com/hashicorp/hc-install/product"
	"github.com/hashicorp/hc-install/releases"
)

const (
	// installTimeout bounds a download.
	installTimeout = 10 * time.Minute
	connectTimeout = 30 * time.Second
)

// install puts the newest Terraform that satisfies constraint into
// InstallDir/VERSION. hc-install 0.10 hides errors of the checksum comparison and
// of unpacking, so it works in an empty directory, and what it did is checked
// before the directory gets its name.
func install(ctx context.Context, o FindOptions, constraint version.Constraints) (Binary, error) {
	if err := os.MkdirAll(o.InstallDir, 0o700); err != nil {
		return Binary{}, err
	}
	dir, err := os.MkdirTemp(o.InstallDir, ".new-")
	if err != nil {
		return Binary{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()

	transport := &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: connectTimeout}).DialContext,
		TLSHandshakeTimeout: connectTimeout,
		ForceAttemptHTTP2:   true,
	}
	defer transport.CloseIdleConnections()
	seen := &witness{next: transport, dir: dir}
	source := &releases.LatestVersion{
		Product:          product.Terraform,
		Constraints:      constraint,
		InstallDir:       filepath.Join(dir, "bin"),
		Timeout:          installTimeout,
		ApiBaseURL:       strings.TrimSuffix(o.ReleasesURL, "/"),
		ArmoredPublicKey: o.ReleasesKey,
		HTTPClient:       &http.Client{Transport: seen},
	}
	if err := os.Mkdir(source.InstallDir, 0o700); err != nil {
		return Binary{}, err
	}
	program, err := source.Install(ctx)
	if seen.archive != nil { // then err may be nil or misleading
		defer func() { _ = seen.archive.Close() }()
		if err := seen.check(filepath.Join(source.InstallDir, product.Terraform.BinaryName())); err != nil {
			return Binary{}, err
		}
	}
	if err != nil {
		return Binary{}, err
	}
	b, err := inspect(ctx, program)
	if err != nil {
		return Binary{}, err
	}
	if b.Product != Terraform || !satisfies(b.Version, constraint) || !strings.HasPrefix(seen.archiveName, "terraform_"+b.Version+"_") {
		return Binary{}, fmt.Errorf("the downloaded %s is %s %s", seen.archiveName, b.Product, b.Version)
	}
	target := filepath.Join(o.InstallDir, b.Version)
	if err := os.RemoveAll(target); err != nil { // findInstalled did not want it
		return Binary{}, err
	}
	if err := os.Rename(source.InstallDir, target); err != nil {
		return Binary{}, err
	}
	b.Path = filepath.Join(target, filepath.Base(program))
	o.Log.InfoContext(ctx, "terraform installed", "version", b.Version, "path", b.Path)
	return b, nil
}

// witness keeps what passes through an HTTP client: the list of checksums, whose
// signature hc-install verifies, and the archive.
type witness struct {
	next http.RoundTripper
	dir  string

	sums        bytes.Buffer
	archiveName string
	archive     *os.File
}

// RoundTrip implements [http.RoundTripper].
func (w *witness) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		return resp, err
	}
	switch name := path.Base(req.URL.Path); {
	case strings.HasSuffix(name, "_SHA256SUMS"):
		w.sums.Reset()
		resp.Body = tee(resp.Body, &w.sums)
	case strings.HasSuffix(name, ".zip"):
		file, err := os.Create(filepath.Join(w.dir, "archive.zip"))
		if err != nil {
			return nil, errors.Join(err, resp.Body.Close())
		}
		w.archiveName, w.archive = name, file
		resp.Body = tee(resp.Body, file)
	}
	return resp, nil
}

func tee(body io.ReadCloser, to io.Writer) io.ReadCloser {
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(body, to), body}
}

// check compares the archive with the signed checksum, and the program with the
// archive.
func (w *witness) check(program string) error {
	sum := sha256.New()
	size, err := io.Copy(sum, io.NewSectionReader(w.archive, 0, 1<<62))
	if err != nil {
		return err
	}
	if got, want := hex.EncodeToString(sum.Sum(nil)), w.signedSum(); got != want {
		return fmt.Errorf("the downloaded %s has the checksum %s, but %q is signed", w.archiveName, got, want)
	}
	archive, err := zip.NewReader(w.archive, size)
	if err != nil {
		return fmt.Errorf("the downloaded %s: %w", w.archiveName, err)
	}
	content, err := os.ReadFile(program) //nolint:gosec // what was just installed
	if err != nil {
		return err
	}
	for _, f := range archive.File {
		if f.Name != filepath.Base(program) {
			continue
		}
		if f.UncompressedSize64 != uint64(len(content)) || f.CRC32 != crc32.ChecksumIEEE(content) {
			return fmt.Errorf("%s was not unpacked completely: is the disk full?", w.archiveName)
		}
		return nil
	}
	return fmt.Errorf("the downloaded %s has no %s in it", w.archiveName, filepath.Base(program))
}

func (w *witness) signedSum() string {
	for line := range strings.Lines(w.sums.String()) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[1] == w.archiveName {
			return strings.ToLower(fields[0])
		}
	}
	return ""
}
