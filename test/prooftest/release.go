package prooftest

import (
	"encoding/json"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
)

// Release is an image with its four proofs. A test changes the fields before Attach to
// make the proofs state something else.
type Release struct {
	p          *Platform
	store      *Store
	Image      v1.Descriptor
	Layers     []v1.Descriptor
	Identity   Identity
	Provenance attest.Provenance
	Parameters attest.ExternalParameters
	SPDX, CDX  map[string]any
	Blobs      map[string]v1.Descriptor // bundles by predicate type, after Attach
	Manifests  map[string]v1.Descriptor
}

// The source that a Release states.
const (
	Source = "https://git.example.com/team/app"
	Ref    = "refs/tags/v1.2.0"
	Commit = "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00"
	Tree   = "7ee0c0ffee00c0ffee00c0ffee00c0ffee00c0ff"
)

// Release stores an image under the tag v1.2.0 and prepares its proofs.
func (p *Platform) Release(store *Store) *Release {
	image, layers := store.Image("v1.2.0")
	r := p.ReleaseOf(image)
	r.store, r.Layers = store, layers
	return r
}

// Again prepares proofs that the same image was built from another commit and ref.
func (r *Release) Again(commit, ref string) *Release {
	again := r.p.ReleaseOf(r.Image)
	again.store, again.Layers = r.store, r.Layers
	again.Identity.Commit, again.Identity.Ref = commit, ref
	again.Identity.Invocation += "-again"
	again.Parameters.Source.Commit, again.Parameters.Source.Ref = commit, ref
	source := &again.Provenance.BuildDefinition.ResolvedDependencies[0]
	source.URI, source.Digest["gitCommit"] = attest.GitURI(Source, ref), commit
	again.Provenance.RunDetails.Metadata.InvocationID = again.Identity.Invocation
	return again
}

// ReleaseOf prepares the proofs of an image that is in no Store.
func (p *Platform) ReleaseOf(image v1.Descriptor) *Release {
	r := &Release{p: p, Image: image, Blobs: map[string]v1.Descriptor{}, Manifests: map[string]v1.Descriptor{}}
	r.Identity = Identity{SAN: Builder, Issuer: URL, SourceURI: Source, Commit: Commit, Ref: Ref, Invocation: URL + "/api/colophon/v1/releases/1"}
	r.Parameters = attest.ExternalParameters{Source: attest.SourceParameters{URI: Source, Ref: Ref, Commit: Commit}, Recipe: json.RawMessage(`{"builder":"buildkit","platforms":["linux/amd64","linux/arm64"],"dockerfile":"Dockerfile"}`),
		Default: &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "Dockerfile"}}}
	started := p.Now
	r.Provenance = attest.Provenance{
		BuildDefinition: attest.BuildDefinition{BuildType: attest.BuildTypeBuildKit, ResolvedDependencies: []attest.ResourceDescriptor{
			{Name: "source", URI: attest.GitURI(Source, Ref), Digest: map[string]string{"gitCommit": Commit, "gitTree": Tree},
				Annotations: map[string]any{"signature": map[string]any{"object": "tag", "status": "verified", "key": "SHA256:ada", "signer": "release@example.com"}}}}},
		RunDetails: attest.RunDetails{Builder: attest.BuilderInfo{ID: Builder}, Metadata: attest.BuildMetadata{InvocationID: r.Identity.Invocation, StartedOn: &started}},
	}
	packages := []map[string]any{{"SPDXID": "SPDXRef-image", "name": "app", "versionInfo": r.Image.Digest.String(),
		"checksums": []map[string]string{{"algorithm": "SHA256", "checksumValue": r.Image.Digest.Hex}}}}
	components := []map[string]any{}
	for _, name := range []string{"stdlib", "golang.org/x/net"} {
		packages = append(packages, map[string]any{"SPDXID": "SPDXRef-" + strings.ReplaceAll(name, "/", "-"), "name": name})
		components = append(components, map[string]any{"type": "library", "name": name})
	}
	r.SPDX = map[string]any{"spdxVersion": "SPDX-2.3", "SPDXID": "SPDXRef-DOCUMENT", "name": "app", "packages": packages,
		"dataLicense": "CC0-1.0", "documentNamespace": "https://example.com/app", "creationInfo": map[string]any{"created": started.Format(time.RFC3339), "creators": []string{"Tool: test"}},
		"relationships": []map[string]string{{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-image"}}}
	r.CDX = map[string]any{"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components,
		"metadata": map[string]any{"timestamp": started.Format(time.RFC3339), "component": map[string]any{"type": "container", "name": "app", "version": r.Image.Digest.String()}}}
	return r
}

// Predicate returns the predicate of a type, made from the fields.
func (r *Release) Predicate(predicateType string) any {
	switch predicateType {
	case attest.PredicateSLSA1:
		prov := r.Provenance
		prov.BuildDefinition.ExternalParameters = r.parameters()
		return prov
	case attest.PredicateSPDX:
		return r.SPDX
	case attest.PredicateCDX:
		return r.CDX
	}
	return map[string]any{}
}

func (r *Release) parameters() json.RawMessage {
	raw, err := json.Marshal(r.Parameters)
	must(r.p.t, err)
	return raw
}

// Signer returns the Identity. Unless the test has set an identity's digest of the
// external parameters, it is that of Parameters.
func (r *Release) Signer() Identity {
	id := r.Identity
	if id.Parameters == "" {
		id.Parameters = attest.ParametersDigest(r.parameters())
	}
	return id
}

// Statement returns the statement about the image with a predicate of a type.
func (r *Release) Statement(predicateType string) []byte {
	raw, err := attest.NewStatement("127.0.0.1:8080/team/app", r.Image.Digest.Hex, predicateType, r.Predicate(predicateType))
	must(r.p.t, err)
	return raw
}

// Kinds lists the predicate types of a complete release.
var Kinds = []string{attest.PredicateSign, attest.PredicateSLSA1, attest.PredicateSPDX, attest.PredicateCDX}

// Attach signs the proofs of the given kinds in one session, and attaches them.
func (r *Release) Attach(kinds ...string) {
	session := r.p.Session(r.Signer())
	for _, kind := range kinds {
		r.AttachBundle(kind, session.Sign(r.Statement(kind)))
	}
}

// AttachBundle attaches a bundle that the test made.
func (r *Release) AttachBundle(kind string, bundle []byte) {
	r.Blobs[kind], r.Manifests[kind] = r.store.Attach(r.Image, bundle, kind)
}
