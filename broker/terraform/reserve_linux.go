package terraform

import (
	"errors"
	"os"
	"syscall"
)

// reserve makes sure that f can grow to size on a disk that has no room left. It
// does nothing where the file system can't.
func reserve(f *os.File, size int64) error {
	const keepSize = 1 // FALLOC_FL_KEEP_SIZE of fallocate(2)
	for {
		err := syscall.Fallocate(int(f.Fd()), keepSize, 0, size)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
			return nil
		}
		return err
	}
}
