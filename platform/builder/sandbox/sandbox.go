// Package sandbox opens rooms: sets of Linux namespaces (user, mount, pid, ipc,
// uts, cgroup, network) in which one program runs strangers' code. A room has a
// uid range that no other room has, a root directory that holds only what its
// Config names, a file system of its own with a size, cgroup limits, a seccomp
// filter, and no network but one listener that the parent serves. It dies with
// its parent and leaves nothing behind.
//
// The network is the part to know: the room's network namespace has a loopback
// device and nothing else. The gateway's listening socket is made inside that
// namespace by the parent, which keeps it and dials out from its own. There is
// no interface, route or address between the room and the host, so there is no
// packet filter that could be wrong.
//
// Rooms need root (to hand out uid ranges and cgroups). Programs that open rooms
// call Init first thing in main.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/platform/builder"
)

// GatewayAddress is where a room finds its gateway.
const GatewayAddress = "127.0.0.1:3128"

// StateTarget is where a room finds its own writable directory.
const StateTarget = "/state"

// ErrUnsupported says that this machine or this user cannot open rooms.
var ErrUnsupported = errors.New("rooms cannot be opened here")

// Capabilities (unix.CAP_…) are all that root needs to open rooms and to sweep them.
var Capabilities = []int{unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE}

// Config describes one room.
type Config struct {
	Dir     string            // directory of all rooms, made if missing; the room lives in a subdirectory
	UIDBase uint32            // first uid of the first range; default 100000. Each room takes 65536
	Limits  builder.Limits    // zero is no limit, but of Disk: 20 GiB, or 3/4 of what is free. WallTime is the caller's
	Binds   []Bind            // what the room sees of the host, beside /proc, /sys and five devices
	Files   map[string][]byte // small files that are written into the room, by absolute path; 0644
	Argv    []string          // program and arguments, by its path in the room
	Env     []string          // its whole environment
	Stderr  *os.File          // receives its stdout and stderr; nil is /dev/null
	// Network, where set, is called when the gateway's listener stands and before
	// the program starts. It returns further Files, such as the certificate of the
	// CA that this room's gateway alone has; a name that Files has too is an error.
	Network func(l net.Listener) (files map[string][]byte, err error)
}

// Bind shows a file or directory of the host in the room, read-only.
type Bind struct{ Source, Target string }

// Room is a running room. Close it, always.
type Room struct {
	// Gateway accepts what the room connects to GatewayAddress. It belongs to
	// the room's network namespace; the caller serves it, Close closes it.
	Gateway net.Listener

	dir    string // its directory under Config.Dir; not visible inside
	lock   *dirlock.Lock
	slot   *slot
	disk   *disk
	cgroup *cgroup
	cmd    *exec.Cmd
	done   chan struct{} // closed when the program has ended and been waited for
	err    error         // of the program; valid after done
	close  sync.Once
	full   atomic.Pointer[error] // the disk was, at some time
}

// Open makes a room and starts its program. The program gets one listening Unix
// socket by systemd's socket activation protocol (fd 3); Dial reaches it.
// Where Open fails nothing is left.
func Open(cfg Config) (_ *Room, err error) {
	if err := Supported(); err != nil {
		return nil, err
	}
	if cfg.UIDBase == 0 {
		cfg.UIDBase = 100000
	}
	r := &Room{done: make(chan struct{})}
	defer func() {
		if err != nil {
			if r.cmd == nil {
				close(r.done)
			}
			r.Close()
		}
	}()
	if r.slot, err = takeSlot(cfg.UIDBase); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, err
	}
	if r.dir, r.lock, err = makeRoomDir(cfg.Dir, r.slot.uid); err != nil {
		return nil, err
	}
	if r.disk, err = newDisk(r.dir, cfg.Limits.Disk, r.slot.uid); err != nil {
		return nil, err
	}
	if r.cgroup, err = newCgroup(r.slot.name(), r.disk.device, cfg.Limits); err != nil {
		return nil, err
	}
	if err := r.start(cfg); err != nil {
		return nil, err
	}
	go r.watch()
	return r, nil
}

