package platform

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/platform/acme"
)

// TestReloadDamaged: at SIGHUP, a key or a directory that is damaged meanwhile ends no platform; what could not be noted
// for Enrol leaves the old configuration, without a record.
func TestReloadDamaged(t *testing.T) {
	p := onHost(roleServe, nil)
	p.data = t.TempDir()
	if err := p.openChanges(); err != nil {
		t.Fatal(err)
	}
	defer p.changes.close()
	dir := p.dir(changesDir)
	counts := func() string {
		raw, _ := os.ReadFile(filepath.Join(dir, "spool", "counts.json"))
		return string(raw)
	}
	configure := func(private []string, raw string) error {
		fresh := *p
		fresh.file.Audit.Private, fresh.file.raw = private, []byte(raw)
		return p.changes.configure(context.Background(), &fresh, nil)
	}
	hidden := func() (private []string) {
		raw, err := os.ReadFile(filepath.Join(dir, privateFile))
		if err == nil {
			err = strict.UnmarshalKnown(raw, 1<<10, &private)
		}
		if err != nil {
			t.Error(err)
		}
		return private
	}
	if err := os.WriteFile(filepath.Join(dir, recorderKey), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := configure([]string{"name"}, `{"a": 1}`); err != nil {
		t.Error(err)
	}
	p.changes.collect()
	before := counts()
	if !strings.Contains(before, `"configuration"`) || len(hidden()) != 1 {
		t.Fatalf("got %s, %q", before, hidden())
	}

	private := filepath.Join(dir, privateFile)
	if err := os.Remove(private); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(private, "x"), 0o700); err != nil { // no file can take its place
		t.Fatal(err)
	}
	if err := configure([]string{}, `{"a": 2}`); err == nil || counts() != before {
		t.Errorf("got %v, and %s counts", err, counts())
	}
	if err := os.RemoveAll(private); err != nil {
		t.Fatal(err)
	}
	if err := configure([]string{}, `{"a": 2}`); err != nil || counts() == before {
		t.Errorf("got %v, and %s counts", err, counts())
	}
	if got := hidden(); got == nil || len(got) != 0 {
		t.Errorf("got %q hidden, want nothing", got)
	}
	p.changes.collect()
}

// TestStatement: whoever exchanges the roots of the certificate authority changes the configuration, although its file stays.
func TestStatement(t *testing.T) {
	p := onHost(roleServe, nil)
	p.file.raw = []byte("{}")
	p.file.TLS.ACME = &acme.Settings{CAFile: filepath.Join(t.TempDir(), "roots.pem")}
	said := map[string]bool{}
	for _, roots := range []string{"ours", "theirs"} {
		if err := os.WriteFile(p.file.TLS.ACME.CAFile, []byte(roots), 0o600); err != nil {
			t.Fatal(err)
		}
		raw, err := p.statement()
		if err != nil {
			t.Fatal(err)
		}
		said[string(raw)] = true
	}
	if len(said) != 2 {
		t.Errorf("got one statement about both: %v", said)
	}
}
