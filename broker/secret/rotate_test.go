package secret

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killJob makes the test binary a process that rotates keys and kills itself
// after a number of steps: "STEPS DIR [NEW-FILE]".
const killJob = "DUFFY_TEST_ROTATE_AND_DIE"

func TestMain(m *testing.M) {
	if job := os.Getenv(killJob); job != "" {
		fmt.Fprintln(os.Stderr, "rotation ended before its death:", rotateAndDie(strings.Split(job, "\n")))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func rotateAndDie(job []string) error {
	left, err := strconv.Atoi(job[0])
	if err != nil {
		return err
	}
	step := func() {
		if left--; left <= 0 {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if len(job) == 2 {
		_, err = rotate(job[1], step)
		return err
	}
	k, err := Open(job[1])
	if err != nil {
		return err
	}
	_, err = rotateTo(job[1], k, job[2], step)
	return err
}

// killed runs a rotation until its death after so many steps; false if it came to
// its end before.
func killed(t *testing.T, steps int, args ...string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killJob+"="+strings.Join(append([]string{strconv.Itoa(steps)}, args...), "\n"))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		t.Fatalf("%v: %s", err, out)
	}
	if exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		return true
	}
	if !strings.Contains(string(out), "<nil>") {
		t.Fatalf("%v: %s", err, out)
	}
	return false
}

func mustOpen(t *testing.T, dir string) *Keyring {
	t.Helper()
	k, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sealedV1With seals as versions did that knew one key only.
func sealedV1With(t *testing.T, k Key, purpose, aad, plain string) []byte {
	t.Helper()
	block, err := aes.NewCipher(k.subkey(purpose))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		t.Fatal(err)
	}
	return aead.Seal([]byte{sealedV1}, nil, []byte(plain), []byte(aad))
}

func wantOpens(t *testing.T, k *Keyring, sealed []byte, want string) {
	t.Helper()
	if got, err := k.Open("state", "n1", sealed); err != nil || string(got) != want {
		t.Errorf("opened: %q, %v; want %q", got, err, want)
	}
}

// What the first version made with a key of 32 bytes 7: "plain" sealed as state of
// n1, and the hash of "api-key".
const (
	goldenSealed = "AceNgGuaLPo/jqX/NMxX1UPeaJbvXCT7bLOuKPP/vgx9Aw=="
	goldenHash   = "p90S3OkRf+WOKvEB1rerGW32ZE7h17vK9f12juPNXF8="
)

// What an earlier version has written: it opens, whatever was rotated since.
func TestFirstFormat(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, rootKeyFile), bytes.Repeat([]byte{7}, keySize), 0o600); err != nil {
		t.Fatal(err)
	}
	sealed, err := base64.StdEncoding.DecodeString(goldenSealed)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := base64.StdEncoding.DecodeString(goldenHash)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		k := mustOpen(t, dir)
		wantOpens(t, k, sealed, "plain")
		if !k.EqualAPIKey("api-key", hash) || k.EqualAPIKey("api-kez", hash) {
			t.Error("an older hash does not tell its API key from others")
		}
		if k.SealedByCurrent(sealed) || k.CurrentAPIKeyHash(hash) || k.KeyOf(sealed) != "" || k.KeyOf(hash) != "" {
			t.Error("values of the first format count as made with the current key")
		}
		if _, err := Rotate(dir); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRotateTwice(t *testing.T) {
	dir := t.TempDir()
	first := mustOpen(t, dir)
	sealed := [][]byte{sealedV1With(t, first.Current(), "state", "n1", "0"), first.Seal("state", "n1", []byte("1"))}
	hashes := [][]byte{first.HashAPIKey("api-key")}
	ids := []string{first.Current().ID()}
	for i := range 2 {
		k, err := Rotate(dir)
		if err != nil {
			t.Fatal(err)
		}
		ids = append([]string{k.Current().ID()}, ids...)
		sealed = append(sealed, k.Seal("state", "n1", []byte(strconv.Itoa(i+2))))
		hashes = append(hashes, k.HashAPIKey("api-key"))
		time.Sleep(2 * time.Millisecond) // so that modification times tell them apart
	}
	k := mustOpen(t, dir)
	var got []string
	for _, key := range k.Keys() {
		got = append(got, key.ID())
	}
	if !slices.Equal(got, ids) || len(slices.Compact(slices.Sorted(slices.Values(got)))) != 3 {
		t.Errorf("keys %q, want %q", got, ids)
	}
	for i, s := range sealed {
		wantOpens(t, k, s, strconv.Itoa(i))
		if current := k.SealedByCurrent(s); current != (i == 3) {
			t.Errorf("value %d counts as sealed with the current key: %t", i, current)
		}
	}
	for i, h := range hashes {
		if !k.EqualAPIKey("api-key", h) || k.EqualAPIKey("api-kez", h) {
			t.Errorf("hash %d does not tell its API key from others", i)
		}
		if current := k.CurrentAPIKeyHash(h); current != (i == 2) {
			t.Errorf("hash %d counts as made with the current key: %t", i, current)
		}
	}

	// A key that was removed opens nothing any more, and says which it is.
	if err := os.Remove(filepath.Join(dir, oldKeysDir, ids[2]+".key")); err != nil {
		t.Fatal(err)
	}
	k = mustOpen(t, dir)
	for i, want := range []string{"another root key", "needs the root key " + ids[2]} {
		if _, err := k.Open("state", "n1", sealed[i]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("value %d: %v, want an error with %q", i, err, want)
		}
	}
	wantOpens(t, k, sealed[2], "2")
	if k.EqualAPIKey("api-key", hashes[0]) || !k.EqualAPIKey("api-key", hashes[1]) {
		t.Error("the hash of a removed key is equal, or that of a kept one is not")
	}
}

