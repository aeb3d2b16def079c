package localnode

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker/brokertest"
)

func TestLogin_seesItsNodeAndNothingElse(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		real := t.TempDir()
		t.Setenv("HOME", real)
		t.Setenv("SHELL", "/bin/sh")
		t.Setenv("CLOUD_SECRET", "hush")
		if err := os.MkdirAll(filepath.Join(real, ".ssh"), 0o700); err != nil {
			t.Fatal(err)
		}
		callers := filepath.Join(real, ".ssh", "authorized_keys")
		if err := os.WriteFile(callers, []byte("the caller's\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		me, err := user.Current()
		if err != nil {
			t.Fatal(err)
		}
		// sshd starts from the home in the password file, whatever HOME says.
		systems := filepath.Join(me.HomeDir, ".ssh", "authorized_keys")
		before, _ := os.ReadFile(systems)

		n := newNode(t, server).start(t)
		got := n.run(t, `echo "$HOME|$PWD|$DUFFY_NODE|$SHELL|$LOGNAME|${CLOUD_SECRET-none}|${SSH_ORIGINAL_COMMAND-none}|$(cd ~; pwd)"`)
		home := n.Dir + "/home"
		want := strings.Join([]string{home, home, n.Hostname, "/bin/sh", me.Username, "none", "none", home}, "|")
		if got != want {
			t.Errorf("login\n got %s\nwant %s", got, want)
		}
		if got, want := n.fact(t, "user"), me.Username; got != want {
			t.Errorf("user %s, want %s", got, want)
		}
		n.run(t, "echo more >> ~/.ssh/authorized_keys; touch ~/file")
		if _, err := os.Stat(home + "/file"); err != nil {
			t.Error(err)
		}
		if text, _ := os.ReadFile(callers); string(text) != "the caller's\n" {
			t.Errorf("the caller's authorized_keys changed: %q", text)
		}
		if after, _ := os.ReadFile(systems); !bytes.Equal(before, after) {
			t.Errorf("%s changed", systems)
		}
	})
}

func TestLogin_carriesStreamsAndStatus(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server).start(t)
		client := n.login(t)
		session, err := client.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		input := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		var stdout, stderr bytes.Buffer
		session.Stdin, session.Stdout, session.Stderr = bytes.NewReader(input), &stdout, &stderr
		err = session.Run("cat; echo oops >&2; exit 3")
		exit := (*ssh.ExitError)(nil)
		if !errors.As(err, &exit) || exit.ExitStatus() != 3 {
			t.Errorf("got %v, want exit status 3", err)
		}
		if !bytes.Equal(stdout.Bytes(), input) {
			t.Errorf("got %d bytes back, want the same %d", stdout.Len(), len(input))
		}
		if got := stderr.String(); got != "oops\n" {
			t.Errorf("stderr %q", got)
		}
	})
}

func TestLogin_onlyWithAKnownKeyAndAsTheCaller(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		n := newNode(t, server).start(t)
		me := n.fact(t, "user")
		stranger := newKey(t)
		if client, err := n.dial(t, me, stranger); err == nil {
			_ = client.Close()
			t.Error("a key that is not in authorized_keys logged in")
		}
		if client, err := n.dial(t, "nobody", n.key); err == nil {
			_ = client.Close()
			t.Error("another user logged in")
		}
		// The file is read at each login.
		keys := directory(n.Dir).authorizedKeys()
		if err := os.WriteFile(keys, []byte(n.Keys[0]+"\n# a comment\n\n"+keyLine(stranger)+" name\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		client, err := n.dial(t, me, stranger)
		if err != nil {
			t.Fatalf("an added key: %v", err)
		}
		_ = client.Close()
		if err := os.WriteFile(keys, []byte(n.Keys[0]+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if client, err := n.dial(t, me, stranger); err == nil {
			_ = client.Close()
			t.Error("a key that was removed logged in")
		}
	})
}

// The built-in server could not keep the promise of an option, so it trusts no
// key that has one.
func TestLogin_builtinRefusesKeysWithOptions(t *testing.T) {
	n := newNode(t, ServerBuiltin).start(t)
	line := `command="false" ` + n.Keys[0] + "\n"
	if err := os.WriteFile(directory(n.Dir).authorizedKeys(), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	if client, err := n.dial(t, n.fact(t, "user"), n.key); err == nil {
		_ = client.Close()
		t.Error("logged in")
	}
}

func TestLogin_terminal(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		if server == ServerOpenSSH && !canGiveTerminals() {
			brokertest.Skip(t, "only root's sshd can give terminals here: /dev/pts is not mounted with the group tty")
		}
		t.Setenv("SHELL", "/bin/sh")
		n := newNode(t, server).start(t)
		session, err := n.login(t).NewSession()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.RequestPty("xterm", 40, 132, ssh.TerminalModes{ssh.ECHO: 0}); err != nil {
			t.Fatal(err)
		}
		input, err := session.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		output, err := session.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := session.Shell(); err != nil {
			t.Fatal(err)
		}
		// until reads to a mark that the typed text, if echoed, does not hold.
		var seen bytes.Buffer
		until := func(mark string) {
			t.Helper()
			for !strings.Contains(seen.String(), mark) {
				buffer := make([]byte, 4096)
				k, err := output.Read(buffer)
				seen.Write(buffer[:k])
				if err != nil {
					t.Fatalf("no %q in %q: %v", mark, seen.String(), err)
				}
			}
		}
		enter := func(line string) {
			if _, err := input.Write([]byte(line + "\n")); err != nil {
				t.Fatal(err)
			}
		}
		enter(`echo "size=$(stty size) term=$TERM" done=$((1))`)
		until("size=40 132 term=xterm done=1")
		if err := session.WindowChange(50, 100); err != nil {
			t.Fatal(err)
		}
		// The change has no answer, and comes in order before what is typed next.
		enter(`echo "size=$(stty size)" done=$((2))`)
		until("size=50 100 done=2")
		// A background program keeps the terminal open, and the session ends all the same.
		enter(`trap "" HUP; sleep 600 & echo last=$((3)); exit 7`)
		until("last=3")
		exit := (*ssh.ExitError)(nil)
		if err := session.Wait(); !errors.As(err, &exit) || exit.ExitStatus() != 7 {
			t.Errorf("got %v, want exit status 7", err)
		}
	})
}

// What a program wrote last is read, though the deadline for its end is over.
func TestDrain(t *testing.T) {
	master, terminal, err := openPTY()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = master.Close(), terminal.Close() }()
	if _, err := terminal.WriteString("last words"); err != nil {
		t.Fatal(err)
	}
	if err := master.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var got bytes.Buffer
	drain(&got, master)
	if got.String() != "last words" {
		t.Errorf("got %q", got.String())
	}
}

