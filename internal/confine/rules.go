package confine

import (
	"maps"
	"slices"

	"golang.org/x/sys/unix"
)

// newest is the newest system call that these rules consider. Calls that a later
// kernel adds are refused until someone reviews them and raises newest.
const newest = unix.SYS_RSEQ_SLICE_YIELD

// denied lists the calls that neither roles nor rooms need. They change the
// machine, read other processes, or reach parts of the kernel that are attacked
// often.
var denied = append([]uint32{
	unix.SYS_ACCT,
	unix.SYS_ADJTIMEX,
	unix.SYS_BPF,
	unix.SYS_CLOCK_ADJTIME,
	unix.SYS_CLOCK_SETTIME,
	unix.SYS_DELETE_MODULE,
	unix.SYS_FANOTIFY_INIT,
	unix.SYS_FINIT_MODULE,
	unix.SYS_INIT_MODULE,
	unix.SYS_KCMP,
	unix.SYS_KEXEC_FILE_LOAD,
	unix.SYS_KEXEC_LOAD,
	unix.SYS_LOOKUP_DCOOKIE,
	unix.SYS_NFSSERVCTL,
	unix.SYS_OPEN_BY_HANDLE_AT,
	unix.SYS_PERF_EVENT_OPEN,
	unix.SYS_PIDFD_GETFD,
	unix.SYS_PROCESS_MADVISE,
	unix.SYS_PROCESS_VM_READV,
	unix.SYS_PROCESS_VM_WRITEV,
	unix.SYS_QUOTACTL,
	unix.SYS_QUOTACTL_FD,
	unix.SYS_REBOOT,
	unix.SYS_SETTIMEOFDAY,
	unix.SYS_SWAPOFF,
	unix.SYS_SWAPON,
	unix.SYS_SYSLOG,
	unix.SYS_VHANGUP,
}, deniedArch...)

// absent lists calls that fail with ENOSYS, as in a kernel built without them:
// programs then fall back to other calls. clone3 is absent because its flags are
// in memory, where no filter can read them; programs fall back to clone.
var absent = []uint32{
	unix.SYS_ADD_KEY,
	unix.SYS_CLONE3,
	unix.SYS_IO_SETUP, // takes from fs.aio-max-nr, which all users of the machine share
	unix.SYS_IO_URING_ENTER,
	unix.SYS_IO_URING_REGISTER,
	unix.SYS_IO_URING_SETUP,
	unix.SYS_KEYCTL,
	unix.SYS_REQUEST_KEY,
	unix.SYS_USERFAULTFD,
}

// roomCalls lists the calls that only roles that open rooms, and the processes
// in rooms, need.
var roomCalls = []uint32{
	unix.SYS_CHROOT,
	unix.SYS_FSCONFIG,
	unix.SYS_FSMOUNT,
	unix.SYS_FSOPEN,
	unix.SYS_FSPICK,
	unix.SYS_MOUNT,
	unix.SYS_MOUNT_SETATTR,
	unix.SYS_MOVE_MOUNT,
	unix.SYS_OPEN_TREE,
	unix.SYS_OPEN_TREE_ATTR,
	unix.SYS_PIVOT_ROOT,
	unix.SYS_PTRACE,
	unix.SYS_SETDOMAINNAME,
	unix.SYS_SETHOSTNAME,
	unix.SYS_SETNS,
	unix.SYS_UMOUNT2,
	unix.SYS_UNSHARE,
}

// namespaces are the flags of clone that create a namespace. (CLONE_NEWTIME is not
// among them: clone reads its bit as part of the exit signal.)
const namespaces = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET |
	unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// all is the mask that compares all 32 bits.
const all = ^uint32(0)

// network selects the kinds of sockets that a process may create.
type network int

const (
	onlyUnix network = iota
	internet         // also IPv4, IPv6 and NETLINK_ROUTE
	// Also NETLINK_NETFILTER and NETLINK_XFRM. Nothing in a room uses them, but the
	// library that sets up BuildKit's proxy network opens them before NETLINK_ROUTE,
	// and fails if it cannot.
	roomNetwork
)

// common returns the rules of every role and every room.
func common(n network) []rule {
	var out []rule
	for _, nr := range denied {
		out = append(out, rule{nr, nil, unix.EPERM})
	}
	for _, nr := range absent {
		out = append(out, rule{nr, nil, unix.ENOSYS})
	}
	// Allow the default personality (0) and reading the current one (0xffffffff).
	for _, p := range []uint32{0, all} {
		out = append(out, rule{unix.SYS_PERSONALITY, []cond{{0, all, p}}, 0})
	}
	out = append(out, rule{unix.SYS_PERSONALITY, nil, unix.EPERM})
	// These insert input into a terminal that other processes read.
	for _, request := range []uint32{unix.TIOCSTI, unix.TIOCLINUX} {
		out = append(out, rule{unix.SYS_IOCTL, []cond{{1, all, request}}, unix.EPERM})
	}
	return append(out, sockets(n)...)
}

