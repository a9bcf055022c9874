package attack

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

var _ = register(attack{
	name: "proc-and-sys", tries: "change settings of the kernel, or read its memory, through /proc and /sys",
	guard: "these files belong to another user: platform/builder/sandbox UidMappings",
	cuts:  cutUsers,
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		for _, path := range []string{
			"/proc/sysrq-trigger", "/proc/sys/kernel/modprobe", "/proc/sys/kernel/hotplug", "/proc/sys/vm/drop_caches", "/proc/sys/fs/binfmt_misc/register",
			"/proc/sys/kernel/panic", "/proc/sys/kernel/randomize_va_space", "/proc/irq/default_smp_affinity", "/proc/timer_list", "/sys/kernel/uevent_helper",
			"/sys/kernel/mm/transparent_hugepage/enabled", "/sys/power/state", "/sys/module/kernel/parameters/panic", "/proc/bus/pci/devices",
		} {
			f, err := os.OpenFile(path, os.O_WRONLY, 0) // only opened, never written
			if st, serr := f.Stat(); serr == nil && st.Mode()&os.ModeDevice != 0 {
				err = errors.New("runc has put /dev/null in its place")
			}
			i.try("opened "+path+" for writing", err)
			f.Close()
		}
		for _, path := range []string{"/proc/kcore", "/proc/kmsg", "/sys/kernel/debug/kprobes/list", "/sys/firmware/efi/efivars"} {
			f, err := os.Open(path)
			if err == nil {
				var n int
				if n, err = f.Read(make([]byte, 16)); err == nil && n == 0 {
					err = unix.ENODATA
				}
				f.Close()
			}
			i.try("read "+path, err)
		}
	},
})

// cutGroups makes the cgroup hierarchy writable for the room.
var cutGroups = cut{"platform/builder/sandbox/mounts.go", `cgroupRoot, true, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID`, `cgroupRoot, true, unix.MOUNT_ATTR_NOSUID`}

var _ = register(attack{
	name: "cgroup-escape", tries: "escape or raise its limits, or run a program outside by release_agent",
	guard: "cgroups are in their own namespace, mounted read-only, and belong to another user: platform/builder/sandbox",
	cuts:  append(slices.Clone(cutUsers), cutGroups),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		var dirs []string
		// In a new namespace, the hierarchy starts here and can be mounted writable.
		if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_NEWCGROUP); err != nil {
			i.not("unshare: %v", err)
		}
		for _, c := range []string{"memory", "pids", "cpu"} {
			dir := "/tmp/cgroup-" + c
			os.MkdirAll(dir, 0o755)
			if err := unix.Mount("cgroup", dir, "cgroup", 0, c); err != nil {
				i.not("mount of %s: %v", c, err)
			} else {
				dirs = append(dirs, dir)
			}
		}
		os.MkdirAll("/tmp/cgroup2", 0o755)
		if err := unix.Mount("cgroup", "/tmp/cgroup2", "cgroup2", 0, ""); err != nil {
			i.not("mount of cgroup2: %v", err)
		} else {
			dirs = append(dirs, "/tmp/cgroup2")
		}
		filepath.WalkDir("/sys/fs/cgroup", func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() && strings.Count(path, "/") < 8 {
				dirs = append(dirs, path)
			}
			return nil
		})
		for _, dir := range dirs[:min(len(dirs), 200)] {
			for file, value := range map[string]string{
				"cgroup.procs": "0", "tasks": "0", "release_agent": "", "notify_on_release": "",
				"memory.limit_in_bytes": "-1", "memory.max": "max", "pids.max": "max", "cpu.max": "max", "cpu.cfs_quota_us": "-1",
			} {
				path := filepath.Join(dir, file)
				if _, err := os.Stat(path); err != nil {
					continue
				}
				unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND, "")
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				if err == nil && value != "" {
					_, err = f.WriteString(value)
				}
				f.Close()
				i.try("wrote "+path, err)
			}
		}
	},
})

var _ = register(attack{
	name: "mounts", tries: "mount the host's disk, unmount what hides the host, or remount read-only mounts writable",
	guard: "each room has a user namespace, and the host's root is not mounted in it: platform/builder/sandbox makeRoot",
	cuts:  append(slices.Clone(cutKernel), cutRoot),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		os.MkdirAll("/tmp/m", 0o755)
		node := "/tmp/disk"
		if err := unix.Mknod(node, unix.S_IFBLK|0o600, int(i.Device)); err != nil {
			i.not("mknod: %v", err)
		}
		for _, fs := range []string{"ext4", "xfs", "btrfs"} {
			i.try("mounted the host's disk", unix.Mount(node, "/tmp/m", fs, unix.MS_RDONLY, ""))
		}
		for _, fs := range []string{"debugfs", "tracefs", "securityfs", "bpf", "configfs", "pstore", "efivarfs"} {
			i.try("mounted "+fs, unix.Mount(fs, "/tmp/m", fs, 0, ""))
		}
		for range 3 { // mounts may be stacked
			if err := unix.Unmount("/", unix.MNT_DETACH); err != nil {
				i.not("unmount of /: %v", err)
			}
			if err := unix.Chroot("../../.."); err != nil {
				i.not("chroot: %v", err)
			}
			i.read(i.Canary)
		}
	},
})

