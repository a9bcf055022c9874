// Package sandbox opens rooms: sets of Linux namespaces (user, mount, pid, ipc,
// uts, cgroup, network) in which one program runs untrusted code. Each room has a
// uid range of its own, a root directory that contains only what its Config names,
// a file system of limited size, cgroup limits, and a seccomp filter. A room ends
// when its parent process ends, and leaves nothing behind.
//
// The room's network namespace has only a loopback device. The parent creates the
// gateway's listening socket inside that namespace, keeps it, and connects to the
// outside from its own namespace. Room and host share no interface, route or
// address, so no packet filter is needed and none can be misconfigured.
//
// Opening rooms needs root, to assign uid ranges and cgroups; root of a user namespace
// (package userns) is enough for rooms with fewer limits. Programs that open rooms call
// Init first in main.
package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// GatewayAddress is the address of the gateway inside a room.
const GatewayAddress = "127.0.0.1:3128"

// StateTarget is the writable directory inside a room.
const StateTarget = "/state"

// ErrUnsupported means that this machine or this user cannot open rooms.
var ErrUnsupported = errors.New("rooms cannot be opened here")

// Capabilities returns those (unix.CAP_…) that a process of root needs to open and sweep rooms,
// and to end them when it dies itself (CAP_KILL: the parent death signal needs it too).
func Capabilities() []int {
	list := []int{unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_KILL}
	if nested() {
		list = append(list, unix.CAP_FOWNER) // to erase what a room left in directories with a sticky bit
	}
	return list
}

// Config describes one room.
type Config struct {
	Dir     string            // directory of all rooms, created if missing; each room has a subdirectory
	UIDBase uint32            // first uid of the first room's range; see Range. Default 1879048192 (0x70000000). Each room takes 2097152 uids
	Limits  builder.Limits    // zero means no limit; for Disk it means 20 GiB, or 3/4 of the free space if that is less. The caller enforces WallTime
	Binds   []Bind            // files and directories of the host that the room sees, besides /proc, /sys and some devices
	Files   map[string][]byte // small files that are written into the room, by absolute path; mode 0644
	Argv    []string          // the program's path in the room, and its arguments
	Env     []string          // the program's whole environment
	Stderr  *os.File          // receives the program's stdout and stderr; nil means /dev/null
	State   io.Reader         // what Pack wrote in an earlier room, which fills StateTarget before the program starts; nil: StateTarget is empty
	// Network, if set, is called after the gateway's listener is created and before
	// the program starts. It returns further Files, such as the certificate of the
	// CA of this room's gateway. A name that is also in Files is an error.
	Network func(l net.Listener) (files map[string][]byte, err error)
}

// Bind shows a file or directory of the host in the room, read-only.
type Bind struct{ Source, Target string }

// Room is a running room. The caller must always Close it.
type Room struct {
	// Gateway accepts the room's connections to GatewayAddress. It listens in the
	// room's network namespace. The caller serves it; Close closes it.
	Gateway net.Listener

	dir    string // the room's directory below Config.Dir; not visible inside the room
	lock   *dirlock.Lock
	slot   *slot
	disk   *disk
	cgroup *cgroup
	cmd    *exec.Cmd
	done   chan struct{} // closed when the program has ended and been waited for
	err    error         // the program's; valid after done
	close  sync.Once
	full   atomic.Pointer[error] // set if the disk was full at some time, or the machine's table of open files

	fed     chan struct{}   // closed when Config.State is not read any more; nil if there is none
	feedErr error           // valid after fed
	packing sync.Mutex      // held while a process packs the state
	life    context.Context // ends when Close begins
	end     context.CancelFunc

	openFiles int64 // of each process
}

