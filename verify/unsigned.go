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

// Claim is what somebody put beside an image without signing it. It is shown,
// and never proof: whoever may push can write it.
type Claim struct {
	Form   string `json:"form"`   // "BuildKit attestation" or "cosign attachment"
	Type   string `json:"type"`   // predicate type or media type, as it says
	About  string `json:"about"`  // digest of what it is about, as it says
	Digest string `json:"digest"` // of the claim
	Says   string `json:"says,omitempty"`
}

// BuildKit's attestations within an index (docs/attestations/attestation-storage.md).
const (
	buildKitKind      = "vnd.docker.reference.type"
	buildKitStatement = "attestation-manifest"
	buildKitAbout     = "vnd.docker.reference.digest"
	buildKitPredicate = "in-toto.io/predicate-type"
)

// maxClaims bounds how many are shown.
const maxClaims = 64

// Claims lists what is unsigned about an image: BuildKit's attestations in its
// index and, where all is set, what they say, and cosign's attachment of an
// SBOM under its tag. What cannot be read is left out: nothing depends on it.
func Claims(ctx context.Context, src oci.Source, image v1.Hash, all bool) []Claim {
	claims := inIndex(ctx, src, image, all)
	if !all {
		return claims
	}
	d, err := src.Resolve(ctx, oci.CosignSBOM.Of(image))
	if err != nil {
		return claims
	}
	for _, l := range layersOf(ctx, src, d.Digest) {
		claims = append(claims, Claim{Form: "cosign attachment", Type: string(l.MediaType), About: image.String(), Digest: l.Digest.String()})
	}
	return claims[:min(len(claims), maxClaims)]
}

func inIndex(ctx context.Context, src oci.Source, image v1.Hash, all bool) (claims []Claim) {
	raw, mediaType, err := src.Manifest(ctx, image)
	if err != nil || !types.MediaType(mediaType).IsIndex() {
		return nil
	}
	var index v1.IndexManifest
	if strict.Unmarshal(raw, limits.Manifest, &index) != nil {
		return nil
	}
	for _, d := range index.Manifests {
		if d.Annotations[buildKitKind] != buildKitStatement || len(claims) >= maxClaims {
			continue
		}
		for _, l := range layersOf(ctx, src, d.Digest) {
			if string(l.MediaType) != "application/vnd.in-toto+json" || len(claims) >= maxClaims {
				continue
			}
			c := Claim{Form: "BuildKit attestation", Type: plain(l.Annotations[buildKitPredicate]), About: plain(d.Annotations[buildKitAbout]), Digest: l.Digest.String()}
			if all {
				c.Says = says(ctx, src, l)
			}
			claims = append(claims, c)
		}
	}
	return claims
}

func layersOf(ctx context.Context, src oci.Source, digest v1.Hash) []v1.Descriptor {
	raw, _, err := src.Manifest(ctx, digest)
	var m v1.Manifest
	if err != nil || strict.Unmarshal(raw, limits.Manifest, &m) != nil || len(m.Layers) > limits.Layers {
		return nil
	}
	return m.Layers
}

// says is what a claim of provenance claims, in one line.
func says(ctx context.Context, src oci.Source, l v1.Descriptor) string {
	raw, err := oci.Content(ctx, src, l, limits.Statement)
	var s *attest.Statement
	if err == nil {
		s, err = attest.ParseAnyStatement(raw)
	}
	if err != nil {
		return plain(err.Error())
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

// claimed names builder and source of an unsigned provenance. BuildKit leaves
// the builder's id empty unless it is told one.
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
