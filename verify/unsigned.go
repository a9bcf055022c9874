package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
)

// maxClaims is the maximum number of claims that are listed.
const maxClaims = 64

// Claims returns at most 64 unsigned claims about an image, and an entry that says so if
// there are more: BuildKit's attestations in its index and, if all is set, what they say,
// and the SBOM that cosign v2 attached under its tag. It leaves out what it cannot read,
// because nothing depends on a claim.
func Claims(ctx context.Context, src oci.Source, image v1.Hash, all bool) []Claim {
	claims := inIndex(ctx, src, image, all)
	if all {
		claims = append(claims, underTag(ctx, src, image)...)
	}
	if len(claims) > maxClaims {
		claims = append(claims[:maxClaims], Claim{Form: "not listed", Type: fmt.Sprintf("more than %d claims", maxClaims), About: image.String()})
	}
	return claims
}

// underTag returns what cosign v2 attached under the tag of SBOMs.
func underTag(ctx context.Context, src oci.Source, image v1.Hash) (claims []Claim) {
	d, err := src.Resolve(ctx, oci.CosignSBOM.Of(image))
	if err != nil {
		return nil
	}
	for _, l := range layersOf(ctx, src, d.Digest) {
		claims = append(claims, Claim{Form: "cosign attachment", Type: string(l.MediaType), About: image.String(), Digest: l.Digest.String()})
	}
	return claims
}

// inIndex returns BuildKit's attestations in the image's index, at most maxClaims and one.
func inIndex(ctx context.Context, src oci.Source, image v1.Hash, all bool) (claims []Claim) {
	raw, mediaType, err := src.Manifest(ctx, image)
	if err != nil || !types.MediaType(mediaType).IsIndex() {
		return nil
	}
	var index v1.IndexManifest
	if strict.Unmarshal(raw, limits.Manifest, &index) != nil {
		return nil
	}
	inside := map[string]bool{}
	for _, d := range index.Manifests {
		inside[d.Digest.String()] = true
	}
	for _, d := range index.Manifests {
		if d.Annotations[attest.DockerReferenceType] != attest.DockerAttestation || len(claims) > maxClaims {
			continue
		}
		for _, l := range layersOf(ctx, src, d.Digest) {
			if string(l.MediaType) != "application/vnd.in-toto+json" || len(claims) > maxClaims {
				continue
			}
			c := Claim{Form: "BuildKit attestation", Type: plain(l.Annotations[attest.InTotoPredicateType]), About: plain(d.Annotations[attest.DockerReferenceDigest]), Digest: l.Digest.String()}
			switch {
			case all && c.About != "" && !inside[c.About]:
				c.Says = "it is about a manifest that is not in this index"
			case all:
				c.Says = says(ctx, src, l, c.About)
			}
			claims = append(claims, c)
		}
	}
	return claims
}

// layersOf returns the layers of a manifest, or nil if it cannot be read.
func layersOf(ctx context.Context, src oci.Source, digest v1.Hash) []v1.Descriptor {
	raw, _, err := src.Manifest(ctx, digest)
	var m v1.Manifest
	if err != nil || strict.Unmarshal(raw, limits.Manifest, &m) != nil || len(m.Layers) > limits.Layers {
		return nil
	}
	return m.Layers
}

// says returns in one line what an unsigned provenance says, or that a claim has other subjects
// than the manifest about which the index lists it; "" of other claims.
func says(ctx context.Context, src oci.Source, l v1.Descriptor, about string) string {
	raw, err := oci.Content(ctx, src, l, limits.Statement)
	var s *attest.Statement
	if err == nil {
		s, err = attest.ParseAnyStatement(raw)
	}
	if err != nil {
		return plain(err.Error())
	}
	if other := subjectsBut(s, about); about != "" && other != "" {
		return plain("its subject is " + other + ", which is not the manifest that it is attached to")
	}
	if s.PredicateType != attest.PredicateSLSA1 && s.PredicateType != attest.PredicateSLSA02 {
		return ""
	}
	line, err := claimed(s)
	if err != nil {
		return plain(err.Error())
	}
	return plain(line)
}

// subjectsBut returns a subject of a statement, unless one of the subjects has the digest.
func subjectsBut(s *attest.Statement, digest string) (other string) {
	for _, subject := range s.Subject {
		if other = "sha256:" + subject.Digest["sha256"]; other == digest {
			return ""
		}
	}
	return other
}

// claimed returns builder and sources of an unsigned provenance. BuildKit leaves
// the builder's id empty unless its caller sets one.
func claimed(s *attest.Statement) (string, error) {
	var p struct {
		Builder   attest.BuilderInfo          `json:"builder"`
		Materials []attest.ResourceDescriptor `json:"materials"`
		Def       struct {
			Deps []attest.ResourceDescriptor `json:"resolvedDependencies"`
		} `json:"buildDefinition"`
		Run struct {
			Builder attest.BuilderInfo `json:"builder"`
		} `json:"runDetails"`
	}
	if err := strict.Unmarshal(s.Predicate, limits.Statement, &p); err != nil {
		return "", err
	}
	if len(s.Subject) == 0 {
		return "", errors.New("no subject")
	}
	builder := p.Builder.ID + p.Run.Builder.ID
	if builder == "" {
		builder = "no builder"
	}
	var git []string
	for _, d := range append(p.Materials, p.Def.Deps...) {
		if strings.Contains(d.URI, ".git") || strings.HasPrefix(d.URI, "git+") {
			git = append(git, d.URI)
		}
	}
	return fmt.Sprintf("%s, %d dependencies %s", builder, len(p.Materials)+len(p.Def.Deps), strings.Join(git, " ")), nil
}
