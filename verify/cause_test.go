package verify

import (
	"crypto/x509/pkix"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/policy"
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

// TestOtherSigner: who signs for another source than the one demanded is the wrong source,
// unless it is asked who may sign.
func TestOtherSigner(t *testing.T) {
	const app, other = "https://git.example.com/team/app", "https://git.example.com/team/other"
	for _, tc := range []struct {
		demand policy.Document
		source string // that the certificate names
		want   Cause
	}{
		{policy.Document{Source: app}, other, Cause{Kind: CauseSource, Got: other, Want: app}},
		{policy.Document{Source: app}, app, Cause{Kind: CauseSigner, Got: "signer"}},
		{policy.Document{Source: app}, "", Cause{Kind: CauseSigner, Got: "signer"}},
		{policy.Document{Source: app, Builders: []string{"https://b.example.com/builders/x"}}, other, Cause{Kind: CauseSigner, Got: "signer", Want: "https://b.example.com/builders/x"}},
	} {
		p, err := tc.demand.Policy()
		if err != nil {
			t.Fatal(err)
		}
		c := &check{opts: Options{Policy: p}}
		one := &proof{Result: new(bundle.Result)}
		one.Identity = certificate.Summary{SubjectAlternativeName: "signer", Extensions: certificate.Extensions{SourceRepositoryURI: tc.source}}
		if got := causeOf(c.otherSigner(one, errors.New("x"))); got != tc.want {
			t.Errorf("%+v, %q: got %+v, want %+v", tc.demand, tc.source, got, tc.want)
		}
	}
	if got := reason(&bundle.UntrustedError{Signer: "ada@example.com"}); !strings.HasSuffix(got, ": colophon trust add URL|FILE") {
		t.Errorf("a signer without an origin: got %q, want the command with a placeholder", got)
	}
}
