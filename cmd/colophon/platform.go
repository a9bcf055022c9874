package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/internal/api"
)

// startPlatform runs colophond beside the CLI where no platform is configured,
// and leaves it running: the images are in its registry.
func startPlatform(ctx context.Context, w io.Writer) (*api.ClientConfig, error) {
	bin, err := findPlatform()
	if err != nil {
		return nil, &exitError{code: exitFailure, msg: api.ErrNoPlatform.Error() + ", and colophond is not at hand", hint: "colophon login FILE, with the client.json that \"colophond serve\" wrote"}
	}
	dir, err := dataDir()
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	logPath := filepath.Join(dir, "colophond.log")
	logFile, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	r, ready, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.Command(bin, "serve", "--data", dir)
	cmd.Stdout, cmd.Stderr = ready, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // it outlives this command
	err = cmd.Start()
	ready.Close()
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(w, "no platform configured: started %s (pid %d, data in %s); it stays until you end it\n", bin, cmd.Process.Pid, dir)
	r.SetReadDeadline(time.Now().Add(30 * time.Second))
	stop := context.AfterFunc(ctx, func() { r.SetReadDeadline(time.Now()) })
	defer stop()
	if _, err := bufio.NewReader(r).ReadString('\n'); err != nil {
		return nil, &exitError{code: exitFailure, msg: "colophond did not come up", hint: "see " + logPath}
	}
	data, err := os.ReadFile(filepath.Join(dir, "client.json"))
	if err != nil {
		return nil, err
	}
	return api.ParseConfig(data)
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

// dataDir is the XDG base directory specification's place for a user's data.
func dataDir() (string, error) {
	if d := os.Getenv("XDG_DATA_HOME"); strings.HasPrefix(d, "/") {
		return filepath.Join(d, "colophon"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", errors.New("no home directory to keep a platform's data in; start colophond yourself")
	}
	return filepath.Join(home, ".local", "share", "colophon"), nil
}
