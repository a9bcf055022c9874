package zone

import (
	"bytes"
	"context"
	"encoding/binary"
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
}

// order is what a child reads from its standard input.
type order struct {
	Zone     Zone            `json:"zone"`
	Users    peer.Users      `json:"users"`
	Settings json.RawMessage `json:"settings"`
	Listens  bool            `json:"listens"` // file descriptor 3 is its listener
}

const maxOrder = 256 << 20 // bytes; the settings of a gateway hold a lock

// Supervise runs the process until ctx is done. When the process ends, Supervise calls
// died and restarts it with back-off: after 250 ms at first, after 30 s at most.
func (p Process) Supervise(ctx context.Context, died func()) {
	const shortest, longest = 250 * time.Millisecond, 30 * time.Second
	wait := shortest
	for {
		started := time.Now()
		err := p.run(ctx)
		if ctx.Err() != nil {
			return
		}
		died()
		if time.Since(started) > time.Minute {
			wait = shortest
		}
		p.Log.Error("role ended", "role", p.Name, "error", err, "restart_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, longest)
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
	return cmd.Run()
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
	in, err := json.Marshal(order{p.Zone, p.Users, settings, p.Listener != nil})
	if err != nil {
		return nil, err
	}
	in = append(binary.BigEndian.AppendUint32(nil, uint32(len(in))), in...)
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

// Child is what a process in its zone gets from the Process that started it.
type Child[S any] struct {
	Settings S
	Users    peer.Users
	Listener net.Listener // nil if Process.Listener was nil; Accept returns an error only after it is closed
	Dirs     []string     // the directories that the process may write
	Log      *slog.Logger
}

// Run is the main function of a process that a Process started. It reads zone and
// settings from in, enters the zone irrevocably, and calls run.
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
	for _, m := range o.Zone.Mounts {
		if m.Write {
			c.Dirs = append(c.Dirs, o.Zone.Path(m.Name))
		}
	}
	FreeStartMemory()
	if o.Listens { // otherwise the descriptor may be the Go runtime's
		c.Listener = inherited(3, c.Log)
	}
	if err := run(ctx, c); err != nil {
		return fmt.Errorf("%s: %s", name, o.Zone.hostPaths(err.Error()))
	}
	return nil
}

func readOrder(in io.Reader, o *order) error {
	var size [4]byte
	if _, err := io.ReadFull(in, size[:]); errors.Is(err, io.EOF) {
		return errors.New(`no settings on standard input; "colophond serve" starts this role`)
	} else if err != nil {
		return err
	}
	n := binary.BigEndian.Uint32(size[:])
	if n > maxOrder {
		return fmt.Errorf("settings: got %d bytes, want at most %d", n, maxOrder)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(in, data); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if err := json.Unmarshal(data, o); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}
