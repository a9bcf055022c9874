package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSignersNameTheLine: an error in a file of signers names the file and the line, before
// anybody is asked.
func TestSignersNameTheLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "signers")
	if err := os.WriteFile(file, []byte("# ours\n\nada@example.com ssh-ed25519 nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	logIn(t, "http://127.0.0.1:1")
	t.Setenv("COLOPHON_TRUST", filepath.Join("..", "..", "verify", "testdata", "example", "trust"))
	for _, args := range [][]string{
		{"release", "https://git.example.com/a", "--ref", "v1", "--image", "r.example.com/a", "--allowed-signers", file},
		{"verify", "r.example.com/a", "--source", "https://git.example.com/a", "--signers", file},
	} {
		var errs bytes.Buffer
		root := newRootCommand()
		root.SetErr(&errs)
		root.SetOut(&errs)
		root.SetArgs(args)
		if code := execute(t.Context(), root); code != exitUsage || !strings.HasPrefix(errs.String(), "colophon: "+file+":3:1: there is no ssh key after the principals") {
			t.Errorf("%q: got exit code %d, %s", args, code, &errs)
		}
	}
}
