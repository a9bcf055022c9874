package main

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/test/prooftest"
)

// TestNotationSignatures: inspect shows signatures of notation, and policy init writes a policy
// that demands the signer, which needs no trust root and refuses other images.
func TestNotationSignatures(t *testing.T) {
	n, other := prooftest.NewNotary(t, "acme root"), prooftest.NewNotary(t, "other root")
	revocable := func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example.com"} }
	s := stageWith(t, func(_ *prooftest.Platform, store *prooftest.Store, r *prooftest.Release) {
		sign := func(tag string, by *prooftest.NotarySigner, mediaType string) {
			d := neighbour(t, store, tag)
			store.AttachNotation(d, by.Sign(mediaType, d), mediaType)
		}
		store.AttachNotation(r.Image, n.Signer().Sign(notation.JWS, r.Image), notation.JWS)
		sign("alone", n.Signer(), notation.COSE)
		sign("again", n.Signer(), notation.JWS)
		sign("other-root", other.Signer(), notation.JWS)
		sign("other-subject", n.Signer(func(c *x509.Certificate) { c.Subject.CommonName = "x" }), notation.JWS)
		sign("revocable", n.Signer(revocable), notation.JWS)
		d := neighbour(t, store, "moved")
		store.AttachNotation(d, n.Signer().Sign(notation.JWS, r.Image), notation.JWS)
		d = neighbour(t, store, "broken")
		store.AttachNotation(d, []byte("{}"), notation.JWS)
		neighbour(t, store, "unsigned")
	})
	at := func(tag string) string { return s.host + "/team/app:" + tag }
	s.run(exitOK, []string{"inspect", at("alone")}, "signature of notation  sha256:", "signer  CN=release,O=acme,ST=WA,C=US", "issuer  CN=acme root", "claims  signed at ", "a policy must name the authority")
	s.run(exitOK, []string{"inspect", at("broken")}, "signature of notation", "error   notation: JWS: ")
	var in inspection
	if err := json.Unmarshal([]byte(s.run(exitOK, []string{"inspect", at("alone"), "--json"})), &in); err != nil || len(in.Attached) != 1 || in.Attached[0].Claimed == "" || in.Attached[0].Holds != nil {
		t.Errorf("JSON: got %+v, %v", in.Attached, err)
	}
	s.run(exitUndecided, []string{"policy", "init", at("alone")}, `notation signed it, under "CN=acme root"`, "--notation-ca FILE")

	root, strange := s.file("root.pem", []byte(prooftest.PEM(n.Root))), s.file("strange.pem", []byte(prooftest.PEM(other.Root)))
	text := s.run(exitOK, []string{"policy", "init", at("alone"), "--notation-ca", root}, "notation:", "CN: release")
	file := s.file("policy.yaml", []byte(text))
	s.run(exitOK, []string{"policy", "check", file})
	for tag, code := range map[string]int{
		"alone": exitOK, "again": exitOK, "v1.2.0": exitOK, "other-root": exitRejected, "other-subject": exitRejected, "moved": exitRejected,
		"unsigned": exitRejected, "broken": exitRejected, "revocable": exitUndecided,
	} {
		s.run(code, []string{"verify", at(tag), "--policy", file})
		s.run(code, []string{"policy", "test", file, at(tag)})
	}
	s.run(exitOK, []string{"verify", at("alone"), "--policy", file}, "✓ signature   by CN=release,O=acme,ST=WA,C=US, under CN=acme root", "in no transparency log")
	s.run(exitRejected, []string{"policy", "init", at("alone"), "--notation-ca", strange}, "trust store")
	s.run(exitRejected, []string{"policy", "init", at("unsigned"), "--notation-ca", root}, "has no signature of notation")
	s.run(exitUndecided, []string{"policy", "init", at("revocable"), "--notation-ca", root}, "it is not known whether it was revoked")
	s.run(exitOK, []string{"policy", "init", at("revocable"), "--notation-ca", root, "--notation-crls", s.file("crl.pem", []byte(n.CRL(n.Now)))}, "crls: |")
	s.run(exitUsage, []string{"policy", "init", at("alone"), "--notation-tsa", root}, "need --notation-ca")
	s.run(exitUsage, []string{"policy", "init", at("alone"), "--notation-ca", s.file("key.pem", n.Signer().PrivateKey())}, "CERTIFICATE")
	if !strings.Contains(text, "-----BEGIN CERTIFICATE-----") || bytes.Contains([]byte(text), []byte("PRIVATE")) {
		t.Errorf("got\n%s", text)
	}
}
