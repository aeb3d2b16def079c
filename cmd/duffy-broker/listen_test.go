package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/duffy-broker/duffy-broker/broker"
)

// newCertificate writes a certificate for 127.0.0.1 with this serial number, and
// its key.
func newCertificate(t *testing.T, certFile, keyFile string, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for path, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCertificate_isReadAgain(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	newCertificate(t, certFile, keyFile, 1)
	c, err := loadCertificate(certFile, keyFile, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	serial := func() int64 {
		t.Helper()
		c.checked = time.Time{}
		pair, err := c.get(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.SerialNumber.Int64()
	}
	if got := serial(); got != 1 {
		t.Errorf("serial number %d, want 1", got)
	}
	// Renewal is half done: the certificate is new, its key is not there yet.
	other := filepath.Join(dir, "other.pem")
	newCertificate(t, certFile, other, 2)
	later := time.Now().Add(time.Minute)
	if err := os.Chtimes(certFile, later, later); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 1 {
		t.Errorf("serial number %d while the key is missing, want 1", got)
	}
	if err := os.Rename(other, keyFile); err != nil {
		t.Fatal(err)
	}
	if got := serial(); got != 2 {
		t.Errorf("serial number %d after the renewal, want 2", got)
	}
}

func TestListenUnix(t *testing.T) {
	path := filepath.Join(t.TempDir(), "broker.sock")
	first, err := listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), "unix:"+path); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("a second listener: %v", err)
	}
	first.(*net.UnixListener).SetUnlinkOnClose(false) // as after a crash
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := listen(t.Context(), "unix:"+path)
	if err != nil {
		t.Fatalf("over the socket of a crash: %v", err)
	}
	if err := second.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(t.Context(), "unix:"+path); broker.CodeOf(err) != broker.CodeConflict {
		t.Errorf("a file: %v", err)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "precious" {
		t.Errorf("the file is %q now (%v)", text, err)
	}
	if _, err := listen(t.Context(), "unix:"+filepath.Join(t.TempDir(), "no", "such", "directory")); broker.CodeOf(err) != broker.CodeInvalid {
		t.Errorf("no directory: %v", err)
	}
}

// The client finds a broker on a Unix socket, and one that speaks TLS, by the
// profile that they write.
func TestListenElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	newCertificate(t, certFile, keyFile, 1)
	for _, tt := range []struct {
		name, url string
		extra     []string
	}{
		{"unix", "unix:" + filepath.Join(dir, "s"), []string{"--listen", "unix:" + filepath.Join(dir, "s")}},
		{"tls", "https://127.0.0.1:", []string{"--tls-cert", certFile, "--tls-key", keyFile}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, plainPool(t, 1))
			s.extra = tt.extra
			s.start()
			if !strings.HasPrefix(s.profile.URL, tt.url) {
				t.Errorf("the profile has %s", s.profile.URL)
			}
			cmd := s.command(t.Context(), "client", "list-pools")
			cmd.Env = append(cmd.Env, "SSL_CERT_FILE="+certFile)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "plain") {
				t.Errorf("%v: %s", err, out)
			}
			if tt.name == "tls" {
				roots := x509.NewCertPool()
				text, err := os.ReadFile(certFile)
				if err != nil || !roots.AppendCertsFromPEM(text) {
					t.Fatal(err)
				}
				address := strings.TrimSuffix(strings.TrimPrefix(s.profile.URL, "https://"), "/api/v1")
				conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots, NextProtos: []string{"h2"}})
				if err != nil {
					t.Fatal(err)
				}
				if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
					t.Errorf("protocol %q, want h2", got)
				}
				if err := conn.Close(); err != nil {
					t.Error(err)
				}
			}
			s.stop()
		})
	}
}
