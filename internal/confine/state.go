package confine

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// State is what holds for a process, as the kernel says, whatever was asked for.
type State struct {
	UID             int      `json:"uid"` // effective
	GID             int      `json:"gid"`
	NoNewPrivileges bool     `json:"noNewPrivileges"` // no program it executes gains any
	Seccomp         bool     `json:"seccomp"`         // a filter is on
	Dumpable        bool     `json:"dumpable"`        // others of its user may trace it and read its memory
	CoreDumps       bool     `json:"coreDumps"`
	Capabilities    []string `json:"capabilities"` // permitted, effective, inheritable or ambient: "CAP_SYS_ADMIN"
	Bounding        []string `json:"bounding"`     // could be had from a program's file, were there new privileges
	// What the filter lets through, by harmless calls of each kind.
	Exec       bool `json:"exec"`       // executing programs
	Inet       bool `json:"inet"`       // making IPv4 sockets
	Namespaces bool `json:"namespaces"` // making namespaces
}

// Describe reads the state of this process. Where its threads differ that is an
// error: the process is as strong as the weakest of them.
func Describe() (State, error) {
	var first map[string]string
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) == 0 {
		return State{}, fmt.Errorf("/proc shows no threads: %v", err)
	}
	for _, path := range tasks {
		f, err := statusFields(path)
		if os.IsNotExist(err) {
			continue // ended since
		} else if err != nil {
			return State{}, err
		}
		if first == nil {
			first = f
		} else if !maps.Equal(first, f) {
			return State{}, fmt.Errorf("threads differ: %v and %v", first, f)
		}
	}
	s := State{
		NoNewPrivileges: first["NoNewPrivs"] == "1",
		Seccomp:         first["Seccomp"] == "2", // SECCOMP_MODE_FILTER
		UID:             os.Geteuid(),
		GID:             os.Getegid(),
	}
	var sets [5]uint64
	for i, name := range []string{"CapPrm", "CapEff", "CapInh", "CapAmb", "CapBnd"} {
		if sets[i], err = strconv.ParseUint(first[name], 16, 64); err != nil {
			return State{}, fmt.Errorf("%s: %w", name, err)
		}
	}
	s.Capabilities = capNames(sets[0] | sets[1] | sets[2] | sets[3])
	s.Bounding = capNames(sets[4])
	dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
	if err != nil {
		return State{}, fmt.Errorf("PR_GET_DUMPABLE: %w", err)
	}
	s.Dumpable = dumpable != 0
	var core unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &core); err != nil {
		return State{}, err
	}
	s.CoreDumps = core.Cur != 0 || core.Max != 0
	s.probe()
	return s, nil
}

// probe makes calls that do nothing where they pass.
func (s *State) probe() {
	// No program can lie at address 0.
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, 0, 0, 0)
	s.Exec = errno != unix.EPERM
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	s.Inet = err == nil
	s.Namespaces = unix.Unshare(0) == nil
}

// statusFields is what must be the same for all threads (proc_pid_status(5)).
func statusFields(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		switch name {
		case "Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp", "Seccomp_filters":
			out[name] = strings.TrimSpace(value)
		}
	}
	return out, nil
}

// capabilities by number (capabilities(7), linux/capability.h).
var capabilities = strings.Fields(`CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL
	CAP_SETGID CAP_SETUID CAP_SETPCAP CAP_LINUX_IMMUTABLE CAP_NET_BIND_SERVICE CAP_NET_BROADCAST CAP_NET_ADMIN
	CAP_NET_RAW CAP_IPC_LOCK CAP_IPC_OWNER CAP_SYS_MODULE CAP_SYS_RAWIO CAP_SYS_CHROOT CAP_SYS_PTRACE CAP_SYS_PACCT
	CAP_SYS_ADMIN CAP_SYS_BOOT CAP_SYS_NICE CAP_SYS_RESOURCE CAP_SYS_TIME CAP_SYS_TTY_CONFIG CAP_MKNOD CAP_LEASE
	CAP_AUDIT_WRITE CAP_AUDIT_CONTROL CAP_SETFCAP CAP_MAC_OVERRIDE CAP_MAC_ADMIN CAP_SYSLOG CAP_WAKE_ALARM
	CAP_BLOCK_SUSPEND CAP_AUDIT_READ CAP_PERFMON CAP_BPF CAP_CHECKPOINT_RESTORE`)

func capName(c int) string {
	if c < len(capabilities) {
		return capabilities[c]
	}
	return "CAP_" + strconv.Itoa(c)
}

// capNames is never nil, so that none is an empty list in JSON.
func capNames(set uint64) []string {
	out := []string{}
	for c := range 64 {
		if set&(1<<c) != 0 {
			out = append(out, capName(c))
		}
	}
	return out
}
