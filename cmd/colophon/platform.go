package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/platform/api"
)

// localPlatform returns the user's platform on this host, for when none is
// configured. It starts colophond unless an earlier release left it running, and
// leaves it running, because its registry holds the images.
func localPlatform(ctx context.Context, w io.Writer) (*api.ClientConfig, error) {
	dir, err := dataDir()
	if err != nil {
		return nil, err
	}
	if c := running(ctx, dir); c != nil {
		return c, nil
	}
	c, err := startPlatform(ctx, w, dir)
	if err != nil && ctx.Err() == nil {
		if other := running(ctx, dir); other != nil {
			return other, nil // a concurrent release has started it
		}
	}
	return c, err
}

// running returns the platform whose data is in dir, or nil if it is not ready.
func running(ctx context.Context, dir string) *api.ClientConfig {
	c, err := api.ReadConfig(filepath.Join(dir, "client.json"))
	if err != nil {
		return nil
	}
	s := platformStatus{URL: c.URL}
	if s.ask(ctx); !s.Ready {
		return nil
	}
	return c
}

func startPlatform(ctx context.Context, w io.Writer, dir string) (*api.ClientConfig, error) {
	bin, err := findPlatform()
	if err != nil {
		return nil, &exitError{code: exitFailure, msg: api.ErrNoPlatform.Error() + ", and colophond is neither beside colophon nor in PATH", hint: "colophon login FILE, where FILE is the client.json that \"colophond serve\" wrote"}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	logPath := filepath.Join(dir, logName)
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	before, err := logFile.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	r, ready, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	args, err := localArgs(dir)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(bin, args...)
	cmd.Stdout, cmd.Stderr = ready, logFile
	outlive(cmd)
	err = cmd.Start()
	ready.Close()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "no platform configured: started %s (pid %d, data in %s); colophon stop ends it\n", bin, cmd.Process.Pid, dir)
	r.SetReadDeadline(time.Now().Add(startPatience))
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Now()) })
	defer stop()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		cmd.Process.Kill() // leave neither a half-started platform nor a zombie
		cmd.Wait()
		why := lastWords(logPath, before)
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			why = fmt.Sprintf("it was not ready after %s", startPatience)
		}
		return nil, &exitError{code: exitFailure, msg: "colophond did not start: " + why, hint: "its log is " + logPath}
	}
	return api.ReadConfig(filepath.Join(dir, "client.json"))
}

// startPatience is how long a platform may take to be ready.
const startPatience = 30 * time.Second

// logTail is how much of the end of a log is read, in bytes.
const logTail = 64 << 10

// lastWords returns the error with which colophond ended, by what it has written to its log
// from the offset on.
func lastWords(log string, from int64) string {
	const none = "it said nothing"
	f, err := os.Open(log)
	if err != nil {
		return none
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return none
	}
	from = max(from, st.Size()-logTail)
	raw, err := io.ReadAll(io.NewSectionReader(f, from, logTail))
	if err != nil {
		return none
	}
	said := none
	for line := range strings.Lines(string(raw)) {
		if why, ok := strings.CutPrefix(strings.TrimSpace(line), "colophond: "); ok {
			said = printable.Text(why)
		}
	}
	return said
}

// logName is the file below the data directory in which the platform logs.
const logName = "colophond.log"

// localConfig is the name of the configuration, beside that of colophon, with which the
// platform starts if the file is there.
const localConfig = "colophond.json"

func localArgs(data string) ([]string, error) {
	args := []string{"serve", "--data", data}
	dir, err := api.ConfigDir()
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, localConfig)
	if _, err := os.Stat(file); err == nil {
		return append(args, "--config", file), nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return args, nil
}

func findPlatform() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	beside := filepath.Join(filepath.Dir(self), "colophond")
	if st, err := os.Stat(beside); err == nil && st.Mode().IsRegular() {
		return beside, nil
	}
	return exec.LookPath("colophond")
}

// dataDir returns the directory for user data that the XDG Base Directory
// Specification names.
func dataDir() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); strings.HasPrefix(d, "/") {
		return filepath.Join(d, "colophon"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("no home directory for the platform's data: start colophond yourself, with --data DIR")
	}
	return filepath.Join(home, ".local", "share", "colophon"), nil
}
