package ssh

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/duffy-broker/duffy-broker/broker"
)

// marker is the line in authorized_keys below which all belongs to the tenant.
const marker = "# duffy-broker: the tenant of this node"

// done is what the scripts say last. An account that answers every command with
// a polite refusal and exit status 0 does not say it.
const done = "duffy-broker: done"

// The scripts run as `/bin/sh -c '...'` by whatever login shell there is. So they
// hold nothing that any of sh, csh and fish sees within single quotes: no single
// quote, no exclamation mark, no backslash before another or a quote, no end of
// line. Of outside programs they need mkdir, cat, mv and rm only. The new file
// is written beside the old one and moved over it, so that a login sees one or the
// other whole. Keys come on standard input and are never part of a command.
//
// k copies what stands above the marker, and sets x if it met one.
const (
	preamble = `set -e; umask 077; m="` + marker + `"; f="$HOME/.ssh/authorized_keys"; t="$f.duffy.$$"; x=; r() { rm -f "$t"; }; trap r EXIT; ` +
		`k() { if [ -f "$f" ]; then while IFS= read -r l || [ -n "$l" ]; do if [ "$l" = "$m" ]; then x=1; return 0; fi; printf "%s\n" "$l"; done < "$f"; fi; }; `
	replace  = `mv -f "$t" "$f"; `
	farewell = `trap - EXIT; echo "` + done + `"`

	addScript    = preamble + `mkdir -p "$HOME/.ssh"; { k; printf "%s\n" "$m"; cat; } > "$t"; ` + replace + farewell
	removeScript = preamble + `if [ -f "$f" ]; then k > "$t"; if [ -n "$x" ]; then ` + replace + `else r; fi; fi; ` + farewell
)

// Contextualize puts keys below the marker in the authorized_keys file of the
// node's user, in place of what was there. What stands above the marker stays. A
// node without recorded host keys is refused.
func (c *Client) Contextualize(ctx context.Context, n broker.Node, keys string) error {
	lines, err := checkKeys(keys)
	if err != nil {
		return broker.Errorf(broker.CodeInvalid, "node %d: %s", n.ID, err)
	}
	return c.change(ctx, n, "writing the tenant's key", addScript, lines)
}

// Decontextualize removes the marker and all below it from the authorized_keys
// file of the node's user. A file without a marker is not touched.
func (c *Client) Decontextualize(ctx context.Context, n broker.Node) error {
	return c.change(ctx, n, "removing the tenant's key", removeScript, "")
}

func (c *Client) change(ctx context.Context, n broker.Node, what, script, input string) error {
	conn, failure := c.connect(ctx, n, false)
	if failure != nil {
		return unreachable(ctx, n, failure)
	}
	defer conn.close()
	out, failure := conn.run(ctx, what, "/bin/sh -c '"+script+"'", strings.NewReader(input))
	if failure != nil {
		return unreachable(ctx, n, failure)
	}
	if !strings.HasSuffix(strings.TrimSpace(out), done) {
		return unreachable(ctx, n, &attemptError{what: what, cause: fmt.Errorf("the login ran something else, which said %q", out)})
	}
	return nil
}

// checkKeys gives the keys as lines that are authorized_keys lines and nothing
// else. Comments and blank lines are left out.
func checkKeys(keys string) (string, error) {
	var b strings.Builder
	number := 0
	for line := range strings.Lines(keys) {
		line = strings.TrimSpace(line)
		number++
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if _, _, _, _, err := ssh.ParseAuthorizedKey([]byte(line)); err != nil || strings.ContainsAny(line, "\r\x00") {
			return "", fmt.Errorf("line %d of the ssh keys is no public key", number)
		}
		b.WriteString(line + "\n")
	}
	if b.Len() == 0 {
		return "", errors.New("there is no ssh key to give access to")
	}
	return b.String(), nil
}