// Open creates a room and starts its program. The program receives a listening Unix
// socket by systemd's socket activation protocol (fd 3); Dial connects to it. If
// Open fails it leaves nothing behind.
func Open(cfg Config) (_ *Room, err error) {
	if err := Supported(); err != nil {
		return nil, err
	}
	base, _, err := Range(cfg.UIDBase)
	if err != nil {
		return nil, fmt.Errorf("first uid of rooms: %w", err)
	}
	r := &Room{done: make(chan struct{})}
	r.life, r.end = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			if r.cmd == nil {
				close(r.done)
			}
			r.Close()
		}
	}()
	if r.slot, err = takeSlot(base); err != nil {
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
	_, files, err := machineFiles()
	if err != nil {
		return nil, err
	}
	r.openFiles = filesOfOneProcess(files, cfg.Limits.PIDs)
	if err := r.start(cfg); err != nil {
		return nil, err
	}
	go r.watch()
	return r, nil
}

// watch ends the room when its disk is full, or when the machine's disk or table of open
// files is full and this room takes the most of it. It checks often, because a program that failed for
// lack of space may free some before the caller asks why it failed.
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
		if used, most, ferr := machineFiles(); err == nil && ferr == nil {
			err = r.cgroup.crowded(used, most, r.cgroup.allRooms)
		}
		if err != nil {
			r.full.CompareAndSwap(nil, &err)
			r.Kill()
			return
		}
	}
}

// Supported returns a *builder.LackError that matches ErrUnsupported, if this process
// cannot open rooms.
func Supported() error {
	if runtime.GOOS != "linux" {
		return &builder.LackError{Err: fmt.Errorf("%w: got %s, want Linux", ErrUnsupported, runtime.GOOS), Hint: "use a platform on a Linux host: colophon login FILE"}
	}
	if os.Geteuid() != 0 {
		return &builder.LackError{
			Err:  fmt.Errorf("%w: the platform runs as uid %d, want root", ErrUnsupported, os.Geteuid()),
			Hint: "start a platform as root, with sudo colophond serve --data DIR, or use one elsewhere; then colophon login with a copy of its DIR/client.json",
		}
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

	o := order{Argv: cfg.Argv, Env: cfg.Env, Files: maps.Clone(cfg.Files), OpenFiles: uint64(r.openFiles), Unpack: cfg.State != nil}
	mounts, err := openMounts(&o, cfg.Binds, r.disk)
	defer closeAll(mounts)
	if err != nil {
		return err
	}
	files := append([]*os.File{orderR, reportW, sock}, mounts...)
	if cfg.State != nil {
		state, err := r.feed(cfg.State)
		if err != nil {
			return err
		}
		defer state.Close()
		files = append(files, state)
	}
	if err := r.run(r.command(files, cfg.Stderr)); err != nil {
		return fmt.Errorf("starting a room: %w (user namespaces may be disabled: check sysctl user.max_user_namespaces)", err)
	}
	reportW.Close()

	// The child waits for its order, so limits and network are in effect before it
	// does anything.
	if err := r.cgroup.add(r.cmd.Process.Pid); err != nil {
		return err
	}
	if r.Gateway, err = listenIn(r.cmd.Process.Pid, r.slot.uid, GatewayAddress); err != nil {
		return err
	}
	if err := o.addNetworkFiles(cfg, r.Gateway); err != nil {
		return err
	}
	if err := json.NewEncoder(orderW).Encode(o); err != nil {
		return fmt.Errorf("the room's first process ended before it received its order: %w", err)
	}
	orderW.Close()
	if err := readReport(reportR); err != nil || r.fed == nil {
		return err
	}
	<-r.fed
	return r.feedErr
}

// command returns the command of a first process of the room, in new namespaces. It has
// files from descriptor 3 on.
func (r *Room) command(files []*os.File, stderr *os.File) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{argv0}
	cmd.Env = []string{}
	cmd.Dir = "/"
	cmd.ExtraFiles = files
	if stderr != nil {
		cmd.Stdout, cmd.Stderr = stderr, stderr
	}
	ids := r.slot.ids()
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
	return cmd
}

