package dirlock

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestOneHolderAtATime(t *testing.T) {
	dir := t.TempDir()
	held, err := Take(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Take(dir); !errors.Is(err, ErrHeld) || !strings.Contains(err.Error(), dir) {
		t.Errorf("got %v, want ErrHeld with the directory's name", err)
	}
	if _, err := TakeFile(filepath.Join(dir, "lock")); !errors.Is(err, ErrHeld) {
		t.Errorf("by its file: got %v, want ErrHeld", err)
	}
	waited := make(chan error)
	go func() {
		l, err := Wait(dir)
		if err == nil {
			err = l.Release()
		}
		waited <- err
	}()
	select {
	case err := <-waited:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
}

// A file that nobody may write, and that another one holds for writing, is locked for both.
func TestWaitBeside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "app")
	if err := os.WriteFile(path, []byte("content"), 0o400); err != nil {
		t.Fatal(err)
	}
	held, err := WaitBeside(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		l, err := WaitBeside(t.Context(), path)
		if err == nil {
			err = l.Release()
		}
		waited <- err
	}()
	stop := errors.New("stopped")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, stop)
	defer cancel()
	if _, err := WaitBeside(ctx, path); !errors.Is(err, stop) || !errors.Is(err, ErrHeld) {
		t.Errorf("after its time: got %v", err)
	}
	select {
	case err := <-waited:
		t.Fatalf("did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "content" {
		t.Errorf("the locked file: got %q, %v", raw, err)
	}
	if err := held.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-waited; err != nil {
		t.Fatal(err)
	}
	if _, err := WaitBeside(t.Context(), path+"x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing file: got %v", err)
	}
}

// Take fails if the directory is missing or its lock file is a symlink.
func TestNoLock(t *testing.T) {
	dir := t.TempDir()
	if _, err := Take(filepath.Join(dir, "missing")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing directory: got %v, want that it does not exist", err)
	}
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := Take(dir); err == nil || errors.Is(err, ErrHeld) {
		t.Errorf("symbolic link: got %v, want an error other than ErrHeld", err)
	}
}
