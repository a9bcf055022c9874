package trustservices

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	sgbundle "github.com/sigstore/sigstore-go/pkg/bundle"
	sigroot "github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	ours "github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/trust"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// signingConfig is that of s, with its services of the kinds taken from other,
// and without those of the kinds that begin with "no ".
func (s *services) signingConfig(t *testing.T, other *services, kinds ...string) *sigroot.SigningConfig {
	t.Helper()
	var mine, theirs map[string]any
	for from, to := range map[*services]*map[string]any{s: &mine, other: &theirs} {
		if err := json.Unmarshal(from.root.SigningConfig(), to); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range kinds {
		if name, none := strings.CutPrefix(kind, "no "); none {
			delete(mine, name)
		} else if mine[kind] = theirs[kind]; mine[kind] == nil {
			t.Fatalf("no %s in a signing config", kind)
		}
	}
	data, err := json.Marshal(mine)
	if err != nil {
		t.Fatal(err)
	}
	sc, err := sigroot.NewSigningConfigFromJSON(data)
	if err != nil {
		t.Fatal(err)
	}
	return sc
}

// Package sign returns a bundle that verifies, and none if a certificate authority, a
// timestamp authority or a log is not in the trusted root.
func TestSignVerifiesBeforeItReturns(t *testing.T) {
	a, b := start(t, t.TempDir(), "127.0.0.1:0"), start(t, t.TempDir(), "127.0.0.1:0")
	digest := v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("d", 64)}
	statement, err := attest.NewStatement("app", digest.Hex, attest.PredicateSign, json.RawMessage("{}"))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := trust.Parse(a.root.Document())
	if err != nil {
		t.Fatal(err)
	}
	sign := func(sc *sigroot.SigningConfig, token string) ([]byte, error) {
		s, err := ours.Open(t.Context(), sc, trusted.Material, token, nil)
		if err != nil {
			return nil, err
		}
		return s.Statement(t.Context(), statement)
	}
	raw, err := sign(a.signingConfig(t, b), a.token(t))
	if err != nil {
		t.Fatal(err)
	}
	signed, err := bundle.ParsePlatform(raw)
	if err != nil {
		t.Fatal(err)
	}
	r := signed.Verify(bundle.Subject{Digest: digest}, trusted.Material, time.Now())
	if err := r.Err(); err != nil || signed.Statement.PredicateType != attest.PredicateSign || r.Identity.SubjectAlternativeName != a.url+"/builders/test/v1" {
		t.Errorf("got %+v, %+v, %v", signed.Statement, r, err)
	}
	if err := new(sgbundle.Bundle).UnmarshalJSON(raw); err != nil {
		t.Error(err)
	}
	for _, kinds := range [][]string{{"caUrls"}, {"rekorTlogUrls"}, {"tsaUrls"}, {"no caUrls"}, {"no rekorTlogUrls"}, {"no tsaUrls"}} {
		token := a.token(t)
		if slices.Contains(kinds, "caUrls") {
			token = b.token(t)
		}
		if raw, err := sign(a.signingConfig(t, b, kinds...), token); err == nil {
			t.Errorf("%v: got a bundle: %s", kinds, raw)
		}
	}
	if _, err := sign(a.signingConfig(t, b), b.token(t)); err == nil {
		t.Error("the token of another platform is taken")
	}
	s, err := ours.Open(t.Context(), a.signingConfig(t, b), trusted.Material, a.token(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{"no statement": `{}`, "twice": strings.Replace(string(statement), `"_type"`, `"_type":"x","_type"`, 1), "no JSON": "x"} {
		if raw, err := s.Statement(t.Context(), []byte(bad)); err == nil {
			t.Errorf("%s: got a bundle: %s", name, raw)
		}
	}
}
