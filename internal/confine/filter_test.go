package confine

import (
	"encoding/binary"
	"fmt"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// verdict runs the compiled filter on one system call. The virtual machine of
// x/net/bpf reads big-endian words, so verdict encodes the call's data that way.
func verdict(t *testing.T, f *Filter, arch, nr uint32, args ...uint32) uint32 {
	t.Helper()
	prog, ok := bpf.Disassemble(f.program)
	if !ok {
		t.Fatal("the filter cannot be disassembled")
	}
	vm, err := bpf.NewVM(prog)
	if err != nil {
		t.Fatal(err)
	}
	data := binary.BigEndian.AppendUint32(nil, nr)
	data = binary.BigEndian.AppendUint32(data, arch)
	data = append(data, make([]byte, 8)...)
	for i := range 6 {
		var a uint32
		if i < len(args) {
			a = args[i]
		}
		data = binary.BigEndian.AppendUint32(data, a)
		data = append(data, 0, 0, 0, 0)
	}
	n, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

// A room gets no huge pages, by no call and with no other flag beside it.
func TestRoomHasNoHugePages(t *testing.T) {
	room := Room()
	for _, c := range []struct {
		nr   uint32
		args []uint32
		want uint32
	}{
		{unix.SYS_MMAP, []uint32{0, 4096, 3, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_HUGETLB}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOMEM)},
		{unix.SYS_MMAP, []uint32{0, 4096, 3, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_HUGETLB | 30<<26}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOMEM)},
		{unix.SYS_MMAP, []uint32{0, 4096, 3, unix.MAP_PRIVATE | unix.MAP_ANONYMOUS}, unix.SECCOMP_RET_ALLOW},
		{unix.SYS_MEMFD_CREATE, []uint32{0, unix.MFD_CLOEXEC | unix.MFD_HUGETLB}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOMEM)},
		{unix.SYS_MEMFD_CREATE, []uint32{0, unix.MFD_CLOEXEC}, unix.SECCOMP_RET_ALLOW},
		{unix.SYS_SHMGET, []uint32{0, 4096, 0o4600}, unix.SECCOMP_RET_ERRNO | uint32(unix.ENOMEM)},
		{unix.SYS_SHMGET, []uint32{0, 4096, 0o1600}, unix.SECCOMP_RET_ALLOW},
	} {
		if got := verdict(t, room, auditArch, c.nr, c.args...); got != c.want {
			t.Errorf("call %d with %#x: got %#x, want %#x", c.nr, c.args, got, c.want)
		}
	}
}

func TestEveryCallOfTheListsIsRefused(t *testing.T) {
	refused := func(e unix.Errno) uint32 { return unix.SECCOMP_RET_ERRNO | uint32(e) }
	filters := map[string]*Filter{"room": Room()}
	for _, p := range []Policy{{}, {Exec: true}, {Inet: true}, {Exec: true, Inet: true}, {Rooms: true}} {
		filters[fmt.Sprintf("%+v", p)] = p.Filter()
	}
	digests := map[string]string{}
	for name, f := range filters {
		for _, nr := range denied {
			if got := verdict(t, f, auditArch, nr); got != refused(unix.EPERM) {
				t.Errorf("%s: call %d: got %#x", name, nr, got)
			}
		}
		for _, nr := range append([]uint32{newest + 1, 1 << 30, 1<<30 | unix.SYS_GETPID, 1<<31 | unix.SYS_READ, ^uint32(0)}, absent...) {
			if got := verdict(t, f, auditArch, nr); got != refused(unix.ENOSYS) {
				t.Errorf("%s: call %d: got %#x", name, nr, got)
			}
		}
		for _, arch := range []uint32{unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_ARM, unix.AUDIT_ARCH_PPC64LE, 0} {
			if got := verdict(t, f, arch, unix.SYS_READ); got != unix.SECCOMP_RET_KILL_PROCESS {
				t.Errorf("%s: architecture %#x: got %#x", name, arch, got)
			}
		}
		for _, nr := range []uint32{unix.SYS_READ, unix.SYS_WRITE, unix.SYS_FUTEX, unix.SYS_MMAP, unix.SYS_EXIT_GROUP, newest} {
			if got := verdict(t, f, auditArch, nr); got != unix.SECCOMP_RET_ALLOW {
				t.Errorf("%s: call %d: got %#x", name, nr, got)
			}
		}
		if got := verdict(t, f, auditArch, unix.SYS_CLONE, unix.CLONE_VM|unix.CLONE_THREAD); got != unix.SECCOMP_RET_ALLOW {
			t.Errorf("%s: a thread: got %#x", name, got)
		}
		// Each kind of namespace alone: a role may create none, a room no user namespace.
		for bit := range 32 {
			flag := uint32(1) << bit & namespaces
			if flag == 0 || name == fmt.Sprintf("%+v", Policy{Rooms: true}) || name == "room" && flag != unix.CLONE_NEWUSER {
				continue
			}
			if got := verdict(t, f, auditArch, unix.SYS_CLONE, flag|uint32(unix.SIGCHLD)); got != refused(unix.EPERM) {
				t.Errorf("%s: clone with %#x: got %#x", name, flag, got)
			}
		}
		if other, taken := digests[f.Digest()]; taken {
			t.Errorf("%s and %s have one digest", name, other)
		}
		digests[f.Digest()] = name
	}
}

// A filter whose jumps or length the kernel's format cannot hold is a bug of the rules:
// cut off, it would allow what a rule refuses.
func TestFilterThatDoesNotFit(t *testing.T) {
	conds := func(n int) (all []cond) {
		for range n {
			all = append(all, cond{0, 1, 1})
		}
		return all
	}
	many := func(n int) (rules []rule) {
		for i := range n {
			rules = append(rules, rule{nr: uint32(i), errn: unix.EPERM})
		}
		return rules
	}
	for what, c := range map[string]struct {
		rules []rule
		fits  bool
	}{
		"a rule at the limit":           {[]rule{{1, conds(84), unix.EPERM}}, true}, // 3*84+2 = 254
		"a rule over the limit":         {[]rule{{1, conds(85), unix.EPERM}}, false},
		"rules over it together":        {[]rule{{1, conds(60), unix.EPERM}, {1, conds(60), unix.EPERM}}, false},
		"a filter at the limit":         {many((maxInstructions - 7) / 2), true},
		"a filter over the limit":       {many((maxInstructions-7)/2 + 1), false},
		"a filter of more than 16 bits": {many(1 << 15), false},
	} {
		func() {
			defer func() {
				if failed := recover() != nil; failed == c.fits {
					t.Errorf("%s: got failed %v, want fits %v", what, failed, c.fits)
				}
			}()
			if f := compile(c.rules); len(f.program) > maxInstructions {
				t.Errorf("%s: got %d instructions", what, len(f.program))
			}
		}()
	}
}
