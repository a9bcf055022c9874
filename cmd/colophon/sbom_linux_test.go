package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/test/needs"
)

// TestScannerSeesItsTargetAlone: the process that scans does not find another file of the user.
func TestScannerSeesItsTargetAlone(t *testing.T) {
	withScanner(t)
	dir, target, other := t.TempDir(), t.TempDir(), t.TempDir()
	for _, d := range []string{target, other} {
		if err := os.WriteFile(filepath.Join(d, "requirements.txt"), []byte("flask==3.0.0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s, err := startScanner(scan.TaskFiles, dir, target)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	order := scan.Files{Path: target, Dir: dir, Name: "app", Created: time.Unix(0, 0)}
	var d scan.Documents
	if err := s.Do(t.Context(), order, &d); err != nil || !strings.Contains(string(d.SPDX), "flask") {
		t.Errorf("the target: got %s, %v", d.SPDX, err)
	}
	for _, path := range []string{other, "/etc/passwd", "/usr/bin"} {
		order.Path, d = path, scan.Documents{}
		if err := s.Do(t.Context(), order, &d); err == nil || !strings.Contains(err.Error(), "no such file") {
			t.Errorf("%s: got %s, %v", path, d.SPDX, err)
		}
	}
}

// TestSBOMOfTopLevelDirectory: the directories of "/" are all hidden from the scanner; the one
// that it scans it sees, with what is mounted there.
func TestSBOMOfTopLevelDirectory(t *testing.T) {
	needs.Root(t, "a directory in /, and a mount")
	withScanner(t)
	s := newStage(t)
	dir, err := os.MkdirTemp("/", "colophon-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.WriteFile(filepath.Join(dir, "requirements.txt"), []byte("flask==3.0.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(exitOK, []string{"sbom", dir}, `"name":"flask"`)
	mounted := filepath.Join(dir, "node_modules")
	if err := os.Mkdir(mounted, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("none", mounted, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(mounted, unix.MNT_DETACH) })
	if err := os.WriteFile(filepath.Join(mounted, "requirements.txt"), []byte("django==5.0.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run(exitOK, []string{"sbom", dir}, `"name":"flask"`, `"name":"django"`)
}
