package zone

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Ctrl-C in a terminal is a signal to serve, and not to its roles: they have sessions of their own.
func TestSession(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd, err := Process{Name: "waits"}.Command(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if session, err := unix.Getsid(cmd.Process.Pid); session != cmd.Process.Pid {
		t.Errorf("got session %d, %v, want its own, %d", session, err, cmd.Process.Pid)
	}
	w.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// A process that a signal to all processes ended is no fault when the platform stops, however long
// others take, and otherwise it is.
func TestStopping(t *testing.T) {
	for name, stops := range map[string]bool{"while the platform stops": true, "while it runs": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			ctx, stop := context.WithCancel(t.Context())
			stopping, died, done := make(chan struct{}), make(chan struct{}, 100), make(chan struct{})
			if stops {
				close(stopping)
			}
			go func() {
				defer close(done)
				Process{Name: "ends", Log: slog.New(slog.NewTextHandler(&log, nil))}.Supervise(ctx, stopping, nil, func() { died <- struct{}{} })
			}()
			late := time.After(10 * time.Second)
			if stops {
				late = time.After(1500 * time.Millisecond) // it would take a second to say so
			}
			select {
			case <-died:
				if stops {
					t.Error("it died")
				}
			case <-late:
				if !stops {
					t.Error("nobody heard that it died")
				}
			}
			stop()
			<-done
			if (log.Len() == 0) != stops {
				t.Errorf("got the log %q", &log)
			}
		})
	}
}
