package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// neverHere is what only this architecture has; most of it is there for programs
// of twenty years ago.
var neverHere = []uint32{
	unix.SYS_CREATE_MODULE,
	unix.SYS_GET_KERNEL_SYMS,
	unix.SYS_IOPERM,
	unix.SYS_IOPL,
	unix.SYS_MODIFY_LDT,
	unix.SYS_QUERY_MODULE,
	unix.SYS_SYSFS,
	unix.SYS_USELIB,
	unix.SYS_USTAT,
	unix.SYS__SYSCTL,
}

var forksHere = []uint32{unix.SYS_FORK, unix.SYS_VFORK}
