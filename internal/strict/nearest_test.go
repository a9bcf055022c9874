package strict

import (
	"strings"
	"testing"
)

func TestNearest(t *testing.T) {
	known := []string{"source", "anySource", "minLevel", "ref", "builders", "signer", "write-lock", "locked", "image-field", "image-file"}
	for name, want := range map[string]string{
		"sauce": "source", "suorce": "source", "Source": "source", "sources": "source", "minlevel": "minLevel", "min-level": "minLevel",
		"builder": "builders", "rf": "ref", "signers": "signer", "anysource": "anySource",
		"write": "write-lock", "lock": "locked", "Lock": "locked", "min": "minLevel", "image": "", "wr": "",
		"": "", "x": "", "entitlements": "", "zzz": "", strings.Repeat("source", 100): "",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
	if got := Nearest("source", nil); got != "" {
		t.Errorf("nothing known: got %q", got)
	}
}
