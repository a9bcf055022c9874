package attack

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func itoa(n int) string { return strconv.Itoa(n) }

// cutProcesses lets a room see every process of the host.
var (
	cutProcesses = []cut{
		{sandboxFile, `syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC`, `syscall.CLONE_NEWNS | syscall.CLONE_NEWIPC`},
		{"platform/builder/sandbox/init.go", `"LISTEN_PID=1"`, `fmt.Sprintf("LISTEN_PID=%d", os.Getpid())`},
		{"platform/builder/sandbox/init.go", `unix.Mount("proc", root+"/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "")`, `unix.Mount("/proc", root+"/proc", "", unix.MS_BIND|unix.MS_REC, "")`},
	}
)

// cutContainers lets steps share the pid namespace of their room. Otherwise BuildKit's
// runc gives each step a pid namespace, which also stops the attack.
var cutContainers = cut{"platform/builder/buildkit/room.go", `  rootless = true
`, `  rootless = true
  noProcessSandbox = true
`}

// everyone returns the visible processes that do not belong to the intruder.
func (i *intruder) everyone() []int {
	pids := []int{i.Bystander}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err == nil && pid != 1 && pid != os.Getpid() && pid != os.Getppid() && pid != i.Bystander {
			pids = append(pids, pid)
		}
	}
	return pids
}

var _ = register(attack{
	name: "environment", tries: "find tokens in the environment and arguments of processes",
	guard: "each room has a pid namespace: platform/builder/sandbox Cloneflags; no process has a secret in its environment or arguments: platform/zone Command",
	cuts:  append(slices.Clone(cutProcesses), cut{"platform/zone/process.go", `cmd.Args[0] = "colophond"`, `cmd.Args[0] = "colophond " + string(settings[:min(len(settings), 1<<10)])`}),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		i.not("own environment: %q", os.Environ())
		var closed error
		for _, f := range []string{"cmdline", "environ"} {
			for _, pid := range append(i.everyone(), 1, os.Getppid()) {
				path := fmt.Sprintf("/proc/%d/%s", pid, f)
				if data, err := os.ReadFile(path); err != nil {
					closed = err
				} else if len(data) > 0 { // skip the many dead processes, which have none
					i.not("%s is %q: no secret", path, data)
				}
			}
		}
		i.not("others: %v", closed)
	},
})

var _ = register(attack{
	name: "memory", tries: "read a token in the memory of another process",
	guard: "each room has a pid namespace and its own users: platform/builder/sandbox",
	cuts:  slices.Concat(cutKernel, cutProcesses),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		for _, pid := range i.everyone() {
			i.search(pid)
		}
	},
})

// search looks for a marked secret in the memory of a process.
func (i *intruder) search(pid int) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		i.not("maps of %d: %v", pid, err)
		return
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		i.not("memory of %d: %v", pid, err)
		return
	}
	defer mem.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		var from, to int64
		if _, err := fmt.Sscanf(f[0], "%x-%x", &from, &to); err != nil || !strings.HasPrefix(f[1], "rw") || to-from > 256<<20 {
			continue
		}
		buf := make([]byte, to-from)
		n, _ := mem.ReadAt(buf, from)
		for part := buf[:n]; ; {
			k := bytes.Index(part, []byte(memoryMark))
			if k < 0 {
				break
			}
			// A mark without a secret is only a copy of the constant.
			if s := part[k:min(len(part), k+len(memoryMark)+26)]; pid == i.Bystander && !bytes.ContainsRune(s, 0) {
				i.got("memory of %d: %s", pid, s)
				return
			}
			part = part[k+1:]
		}
	}
	i.not("memory of %d: nothing found", pid)
}

var _ = register(attack{
	name: "ptrace", tries: "trace a process of the host",
	guard: "each room has a pid namespace and its own users: platform/builder/sandbox",
	cuts:  slices.Concat(cutKernel, cutProcesses),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		i.try("traced the bystander", unix.PtraceSeize(i.Bystander))
		local := []unix.Iovec{{Base: new(byte)}}
		local[0].SetLen(1)
		_, err := unix.ProcessVMReadv(i.Bystander, local, []unix.RemoteIovec{{Base: uintptr(unsafe.Pointer(&i.where)), Len: 1}}, 0)
		if err == unix.EFAULT { // allowed, but the address is invalid
			err = nil
		}
		i.try("read the bystander's memory", err)
	},
	look: func(s *scene) string { return s.bystanderIsWell() },
})

