//go:build unix

package main

import "golang.org/x/sys/unix"

// noCoreDump lets a crash write no core file, which would have tokens and passwords in it. If
// it cannot, the limit was that low already.
func noCoreDump() { _ = unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}) }
