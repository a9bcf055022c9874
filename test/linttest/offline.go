package linttest

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/colophon-build/colophon/lint/pins"
)

// Offline returns a resolver that answers from lint/workflow/testdata/resolutions.json, as it is used
// where no server can be asked.
func Offline(t testing.TB) *pins.Resolver {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	file := filepath.Join(filepath.Dir(here), "../../lint/workflow/testdata/resolutions.json")
	known, err := pins.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return &pins.Resolver{Offline: true, Known: known}
}
