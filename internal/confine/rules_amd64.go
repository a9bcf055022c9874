package confine

import "golang.org/x/sys/unix"

const auditArch = unix.AUDIT_ARCH_X86_64

// deniedArch lists the denied calls that only this architecture has; most are
// obsolete.
var deniedArch = []uint32{
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

// forkCalls lists the calls besides clone that start a process.
var forkCalls = []uint32{unix.SYS_FORK, unix.SYS_VFORK}
