package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/platform/release/scan"
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
