package installers

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
)

// TestEndless: hook and plugin run as root, and end a bundle that does not end, before it fills the disk. Older
// versions of curl compare --max-filesize only with the size that the server says.
func TestEndless(t *testing.T) {
	const most = 64 << 20
	var sent atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for part := make([]byte, 1<<20); sent.Load() < most; sent.Add(int64(len(part))) {
			if _, err := w.Write(part); err != nil {
				return
			}
		}
	}))
	defer server.Close()
	r := someRelease()
	r.From = server.URL
	dir := t.TempDir()
	files := contents(t, r)
	for name, text := range map[string]string{
		"hook":               files["apt/colophon-verify"],
		"colophon_verify.py": files["dnf/colophon_verify.py"],
		"dnf/__init__.py":    "class Plugin: pass\n",
		"dnf/exceptions.py":  "class Error(Exception): pass\n",
		"rpm.py":             "",
		"dpkg-deb":           "#!/bin/sh\necho app\n",
		"colophon":           "#!/bin/sh\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	for name, command := range map[string][]string{
		"hook":   {"sh", "hook"},
		"plugin": {"python3", "-c", "import colophon_verify; colophon_verify.verify('app-1.2.0-1.noarch.rpm')"},
	} {
		sent.Store(0)
		cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
		cmd.Dir, cmd.Stdin = dir, strings.NewReader("/app_1.2.0_all.deb\n")
		cmd.Env = append(os.Environ(), "PYTHONPATH="+dir, "PATH="+dir+":"+os.Getenv("PATH"), "TMPDIR="+t.TempDir())
		if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "cannot download") || sent.Load() > most/2 {
			t.Errorf("%s: expected that it ends the download, found %d bytes, %v: %s", name, sent.Load(), err, out)
		}
	}
}
