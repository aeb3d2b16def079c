package localnode

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// openssh hands every connection to an sshd of its own, in inetd mode.
type openssh struct {
	sshd     string
	dir      directory
	children *children
}

// newOpenSSH finds sshd and writes its configuration, or says why it can't serve
// this user.
func newOpenSSH(l login, procs *children) (*openssh, error) {
	sshd := findProgram("sshd", "/usr/sbin", "/usr/local/sbin", "/sbin")
	if sshd == "" {
		return nil, errors.New("sshd is not installed")
	}
	if !letsIn(l.systemShell) {
		return nil, fmt.Errorf("sshd would refuse %s: /etc/passwd has no shell for it that lets anybody in", l.user)
	}
	if os.Geteuid() == 0 {
		if shadow, err := os.ReadFile("/etc/shadow"); err == nil && isLocked(string(shadow), l.user) {
			return nil, fmt.Errorf("sshd would refuse %s: the account is locked", l.user)
		}
		// Where root's sshd locks its unprivileged half in. Debian's lives on a
		// file system that is empty after each boot, until a service makes it.
		if err := os.MkdirAll("/run/sshd", 0o755); err != nil { //nolint:gosec // what sshd asks for
			return nil, fmt.Errorf("directory that sshd needs: %w", err)
		}
	}
	if err := l.dir.write("sshd_config", sshdConfig(l), 0o600); err != nil {
		return nil, err
	}
	return &openssh{sshd: sshd, dir: l.dir, children: procs}, nil
}

// isLocked tells whether sshd sees the account as locked (without PAM).
func isLocked(shadow, name string) bool {
	for line := range strings.Lines(shadow) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.HasPrefix(rest, "!")
		}
	}
	return false
}

// canGiveTerminals tells whether sshd can. It gives each to the group tty, which
// only root or a member can do. On most systems the terminals belong to that group
// from the start; in some containers they don't, and logins without one work only.
func canGiveTerminals() bool {
	group, err := user.LookupGroup("tty")
	if os.Geteuid() == 0 || err != nil {
		return true
	}
	master, terminal, err := openPTY()
	if err != nil {
		return false
	}
	defer master.Close()   //nolint:errcheck // nothing was written
	defer terminal.Close() //nolint:errcheck // as above
	info, err := terminal.Stat()
	if err != nil {
		return false
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	groups, _ := os.Getgroups()
	return ok && slices.ContainsFunc(append(groups, int(owner.Gid)), func(gid int) bool { return strconv.Itoa(gid) == group.Gid })
}

// sshdConfig keeps sshd away from the caller's real home: its keys, its rc files
// and, through HOME, those of the shell that sshd starts the login script with.
// StrictModes would judge the directories above ours, which protect nothing here.
func sshdConfig(l login) []byte {
	dir := string(l.dir)
	var b bytes.Buffer
	fmt.Fprintf(&b, `HostKey "%[1]s/host_key"
AuthorizedKeysFile "%[1]s/home/.ssh/authorized_keys"
AllowUsers %[2]s
ForceCommand exec /bin/sh '%[1]s/login'
SetEnv "HOME=%[1]s/home" "%[3]s=%[1]s"
AcceptEnv LANG LC_*
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
PermitUserRC no
PrintMotd no
PrintLastLog no
PidFile none
StrictModes no
UseDNS no
UsePAM no
LoginGraceTime 30
MaxAuthTries 20
LogLevel ERROR
`, dir, l.user, nodeDirVariable)
	sftp := findProgram("sftp-server", "/usr/lib/openssh", "/usr/libexec/openssh", "/usr/libexec", "/usr/lib/ssh", "/usr/lib/misc")
	if sftp != "" {
		fmt.Fprintf(&b, "Subsystem sftp %s\n", sftp)
	}
	return b.Bytes()
}

func (s *openssh) serve(ctx context.Context, conn net.Conn) error {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return fmt.Errorf("connection is a %T", conn)
	}
	socket, err := tcp.File()
	if err = errors.Join(err, tcp.Close()); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, s.sshd, "-i", "-e", "-f", s.dir.path("sshd_config")) //nolint:gosec // the path was found by us
	cmd.Stdin, cmd.Stdout, cmd.Stderr = socket, socket, os.Stderr
	cmd.Dir = string(s.dir)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), nodeDirVariable + "=" + string(s.dir)}
	err = s.children.start(cmd, false)
	if err = errors.Join(err, socket.Close()); err != nil {
		return err
	}
	// How a login ended is no news: sshd logs what went wrong itself.
	_ = s.children.wait(cmd)
	return nil
}

// findProgram looks in PATH, then in folders that PATH may lack.
func findProgram(name string, folders ...string) string {
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, folder := range folders {
		if path, err := exec.LookPath(folder + "/" + name); err == nil {
			return path
		}
	}
	return ""
}
