package platform

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
)

// A document that is wrong stays so, and systemd starts the platform no more. A file that is not there or that the
// kernel could not read may be there a moment later.
func TestConfigError(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0") // so that what is found too late starts nothing
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for what, c := range map[string]struct {
		file  string
		wrong bool
	}{
		"cut":                  {write("cut", `{"mirror": "/x`), true},
		"an unknown member":    {write("unknown", `{"miror": "/x"}`), true},
		"a contradiction":      {write("half", `{"trustedRoot": "/x"}`), true},
		"an issuer of no type": {write("issuer", `{"fulcio": {"OIDCIssuers": {"https://a.example.com": {"Type": "nonsense"}}}}`), true},
		"no trusted root":      {write("outside", `{"trustedRoot": "`+write("empty", "{}")+`", "signingConfig": "`+write("empty", "{}")+`"}`), true},
		"a directory":          {dir, true},
		"missing":              {filepath.Join(dir, "none", "colophond.json"), false},
		"I/O error":            {"/proc/self/mem", false}, // address 0 is mapped nowhere: EIO
		"names a missing one":  {write("names", `{"trustedRoot": "/does/not/exist", "signingConfig": "/does/not/exist"}`), false},
	} {
		err := Serve(t.Context(), Config{Data: t.TempDir(), Listen: taken.Addr().String(), File: c.file, LogFormat: "text", LogLevel: "info"})
		if err == nil {
			t.Fatalf("%s: the platform served", what)
		}
		if _, wrong := errors.AsType[*ConfigError](err); wrong != c.wrong {
			t.Errorf("%s: got %v, a ConfigError: %v, want %v", what, err, wrong, c.wrong)
		}
	}
}
