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

// State describes how a process is confined, as the kernel reports it. It does not
// depend on the Policy that was requested.
type State struct {
	UID             int      `json:"uid"` // effective
	GID             int      `json:"gid"`
	NoNewPrivileges bool     `json:"noNewPrivileges"` // executed programs gain no privileges
	Seccomp         bool     `json:"seccomp"`         // a filter is installed
	Dumpable        bool     `json:"dumpable"`        // other processes of the same user may trace it and read its memory
	CoreDumps       bool     `json:"coreDumps"`       // it may write core dumps
	Capabilities    []string `json:"capabilities"`    // permitted, effective, inheritable or ambient: "CAP_SYS_ADMIN"
	Bounding        []string `json:"bounding"`        // the bounding set; without effect if NoNewPrivileges
	// The filter's decisions on one harmless call of each kind.
	Exec       bool `json:"exec"`       // it may execute programs
	Inet       bool `json:"inet"`       // it may create IPv4 sockets
	Namespaces bool `json:"namespaces"` // it may create namespaces
}

// Describe reads the state of this process. It returns an error if the threads'
// states differ, because an attacker could use the least confined thread.
func Describe() (State, error) {
	var first map[string]string
	tasks, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(tasks) == 0 {
		return State{}, fmt.Errorf("/proc shows no threads: %v", err)
	}
	for _, path := range tasks {
		f, err := statusFields(path)
		if os.IsNotExist(err) {
			continue // the thread has ended
		} else if err != nil {
			return State{}, err
		}
		if first == nil {
			first = f
		} else if !maps.Equal(first, f) {
			return State{}, fmt.Errorf("threads are confined differently: %v and %v", first, f)
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

// probe tries one call of each kind; the calls have no effect if they are allowed.
func (s *State) probe() {
	// Address 0 is never a valid path: if the filter allows the call, the kernel
	// returns EFAULT.
	_, _, errno := unix.RawSyscall(unix.SYS_EXECVE, 0, 0, 0)
	s.Exec = errno != unix.EPERM
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		unix.Close(fd)
	}
	s.Inet = err == nil
	s.Namespaces = unix.Unshare(0) == nil
}

// statusFields reads the fields of a thread's status file that must be equal in all
// threads (proc_pid_status(5)).
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

// capabilities holds the names of capabilities by number (linux/capability.h).
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

// capNames returns the names of the capabilities in set. It never returns nil, so
// that JSON has an empty list instead of null.
func capNames(set uint64) []string {
	out := []string{}
	for c := range 64 {
		if set&(1<<c) != 0 {
			out = append(out, capName(c))
		}
	}
	return out
}
