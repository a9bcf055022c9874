package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A directory with more files than a release may have is refused: none is left unread.
func TestTooManyReleaseFiles(t *testing.T) {
	dir := t.TempDir()
	for i := range maxReleaseFiles + 1 {
		if i == maxReleaseFiles {
			if names, err := releaseFiles(dir); err != nil || len(names) != maxReleaseFiles {
				t.Errorf("got %d files, %v", len(names), err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprint(i)), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := releaseFiles(dir); err == nil || !strings.Contains(err.Error(), "more than 10000 files") {
		t.Errorf("got %v, want the limit", err)
	}
}
