package sandbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type facts struct {
	Env, Root, Procs, Links, Groups []string
	UID, PID                        int
	UIDMap, Host, Cgroup            string
}

// tenant is the program: it serves commands on the socket it was given.
func tenant() {
	l, err := net.FileListener(os.NewFile(3, "socket"))
	if err != nil {
		panic(err)
	}
	for {
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		line, _ := bufio.NewReader(c).ReadString('\n')
		fmt.Fprintln(c, answer(strings.Fields(line)))
		c.Close()
	}
}

func ownFacts() string {
	f := facts{Env: os.Environ(), UID: os.Getuid(), PID: os.Getpid()}
	f.Host, _ = os.Hostname()
	m, _ := os.ReadFile("/proc/self/uid_map")
	f.UIDMap = strings.Join(strings.Fields(string(m)), " ")
	cg, _ := os.ReadFile("/proc/self/cgroup")
	f.Cgroup = string(cg)
	f.Root = append(f.Root, list("/")...)
	f.Procs = list("/proc")
	ifs, _ := net.Interfaces()
	for _, i := range ifs {
		f.Links = append(f.Links, i.Name)
	}
	out, _ := json.Marshal(f)
	return string(out)
}

// answer does what a line asks for, and says how it went.
func answer(w []string) string {
	switch w[0] {
	case "facts":
		return ownFacts()
	case "dial":
		c, err := net.DialTimeout("tcp", w[1], 30*time.Second)
		if err != nil {
			return err.Error()
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(30 * time.Second))
		b, _ := io.ReadAll(c)
		return "connected " + string(b)
	case "unix":
		_, err := net.Dial("unix", w[1])
		return fmt.Sprint(err)
	case "write":
		return fmt.Sprint(os.WriteFile(w[1], []byte("x"), 0o644))
	case "read":
		b, err := os.ReadFile(w[1])
		if err != nil {
			return err.Error()
		}
		return string(b)
	case "litter":
		return litter(w[1])
	case "list":
		return listing(w[1])
	case "eat":
		return eat()
	case "fill":
		return fill(w[1:])
	case "files":
		for n := 0; ; n++ {
			if err := os.WriteFile(fmt.Sprintf("%s/%d", w[1], n), nil, 0o644); err != nil {
				return fmt.Sprintf("stopped at %d: %v", n, err)
			}
		}
	case "statfs":
		var st unix.Statfs_t
		if err := unix.Statfs(w[1], &st); err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%x %d %x", st.Type, int64(st.Blocks)*st.Bsize>>20, st.Flags)
	case "mknod":
		return fmt.Sprint(unix.Mknod(w[1], unix.S_IFBLK|0o666, int(unix.Mkdev(7, 0))))
	case "unshare":
		return fmt.Sprint(unix.Unshare(unix.CLONE_NEWUSER))
	case "socket":
		var domain int
		fmt.Sscan(w[1], &domain)
		_, err := unix.Socket(domain, unix.SOCK_RAW, 0)
		return fmt.Sprint(err)
	case "limits":
		return ownLimits()
	case "fork":
		return fork()
	case "take":
		for _, s := range sharedLimits {
			if s.name == strings.Join(w[1:], " ") {
				return s.take()
			}
		}
	}
	return "what? " + w[0]
}

// lockForever ties this goroutine to its thread, which ends with it.
func lockForever() { runtime.LockOSThread() }

func number(t *testing.T, file string) (n int64) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err == nil {
		_, err = fmt.Sscan(string(data), &n)
	}
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", pattern, found, err)
	}
	return found
}

func list(dir string) (names []string) {
	es, _ := os.ReadDir(dir)
	for _, e := range es {
		names = append(names, e.Name())
	}
	return names
}

func eat() string {
	var keep [][]byte
	for range 1024 {
		b := make([]byte, 1<<20)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		keep = append(keep, b)
	}
	return fmt.Sprint("ate ", len(keep))
}

func fill(w []string) string {
	f, err := os.Create(w[0])
	if err != nil {
		return err.Error()
	}
	n := 0
	for b := make([]byte, 1<<20); ; n++ {
		if _, err := f.Write(b); err != nil {
			return fmt.Sprintf("stopped after %d MiB: %v", n, err)
		}
		if len(w) > 1 && fmt.Sprint(n) == w[1] {
			return fmt.Sprint("wrote ", n)
		}
	}
}

func ownLimits() string {
	var core, files unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_CORE, &core)
	unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	status, _ := os.ReadFile("/proc/self/status")
	var out []string
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "NoNewPrivs") || strings.HasPrefix(line, "Seccomp:") {
			out = append(out, strings.Fields(line)[1])
		}
	}
	return fmt.Sprint(core.Max, files.Max <= maxOpenFiles, out)
}

func fork() string {
	n := 0
	for range 100 {
		cmd := exec.Command("/bin/tenant")
		cmd.Args = []string{"/bin/tenant"} // waits on a socket that it does not have: ends, or not
		r, _, _ := os.Pipe()
		cmd.ExtraFiles = []*os.File{r}
		if err := cmd.Start(); err != nil {
			return fmt.Sprintf("stopped at %d: %v", n, err)
		}
		n++
	}
	return fmt.Sprint("forked ", n)
}
