package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/colophon-build/colophon/internal/dirlock"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/reach"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/api"
)

func newStatusCommand() *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "status",
		Short: "show which platform release uses, and whether it is ready",
		Long: `Status shows the platform that release uses: that of COLOPHON_PLATFORM, else that of
your login, else the platform that release starts on this host. It prints what the
platform says of itself, one line for each thing that does not work.

Status exits with 1 if there is no platform or if it is not ready.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStatus(cmd, o) },
	}
	o.flags(cmd)
	return cmd
}

// platformStatus is what status prints.
type platformStatus struct {
	URL   string   `json:"url,omitempty"`
	Ready bool     `json:"ready"`
	Says  []string `json:"says,omitempty"` // lines of its /readyz beside "ok"
	// Of a platform that release started on this host.
	PID  int    `json:"pid,omitempty"`
	Data string `json:"data,omitempty"`
}

func runStatus(cmd *cobra.Command, o output) error {
	s, err := currentStatus(cmd.Context())
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if !o.text() {
		if err := o.print(w, s); err != nil {
			return err
		}
	} else {
		s.print(w)
	}
	if !s.Ready {
		return &exitError{code: exitFailure}
	}
	return nil
}

func (s *platformStatus) print(w io.Writer) {
	state := "not ready"
	switch {
	case s.Ready:
		state = "ready"
	case s.URL == "":
		state = "not running; release starts it"
	}
	if s.URL != "" {
		fmt.Fprintf(w, "%s\n", printable.Text(s.URL))
	}
	fmt.Fprintf(w, "  %s\n", state)
	for _, line := range s.Says {
		fmt.Fprintf(w, "  %s\n", printable.Text(line))
	}
	if s.Data != "" {
		fmt.Fprintf(w, "  data in %s\n", printable.Text(s.Data))
	}
	if s.PID != 0 {
		fmt.Fprintf(w, "  process %d; colophon stop ends it\n", s.PID)
	}
}

// currentStatus asks the platform that release would use.
func currentStatus(ctx context.Context) (*platformStatus, error) {
	c, err := api.LoadConfig()
	if errors.Is(err, api.ErrNoPlatform) {
		return localStatus(ctx)
	} else if err != nil {
		return nil, err
	}
	s := &platformStatus{URL: c.URL}
	s.ask(ctx)
	return s, nil
}

func localStatus(ctx context.Context) (*platformStatus, error) {
	dir, err := dataDir()
	if err != nil {
		return nil, err
	}
	s := &platformStatus{Data: dir}
	if s.PID, err = localPID(dir); s.PID == 0 {
		return s, err
	}
	c, err := api.ReadConfig(filepath.Join(dir, "client.json"))
	if err != nil {
		return nil, err
	}
	s.URL = c.URL
	s.ask(ctx)
	return s, nil
}

// ask fills in what the platform says of itself.
func (s *platformStatus) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(s.URL, "/")+"/readyz", nil)
	if err != nil {
		s.Says = []string{err.Error()}
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Says = []string{reach.Explain(err).Error()}
		return
	}
	defer resp.Body.Close()
	body, err := strict.Read(resp.Body, limits.Request)
	if err != nil {
		s.Says = []string{err.Error()}
		return
	}
	s.Ready = resp.StatusCode == http.StatusOK
	for line := range strings.Lines(string(body)) {
		if line = strings.TrimSpace(line); line != "" && line != "ok" {
			s.Says = append(s.Says, line)
		}
	}
}

// localRuns reports whether a platform runs whose data is in dir: exactly while it does, it
// holds the lock of run/.
func localRuns(dir string) (bool, error) {
	lock, err := dirlock.Take(filepath.Join(dir, "run"))
	switch {
	case err == nil:
		return false, lock.Release()
	case errors.Is(err, dirlock.ErrHeld):
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	}
	return false, err
}

// localPID returns the process of the platform whose data is in dir, or 0 if none runs.
func localPID(dir string) (int, error) {
	if runs, err := localRuns(dir); !runs {
		return 0, err
	}
	file := filepath.Join(dir, "run", api.PIDFile)
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return 0, fmt.Errorf("%s: got %q, want a process id", file, text)
	}
	// A platform that starts holds the lock a moment before it writes the file; until then,
	// another process may have the id that is there.
	args, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil || !slices.Contains(strings.Split(string(args), "\x00"), dir) {
		return 0, fmt.Errorf("process %d is not the platform of %s; it may be starting, so try again", pid, dir)
	}
	return pid, nil
}

func newStopCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stop",
		Short: "stop the platform that release started on this host",
		Long: `Stop ends the platform that release started on this host, and waits until it has
ended. Images, proofs and logs stay, and the next release starts it again. A release
that is running is cancelled; run it again to finish it.

Stop does nothing if no such platform runs. It never stops a platform that has its
data elsewhere.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runStop(cmd) },
	}
}

// stopTime is how long a platform may take to end.
const stopTime = 30 * time.Second

func runStop(cmd *cobra.Command) error {
	dir, err := dataDir()
	if err != nil {
		return err
	}
	pid, err := localPID(dir)
	if err != nil {
		return err
	}
	if pid == 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "no platform of %s is running\n", printable.Text(dir))
		return nil
	}
	process, err := os.FindProcess(pid)
	if err == nil {
		err = process.Signal(syscall.SIGTERM)
	}
	if err != nil {
		return &exitError{code: exitFailure, msg: fmt.Sprintf("process %d: %v", pid, err)}
	}
	for deadline := time.Now().Add(stopTime); ; time.Sleep(20 * time.Millisecond) {
		if runs, err := localRuns(dir); err != nil {
			return err
		} else if !runs {
			break
		}
		if time.Now().After(deadline) || cmd.Context().Err() != nil {
			return &exitError{code: exitFailure, msg: fmt.Sprintf("the platform (process %d) has not ended yet", pid), hint: "see " + filepath.Join(dir, logName)}
		}
	}
	fmt.Fprintf(cmd.OutOrStdout(), "stopped the platform (process %d)\n", pid)
	return nil
}