var _ = register(attack{
	name: "user-namespaces", tries: "create user namespaces, and use their capabilities on the host's files",
	guard: "a nested namespace has no more rights than the room: platform/builder/sandbox",
	cuts:  append(slices.Clone(cutUsers), cutRoot),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		err := unix.Unshare(unix.CLONE_NEWUSER | unix.CLONE_NEWNS)
		i.not("unshare: %v", err)
		for _, m := range [][3]string{{"uid_map", "0 0 4294967295", ""}, {"setgroups", "deny", ""}, {"gid_map", "0 0 4294967295", ""}} {
			i.not("%s: %v", m[0], os.WriteFile("/proc/self/"+m[0], []byte(m[1]), 0))
		}
		os.MkdirAll("/tmp/u", 0o755)
		i.not("bind: %v", unix.Mount("/", "/tmp/u", "", unix.MS_BIND|unix.MS_REC, ""))
		i.not("overlay: %v", unix.Mount("overlay", "/tmp/u", "overlay", 0, "lowerdir=/host:/proc/1/root"))
		i.read(i.Canary, i.Keys[0])
		i.read("/tmp/u" + i.Canary)
	},
})

var _ = register(attack{
	name: "kernel-doors", tries: "load code into the kernel, set its clock, read its log",
	guard: "each room has a user namespace: platform/builder/sandbox Cloneflags; a filter of system calls: internal/confine",
	cuts:  cutKernel,
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		// Each call has arguments that make it fail harmlessly even if it is allowed.
		allowed := func(what string, err error, harmless ...error) {
			for _, h := range harmless {
				if err == h {
					err = nil
				}
			}
			i.try(what, err)
		}
		image := []byte("no module")
		allowed("load a module", unix.InitModule(image, ""), unix.ENOEXEC)
		_, _, e := unix.Syscall6(unix.SYS_KEXEC_LOAD, 0, 17, 0, 0, 0, 0)
		allowed("kexec", e, unix.EINVAL)
		_, _, e = unix.Syscall(unix.SYS_SWAPON, uintptr(unsafe.Pointer(unsafe.StringData("/nowhere\x00"))), 0, 0)
		allowed("swap", e, unix.ENOENT)
		var ts unix.Timespec
		unix.ClockGettime(unix.CLOCK_REALTIME, &ts)
		ts.Nsec = 2e9 // invalid
		_, _, e = unix.Syscall(unix.SYS_CLOCK_SETTIME, unix.CLOCK_REALTIME, uintptr(unsafe.Pointer(&ts)), 0)
		if e != unix.EINVAL { // the kernel checks this before the permission
			allowed("set the clock", e)
		}
		var tx unix.Timex
		tx.Modes = 0x0001 // an offset of zero
		_, err := unix.Adjtimex(&tx)
		allowed("adjust the clock", err)
		_, _, e = unix.Syscall(unix.SYS_ACCT, uintptr(unsafe.Pointer(unsafe.StringData("/nowhere\x00"))), 0, 0)
		allowed("process accounting", e, unix.ENOENT)
		_, _, e = unix.Syscall(unix.SYS_SYSLOG, 3, 0, 0)
		allowed("the kernel's log", e, unix.EINVAL)
		_, _, e = unix.Syscall(unix.SYS_IOPL, 3, 0, 0)
		allowed("I/O ports", e)
	},
})

var _ = register(attack{
	name: "kernel-calls", tries: "use parts of the kernel that are often exploited: io_uring, BPF, userfaultfd, performance counters, keyrings, other processes' memory",
	guard: "a filter of system calls: internal/confine Room",
	cuts:  cutFilter,
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		call := func(what string, nr uintptr, args ...uintptr) {
			var a [6]uintptr
			copy(a[:], args)
			r, _, e := unix.Syscall6(nr, a[0], a[1], a[2], a[3], a[4], a[5])
			var err error
			if e != 0 {
				err = e
			} else if fd := int(r); what != "kcmp" && fd > 2 {
				defer unix.Close(fd)
			}
			i.try(what, err)
		}
		page := make([]byte, 4096)
		p := uintptr(unsafe.Pointer(&page[0]))
		call("io_uring", unix.SYS_IO_URING_SETUP, 1, p)
		call("userfaultfd", unix.SYS_USERFAULTFD, 1)
		clear(page)
		page[0], page[4], page[8], page[12] = 2, 4, 4, 1 // an array map
		call("bpf", unix.SYS_BPF, 0, p, 64)
		clear(page)
		page[4] = 112 // size of a software event
		page[0] = 1
		call("perf events", unix.SYS_PERF_EVENT_OPEN, p, 0, ^uintptr(0), ^uintptr(0), 0)
		call("keyctl", unix.SYS_KEYCTL, 0, ^uintptr(2), 1)
		call("kcmp", unix.SYS_KCMP, uintptr(os.Getpid()), uintptr(os.Getpid()), 0, 0, 0)
		call("fanotify", unix.SYS_FANOTIFY_INIT, 0x200, 0)
		call("another personality", unix.SYS_PERSONALITY, 0x0008)
		for what, family := range map[string]int{"crypto sockets": unix.AF_ALG, "vsock": unix.AF_VSOCK, "Bluetooth": unix.AF_BLUETOOTH, "CAN": unix.AF_CAN, "TIPC": unix.AF_TIPC, "XDP": unix.AF_XDP} {
			fd, err := unix.Socket(family, unix.SOCK_SEQPACKET, 0)
			if err != nil {
				fd, err = unix.Socket(family, unix.SOCK_RAW, 0)
			}
			i.try(what, err)
			unix.Close(fd)
		}
	},
})
