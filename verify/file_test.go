package verify_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// TestSignatureOfAFile: what somebody says about a file is no signature of it. A
// verifier signs that it rejected a file, too.
func TestSignatureOfAFile(t *testing.T) {
	p := prooftest.New(t)
	f := fileOf([]byte("a file"))
	const ada, people = "https://accounts.example.com/ada", "https://accounts.example.com"
	opts := verify.Options{Trust: []*trust.Root{p.PlainRoot(people)}, Policy: demanded(t, policy.Document{
		Signer: &policy.DocumentSigner{Identity: ada, Issuer: people},
	})}
	about := func(kind string, predicate any) []byte {
		st, err := attest.NewStatement("app.tar.gz", f.Digest.Hex, kind, predicate)
		if err != nil {
			t.Fatal(err)
		}
		return p.Sign(prooftest.Identity{SAN: ada, Issuer: people}, st)
	}
	failed := about(attest.PredicateVSA, map[string]any{"verificationResult": attest.VSAFailed})
	signature := about(attest.PredicateSign, struct{}{})
	for name, c := range map[string]struct {
		bundles [][]byte
		want    verify.Outcome
	}{
		"a signature":                       {[][]byte{signature}, verify.Accepted},
		"a summary that says FAILED":        {[][]byte{failed}, verify.Rejected},
		"a provenance":                      {[][]byte{about(attest.PredicateSLSA1, struct{}{})}, verify.Rejected},
		"an attestation of any type":        {[][]byte{about("https://example.com/tested/v1", json.RawMessage(`{"ok":false}`))}, verify.Rejected},
		"a signature beside an attestation": {[][]byte{failed, signature}, verify.Accepted},
	} {
		v := verify.Bundled(context.Background(), f, c.bundles, time.Now(), opts)
		if v.Outcome != c.want || c.want == verify.Rejected && !strings.Contains(v.Why(), "no signature") {
			t.Errorf("%s: got %v, %q, want %v", name, v.Outcome, v.Why(), c.want)
		}
	}
}
