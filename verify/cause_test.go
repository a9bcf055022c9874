package verify

import (
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/bundle"
)

// TestTrustableIsAnArgument: a certificate that nobody vouched for puts nothing into the
// command that is shown but a name that colophon knows, or an origin.
func TestTrustableIsAnArgument(t *testing.T) {
	for signer, want := range map[string]string{
		"https://colophon.example.com/builders/buildkit/v1":        "https://colophon.example.com",
		"https://colophon.example.com:8443/sub/builders/golang/v1": "https://colophon.example.com:8443",
		"http://127.0.0.1:8080/builders/buildkit/v1":               "http://127.0.0.1:8080",
		"http://colophon.example.com/builders/buildkit/v1":         "", // plain HTTP
		"https://a@evil.example.com/builders/x":                    "",
		"https://evil.example.com;id/builders/x":                   "",
		"https://evil.example.com$(id)/builders/x":                 "",
		"https://evil.example.com/builders/x https://b/builders/y": "", // two issuers
		"-x/builders/y": "",
		"https://github.com/o/r/.github/workflows/w@refs/tags/v1": "",
		"ada@example.com": "",
		"":                "",
	} {
		if got := trustable(&bundle.UntrustedError{Signer: signer}); got != want {
			t.Errorf("%q: got %q, want %q", signer, got, want)
		}
	}
	for organization, want := range map[string]string{"sigstore.dev": "sigstore", "GitHub, Inc.": "", "sigstore": ""} {
		if got := trustable(&bundle.UntrustedError{Authority: pkix.Name{Organization: []string{organization}}}); got != want {
			t.Errorf("%q: got %q, want %q", organization, got, want)
		}
	}
}

// TestCausesAreOfAKindThatIsListed: programs know all kinds.
func TestCausesAreOfAKindThatIsListed(t *testing.T) {
	for _, kind := range mismatches {
		if !slices.Contains(CauseKinds(), kind) {
			t.Errorf("%q is not listed", kind)
		}
	}
	if got := causeOf(errors.New("x")); got != (Cause{}) {
		t.Errorf("another error: got %+v", got)
	}
	// Words of a stranger stay on one line.
	v := &Verdict{}
	v.add(failed(LinkSignature, Broken, &bundle.UntrustedError{Signer: "a\naccepted\x1b[2J", Authority: pkix.Name{CommonName: "b\r\n\"accepted"}}))
	if l := v.Links[0]; strings.ContainsAny(l.Reason+l.Cause.Got+l.Cause.Authority, "\n\r\x1b") {
		t.Errorf("got %+v", l)
	}
}
