package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// role is one zone that runs as a child process. Its settings go in through
// standard input, so that no token stands in an argument or the environment.
type role struct {
	name     string
	settings any
	log      *slog.Logger
}

// supervise runs the role until ctx is done and starts it again with back-off
// when it dies.
func (r role) supervise(ctx context.Context) {
	const fresh, stale = 250 * time.Millisecond, 30 * time.Second
	wait := fresh
	for {
		started := time.Now()
		err := r.run(ctx)
		if ctx.Err() != nil {
			return
		}
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

func (r role) run(ctx context.Context) error {
	// The kernel kills the child when the thread that started it dies, so that
	// kill -9 of the platform leaves nothing running; the thread must last.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	settings, err := json.Marshal(r.settings)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, self, r.name)
	cmd.Stdin = bytes.NewReader(settings)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd.Run()
}

// readSettings is the other end of role.run.
func readSettings(in io.Reader, v any) error {
	data, err := io.ReadAll(in)
	if err != nil {
		return err
	}
	if len(data) == 0 {
		return errors.New("no settings on standard input; this role is started by \"colophond serve\"")
	}
	if err := json.Unmarshal(data, v); err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	return nil
}
