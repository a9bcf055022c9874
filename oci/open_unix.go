//go:build unix

package oci

import "syscall"

// noFollow makes opening a symlink an error.
const noFollow = syscall.O_NOFOLLOW