var _ = register(attack{
	name: "signal", tries: "kill a process of the host",
	guard: "each room has a pid namespace and its own users: platform/builder/sandbox",
	cuts:  slices.Concat(cutKernel, cutProcesses),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		i.try("signalled the bystander", unix.Kill(i.Bystander, unix.SIGKILL))
		fd, err := unix.PidfdOpen(i.Bystander, 0)
		if err == nil {
			err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		i.try("signalled the bystander by a descriptor", err)
	},
	look: func(s *scene) string { return s.bystanderIsWell() },
})

var _ = register(attack{
	name: "join-namespaces", tries: "enter the namespaces of a process of the host",
	guard: "each room has a pid namespace and its own users: platform/builder/sandbox",
	cuts:  slices.Concat(cutKernel, cutProcesses),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		for _, ns := range []string{"mnt", "net", "pid", "ipc", "uts", "cgroup", "user"} {
			fd, err := unix.Open(fmt.Sprintf("/proc/%d/ns/%s", i.Bystander, ns), unix.O_RDONLY, 0)
			if err == nil {
				err = unix.Setns(fd, 0)
				unix.Close(fd)
			}
			i.try("entered the bystander's "+ns+" namespace", err)
		}
	},
})

var _ = register(attack{
	name: "shared-memory", tries: "read System V shared memory of the host",
	guard: "each room has an ipc namespace: platform/builder/sandbox Cloneflags",
	cuts:  []cut{{sandboxFile, `syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC |`, `syscall.CLONE_NEWPID |`}},
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		id, err := unix.SysvShmGet(shmKey, 0, 0)
		if err != nil {
			i.not("shmget: %v", err)
			return
		}
		mem, err := unix.SysvShmAttach(id, 0, unix.SHM_RDONLY)
		if err != nil {
			i.not("shmat: %v", err)
			return
		}
		i.got("%s", bytes.TrimRight(mem, "\x00"))
	},
})

var _ = register(attack{
	name: "keyring", tries: "read a key in the kernel's keyring of the platform's session",
	guard: "each room gets a new keyring, and may not use another: platform/builder/sandbox furnish, internal/confine",
	cuts: append(slices.Clone(cutFilter), cut{"platform/builder/sandbox/init.go", `if _, err := unix.KeyctlInt(unix.KEYCTL_JOIN_SESSION_KEYRING, 0, 0, 0, 0); err != nil && !errors.Is(err, unix.ENOSYS) {`,
		`if err := errors.ErrUnsupported; false {`}),
	from: []string{"step", "room"},
	probe: func(i *intruder) {
		for what, ring := range map[string]int{"session": unix.KEY_SPEC_SESSION_KEYRING, "user": unix.KEY_SPEC_USER_KEYRING, "user session": unix.KEY_SPEC_USER_SESSION_KEYRING, "process": unix.KEY_SPEC_PROCESS_KEYRING} {
			id, err := unix.KeyctlSearch(ring, "user", keyName, 0)
			if err != nil {
				i.not("%s keyring: %v", what, err)
				continue
			}
			buf := make([]byte, 100)
			n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buf, 0)
			if err != nil {
				i.not("%s keyring: %v", what, err)
				continue
			}
			i.got("%s", buf[:n])
		}
	},
})

var _ = register(attack{
	name: "core-dumps", tries: "make the kernel write a core dump outside or run a program for it; read other core dumps",
	guard: "the kernel's settings belong to another user, and a room sees no host path: platform/builder/sandbox",
	cuts:  append(slices.Clone(cutUsers), cutRoot),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		f, err := os.OpenFile("/proc/sys/kernel/core_pattern", os.O_WRONLY, 0)
		i.try("opened core_pattern for writing", err)
		f.Close()
		for _, dir := range []string{"/var/lib/systemd/coredump", "/var/crash", "/var/lib/apport/coredump", filepath.Dir(i.Canary)} {
			for _, d := range everywhere(dir) {
				if es, err := os.ReadDir(d); err != nil {
					i.not("%s: %v", d, err)
				} else if len(es) > 0 {
					i.got("%s has %v", d, es)
				}
			}
		}
	},
})
