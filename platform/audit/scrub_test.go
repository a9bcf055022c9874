package audit

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/audit/files"
	"github.com/colophon-build/colophon/internal/intact"
)

// TestScrub: a ledger that runs is intact, each file of it that is damaged is named, and nothing is changed.
func TestScrub(t *testing.T) {
	dir := t.TempDir()
	scrub := func() (found []string, read int) {
		t.Helper()
		r := intact.Report{Tell: func(f intact.Finding) { found = append(found, f.File) }}
		if err := Scrub(t.Context(), &r, dir); err != nil {
			t.Fatal(err)
		}
		return found, r.Files
	}
	if found, read := scrub(); len(found) > 0 || read > 0 {
		t.Errorf("before the first start: %v, %d files", found, read)
	}
	l := open(t, Config{Dir: dir, Segment: 256})
	w := enrolled(t, l, "gate", "")
	fill(t, l, w, 0, 599) // and the writer
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t, Config{Dir: dir, Segment: 256})
	defer l.Close()
	fill(t, l, w, 600, 300) // and it grows
	if found, read := scrub(); len(found) > 0 || read < 5 {
		t.Fatalf("a ledger that runs: %v, %d files", found, read)
	}
	all, err := files.Dir(filepath.Join(dir, "ledger")).List()
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, name := range append(all, "../key.pem", "../base.json") {
		path := filepath.Join(dir, "ledger", name)
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(name, "002") || name == "checkpoint" || strings.Contains(name, ".p/") && !strings.HasSuffix(name, ".p/88") && !strings.HasSuffix(name, ".p/2") { // of the newest tree alone
			continue
		}
		bent := slices.Clone(raw)
		bent[len(bent)/2] ^= 1
		if err := os.WriteFile(path, bent, 0o600); err != nil {
			t.Fatal(err)
		}
		if found, _ := scrub(); !slices.ContainsFunc(found, func(f string) bool { return f == filepath.Clean(path) }) && !strings.Contains(name, "..") || len(found) == 0 {
			t.Errorf("%s: a flipped bit was not found, only %v", name, found)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != string(bent) {
			t.Errorf("%s: Scrub changed it: %v", name, err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		tried++
	}
	if found, _ := scrub(); len(found) > 0 || tried < 8 {
		t.Errorf("in the end: %v, after %d files", found, tried)
	}
}