// watch ends the room when its disk is full, or the machine's is and this room
// has taken most of it. It looks often, since a program that failed for space
// may free some before anybody asks why.
func (r *Room) watch() {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			return
		case <-tick.C:
		}
		err := r.disk.full()
		if err == nil {
			err = r.disk.crowded()
		}
		if err != nil {
			r.full.CompareAndSwap(nil, &err)
			r.Kill()
			return
		}
	}
}

// Supported returns an error matching ErrUnsupported, with a hint, where rooms
// cannot be opened by this process.
func Supported() error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("%w: they need Linux, this is %s", ErrUnsupported, runtime.GOOS)
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%w: they need root, this is uid %d (run as root, or use the golang builder, which needs neither)", ErrUnsupported, os.Geteuid())
	}
	return nil
}

func (r *Room) start(cfg Config) error {
	sock, err := r.listen()
	if err != nil {
		return err
	}
	defer sock.Close()
	orderR, orderW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer orderR.Close()
	defer orderW.Close()
	reportR, reportW, err := os.Pipe()
	if err != nil {
		return err
	}
	defer reportR.Close()
	defer reportW.Close()

	o := order{Argv: cfg.Argv, Env: cfg.Env, Files: maps.Clone(cfg.Files)}
	mounts, err := openMounts(&o, cfg.Binds, r.disk)
	defer closeAll(mounts)
	if err != nil {
		return err
	}

	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{argv0}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = append([]*os.File{orderR, reportW, sock}, mounts...)
	if cfg.Stderr != nil {
		cmd.Stdout, cmd.Stderr = cfg.Stderr, cfg.Stderr
	}
	ids := []syscall.SysProcIDMap{{ContainerID: 0, HostID: int(r.slot.uid), Size: slotSize}}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWNET,
		UidMappings:                ids,
		GidMappings:                ids,
		GidMappingsEnableSetgroups: true,
		Credential:                 &syscall.Credential{Uid: 0, Gid: 0},
		Setsid:                     true,
		Pdeathsig:                  syscall.SIGKILL,
	}
	if err := r.run(cmd); err != nil {
		return fmt.Errorf("starting a room: %w (user namespaces may be switched off: sysctl user.max_user_namespaces)", err)
	}
	reportW.Close()

	// The child waits for its order: by then its limits and its network stand.
	if err := r.cgroup.add(cmd.Process.Pid); err != nil {
		return err
	}
	if r.Gateway, err = listenIn(cmd.Process.Pid, GatewayAddress); err != nil {
		return err
	}
	if err := o.network(cfg, r.Gateway); err != nil {
		return err
	}
	if err := json.NewEncoder(orderW).Encode(o); err != nil {
		return fmt.Errorf("the room ended before it began: %w", err)
	}
	orderW.Close()
	return readReport(reportR)
}

// network adds the files that the caller has for this room's network.
func (o *order) network(cfg Config, l net.Listener) error {
	if cfg.Network == nil {
		return nil
	}
	files, err := cfg.Network(l)
	if err != nil {
		return fmt.Errorf("the room's gateway: %w", err)
	}
	if o.Files == nil {
		o.Files = map[string][]byte{}
	}
	for name, data := range files {
		if _, taken := o.Files[name]; taken {
			return fmt.Errorf("the room's gateway: %s is among the room's files already", name)
		}
		o.Files[name] = data
	}
	return nil
}

// run starts cmd and waits for it on a thread of its own: the parent death
// signal follows the thread that forked, not the process.
func (r *Room) run(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		r.cmd = cmd
		started <- nil
		r.err = cmd.Wait()
		close(r.done)
	}()
	return <-started
}

// listen makes the socket that the program is reached by. Its path is in the
// room's directory, which the room cannot see, so nothing inside can put
// another socket in its place.
func (r *Room) listen() (*os.File, error) {
	var f *os.File
	err := r.viaDir(func(path string) error {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			return err
		}
		defer l.Close()
		l.SetUnlinkOnClose(false)
		f, err = l.File()
		return err
	})
	return f, err
}

