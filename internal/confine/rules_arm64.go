package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_AARCH64

// This architecture has none of amd64's obsolete calls.
var deniedArch, forkCalls []uint32
