//go:build !linux

package terraform

import "os"

// reserve does nothing: other systems have no common call for it.
func reserve(*os.File, int64) error { return nil }