// A kill at any step of a rotation loses no key, and it can be made again.
func TestRotateKilled(t *testing.T) {
	for _, kind := range []string{"in the directory", "to a file outside"} {
		t.Run(kind, func(t *testing.T) {
			steps := 0
			for ; ; steps++ {
				dir := t.TempDir()
				outside := filepath.Join(t.TempDir(), "new.key")
				k := mustOpen(t, dir)
				sealed := [][]byte{k.Seal("state", "n1", []byte("0"))}
				k, err := Rotate(dir) // so that there is an old key already
				if err != nil {
					t.Fatal(err)
				}
				sealed = append(sealed, k.Seal("state", "n1", []byte("1")))
				args := []string{dir}
				if kind == "to a file outside" {
					args = append(args, outside)
				}
				if !killed(t, steps+1, args...) {
					break
				}

				again := func() (*Keyring, error) { return Rotate(dir) }
				if len(args) == 1 {
					k = mustOpen(t, dir)
				} else {
					k = openEither(t, dir, outside)
					again = func() (*Keyring, error) { return RotateTo(dir, k, outside) }
					if k.Current().Path == outside {
						again = func() (*Keyring, error) { return k, nil }
					}
				}
				check := func(when string, k *Keyring) {
					for i, s := range sealed {
						if _, err := k.Open("state", "n1", s); err != nil {
							t.Errorf("killed after step %d, %s: value %d: %v", steps+1, when, i, err)
						}
					}
				}
				check("then opened", k)
				if k, err = again(); err != nil {
					t.Fatalf("killed after step %d: again: %v", steps+1, err)
				}
				check("again", k)
				if k.SealedByCurrent(sealed[1]) {
					t.Errorf("killed after step %d: the second rotation changed nothing", steps+1)
				}
			}
			t.Logf("killed after each of %d steps", steps)
			if steps < 7 {
				t.Errorf("a rotation has %d steps only: not all of them are seen", steps)
			}
		})
	}
}

