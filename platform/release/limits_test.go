package release

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A note that is cut says what it leaves out.
func TestLongNote(t *testing.T) {
	var list []string
	for i := range maxNotes + 3 {
		list = append(list, fmt.Sprint("GET https://a.example/", i))
	}
	config := map[string]string{}
	note(config, "network.unhashed", list)
	if lines := strings.Split(config["network.unhashed"], "\n"); len(lines) != maxNotes+1 || lines[maxNotes] != "and 3 more" {
		t.Errorf("got %d lines, and the last %q", len(lines), lines[len(lines)-1])
	}
}

// A file of the repository that decides something is read whole, or it is refused.
func TestLargeFileInTree(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "go.sum"), make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	if data, err := readInTree(dir, "go.sum", 11); err != nil || len(data) != 11 {
		t.Errorf("got %d bytes, %v", len(data), err)
	}
	if _, err := readInTree(dir, "go.sum", 10); err == nil || !strings.Contains(err.Error(), "more than 10 bytes") {
		t.Errorf("got %v, want the limit", err)
	}
}
