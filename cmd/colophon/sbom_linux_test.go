package main

import (
	"os"
	"os/exec"
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
	s, err := startScanner(scan.TaskFiles, dir, target, func(hint string) { t.Error(hint) })
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

// TestScannerWithoutNamespaces: where the kernel gives no namespaces, a scan says that it is not
// confined; for another error there is no such scan.
func TestScannerWithoutNamespaces(t *testing.T) {
	withScanner(t)
	dir, target := t.TempDir(), t.TempDir()
	if os.Getenv("SCANNER_TEST_INSIDE") != "" {
		said := ""
		s, err := startScanner(scan.TaskFiles, dir, target, func(hint string) { said += hint })
		if err != nil || !strings.Contains(said, "all files that you can read") {
			t.Fatalf("got %v, said %q", err, said)
		}
		s.Close()
		return
	}
	needs.Root(t, "a user namespace")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := `echo 0 >/proc/sys/user/max_user_namespaces; exec "$0" -test.run '^TestScannerWithoutNamespaces$' -test.v`
	cmd := exec.Command("unshare", "--user", "--map-root-user", "sh", "-euc", script, self)
	cmd.Env = append(os.Environ(), "SCANNER_TEST_INSIDE=1")
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestScannerWithoutNamespaces") {
		t.Errorf("%v\n%s", err, out)
	}
	if s, err := startScanner(scan.TaskFiles, dir, filepath.Join(target, "none"), func(hint string) { t.Error(hint) }); err == nil {
		s.Close()
		t.Error("a scan was started of a file that is not there")
	}
}
