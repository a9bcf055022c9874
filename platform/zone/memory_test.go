package zone

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// dropProgram releases the program's pages and no others.
func TestDropProgram(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, make([]byte, 2*os.Getpagesize()), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// Like the loader's relocations: private, changed, then read-only.
	changed, err := unix.Mmap(int(f.Fd()), 0, 2*os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(changed)
	changed[0] = 'c'
	if err := unix.Mprotect(changed, unix.PROT_READ); err != nil {
		t.Fatal(err)
	}
	program := mapProgram(t)
	before := residentOfFiles(t)
	dropProgram()
	if after := residentOfFiles(t); after > before/2 {
		t.Errorf("%d KiB of files are resident after, %d before", after, before)
	}
	if string(program[1:4]) != "ELF" {
		t.Error("the program's pages do not come back")
	}
	if changed[0] != 'c' {
		t.Error("a changed page was lost")
	}
}

// mapProgram loads all pages of this program, as after the start of a large program.
func mapProgram(t *testing.T) []byte {
	t.Helper()
	f, err := os.Open("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	program, err := unix.Mmap(int(f.Fd()), 0, int(info.Size()), unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_POPULATE)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Munmap(program) })
	return program
}

// residentOfFiles returns RssFile and RssShmem of proc(5), in KiB: a program on a tmpfs counts as the latter.
func residentOfFiles(t *testing.T) (kib int) {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"RssFile:", "RssShmem:"} {
		_, rest, _ := strings.Cut(string(status), name)
		n, err := strconv.Atoi(strings.Fields(rest)[0])
		if err != nil {
			t.Fatal(err)
		}
		kib += n
	}
	return kib
}
