package log

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/colophon-build/colophon/test/needs"
)

// smallDisk mounts a file system of 1 MiB.
func smallDisk(t *testing.T) (dir string) {
	t.Helper()
	needs.Root(t, "mounting a small disk")
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		needs.Missing(t, "no tmpfs can be mounted here: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill leaves no byte free on the disk of dir, until the returned function is called.
func fill(t *testing.T, dir string) (free func()) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int{1 << 12, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, n))
		}
	}
	return func() {
		if err := os.Remove(f.Name()); err != nil {
			t.Error(err)
		}
	}
}

// A log whose disk is full acknowledges nothing, keeps what it acknowledged, and goes on when
// there is space again.
func TestDiskFull(t *testing.T) {
	disk := smallDisk(t)
	cfg := config(filepath.Join(disk, "log"))
	cfg.KeyFile = filepath.Join(t.TempDir(), "log.pem")
	r := start(t, cfg)
	first := request(t, "one")
	r.add(t, first)
	free := fill(t, disk)
	for i := range 3 {
		if resp, answer := post(t, r.url, wire(t, request(t, fmt.Sprint("full ", i)))); resp.StatusCode < 500 {
			t.Errorf("on a full disk: got %s %s, want an error", resp.Status, answer)
		}
	}
	resp, err := http.Get(r.url + "/api/v2/checkpoint")
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("reading on a full disk: got %s, want 200", resp.Status)
	}
	free()
	if e := r.add(t, first); e.GetLogIndex() != 0 {
		t.Errorf("index of the first entry: got %d, want 0", e.GetLogIndex())
	}
	r.add(t, request(t, "two"))
	r.close()
	r = start(t, cfg)
	r.add(t, request(t, "three"))
}

// A full disk is no reason to forget which entries were acknowledged.
func TestStartOnFullDisk(t *testing.T) {
	disk := smallDisk(t)
	cfg := config(filepath.Join(disk, "log"))
	cfg.KeyFile = filepath.Join(t.TempDir(), "log.pem")
	var said bytes.Buffer
	cfg.Log = slog.New(slog.NewTextHandler(&said, nil))
	r := start(t, cfg)
	r.add(t, request(t, "one"))
	r.close()
	older := t.TempDir()
	if err := os.CopyFS(older, os.DirFS(filepath.Join(cfg.Dir, "tiles"))); err != nil {
		t.Fatal(err)
	}
	r = start(t, cfg)
	r.add(t, request(t, "two"))
	r.close()
	if err := os.RemoveAll(filepath.Join(cfg.Dir, "tiles")); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(cfg.Dir, "tiles"), os.DirFS(older)); err != nil {
		t.Fatal(err)
	}
	free := fill(t, disk)
	if s, err := New(cfg); err == nil {
		t.Errorf("on a full disk, a log that lost an entry started with %d", s.current.Load().Size)
		s.Close(t.Context())
	}
	if strings.Contains(said.String(), "creating it again") {
		t.Errorf("the index was thrown away: %s", said.String())
	}
	free()
	refused(t, cfg, "the index has 2 entries, the log only 1")
}

// Only damage makes the log create its index again.
func TestDamagedIndex(t *testing.T) {
	cfg := config(t.TempDir())
	r := start(t, cfg)
	first := request(t, "one")
	r.add(t, first)
	r.close()
	path := filepath.Join(cfg.Dir, "index.db")
	for name, content := range map[string][]byte{"empty": nil, "no database": []byte("garbage, but not a short file of it")} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		r = start(t, cfg)
		if e := r.add(t, first); e.GetLogIndex() != 0 {
			t.Errorf("%s: index of the first entry: got %d, want 0", name, e.GetLogIndex())
		}
		r.close()
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil { // SQLite cannot open it
		t.Fatal(err)
	}
	refused(t, cfg, "index of the log")
}
