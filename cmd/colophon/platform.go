package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/colophon-build/colophon/platform/api"
)

// ownPlatform is the platform beside the CLI, for where none is configured: the
// one that an earlier release started, or else one that is started now. It is
// left running: the images are in its registry.
func ownPlatform(ctx context.Context, w io.Writer) (*api.ClientConfig, error) {
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
			return other, nil // of a release that began at the same moment
		}
	}
	return c, err
}

// running is the platform whose data is in dir, if it answers.
func running(ctx context.Context, dir string) *api.ClientConfig {
	c, err := api.ReadConfig(filepath.Join(dir, "client.json"))
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+"/readyz", nil)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil
	}
	return c
}

func startPlatform(ctx context.Context, w io.Writer, dir string) (*api.ClientConfig, error) {
	bin, err := findPlatform()
	if err != nil {
		return nil, &exitError{code: exitFailure, msg: api.ErrNoPlatform.Error() + ", and colophond is not at hand", hint: "colophon login FILE, with the client.json that \"colophond serve\" wrote"}
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
		cmd.Process.Kill() // neither half a platform nor a zombie stays
		cmd.Wait()
		return nil, &exitError{code: exitFailure, msg: "colophond did not come up", hint: "see " + logPath}
	}
	return api.ReadConfig(filepath.Join(dir, "client.json"))
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
