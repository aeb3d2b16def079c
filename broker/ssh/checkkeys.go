package ssh

import "strings"

// CheckKeys tells whether a tenant's public keys, a line each, can be put on a
// node: the error names the first line that can't. Blank lines and comments count
// for nothing. [HasKey] tells whether there is any key at all.
func CheckKeys(keys string) error {
	if !HasKey(keys) {
		return nil
	}
	_, err := checkKeys(keys)
	return err
}

// HasKey tells whether keys holds anything but blank lines and comments.
func HasKey(keys string) bool {
	for line := range strings.Lines(keys) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			return true
		}
	}
	return false
}
