package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestWriteFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for _, content := range []string{"one", "another"} {
		if err := WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(path)
		if err != nil || string(got) != content {
			t.Errorf("got %q, %v, want %q", got, err, content)
		}
	}
	st, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if st.Mode().Perm() != 0o600 {
		t.Errorf("mode: got %o, want 600", st.Mode().Perm())
	}
	alone(t, path)
}

// If many callers create one file at once, exactly one succeeds, and its content is complete.
func TestCreateFileNeverReplaces(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	var made atomic.Int32
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			err := CreateFile(path, []byte{byte(i), byte(i)}, 0o600)
			switch {
			case err == nil:
				made.Add(1)
			case !errors.Is(err, fs.ErrExist):
				t.Errorf("got %v, want fs.ErrExist", err)
			}
		})
	}
	wg.Wait()
	if made.Load() != 1 {
		t.Errorf("%d writers made the file, want 1", made.Load())
	}
	if got, err := os.ReadFile(path); err != nil || len(got) != 2 || got[0] != got[1] {
		t.Errorf("got %v, %v, want two bytes of one writer", got, err)
	}
	alone(t, path)
}

// alone fails the test if the directory of path holds any other file.
func alone(t *testing.T, path string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("got %v, want %s alone", entries, filepath.Base(path))
	}
}

// Sweep removes what a crash left, and nothing else.
func TestSweep(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	for range 3 {
		if _, err := writeTemp(path, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := WriteFile(path, []byte("whole"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Sweep(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	alone(t, path)
	if err := Sweep(filepath.Join(path + "-missing")); err != nil {
		t.Errorf("a missing directory: %v", err)
	}
}
