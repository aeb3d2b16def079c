package localnode

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// The values of Options.Server.
const (
	ServerAuto    = "auto"    // OpenSSH where it can serve the caller, else the built-in server
	ServerOpenSSH = "openssh" // OpenSSH's sshd, or an error
	ServerBuiltin = "builtin" // the server in this binary
)

// Options say what node [Start] makes.
type Options struct {
	// Dir is the node's directory: absolute, and the node's alone.
	Dir string `json:"dir"`
	// UID decides which loopback address the node tries first.
	UID string `json:"uid"`
	// Hostname is what logins see as DUFFY_NODE. It may be empty.
	Hostname string `json:"hostname"`
	// Keys are authorized_keys lines that may log in. Blank ones are left out.
	Keys []string `json:"keys"`
	// Server is one of the Server constants; "" is [ServerAuto].
	Server string `json:"server"`

	// BootDelay is for how long the node does not listen yet. Start does not wait for it.
	BootDelay time.Duration `json:"boot_delay"`
	// Silent nodes accept connections and never say a word.
	Silent bool `json:"silent"`
	// DiesAfter is how long the server lives from when it listens; 0 is for ever.
	DiesAfter time.Duration `json:"dies_after"`

	// Executable is run as `EXECUTABLE local-node serve --dir DIR`.
	Executable string `json:"executable"`
}

// check reports all that is wrong at once, and drops blank keys.
func (o *Options) check() error {
	var errs []error
	if err := checkDir(o.Dir); err != nil {
		errs = append(errs, err)
	}
	if o.UID == "" {
		errs = append(errs, errors.New("uid is empty"))
	}
	if strings.ContainsFunc(o.Hostname, isUnsafe) {
		errs = append(errs, fmt.Errorf("hostname %q holds a quote, a backslash or a control character", o.Hostname))
	}
	if o.Executable == "" {
		errs = append(errs, errors.New("executable is empty"))
	}
	if o.BootDelay < 0 || o.DiesAfter < 0 {
		errs = append(errs, fmt.Errorf("boot delay %s and dies after %s must not be negative", o.BootDelay, o.DiesAfter))
	}
	switch o.Server {
	case "":
		o.Server = ServerAuto
	case ServerAuto, ServerOpenSSH, ServerBuiltin:
	default:
		errs = append(errs, fmt.Errorf("server %q is none of %s, %s, %s", o.Server, ServerAuto, ServerOpenSSH, ServerBuiltin))
	}
	o.Keys = slices.DeleteFunc(slices.Clone(o.Keys), func(key string) bool { return strings.TrimSpace(key) == "" })
	if len(o.Keys) == 0 {
		errs = append(errs, errors.New("no ssh public key: nobody could log in"))
	}
	for i, key := range o.Keys {
		o.Keys[i] = strings.TrimSpace(key)
		_, _, _, rest, err := ssh.ParseAuthorizedKey([]byte(o.Keys[i]))
		if err != nil || len(rest) > 0 {
			errs = append(errs, fmt.Errorf("ssh public key %d is not one authorized_keys line", i+1))
		}
	}
	return errors.Join(errs...)
}

// checkDir keeps to names that need no escape in sshd_config, in sh, and in
// whatever shell sshd runs.
func checkDir(dir string) error {
	switch {
	case !filepath.IsAbs(dir) || filepath.Clean(dir) == "/":
		return fmt.Errorf("directory %q is not an absolute path below /", dir)
	case strings.ContainsFunc(dir, isUnsafe):
		return fmt.Errorf("directory %q holds a quote, a backslash, a percent or exclamation mark, or a control character", dir)
	}
	return nil
}

func isUnsafe(r rune) bool { return r < ' ' || r == 0x7f || strings.ContainsRune("'\"\\%!", r) }

func (o Options) encode() ([]byte, error) { return json.MarshalIndent(o, "", "  ") }

func decodeOptions(text []byte) (Options, error) {
	var o Options
	if err := json.Unmarshal(text, &o); err != nil {
		return Options{}, err
	}
	return o, o.check()
}
