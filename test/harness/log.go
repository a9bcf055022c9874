package harness

import (
	"context"
	"encoding/json"
	"net/url"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/tlog"
)

// Checkpoint returns the log's newest checkpoint, after verifying it with the key in
// the platform's trusted root.
func (p *Platform) Checkpoint() tlog.Checkpoint {
	p.T.Helper()
	tr, err := root.NewTrustedRootFromJSON(p.Get("/trusted_root.json"))
	if err != nil {
		p.T.Fatal(err)
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		p.T.Fatal(err)
	}
	for _, l := range tr.RekorLogs() {
		v, err := tlog.NewVerifier(u.Hostname(), l.PublicKey)
		if err != nil {
			p.T.Fatal(err)
		}
		cp, err := tlog.OpenCheckpoint(p.Get("/api/v2/checkpoint"), v)
		if err != nil {
			p.T.Fatal(err)
		}
		return cp
	}
	p.T.Fatal("the trusted root has no log")
	return tlog.Checkpoint{}
}

// LogExtends fails the test unless the log extends the checkpoint older.
func (p *Platform) LogExtends(older tlog.Checkpoint) {
	p.T.Helper()
	newer := p.Checkpoint()
	if err := tlog.Extends(context.Background(), tlog.HTTP{URL: p.URL + "/api/v2"}, older, newer); err != nil {
		p.T.Errorf("the log of %d entries does not extend the log of %d: %v", newer.Size, older.Size, err)
	}
}

// Referrers counts the attestations of a digest by predicate type.
func (p *Platform) Referrers(name, digest string) map[string]int {
	p.T.Helper()
	var index struct {
		Manifests []struct {
			Annotations map[string]string `json:"annotations"`
		} `json:"manifests"`
	}
	if err := json.Unmarshal(p.Get("/v2/"+name+"/referrers/"+digest), &index); err != nil {
		p.T.Fatal(err)
	}
	n := map[string]int{}
	for _, m := range index.Manifests {
		n[m.Annotations["dev.sigstore.bundle.predicateType"]]++
	}
	return n
}

// OneOfEach fails the test unless the digest has exactly one signature, one
// provenance and one SBOM of each kind.
func (p *Platform) OneOfEach(t testing.TB, name, digest string) {
	t.Helper()
	got := p.Referrers(name, digest)
	for _, kind := range []string{
		"https://sigstore.dev/cosign/sign/v1", "https://slsa.dev/provenance/v1",
		"https://spdx.dev/Document", "https://cyclonedx.org/bom",
	} {
		if got[kind] != 1 {
			t.Errorf("%s has %d attestations of %s, want 1", digest, got[kind], kind)
		}
		delete(got, kind)
	}
	if len(got) > 0 {
		t.Errorf("%s has unexpected attestations: %v", digest, got)
	}
}