// Dial connects to the program's socket.
func (r *Room) Dial(ctx context.Context) (net.Conn, error) {
	var c net.Conn
	err := r.viaDir(func(path string) (err error) {
		c, err = new(net.Dialer).DialContext(ctx, "unix", path)
		return err
	})
	return c, err
}

// viaDir calls f with a short path of the socket: a Unix socket's address has
// room for 107 bytes, a data directory's path may be longer.
func (r *Room) viaDir(f func(path string) error) error {
	d, err := os.Open(r.dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return f(fmt.Sprintf("/proc/self/fd/%d/sock", d.Fd()))
}

// Done is closed when the room's program has ended.
func (r *Room) Done() <-chan struct{} { return r.done }

// Exceeded says which limit the room ran into, or nil: an error such as "out of
// memory: the limit is 4294967296 bytes".
func (r *Room) Exceeded() error {
	if err := r.cgroup.exceeded(); err != nil {
		return err
	}
	if err := r.full.Load(); err != nil {
		return *err
	}
	return r.disk.full()
}

// Describe is the room as it was made, for the provenance: what the parent did
// and measured itself, nothing that the room said.
func (r *Room) Describe() map[string]string {
	m := attest.Isolation{Namespaces: "user mount pid ipc uts cgroup network"}.Parameters()
	maps.Copy(m, map[string]string{
		"seccomp":          "sha256:" + confine.Room().Digest(),
		"noNewPrivileges":  "true",
		"devices":          strings.Join(devices, " "),
		"filesystem":       r.disk.kind,
		"limits.disk":      strconv.FormatInt(r.disk.size, 10),
		"limits.openFiles": strconv.Itoa(openFiles),
	})
	if r.disk.why != "" {
		m["filesystem"] += ", counted as memory: " + r.disk.why
	}
	l := r.cgroup.limits
	if l.CPUs > 0 {
		m["limits.cpus"] = strconv.FormatFloat(l.CPUs, 'g', -1, 64)
	}
	for name, n := range map[string]int64{"memory": l.Memory, "processes": l.PIDs, "io": l.IO} {
		if n > 0 {
			m["limits."+name] = strconv.FormatInt(n, 10)
		}
	}
	return m
}

// Range is the room's first host uid and gid, and how many it has.
func (r *Room) Range() (first, size uint32) { return r.slot.uid, slotSize }

// Kill ends every process of the room, and returns when none is left. Its files
// and its uids stay taken until Close.
func (r *Room) Kill() {
	if r.Gateway != nil {
		r.Gateway.Close()
	}
	if r.cmd != nil {
		// The first process of a pid namespace takes all others with it.
		r.cmd.Process.Kill()
	}
	<-r.done
}

// Close kills every process of the room and erases it. It returns when nothing
// is left, or with what could not be erased.
func (r *Room) Close() error {
	var errs []error
	r.close.Do(func() {
		r.Kill()
		if r.cgroup != nil {
			errs = append(errs, r.cgroup.delete())
		}
		// After the cgroup, whose limit of writing would hold the disk up.
		if r.disk != nil {
			errs = append(errs, r.disk.erase())
		}
		if r.dir != "" {
			errs = append(errs, os.RemoveAll(r.dir))
		}
		if r.lock != nil {
			r.lock.Release()
		}
		if r.slot != nil {
			r.slot.release()
		}
	})
	return errors.Join(errs...)
}

// listenIn makes a TCP listener inside the network namespace of a process, with
// its loopback device up. The caller's own namespace is not touched.
func listenIn(pid int, address string) (l net.Listener, err error) {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlocked: the thread ends with this goroutine, so no other
		// code can find itself in the room's namespace.
		runtime.LockOSThread()
		if err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			return
		}
		if err = loopbackUp(); err != nil {
			return
		}
		l, err = net.Listen("tcp4", address)
	}()
	<-done
	if err != nil {
		return nil, fmt.Errorf("the room's network: %w", err)
	}
	return l, nil
}

func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req)
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
