package trust_test

import (
	"crypto/ed25519"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/trust"
)

// TestLogVerifier: the origin of a log is the host name in its URL, without port and path.
func TestLogVerifier(t *testing.T) {
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public()
	for url, want := range map[string]string{
		"https://log.example.com":               "log.example.com",
		"https://log.example.com:8443/team":     "log.example.com",
		"http://[::1]:8080":                     "::1",
		"":                                      "",
		"log.example.com":                       "",
		"https://":                              "",
		"https://log.example.com%20evil.com":    "",
		"https://log.example.com+1a2b3c4d+AaBb": "",
	} {
		v, err := trust.LogVerifier(&root.TransparencyLog{BaseURL: url, PublicKey: key})
		if want == "" && err == nil || want != "" && (err != nil || v.Name() != want) {
			t.Errorf("%q: got %v, %v, want the origin %q", url, v, err, want)
		}
	}
	if _, err := trust.LogVerifier(&root.TransparencyLog{BaseURL: "https://log.example.com"}); err == nil {
		t.Error("a log without a key has a verifier")
	}
}
