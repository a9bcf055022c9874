package verify_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// TestLyingProvenance: everything is properly signed by a certificate of the
// CA, and the claims in it do not fit together or not the demand.
func TestLyingProvenance(t *testing.T) {
	other := strings.Repeat("ab", 20)
	for name, a := range map[string]struct {
		lie    func(*prooftest.Release)
		reason string
	}{
		"signer claims our builder": {func(r *prooftest.Release) { r.Identity.SAN = "https://evil.example.com/builders/x" }, "signer: got"},
		"other issuer":              {func(r *prooftest.Release) { r.Identity.Issuer = "https://evil.example.com" }, "issuer of the signer's certificate"},
		"other builder id":          {func(r *prooftest.Release) { r.Provenance.RunDetails.Builder.ID += "0" }, "builder id: the provenance says"},
		"other commit in predicate": {func(r *prooftest.Release) { r.Parameters.Source.Commit = other }, "commit: the provenance says"},
		"other commit in certificate": {func(r *prooftest.Release) { r.Identity.Commit = other },
			"commit: the provenance says"},
		"other commit in dependency": {func(r *prooftest.Release) {
			r.Provenance.BuildDefinition.ResolvedDependencies[0].Digest["gitCommit"] = other
		}, "resolved dependencies"},
		"no dependency":             {func(r *prooftest.Release) { r.Provenance.BuildDefinition.ResolvedDependencies = nil }, "resolved dependencies"},
		"other source in predicate": {func(r *prooftest.Release) { r.Parameters.Source.URI += "2" }, "source: the provenance says"},
		"source not canonical":      {func(r *prooftest.Release) { r.Parameters.Source.URI += ".git"; r.Identity.SourceURI += ".git" }, "canonical"},
		"other ref":                 {func(r *prooftest.Release) { r.Parameters.Source.Ref = "refs/heads/main" }, "ref: the provenance says"},
		"other invocation":          {func(r *prooftest.Release) { r.Identity.Invocation += "0" }, "invocation: the provenance says"},
		"unknown build type":        {func(r *prooftest.Release) { r.Provenance.BuildDefinition.BuildType = "https://example.com/x" }, "build type"},
		"another repository": {func(r *prooftest.Release) {
			const uri = "https://git.example.com/team/application"
			r.Parameters.Source.URI, r.Identity.SourceURI = uri, uri
			r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(uri, prooftest.Ref)
		}, `got "https://git.example.com/team/application", want "https://git.example.com/team/app"`},
		"another tag": {func(r *prooftest.Release) {
			r.Parameters.Source.Ref, r.Identity.Ref = "refs/tags/v1.2.00", "refs/tags/v1.2.00"
			r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(prooftest.Source, "refs/tags/v1.2.00")
		}, `ref: got "refs/tags/v1.2.00", want "v1.2.0"`},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(missing(attest.PredicateSLSA1)...)
			a.lie(c.r)
			c.r.Attach(attest.PredicateSLSA1)
			c.want(verify.Rejected, "provenance", verify.Broken, a.reason)
		})
	}
	t.Run("level", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(prooftest.Kinds...)
		c.wants.MinLevel = 3
		c.want(verify.Rejected, "provenance", verify.Broken, "got 2, want at least 3")
	})
	t.Run("swapped subject", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(missing(attest.PredicateSLSA1)...)
		st, err := attest.NewStatement("x", strings.Repeat("00", 32), attest.PredicateSLSA1, c.r.Predicate(attest.PredicateSLSA1))
		if err != nil {
			t.Fatal(err)
		}
		c.r.AttachBundle(attest.PredicateSLSA1, c.p.Sign(c.r.Signer(), st))
		c.want(verify.Rejected, "provenance", verify.Broken, "subject of the statement: got", c.r.Image.Digest.String())
	})
	t.Run("duplicate keys", func(t *testing.T) {
		c := newScene(t)
		c.r.Attach(missing(attest.PredicateSLSA1)...)
		st := c.r.Statement(attest.PredicateSLSA1)
		st = []byte(strings.Replace(string(st), `"builder":{`, `"builder":{"id":"https://evil.example.com/builders/x",`, 1))
		c.r.AttachBundle(attest.PredicateSLSA1, c.p.Sign(c.r.Signer(), st))
		c.want(verify.Rejected, "provenance", verify.Broken, "duplicate")
	})
}

func TestLyingSBOM(t *testing.T) {
	for name, a := range map[string]struct {
		lie    func(*scene)
		reason string
	}{
		"another image": {func(c *scene) {
			sum := []map[string]string{{"algorithm": "SHA256", "checksumValue": strings.Repeat("00", 32)}}
			c.r.SPDX["packages"] = []map[string]any{{"SPDXID": "SPDXRef-image", "checksums": sum}}
		}, "the SPDX document describes \"sha256:0000"},
		"no image":        {func(c *scene) { c.r.SPDX["relationships"] = nil }, "described elements: got 0, want 1"},
		"unknown version": {func(c *scene) { c.r.SPDX["spdxVersion"] = "SPDX-2.1" }, "SPDX-2.1"},
		"another image in CycloneDX": {func(c *scene) {
			c.r.CDX["metadata"] = map[string]any{"component": map[string]any{"version": "sha256:" + strings.Repeat("00", 32)}, "timestamp": "2026-11-20T00:00:00Z"}
		}, "the CycloneDX document describes \"sha256:0000"},
		"another signer": {func(c *scene) {
			c.opts.Trust = []*trust.Root{twoBuilders(c.t, c.p)}
			c.r.Identity.SAN = prooftest.URL + "/builders/golang/v1"
		}, "want the signer of the provenance"},
	} {
		t.Run(name, func(t *testing.T) {
			c := newScene(t)
			c.r.Attach(attest.PredicateSign, attest.PredicateSLSA1)
			a.lie(c)
			c.r.Attach(attest.PredicateSPDX, attest.PredicateCDX)
			c.want(verify.Rejected, "sbom", verify.Broken, a.reason)
		})
	}
}

// The predicate type of an SBOM may name the version of its format, which then counts.
func TestVersionedSBOM(t *testing.T) {
	for version, outcome := range map[string]verify.Outcome{"/v2.3": verify.Accepted, "/v2.2": verify.Rejected} {
		c := newScene(t)
		c.r.Attach(attest.PredicateSign, attest.PredicateSLSA1, attest.PredicateCDX)
		kind := attest.PredicateSPDX + version
		statement, err := attest.NewStatement("app", c.r.Image.Digest.Hex, kind, c.r.SPDX)
		if err != nil {
			t.Fatal(err)
		}
		c.r.AttachBundle(kind, c.p.Sign(c.r.Signer(), statement))
		status, reason := verify.Holds, ""
		if outcome == verify.Rejected {
			status, reason = verify.Broken, `version: got "2.3", the predicate type says "2.2"`
		}
		c.want(outcome, "sbom", status, reason)
	}
}

func twoBuilders(t *testing.T, p *prooftest.Platform) *trust.Root {
	raw, err := json.Marshal(trust.Document{URL: prooftest.URL, Issuer: prooftest.URL, TrustedRoot: p.TrustedRoot(),
		Builders: []trust.Builder{{ID: prooftest.Builder, Level: 2}, {ID: prooftest.URL + "/builders/golang/v1", Level: 1}}})
	if err != nil {
		t.Fatal(err)
	}
	r, err := trust.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return r
}
