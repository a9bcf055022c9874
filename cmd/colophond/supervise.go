package main

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

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/peer"
)

// role is one role as a child process. What it needs to know goes in through
// standard input, so that no token stands in an argument or the environment.
type role struct {
	name     string
	zone     zone
	users    peer.Users
	settings any
	listener *os.File // kept open here: while the role restarts, whoever connects waits
	log      *slog.Logger
}

// order is what a role reads from standard input.
type order struct {
	Zone     zone            `json:"zone"`
	Users    peer.Users      `json:"users"`
	Settings json.RawMessage `json:"settings"`
}

// supervise runs the role until ctx is done and starts it again with back-off
// when it dies; died is called each time.
func (r role) supervise(ctx context.Context, died func()) {
	const fresh, stale = 250 * time.Millisecond, 30 * time.Second
	wait := fresh
	for {
		started := time.Now()
		err := r.run(ctx)
		if ctx.Err() != nil {
			return
		}
		died()
		if time.Since(started) > time.Minute {
			wait = fresh
		}
		r.log.Error("role ended", "role", r.name, "error", err, "restart_in", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, stale)
	}
}

// run is one life of the role.
func (r role) run(ctx context.Context) error {
	// The kernel kills the child when the thread that started it dies, so that
	// kill -9 of the platform leaves nothing running; the thread must last.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := r.command(ctx)
	if err != nil {
		return err
	}
	cmd.Stdout = os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}

// command prepares the child.
func (r role) command(ctx context.Context) (*exec.Cmd, error) {
	settings, err := json.Marshal(r.settings)
	if err != nil {
		return nil, err
	}
	in, err := json.Marshal(order{r.zone, r.users, settings})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "/proc/self/exe", r.name)
	cmd.Args[0] = "colophond"
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	cmd.Env = r.zone.environment()
	if r.listener != nil {
		cmd.ExtraFiles = []*os.File{r.listener}
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if r.zone.Separate {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWNS
	}
	return cmd, nil
}

// start is a role as it finds itself: in its zone, with its settings.
type start[S any] struct {
	settings S
	users    peer.Users
	listener net.Listener // nil where it has none
	log      *slog.Logger
}

// newRoleCommand is the command that serve starts a role with.
func newRoleCommand[S any](name, short string, run func(context.Context, start[S]) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: "role: " + short + " (started by serve)", Args: cobra.NoArgs, Hidden: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := start[S]{log: slog.New(slog.NewTextHandler(os.Stderr, nil)).With("role", name)}
			var o order
			if err := readOrder(os.Stdin, &o); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := o.Zone.enter(); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if err := json.Unmarshal(o.Settings, &s.settings); err != nil {
				return fmt.Errorf("%s: settings: %w", name, err)
			}
			s.users = o.Users
			forgetStart()
			if f := os.NewFile(3, "listener"); f != nil {
				l, err := net.FileListener(f)
				f.Close()
				if err == nil {
					s.listener = l
				}
			}
			if err := run(cmd.Context(), s); err != nil {
				return fmt.Errorf("%s: %s", name, o.Zone.outside(err.Error()))
			}
			return nil
		},
	}
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