func TestLogin_signal(t *testing.T) {
	n := newNode(t, ServerBuiltin).start(t)
	session, err := n.login(t).NewSession()
	if err != nil {
		t.Fatal(err)
	}
	output, err := session.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Start("echo up; exec sleep 600"); err != nil {
		t.Fatal(err)
	}
	if _, err := output.Read(make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	if err := session.Signal(ssh.SIGTERM); err != nil {
		t.Fatal(err)
	}
	exit := (*ssh.ExitError)(nil)
	if err := session.Wait(); !errors.As(err, &exit) || exit.Signal() != "TERM" {
		t.Errorf("got %v, want an end by SIGTERM", err)
	}
}

func TestLogin_scp(t *testing.T) {
	brokertest.NeedProgram(t, "sshd")
	scp := brokertest.NeedProgram(t, "scp")
	n := newNode(t, ServerOpenSSH)
	dir := t.TempDir()
	keyFile := filepath.Join(dir, "key")
	text, err := newHostKey()
	if err != nil {
		t.Fatal(err)
	}
	if n.key, err = ssh.ParsePrivateKey(text); err != nil {
		t.Fatal(err)
	}
	n.Keys = []string{keyLine(n.key)}
	if err := os.WriteFile(keyFile, text, 0o600); err != nil {
		t.Fatal(err)
	}
	n.start(t)
	known := filepath.Join(dir, "known_hosts")
	line := "[" + n.fact(t, "address") + "]:" + n.fact(t, "port") + " " + n.fact(t, "host_key.pub") + "\n"
	line += n.fact(t, "address") + " " + n.fact(t, "host_key.pub") + "\n" // how port 22 is looked up
	if err := os.WriteFile(known, []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(scp, "-q", "-F", "none", "-i", keyFile, "-o", "UserKnownHostsFile="+known, "-o", "BatchMode=yes", "-P", n.fact(t, "port"),
		keyFile, n.fact(t, "user")+"@"+n.fact(t, "address")+":copy").CombinedOutput()
	if err != nil {
		t.Fatalf("scp: %v: %s", err, out)
	}
	got, err := os.ReadFile(n.Dir + "/home/copy")
	if err != nil || !bytes.Equal(got, text) {
		t.Errorf("copy: %v", err)
	}
}

func TestPasswdShell(t *testing.T) {
	const passwd = "root:x:0:0:root:/root:/bin/bash\nbin:x:2:2::/bin:/usr/sbin/nologin\nbare:x:7:7::/:\n"
	for _, tt := range []struct {
		name string
		uid  int
		want string
	}{
		{"root", 0, "/bin/bash"},
		{"bin", 2, "/usr/sbin/nologin"},
		{"bare", 7, "/bin/sh"},
		{"bin", 3, ""},
		{"from-ldap", 1000, ""},
	} {
		if got := passwdShell(passwd, tt.name, tt.uid); got != tt.want {
			t.Errorf("passwdShell(%s, %d) = %q, want %q", tt.name, tt.uid, got, tt.want)
		}
	}
}

func TestChooseShell(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, nil, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	good, nologin, plain := write("good", 0o700), write("nologin", 0o700), write("plain", 0o600)
	for _, tt := range []struct {
		name   string
		shells []string
		want   string
	}{
		{"first", []string{good, "/bin/sh"}, good},
		{"empty", []string{"", good}, good},
		{"nologin", []string{nologin, good}, good},
		{"not executable", []string{plain, good}, good},
		{"relative", []string{"good"}, "/bin/sh"},
		{"missing", []string{filepath.Join(dir, "missing"), dir}, "/bin/sh"},
	} {
		if diff := cmp.Diff(tt.want, chooseShell(tt.shells...)); diff != "" {
			t.Errorf("%s: -want +got\n%s", tt.name, diff)
		}
	}
}

func TestIsLocked(t *testing.T) {
	const shadow = "root:*:1:::::\nlocked:!$y$x:1:::::\nopen:$y$x:1:::::\n"
	for name, want := range map[string]bool{"root": false, "locked": true, "open": false, "missing": false} {
		if got := isLocked(shadow, name); got != want {
			t.Errorf("isLocked(%s) = %t, want %t", name, got, want)
		}
	}
}
