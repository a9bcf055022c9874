package release

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/colophon-build/colophon/platform/release/scan"
	"github.com/colophon-build/colophon/test/needs"
)

// The test binary is also the processes apart, except for the scanner.
func TestMain(m *testing.M) {
	Init()
	os.Exit(m.Run())
}

// scanner returns the path of the program that scans images.
func scanner(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs("../../out/bin/" + scan.Program)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		needs.Missing(t, "%s is missing: run make build", scan.Program)
	}
	return path
}
