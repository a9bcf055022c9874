package intact

import (
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestNamed(t *testing.T) {
	dir := t.TempDir()
	name := func(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }
	for path, content := range map[string]string{
		"ab/" + name("one"): "one", name("two"): "two", "other": "x",
		name("three"): "thr3e", "cd/" + name("four"): "", // damaged
	} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var r Report
	var told []string
	r.Tell = func(f Finding) { told = append(told, f.String()) }
	if err := Named(t.Context(), &r, dir, nil); err != nil {
		t.Fatal(err)
	}
	if r.Files != 2 || r.Bytes != 6 || r.Damaged != 2 || r.Repaired != 0 || len(told) != 2 {
		t.Errorf("got %+v and %q, want 2 files of 6 bytes, 2 damaged", r, told)
	}
	r = Report{}
	if err := Named(t.Context(), &r, dir, os.Remove); err != nil || r.Repaired != 2 || r.Damaged != 0 {
		t.Errorf("got %+v, %v, want 2 repaired", r, err)
	}
	r = Report{}
	if err := Named(t.Context(), &r, dir, nil); err != nil || r.Repaired+r.Damaged != 0 {
		t.Errorf("after the repair: got %+v, %v, want no damage", r, err)
	}
	if err := Named(t.Context(), &r, filepath.Join(dir, "missing"), nil); err != nil {
		t.Errorf("a directory that is missing: got %v", err)
	}
}

func TestOpen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(path, []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	if f, ok, err := Open(path, fmt.Sprintf("%x", sha256.Sum256([]byte("content")))); !ok || err != nil || f == nil {
		t.Errorf("got %v, %v, want the file", ok, err)
	} else {
		f.Close()
	}
	if f, ok, err := Open(path, fmt.Sprintf("%x", sha256.Sum256([]byte("c0ntent")))); ok || err != nil || f != nil {
		t.Errorf("another sum: got %v, %v, want no file and no error", ok, err)
	}
}