// sockets returns the rules of socket and socketpair. They refuse a family with the
// errors of a kernel that lacks it, because some programs exit on EPERM. IPv4 and
// IPv6 sockets may use only TCP, UDP and ICMP.
func sockets(n network) []rule {
	const domain, kind, protocol = 0, 1, 2
	out := []rule{
		// SOCK_PACKET creates a packet socket with any family (packet(7)).
		{unix.SYS_SOCKET, []cond{{kind, 0xf, unix.SOCK_PACKET}}, unix.EPERM},
		{unix.SYS_SOCKET, []cond{{domain, all, unix.AF_UNIX}}, 0},
	}
	protocols := map[uint32][]uint32{}
	if n >= internet {
		ip := []uint32{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6}
		protocols[unix.AF_INET], protocols[unix.AF_INET6] = ip, ip
		protocols[unix.AF_NETLINK] = []uint32{unix.NETLINK_ROUTE}
	}
	if n == roomNetwork {
		protocols[unix.AF_NETLINK] = append(protocols[unix.AF_NETLINK], unix.NETLINK_XFRM, unix.NETLINK_NETFILTER)
	}
	for _, family := range slices.Sorted(maps.Keys(protocols)) {
		for _, p := range protocols[family] {
			out = append(out, rule{unix.SYS_SOCKET, []cond{{domain, all, family}, {protocol, all, p}}, 0})
		}
		out = append(out, rule{unix.SYS_SOCKET, []cond{{domain, all, family}}, unix.EPROTONOSUPPORT})
	}
	return append(out,
		rule{unix.SYS_SOCKET, nil, unix.EAFNOSUPPORT},
		rule{unix.SYS_SOCKETPAIR, []cond{{domain, all, unix.AF_UNIX}}, 0},
		rule{unix.SYS_SOCKETPAIR, nil, unix.EAFNOSUPPORT})
}

// hugePages returns rules that refuse huge pages (hugetlbpage.rst): the machine has one
// pool of them, and the memory controller of cgroups does not count them. Programs then
// use other pages.
func hugePages() []rule {
	const shmHuge = 0o4000 // SHM_HUGETLB (shmget(2))
	return []rule{
		{unix.SYS_MMAP, []cond{{3, unix.MAP_HUGETLB, unix.MAP_HUGETLB}}, unix.ENOMEM},
		{unix.SYS_MEMFD_CREATE, []cond{{1, unix.MFD_HUGETLB, unix.MFD_HUGETLB}}, unix.ENOMEM},
		{unix.SYS_SHMGET, []cond{{2, shmHuge, shmHuge}}, unix.ENOMEM},
	}
}

// Room returns the filter of the processes in a room. A container runtime and its
// containers work under it; creating a user namespace is refused.
func Room() *Filter {
	return compile(append(append(common(roomNetwork), hugePages()...),
		rule{unix.SYS_CLONE, []cond{{0, unix.CLONE_NEWUSER, 0}}, 0},
		rule{unix.SYS_CLONE, nil, unix.EPERM},
		rule{unix.SYS_UNSHARE, []cond{{0, unix.CLONE_NEWUSER, 0}}, 0},
		rule{unix.SYS_UNSHARE, nil, unix.EPERM},
	))
}

// Filter returns the filter of a role with policy p.
func (p Policy) Filter() *Filter {
	if p.Rooms {
		return compile(common(roomNetwork))
	}
	n := onlyUnix
	if p.Inet {
		n = internet
	}
	out := common(n)
	for _, nr := range roomCalls {
		out = append(out, rule{nr, nil, unix.EPERM})
	}
	clone := cond{0, namespaces, 0}
	if !p.Exec {
		clone = cond{0, namespaces | unix.CLONE_THREAD, unix.CLONE_THREAD}
		for _, nr := range append([]uint32{unix.SYS_EXECVE, unix.SYS_EXECVEAT}, forkCalls...) {
			out = append(out, rule{nr, nil, unix.EPERM})
		}
	}
	return compile(append(out,
		rule{unix.SYS_CLONE, []cond{clone}, 0},
		rule{unix.SYS_CLONE, nil, unix.EPERM}))
}
