package verify

import (
	"context"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/sbom/contents"
)

// readSBOM parses a document, and holds it to the image that it is attached to:
// a signed and true document about another image says nothing of this one. The
// list of packages is kept only where it will be compared.
func (c *check) readSBOM(predicate []byte, kind string, digest v1.Hash) (*sbom.Document, error) {
	info, err := sbom.Summary(predicate, kind)
	if err != nil {
		return nil, err
	}
	if info.SubjectDigest != digest.String() {
		return nil, fmt.Errorf("the %s document describes %q, want %q", info.Format, info.SubjectDigest, digest)
	}
	if c.opts.Policy.SBOM() == policy.SBOMContents {
		return sbom.Read(predicate, kind)
	}
	return &sbom.Document{Info: info}, nil
}

// sbomLink judges the documents that the signer of the provenance attached.
func (c *check) sbomLink(ctx context.Context, digest v1.Hash, ev *evidence, signer *proof, prov *candidate) Link {
	l := Link{Name: LinkSBOM, Status: Holds}
	var docs []*sbom.Document
	var claims []string
	for _, kind := range []struct{ predicate, what string }{{attest.PredicateSPDX, "SPDX document"}, {attest.PredicateCDX, "CycloneDX document"}} {
		best := ev.best(kind.predicate, signer)
		if best.good() && best.sbom != nil {
			docs = append(docs, best.sbom)
			claims = append(claims, fmt.Sprintf("%s %s, %d packages", best.sbom.Format, best.sbom.Version, best.sbom.Packages))
			continue
		}
		if c.opts.Policy.SBOM() != policy.SBOMOptional {
			return ev.lacking(LinkSBOM, kind.predicate, kind.what, best)
		}
	}
	if len(docs) == 0 {
		return Link{Name: LinkSBOM, Status: NotAsked, Reason: "the policy accepts an image without one"}
	}
	for _, d := range docs {
		if err := sameSource(d, prov); err != nil {
			l.Status, l.Reason = Broken, err.Error()
			return l
		}
	}
	l.Claim = strings.Join(claims, "; ") + "; about this image"
	if c.opts.Policy.SBOM() == policy.SBOMContents {
		return c.compared(ctx, digest, docs, l)
	}
	return l
}

// sameSource holds a document that says what the image was built from to the
// provenance. Most do not say.
func sameSource(d *sbom.Document, prov *candidate) error {
	if d.Source == "" || !prov.good() || prov.prov == nil {
		return nil
	}
	if want := attest.GitURI(prov.prov.uri, prov.prov.commit); d.Source != want {
		return fmt.Errorf("source of the %s document: got %q, the provenance says %q", d.Format, d.Source, want)
	}
	return nil
}

// compared holds the documents to what is installed in the image.
func (c *check) compared(ctx context.Context, digest v1.Hash, docs []*sbom.Document, l Link) Link {
	installed, err := contents.Read(ctx, c.src, digest)
	if err != nil {
		l.Status, l.Claim, l.Reason = statusOf(err), "", "contents of the image: "+err.Error()
		return l
	}
	for _, d := range docs {
		if diff := contents.Compare(d.List, installed); !diff.None() {
			l.Status, l.Claim, l.Reason = Broken, "", d.Format+" document: "+diff.String()
			return l
		}
	}
	l.Claim += fmt.Sprintf("; agrees with the %d packages found in it", len(installed))
	return l
}
