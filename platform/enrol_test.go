package platform

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// enrol writes private keys for nobody else to read, whatever the umask is, and replaces
// nothing.
func TestEnrolWritesPrivateFiles(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	c := EnrolConfig{Role: roleBuilder, Data: filepath.Join(dir, "data"), URL: "http://127.0.0.1:1", Hosts: []string{"localhost"}, Output: filepath.Join(dir, "out.json")}
	if err := Enrol(c); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(c.Output)
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("got %v, %v, want mode 0600", info, err)
	}
	if e, err := readEnrolment(c.Output); err != nil || e.Role != roleBuilder {
		t.Errorf("got %+v, %v", e, err)
	}
	for _, name := range []string{"client.json", "admin.json", "attestor.json", "enrolment/authority.key"} {
		if info, err := os.Stat(filepath.Join(c.Data, name)); err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: got %v, %v, want mode 0600", name, info, err)
		}
	}
	if err := Enrol(c); err == nil || !strings.Contains(err.Error(), "exists") {
		t.Errorf("a second time: got %v, want an error", err)
	}
	// A link that waits under that name is not followed.
	c.Output = filepath.Join(dir, "link.json")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), c.Output); err != nil {
		t.Fatal(err)
	}
	if err := Enrol(c); err == nil {
		t.Error("enrol followed a link")
	}
	if _, err := os.Stat(filepath.Join(dir, "elsewhere")); err == nil {
		t.Error("keys are where a link led")
	}
}
