package zone

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/internal/confine"
	"github.com/colophon-build/colophon/internal/printable"
)

// Apart describes a process that reads the bytes of strangers for a role: a repository,
// an image. It has no key and no token of the role, sees only Dir and Show of the role's
// files, and has limits of its own: if it exceeds them or is taken over, the role continues.
type Apart struct {
	Program string // path of a program that calls InitApart; empty: this program

	Task string   // a name in the map that the program gives to InitApart
	Dir  string   // the directory of the item. The process can write here and in /tmp, nowhere else
	Show []string // files and directories that it sees, read-only, although they are below Hide
	Hide []string // directories that look empty to it, besides /tmp and /proc

	// Namespaces gives the process namespaces of its own. Without them it sees the
	// files of the role's user, whatever Hide says; only the limits and Confine apply.
	Namespaces bool
	Confine    confine.Policy // with Inet, the process shares the role's network
	Limits     Limits
}

// Limits bound a process apart. All of them must be positive.
type Limits struct {
	Memory    int64 // bytes of data of each of its processes (RLIMIT_DATA)
	Scratch   int64 // bytes of /tmp, which is in memory
	FileSize  int64 // bytes of one file
	Files     int64 // open files of each of its processes
	Processes int64 // its processes and threads

	Time time.Duration // of one order
}

// ErrLimit means that a process apart ended because it exceeded a limit. The same item
// will exceed it again.
var ErrLimit = errors.New("limit exceeded")

// ErrNoNamespaces means that the kernel does not give the process namespaces of its own, or no
// right to mount in them.
var ErrNoNamespaces = errors.New("the kernel gives no namespaces")

// Task is what a process apart does: it executes one order and returns the answer, which is
// marshalled to JSON.
type Task func(ctx context.Context, order json.RawMessage) (answer any, err error)

const (
	apartArg0 = "colophond-apart" // argv[0] of a process apart
	maxAnswer = 64 << 20          // bytes of an answer, as JSON
	noMounts  = 3                 // exit code of a process apart that may not mount
	maxLast   = 16 << 10          // bytes of standard error that are kept, from its start
)

// answer is a value on the standard output of a process apart.
type answer struct {
	Value json.RawMessage `json:"value,omitempty"`
	Error string          `json:"error,omitempty"` // why there is no value
}

// Item is a running process apart. It executes one order at a time.
type Item struct {
	apart  Apart
	pid    int
	in     io.WriteCloser
	out    *os.File
	left   *io.LimitedReader // what answer may still read of out
	answer *json.Decoder
	stderr *printable.Head
	ended  chan struct{} // closed when the process has ended
	status error         // of the process, set before ended is closed
	used   int64         // bytes of memory at its peak, set before ended is closed
	broken error         // why it takes no more orders
}

// Start starts the process, which prepares for orders. The caller must Close the Item.
func (a Apart) Start() (*Item, error) {
	i := &Item{apart: a, stderr: &printable.Head{Max: maxLast}, ended: make(chan struct{})}
	cmd := exec.Command(cmp.Or(a.Program, "/proc/self/exe"))
	cmd.Args[0], cmd.Dir, cmd.Stderr = apartArg0, "/", i.stderr
	cmd.Env, i.apart.Show = apartEnvironment(a.Show)
	cmd.WaitDelay = 5 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	if a.Namespaces {
		a.isolate(cmd.SysProcAttr)
	} else {
		cmd.Env = append(cmd.Env, "TMPDIR="+a.Dir)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	// StdoutPipe would be closed by Wait, possibly before the last answer is read.
	out, answers, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout = answers
	i.in, i.out, i.left = in, out, &io.LimitedReader{R: out, N: maxAnswer}
	i.answer = json.NewDecoder(i.left)
	started := make(chan error)
	go func() {
		// The kernel kills the child when the thread that started it ends.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(i.ended)
		err := cmd.Start()
		answers.Close()
		started <- err
		if err == nil {
			i.status = cmd.Wait()
			i.used = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
			out.SetReadDeadline(time.Now().Add(time.Second)) // in case a process that it started still has the other end
		}
	}()
	if err := <-started; err != nil {
		out.Close()
		if a.Namespaces && slices.ContainsFunc([]error{unix.EPERM, unix.ENOSPC, unix.EINVAL}, func(e error) bool { return errors.Is(err, e) }) {
			err = fmt.Errorf("%w: %w", ErrNoNamespaces, err)
		}
		return nil, fmt.Errorf("starting a process for %s: %w", a.Task, err)
	}
	i.pid = cmd.Process.Pid
	if err := json.NewEncoder(in).Encode(i.apart); err != nil {
		err = i.end(err)
		i.Close()
		return nil, err
	}
	return i, nil
}

// Probe returns why this host cannot run the process; nil if the process confined itself and
// takes orders.
func (a Apart) Probe() error {
	i, err := a.Start()
	if err != nil {
		return err
	}
	defer i.Close()
	var none any
	return i.Do(context.Background(), nil, &none)
}

// isolate gives the process namespaces and, in them, the right to mount, which it drops
// before it reads an order. Its user stays the role's, so that it owns the files in Dir.
func (a Apart) isolate(attr *syscall.SysProcAttr) {
	attr.Cloneflags = syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
	if !a.Confine.Inet {
		attr.Cloneflags |= syscall.CLONE_NEWNET
	}
	attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}}
	attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}}
	attr.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN}
}