// addNetworkFiles calls cfg.Network and adds the files that it returns to the order.
func (o *order) addNetworkFiles(cfg Config, l net.Listener) error {
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
			return fmt.Errorf("the room's gateway: duplicate file %s", name)
		}
		o.Files[name] = data
	}
	return nil
}

// run starts cmd, the room's program, and closes r.done when it has ended.
func (r *Room) run(cmd *exec.Cmd) error {
	ended, err := r.runAs(cmd)
	if err != nil {
		return err
	}
	r.cmd = cmd
	go func() {
		r.err = <-ended
		close(r.done)
	}()
	return nil
}

// runAs starts cmd and waits for it on a thread of its own, because the kernel sends
// the parent death signal when the thread that forked ends, not when the process does.
func (r *Room) runAs(cmd *exec.Cmd) (ended <-chan error, err error) {
	started, end := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		start := func() error { return asOwner(r.slot.uid, cmd.Start) }
		if nested() {
			create := start
			start = func() error { return limitProcesses(r.cgroup.limits.PIDs, create) }
		}
		err := start()
		started <- err
		if err == nil {
			end <- cmd.Wait()
		}
	}()
	return end, <-started
}

// listen creates the program's socket, to which Dial connects. Its path is in the
// room's directory on the host, which the room cannot see, so no process in the room
// can replace it.
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

// viaDir calls f with a short path to the socket: a Unix socket's address is limited
// to 107 bytes, and the data directory's path may be longer.
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

// Exceeded returns an error if the room reached one of its limits, such as "out of
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

// Describe returns the room's settings for the provenance. All of them were set or
// measured by the parent; none comes from inside the room.
func (r *Room) Describe() map[string]string {
	m := attest.Isolation{Namespaces: "user mount pid ipc uts cgroup network"}.Parameters()
	maps.Copy(m, map[string]string{
		"seccomp":          "sha256:" + confine.Room().Digest(),
		"noNewPrivileges":  "true",
		"devices":          strings.Join(devices, " "),
		"filesystem":       r.disk.kind,
		"limits.openFiles": strconv.FormatInt(r.openFiles, 10),
	})
	if r.disk.kind != kindDirectory {
		m["limits.disk"] = strconv.FormatInt(r.disk.size, 10)
	}
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

// Range returns the room's first uid on the host, which is also its first gid, and
// the number of its uids and gids.
func (r *Room) Range() (first, size uint32) { return r.slot.uid, ids().size() }

// Kill ends every process of the room and returns when none is left. The room keeps
// its files and its uid range until Close.
func (r *Room) Kill() {
	if r.Gateway != nil {
		r.Gateway.Close()
	}
	if r.cmd != nil {
		// When the first process of a pid namespace dies, the kernel kills all others.
		r.cmd.Process.Kill()
	}
	<-r.done
}

// Close kills every process of the room and erases the room. It returns when nothing
// is left; its error says what could not be erased.
func (r *Room) Close() error {
	var errs []error
	r.close.Do(func() {
		r.Kill()
		if r.fed != nil {
			<-r.fed
		}
		r.end()
		r.packing.Lock()
		defer r.packing.Unlock()
		if r.cgroup != nil {
			errs = append(errs, r.cgroup.delete())
		}
		// After the cgroup, because its IO limit would slow the erasing down.
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

// listenIn brings the loopback device up in the network namespace of process pid, whose
// owner is uid, and creates a TCP listener there. The caller stays in its own namespace.
func listenIn(pid int, uid uint32, address string) (l net.Listener, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		// Never unlock the thread: it then ends with this goroutine, so no other
		// goroutine can run in the room's namespace.
		runtime.LockOSThread()
		err = asOwner(uid, func() error {
			ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
			if err != nil {
				return err
			}
			defer ns.Close()
			if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
				return err
			}
			if err := loopbackUp(); err != nil {
				return err
			}
			l, err = net.Listen("tcp4", address)
			return err
		})
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
