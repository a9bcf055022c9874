// Package billy stands in for github.com/go-git/go-billy/v5, into whose file systems Syft would
// clone repositories.
package billy

import (
	"io"
	"os"
)

// File is an open file.
type File interface{ io.ReadCloser }

// Filesystem has files.
type Filesystem interface {
	Stat(string) (os.FileInfo, error)
	ReadDir(string) ([]os.FileInfo, error)
	Open(string) (File, error)
}