// apartEnvironment returns the environment of a process apart, and show with the files
// that its variables name.
func apartEnvironment(show []string) (env, all []string) {
	all = slices.Clone(show)
	env = []string{"GOTRACEBACK=none"} // of a crash, the reason is enough
	for _, name := range []string{"PATH", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "GIT_SSL_CAPATH"} {
		value := os.Getenv(name)
		if value == "" {
			continue
		}
		env = append(env, name+"="+value)
		if _, err := os.Stat(value); err == nil && name != "PATH" {
			all = append(all, value)
		}
	}
	return env, all
}

// Do executes one order and stores its answer in into. It matches ErrLimit if the
// process exceeded a limit. If ctx ends, the process ends.
func (i *Item) Do(ctx context.Context, order, into any) error {
	if i.broken != nil {
		return i.broken
	}
	ctx, cancel := context.WithTimeoutCause(ctx, i.apart.Limits.Time, fmt.Errorf("%s took longer than %s: %w", i.apart.Task, i.apart.Limits.Time, ErrLimit))
	defer cancel()
	stop := context.AfterFunc(ctx, i.kill)
	defer stop()
	err := json.NewEncoder(i.in).Encode(order)
	var a answer
	if i.left.N = maxAnswer; err == nil {
		err = i.answer.Decode(&a)
	}
	switch {
	case ctx.Err() != nil:
		i.broken = context.Cause(ctx)
		return i.broken
	case err != nil:
		return i.end(err)
	case a.Error != "":
		return errors.New(a.Error)
	}
	return json.Unmarshal(a.Value, into)
}

// end ends a process that did not answer, because of err, and says why.
func (i *Item) end(err error) error {
	i.kill()
	<-i.ended
	last := i.stderr.String()
	i.broken = fmt.Errorf("the process for %s ended: %w: %s", i.apart.Task, errors.Join(i.status, err), last)
	if e, ok := errors.AsType[*exec.ExitError](i.status); ok && e.ExitCode() == noMounts {
		i.broken = fmt.Errorf("%w: %w", ErrNoNamespaces, i.broken)
	}
	// Go's runtime does not survive a refused allocation, and says so in several ways.
	if most := i.apart.Limits.Memory; most > 0 && i.used > most/2 || strings.Contains(last, "out of memory") {
		i.broken = fmt.Errorf("%s needed more than %d bytes of memory: %w", i.apart.Task, i.apart.Limits.Memory, ErrLimit)
	}
	if i.left.N <= 0 {
		i.broken = fmt.Errorf("the answer of %s has more than %d bytes: %w", i.apart.Task, maxAnswer, ErrLimit)
	}
	return i.broken
}

// kill ends the process and all that it started.
func (i *Item) kill() {
	select {
	case <-i.ended: // the pid may belong to another process now
	default:
		syscall.Kill(-i.pid, syscall.SIGKILL)
	}
}

// Close ends the process and returns when it has ended. Close may be called twice.
func (i *Item) Close() {
	i.kill()
	<-i.ended
	i.in.Close()
	i.out.Close()
}
