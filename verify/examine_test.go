package verify_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

func (c *scene) examine() *verify.Examination {
	return verify.Examine(c.t.Context(), c.s, "v1.2.0", c.r.Image, c.now, c.opts)
}

// TestExamine: what is attached holds or does not, each item by itself.
func TestExamine(t *testing.T) {
	c := newScene(t)
	c.opts.Trust = []*trust.Root{c.p.Root()}
	c.opts.Policy = demanded(t, c.wants)
	c.r.Attach(prooftest.Kinds...)
	e := c.examine()
	if e.Refused != "" || e.Subject.Digest != c.r.Image.Digest || len(e.Items) != len(prooftest.Kinds) {
		t.Fatalf("got %+v, want %d items about %s", e, len(prooftest.Kinds), c.r.Image.Digest)
	}
	seen := map[string]bool{}
	for _, x := range e.Items {
		if !x.Holds || x.Reason != "" || x.Digest == "" || seen[x.Digest] {
			t.Errorf("got %+v, want it to hold, with a digest of its own", x)
		}
		seen[x.Digest] = true
	}

	// An item that is wrong takes no other with it.
	bad := []byte(`{"mediaType":"` + attest.BundleMediaType + `"}`)
	c.s.Attach(c.r.Image, bad, attest.PredicateSLSA1)
	wrong := 0
	for _, x := range c.examine().Items {
		if !x.Holds {
			if wrong++; x.Reason == "" || x.Digest == "" {
				t.Errorf("wrong: got %+v, want a digest and a reason", x)
			}
		}
	}
	if wrong != 1 {
		t.Errorf("got %d wrong items, want 1", wrong)
	}

	// Nothing holds for somebody who trusts another platform, and each item says why.
	c.opts.Trust = []*trust.Root{prooftest.New(t).Root()}
	untrusted := 0
	for _, x := range c.examine().Items {
		if x.Holds || x.Reason == "" {
			t.Errorf("another root: got %+v", x)
		}
		if strings.Contains(x.Reason, "is not trusted here") {
			untrusted++
		}
	}
	if untrusted != len(prooftest.Kinds) {
		t.Errorf("another root: got %d items by somebody who is not trusted, want %d", untrusted, len(prooftest.Kinds))
	}
	if v, e := c.verdict(), c.examine(); !slices.Equal(e.Requirements, v.Requirements) || strings.Contains(v.Hint, "trust list") {
		t.Errorf("another root: got %+v, want the requirements of the verdict, %+v, and no hint beside the reason: %q", e.Requirements, v.Requirements, v.Hint)
	}
	c.now = time.Time{}
	if e := c.examine(); len(e.Items) > 0 || len(e.Requirements) == 0 || e.Requirements[0].Status != provenance.NotKnown {
		t.Errorf("at no time: got %+v, want no items, and that nothing is known", e)
	}
}

// TestHintOfDamage: a signature that is nobody's has the hint that one of a stranger has in its
// reason.
func TestHintOfDamage(t *testing.T) {
	c := newScene(t)
	statement := c.r.Statement(attest.PredicateSLSA1)
	c.s.Attach(c.r.Image, c.p.Sign(c.r.Signer(), statement, func(b *protobundle.Bundle) {
		b.GetDsseEnvelope().Signatures[0].Sig[10] ^= 1
	}), attest.PredicateSLSA1)
	if v := c.verdict(); v.Outcome != verify.Rejected || !strings.Contains(v.Hint, "colophon trust list") {
		t.Errorf("got %s with the hint %q, want it rejected, with the command that lists the roots", v.Outcome, v.Hint)
	}
}

// TestExamineWorkflow: a workflow is nobody's platform, and no root here lets workflows sign.
func TestExamineWorkflow(t *testing.T) {
	c := newScene(t)
	c.opts.Trust = []*trust.Root{c.p.Root()}
	c.opts.Policy = demanded(t, c.wants)
	workflow := prooftest.Identity{SAN: "https://github.com/team/app/.github/workflows/release.yml@" + prooftest.Ref, Issuer: trust.GitHubIssuer}
	c.s.Attach(c.r.Image, c.p.Sign(workflow, c.r.Statement(attest.PredicateSLSA1)), attest.PredicateSLSA1)
	e := c.examine()
	if len(e.Items) != 1 || e.Items[0].Holds || !strings.Contains(e.Items[0].Reason, "signed as "+workflow.SAN) {
		t.Errorf("got %+v, want one item that says who signed it", e.Items)
	}
}

// TestExamineByKey: without a key nothing is known about what a key signed, so it is not listed.
func TestExamineByKey(t *testing.T) {
	c := newScene(t)
	c.opts.Trust = []*trust.Root{c.p.Root()}
	c.opts.Policy = demanded(t, c.wants)
	h := c.p.KeyHolder()
	payload := []byte(`{"critical":{"identity":{"docker-reference":""},"image":{"docker-manifest-digest":"` + c.r.Image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`)
	layer := c.s.Layer(payload, "application/vnd.dev.cosign.simplesigning.v1+json", h.Simple(payload))
	c.s.Tagged(c.r.Image, oci.CosignSignatures, layer)
	if e := c.examine(); len(e.Items) > 0 {
		t.Errorf("got %+v, want nothing about a signature by a key", e.Items)
	}
}

// TestExamineLayout: a layout that Image refuses is named as such.
func TestExamineLayout(t *testing.T) {
	c := newScene(t)
	c.opts.Trust = []*trust.Root{c.p.Root()}
	c.opts.Policy = demanded(t, c.wants)
	c.r.Attach(prooftest.Kinds...)
	l, err := oci.CreateLayout(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := oci.Save(t.Context(), l, c.s, c.r.Image, "", nil); err != nil {
		t.Fatal(err)
	}
	if err := l.Tag(t.Context(), "v1.2.0", c.r.Image); err != nil {
		t.Fatal(err)
	}
	examine := func() *verify.Examination {
		return verify.Examine(t.Context(), l, "v1.2.0", c.r.Image, c.now, c.opts)
	}
	if e := examine(); e.Refused != "" || len(e.Items) != len(prooftest.Kinds) {
		t.Errorf("got %+v, want no fault and %d items", e, len(prooftest.Kinds))
	}
	// docker load reads this file, and would take another image.
	if err := os.WriteFile(filepath.Join(l.Name(), "manifest.json"), []byte(`[{"Config":"config.json","RepoTags":null,"Layers":[]}]`), 0o600); err != nil {
		t.Fatal(err)
	}
	if e := examine(); e.Refused == "" {
		t.Error("a layout that is another image for docker: got no fault")
	}
}
