package audit

import (
	"os"

	"golang.org/x/sys/unix"
)

// datasync is fdatasync(2): the content and the size of a file are on the disk when it returns.
func datasync(f *os.File) error { return unix.Fdatasync(int(f.Fd())) }
