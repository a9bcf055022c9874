package bundle_test

import (
	"regexp"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/bundle"
)

func TestSignerMatch(t *testing.T) {
	id := certificate.Summary{SubjectAlternativeName: "dev@example.com", Extensions: certificate.Extensions{Issuer: "https://login.example.com"}}
	const issuer = "https://login.example.com"
	for name, tt := range map[string]struct {
		signer bundle.Signer
		want   string // in the error; "" matches
	}{
		"whole name":        {bundle.Signer{Identity: "dev@example.com", Issuer: issuer}, ""},
		"part of the name":  {bundle.Signer{Identity: "dev@example", Issuer: issuer}, "signer: got"},
		"pattern":           {bundle.Signer{Pattern: regexp.MustCompile(`^[a-z]+@example\.com$`), Issuer: issuer}, ""},
		"another pattern":   {bundle.Signer{Pattern: regexp.MustCompile(`^ops@`), Issuer: issuer}, "want a name that matches"},
		"another issuer":    {bundle.Signer{Identity: "dev@example.com", Issuer: issuer + "/"}, "issuer of the signer's certificate"},
		"no issuer":         {bundle.Signer{Identity: "dev@example.com"}, "expected signer must be"},
		"nobody":            {bundle.Signer{}, "expected signer must be"},
		"a key":             {bundle.Signer{Key: publicKey(t)}, "a key was expected"},
		"a key and a name":  {bundle.Signer{Key: publicKey(t), Identity: "dev@example.com", Issuer: issuer}, "a key was expected"},
		"the name and more": {bundle.Signer{Identity: "dev@example.com", Pattern: regexp.MustCompile(`^ops@`), Issuer: issuer}, "want a name that matches"},
	} {
		if err := tt.signer.Match(id); !says(err, tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	nameless := bundle.Signer{Identity: "x", Issuer: issuer}
	if err := nameless.Match(certificate.Summary{}); err == nil {
		t.Error("a certificate without a name matches")
	}
}