// openEither opens a directory as the broker would: with the key outside if there
// is one, and else, or where that does not fit yet, with its own.
func openEither(t *testing.T, dir, outside string) *Keyring {
	t.Helper()
	k, err := Open(dir)
	if err == nil {
		return k
	}
	key, outsideErr := ReadKeyFile(outside)
	if outsideErr != nil {
		t.Fatal(err, outsideErr)
	}
	if k, err = OpenWith(dir, key); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestRotateTo(t *testing.T) {
	dir, outside := t.TempDir(), t.TempDir()
	k := mustOpen(t, dir)
	sealed := [][]byte{k.Seal("state", "n1", []byte("0"))}
	k, err := Rotate(dir)
	if err != nil {
		t.Fatal(err)
	}
	past := time.Now().Add(-100 * time.Hour)
	if err := os.Chtimes(k.Keys()[1].Path, past, past); err != nil {
		t.Fatal(err)
	}
	k = mustOpen(t, dir)
	sealed = append(sealed, k.Seal("state", "n1", []byte("1")))
	for i, name := range []string{"a.key", "b.key"} {
		path := filepath.Join(outside, name)
		if k, err = RotateTo(dir, k, path); err != nil {
			t.Fatal(err)
		}
		if _, err := RotateTo(dir, k, path); err == nil || !strings.Contains(err.Error(), "holds the current key") {
			t.Errorf("to the current key: %v", err)
		}
		sealed = append(sealed, k.Seal("state", "n1", []byte(strconv.Itoa(i+2))))
	}

	// The directory alone opens nothing: it has no key in clear.
	if _, err := os.Stat(filepath.Join(dir, rootKeyFile)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the directory has still its own key: %v", err)
	}
	for _, key := range k.Keys() {
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if bytes.Contains(content, key.root) {
				t.Errorf("%s has the key %s in clear", path, key.ID())
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), "no current one") {
		t.Errorf("opened without the key outside: %v", err)
	}
	a, err := ReadKeyFile(filepath.Join(outside, "a.key"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenWith(dir, a); err == nil || !strings.Contains(err.Error(), "sealed with another key than the current one") {
		t.Errorf("opened with the key before: %v", err)
	}

	b, err := ReadKeyFile(filepath.Join(outside, "b.key"))
	if err != nil {
		t.Fatal(err)
	}
	if k, err = OpenWith(dir, b); err != nil {
		t.Fatal(err)
	}
	for i, s := range sealed {
		wantOpens(t, k, s, strconv.Itoa(i))
	}
	keys := k.Keys()
	if len(keys) != 4 || !keys[3].Since.Equal(past) {
		t.Errorf("keys %v; want 4, the oldest replaced at %v, not %v", keys, past, keys[len(keys)-1].Since)
	}
	// Any old key can go alone: no other hangs on it.
	for _, key := range keys[1:] {
		if err := os.Rename(key.Path, key.Path+".away"); err != nil {
			t.Fatal(err)
		}
		if k, err := OpenWith(dir, b); err != nil || len(k.Keys()) != 3 {
			t.Errorf("without %s: %v", key.ID(), err)
		}
		if err := os.Rename(key.Path+".away", key.Path); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRotateRefuses(t *testing.T) {
	if _, err := Rotate(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a key: %v", err)
	}
	dir := t.TempDir()
	k := mustOpen(t, dir)
	bad := filepath.Join(t.TempDir(), "bad.key")
	if err := os.WriteFile(bad, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := RotateTo(dir, k, bad); err == nil || !strings.Contains(err.Error(), "has 5 bytes, not 32") {
		t.Errorf("to a bad file: %v", err)
	}
	if got := mustOpen(t, dir).Keys(); len(got) != 1 || got[0].ID() != k.Current().ID() {
		t.Errorf("the ring has changed: %v", got)
	}
}

func TestOldKeysThatAreNone(t *testing.T) {
	for name, tt := range map[string]struct {
		file string
		text []byte
		mode fs.FileMode
		want string
	}{
		"empty":           {"00000000.key", nil, 0o600, "has 0 bytes, and is no key"},
		"text":            {"00000000.key", bytes.Repeat([]byte("x"), 65), 0o600, "is no key"},
		"another name":    {"00000000.key", bytes.Repeat([]byte("x"), 32), 0o600, "is the key "},
		"open for others": {"00000000.key", bytes.Repeat([]byte("x"), 32), 0o644, "mode 0644"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			mustOpen(t, dir)
			path := filepath.Join(dir, oldKeysDir, tt.file)
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, tt.text, tt.mode); err != nil {
				t.Fatal(err)
			}
			if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("got %v, want an error with the path and %q", err, tt.want)
			}
		})
	}
}

func TestParseKey(t *testing.T) {
	root := bytes.Repeat([]byte{0xfb}, keySize)
	text := base64.StdEncoding.EncodeToString(root)
	for _, good := range []string{text, text + "\n", " " + strings.TrimRight(text, "=")} {
		if k, err := ParseKey(good); err != nil || !bytes.Equal(k.root, root) {
			t.Errorf("ParseKey(%q): %v", good, err)
		}
	}
	for bad, want := range map[string]string{
		"":              "of 0 bytes, not of 32",
		"!":             "not base64",
		text[:20]:       "of 15 bytes, not of 32",
		text + text:     "not base64",
		text[:43] + "A": "of 33 bytes, not of 32",
	} {
		if _, err := ParseKey(bad); err == nil || !strings.Contains(err.Error(), want) || len(bad) > 3 && strings.Contains(err.Error(), bad[:4]) {
			t.Errorf("ParseKey(%q): %v, want an error with %q and without the text", bad, err, want)
		}
	}
}

func TestReadKeyFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "k")
	if err := CreateKeyFile(path); err != nil {
		t.Fatal(err)
	}
	if err := CreateKeyFile(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("made twice: %v", err)
	}
	for mode, fine := range map[fs.FileMode]bool{0o600: true, 0o400: true, 0o440: true, 0o460: false, 0o444: false, 0o604: false, 0o602: false} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := ReadKeyFile(path)
		if (err == nil) != fine || err != nil && !strings.Contains(err.Error(), path) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if _, err := ReadKeyFile(dir); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := ReadKeyFile(path + ".missing"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none there: %v", err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

// However it is printed, a key is its id.
func TestKeyIsNotShown(t *testing.T) {
	k := newKey([]byte("0123456789abcdef0123456789abcdef"))
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("key", "key", k, "pointer", &k)
	for _, got := range []string{fmt.Sprint(k), fmt.Sprintf("%+v %#v %s %v", k, k, k, &k), log.String()} {
		if strings.Contains(got, "0123456") || strings.Contains(got, "48 49") || strings.Contains(got, "0x30") || !strings.Contains(got, k.ID()) {
			t.Errorf("printed: %s", got)
		}
	}
}
