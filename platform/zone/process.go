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

	"github.com/colophon-build/colophon/internal/peer"
)

// Process is this program, run again as a command of that name in a zone. What it
// needs to know goes in through its standard input, so that no token stands in an
// argument or the environment. The command calls Run.
type Process struct {
	Name     string
	Zone     Zone
	Users    peer.Users // of all processes, to tell who connects
	Settings any        // becomes the child's S of Run
	Listener *os.File   // kept open here: while the process restarts, whoever connects waits
	Log      *slog.Logger
}

// order is what a child reads from its standard input.
type order struct {
	Zone     Zone            `json:"zone"`
	Users    peer.Users      `json:"users"`
	Settings json.RawMessage `json:"settings"`
}

// Supervise runs the process until ctx is done, and starts it again with back-off
// when it dies; it calls died each time.
func (p Process) Supervise(ctx context.Context, died func()) {
	const fresh, stale = 250 * time.Millisecond, 30 * time.Second
	wait := fresh
	for {
		started := time.Now()
		err := p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		died()
		if time.Since(started) > time.Minute {
			wait = fresh
		}
		p.Log.Error("role ended", "role", p.Name, "error", err, "restart_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, stale)
	}
}

// run is one life of the process.
func (p Process) run(ctx context.Context) error {
	// The kernel kills the child when the thread that started it dies, so that
	// kill -9 of the platform leaves nothing running; the thread must last.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := p.Command(ctx)
	if err != nil {
		return err
	}
	cmd.Stdout = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}

// Command prepares one life of the process. Whoever starts it must stay on the
// thread that did: the kernel kills the child when that thread ends.
func (p Process) Command(ctx context.Context) (*exec.Cmd, error) {
	settings, err := json.Marshal(p.Settings)
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(order{p.Zone, p.Users, settings})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", p.Name)
	cmd.Args[0] = "colophond"
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	cmd.Env = p.Zone.environment()
	if p.Listener != nil {
		cmd.ExtraFiles = []*os.File{p.Listener}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if p.Zone.Separate {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	}
	return cmd, nil
}

// Child is a process in its zone, as it finds itself.
type Child[S any] struct {
	Settings S
	Users    peer.Users
	Listener net.Listener // nil if it has none
	Log      *slog.Logger
}

// Run makes this process the one that a Process started: it reads the order from
// in, enters the zone for good, and then calls run.
func Run[S any](ctx context.Context, name string, in io.Reader, run func(context.Context, Child[S]) error) error {
	c := Child[S]{Log: slog.New(slog.NewTextHandler(os.Stderr, nil)).With("role", name)}
	var o order
	if err := readOrder(in, &o); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := o.Zone.enter(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := json.Unmarshal(o.Settings, &c.Settings); err != nil {
		return fmt.Errorf("%s: settings: %w", name, err)
	}
	c.Users = o.Users
	FreeStartMemory()
	if f := os.NewFile(3, "listener"); f != nil {
		l, err := net.FileListener(f)
		f.Close()
		if err == nil {
			c.Listener = l
		}
	}
	if err := run(ctx, c); err != nil {
		return fmt.Errorf("%s: %s", name, o.Zone.hostPaths(err.Error()))
	}
	return nil
}

func readOrder(in io.Reader, o *order) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return errors.New(`no settings on standard input; this role is started by "colophond serve"`)
	}
	if err := json.Unmarshal(data, o); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}
