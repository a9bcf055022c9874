package zone

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/internal/logs"
	"github.com/colophon-build/colophon/internal/peer"
	"github.com/colophon-build/colophon/internal/userns"
)

// Process runs this program again, as its command Name, in a zone. The command calls
// Run, which reads the settings from standard input, so that no token is in an
// argument or the environment.
type Process struct {
	Name     string
	Zone     Zone
	Users    peer.Users // the users of all processes, to recognise who connects
	Settings any        // marshalled to JSON; the child gets them as Child.Settings
	Listener *os.File   // stays open in the parent, so that clients wait while the process restarts
	Log      *slog.Logger
	Logs     logs.Settings // how the child logs
	Updates  *Updates      // what the child gets beside Settings, and again when it changes; nil: nothing
}

// order is what a child reads from its standard input.
type order struct {
	Zone     Zone            `json:"zone"`
	Users    peer.Users      `json:"users"`
	Settings json.RawMessage `json:"settings"`
	Listens  bool            `json:"listens"` // file descriptor 3 is its listener
	Logs     logs.Settings   `json:"logs"`
	Updates  bool            `json:"updates"` // updates follow
}

const maxOrder = 256 << 20 // bytes; the settings of a gateway hold a lock

// Supervise runs the process until ctx is done. When the process ends, Supervise calls
// died and restarts it with back-off: after 250 ms at first, after 30 s at most. When it
// gets another Process from next, it stops the running one and runs that. After stopping is
// closed, ctx will be done soon: a process that a signal ended stays ended.
func (p Process) Supervise(ctx context.Context, stopping <-chan struct{}, next <-chan Next, died func()) {
	const shortest, longest = 250 * time.Millisecond, 30 * time.Second
	wait := shortest
	for {
		started := time.Now()
		other, err := p.runUntil(ctx, next)
		if ctx.Err() != nil {
			return
		}
		if other != nil {
			p, wait = other.take(), shortest
			continue
		}
		if err == nil || interrupted(err) { // by a signal: if it was to all processes of the host, this one ends, too
			select {
			case <-ctx.Done():
				return
			case <-stopping: // roles that wait for requests to end may take longer than a second
				<-ctx.Done()
				return
			case <-time.After(time.Second):
			}
		}
		died()
		if time.Since(started) > time.Minute {
			wait = shortest
		}
		p.Log.Error("role ended", "role", p.Name, "error", err, "restart_in", wait)
		select {
		case <-ctx.Done():
			return
		case other := <-next:
			p = other.take()
		case <-time.After(wait):
		}
		wait = min(2*wait, longest)
	}
}

// interrupted reports whether SIGINT or SIGTERM killed a process. Ctrl-C of the terminal kills a role that is not in a
// session of its own yet.
func interrupted(err error) bool {
	ended, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return false
	}
	status, ok := ended.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && (status.Signal() == syscall.SIGINT || status.Signal() == syscall.SIGTERM)
}

// Next is a process that takes the place of another. Ended is closed when that has ended;
// from then on, connections to the listener wait for the new one.
type Next struct {
	Process Process
	Ended   chan<- struct{}
}

func (n Next) take() Process {
	close(n.Ended)
	return n.Process
}

// runUntil runs the process once, until it ends or another one is to take its place.
func (p Process) runUntil(ctx context.Context, next <-chan Next) (other *Next, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- p.run(ctx) }()
	select {
	case err := <-ended:
		return nil, err
	case n := <-next:
		stop()
		return &n, <-ended
	}
}

// run runs the process once, until it ends.
func (p Process) run(ctx context.Context) error {
	// The kernel kills the child when the thread that started it ends, so that
	// kill -9 of the platform leaves no process. So this thread must live as long.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := p.Command(ctx)
	if err != nil {
		return err
	}
	cmd.Stdout = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	if p.Updates == nil {
		return cmd.Run()
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer w.Close()
	order := cmd.Stdin
	cmd.Stdin = r
	err = cmd.Start()
	r.Close()
	if err != nil {
		return err
	}
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		if _, err := io.Copy(w, order); err == nil {
			p.Updates.feed(w, ended)
		}
	}()
	return cmd.Wait()
}

// Command returns a command that runs the process once. The caller must lock the
// thread that starts it (runtime.LockOSThread) until the process has ended: the kernel
// kills the child when that thread ends. The command's Stdin is what Run reads; the
// caller may append data to it, which stays on the child's standard input.
func (p Process) Command(ctx context.Context) (*exec.Cmd, error) {
	settings, err := json.Marshal(p.Settings)
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(order{p.Zone, p.Users, settings, p.Listener != nil, p.Logs, p.Updates != nil})
	if err != nil {
		return nil, err
	}
	in = frame(in)
	cmd := exec.CommandContext(ctx, "/proc/self/exe", p.Name)
	cmd.Args[0] = "colophond"
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	cmd.Env = p.Zone.environment()
	if p.Listener != nil {
		cmd.ExtraFiles = []*os.File{p.Listener}
	}
	// A session of its own, without the terminal of whoever started us: Ctrl-C there is for us, who stop
	// processes in their order, and a process of another user can type nothing there (TIOCSTI).
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setsid: true}
	if p.Zone.Separate {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	}
	return cmd, nil
}

// Child is what a process in its zone gets from the Process that started it.
type Child[S any] struct {
	Settings S
	Users    peer.Users
	Listener net.Listener // nil if Process.Listener was nil; Accept returns an error only after it is closed
	Dirs     []string     // the directories that the process may write
	Log      *slog.Logger
	Logs     logs.Settings // for processes that the process starts
	Updates  <-chan []byte // JSON: what Process.Updates has, and again when it changes; nil if there is none
}

// Run is the main function of a process that a Process started. It reads zone and
// settings from in, enters the zone irrevocably, and calls run.
func Run[S any](ctx context.Context, name string, in io.Reader, run func(context.Context, Child[S]) error) error {
	var o order
	if err := readOrder(in, &o); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c := Child[S]{Log: logs.New(os.Stderr, o.Logs).With("role", name), Logs: o.Logs}
	slog.SetDefault(c.Log)
	if o.Zone.Entered {
		userns.Inherit()
	}
	if err := o.Zone.enter(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := json.Unmarshal(o.Settings, &c.Settings); err != nil {
		return fmt.Errorf("%s: settings: %w", name, err)
	}
	c.Users = o.Users
	for _, m := range o.Zone.Mounts {
		if m.Write {
			c.Dirs = append(c.Dirs, o.Zone.Path(m.Name))
		}
	}
	FreeStartMemory()
	if o.Listens { // otherwise the descriptor may be the Go runtime's
		c.Listener = inherited(3, c.Log)
	}
	if o.Updates {
		c.Updates = readUpdates(in)
	}
	if err := run(ctx, c); err != nil && !Stopped(ctx, err) {
		return fmt.Errorf("%s: %s", name, o.Zone.hostPaths(err.Error()))
	}
	return nil
}

// Stopped reports whether what runs until ctx is done returned err because of that: it was still starting.
func Stopped(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, context.Cause(ctx)) || errors.Is(err, ctx.Err()))
}

func readOrder(in io.Reader, o *order) error {
	data, err := readFrame(in)
	if errors.Is(err, io.EOF) {
		return errors.New(`no settings on standard input; "colophond serve" starts this role`)
	} else if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if err := json.Unmarshal(data, o); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}
