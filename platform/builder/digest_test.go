package builder

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestPrograms: a program is hashed again when it changes, whatever else stays the same.
func TestPrograms(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(path, "one")
	var p Programs
	same := func(step string) {
		t.Helper()
		time.Sleep(2 * settled) // so that it is remembered
		want, err := FileDigest(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got, err := p.Digest(path); err != nil || got != want {
				t.Errorf("%s: got %s, %v, want %s", step, got, err, want)
			}
		}
	}
	same("at first")
	write(path+".new", "two")
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	same("replaced")
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	write(path, "six")
	if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
	same("changed in place, with the old size and time of modification")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got, err := p.Digest(path); err == nil {
		t.Errorf("removed: got %s", got)
	}
}

// TestProgramsThatJustChanged: what changed just before it was read is not remembered, however long
// the reading takes: another change in the same tick of the kernel's clock leaves the same state.
func TestProgramsThatJustChanged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	var p Programs
	for size := int64(256 << 20); ; size *= 2 { // sparse: it takes no room
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		started := time.Now()
		if _, err := p.Digest(path); err != nil {
			t.Fatal(err)
		}
		if time.Since(started) > 2*settled {
			break
		}
	}
	if len(p.known) > 0 {
		t.Error("a program is remembered that changed just before it was read")
	}
}
