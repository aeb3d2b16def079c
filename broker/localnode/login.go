package localnode

import (
	"bufio"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// login is what everybody who logs in gets.
type login struct {
	user        string
	shell       string // the caller's
	systemShell string // the one in the password file, "" if the user is not there
	path        string
	hostname    string
	dir         directory
}

func newLogin(o Options, dir directory) (login, error) {
	me, err := user.Current()
	if err != nil {
		return login{}, fmt.Errorf("who runs this: %w", err)
	}
	l := login{user: me.Username, path: os.Getenv("PATH"), hostname: o.Hostname, dir: dir}
	passwd, err := os.ReadFile("/etc/passwd")
	if err == nil {
		l.systemShell = passwdShell(string(passwd), me.Username, os.Getuid())
	}
	l.shell = chooseShell(os.Getenv("SHELL"), l.systemShell)
	if l.path == "" {
		l.path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return l, nil
}

// passwdShell gives the shell of a user in the text of /etc/passwd. A user kept
// elsewhere (LDAP, macOS) has none here.
func passwdShell(passwd, name string, uid int) string {
	lines := bufio.NewScanner(strings.NewReader(passwd))
	for lines.Scan() {
		f := strings.Split(lines.Text(), ":")
		if len(f) == 7 && f[0] == name && f[2] == strconv.Itoa(uid) {
			if f[6] == "" {
				return "/bin/sh" // passwd(5): an empty field means it
			}
			return f[6]
		}
	}
	return ""
}

// chooseShell gives the first that lets somebody in, else /bin/sh.
func chooseShell(shells ...string) string {
	for _, shell := range shells {
		if letsIn(shell) && !strings.ContainsFunc(shell, isUnsafe) {
			return shell
		}
	}
	return "/bin/sh"
}

// letsIn tells whether a shell can be run, and is not one that only says no.
func letsIn(shell string) bool {
	if !filepath.IsAbs(shell) || slices.Contains([]string{"nologin", "false"}, filepath.Base(shell)) {
		return false
	}
	info, err := os.Stat(shell) //nolint:gosec // looked at only
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// script is what a login runs, on either server: it takes the caller's real home
// away before the caller's shell starts. An interactive shell is a login shell.
func (l login) script() []byte {
	path := strings.ReplaceAll(l.path, "'", `'\''`)
	return fmt.Appendf(nil, `#!/bin/sh
# Run by every login on this node. Written anew when the node starts.
export HOME='%[1]s' DUFFY_NODE='%[2]s' DUFFY_NODE_DIR='%[3]s' SHELL='%[4]s' PATH='%[5]s'
cd "$HOME" || cd /
if [ -n "${SSH_ORIGINAL_COMMAND+set}" ]; then
	command=$SSH_ORIGINAL_COMMAND
	unset SSH_ORIGINAL_COMMAND
	exec "$SHELL" -c "$command"
fi
exec "$SHELL" -l
`, l.home(), l.hostname, string(l.dir), l.shell, path)
}

// environ is what the built-in server starts the script with, and so what the
// script does not set.
func (l login) environ() []string {
	env := []string{"USER=" + l.user, "LOGNAME=" + l.user, nodeDirVariable + "=" + string(l.dir)}
	for _, name := range []string{"LANG", "TZ"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

func (l login) home() string { return l.dir.path("home") }

// nodeDirVariable marks every process of a node, so that Stop can find it.
const nodeDirVariable = "DUFFY_NODE_DIR"
