package provenance

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// colophon is for Colophon's platforms. The platform issues the certificate before
// the build, and writes the provenance after it.
var colophon = system{
	name:   Colophon,
	named:  func(san string) bool { _, err := trust.IssuerOf(san); return err == nil },
	origin: colophonOrigin,
	forms:  []form{{attest.PredicateSLSA1, among(attest.BuildTypeBuildKit, attest.BuildTypeGolang, attest.BuildTypeFiles, attest.BuildTypeDockerfileFiles), readColophon}},
	wants:  fmt.Sprintf("%q, %q, %q or %q", attest.BuildTypeBuildKit, attest.BuildTypeGolang, attest.BuildTypeFiles, attest.BuildTypeDockerfileFiles),
}

func colophonOrigin(id certificate.Summary) (Origin, error) {
	if id.BuildSignerURI != "" && id.BuildSignerURI != id.SubjectAlternativeName {
		return Origin{}, fmt.Errorf("build signer of the certificate: got %q, want %q", id.BuildSignerURI, id.SubjectAlternativeName)
	}
	return Origin{
		System: Colophon, Signer: id.SubjectAlternativeName,
		Source: id.SourceRepositoryURI, Ref: id.SourceRepositoryRef, Commit: id.SourceRepositoryDigest, Invocation: id.RunInvocationURI,
		Parameters: id.BuildConfigDigest,
	}, nil
}

// readColophon reads the provenance of Colophon's builders (spec/buildkit/v1,
// spec/golang/v1, spec/files/v1, spec/dockerfile-files/v1). It must repeat everything that the certificate says.
func readColophon(d *Document, by Origin, f *Facts) error {
	def := d.v1.BuildDefinition
	var params attest.ExternalParameters
	if err := strict.UnmarshalKnown(def.ExternalParameters, limits.Statement, &params); err != nil {
		return fmt.Errorf("external parameters: %w", err)
	}
	src := params.Source
	if canonical, err := source.Canonical(src.URI); err != nil || canonical != src.URI {
		return fmt.Errorf("source: got %q, want a canonical repository address", src.URI)
	}
	for _, c := range []claim{
		{"builder id", d.Builder, by.Signer},
		{"source", src.URI, by.Source},
		{"commit", src.Commit, by.Commit},
		{"ref", src.Ref, by.Ref},
		{"invocation", d.v1.RunDetails.Metadata.InvocationID, by.Invocation},
		{"digest of the external parameters", attest.ParametersDigest(def.ExternalParameters), by.Parameters},
	} {
		if err := c.check(); err != nil {
			return err
		}
	}
	f.Builder, f.Source, f.Ref, f.Commit, f.Hermetic = d.Builder, src.URI, src.Ref, src.Commit, params.Hermetic
	f.Host = d.v1.RunDetails.Builder.Host()
	isolation, err := attest.ReadIsolation(def.InternalParameters)
	if err != nil {
		return err
	}
	// The requester asks, the role that opens the room says what happened.
	if kept := isolation.CacheMounts == attest.KeptCacheMounts; kept != params.CacheMounts {
		return fmt.Errorf("cache mounts: the external parameters say %t, the internal parameters say %q", params.CacheMounts, isolation.CacheMounts)
	}
	f.Isolation = &isolation
	if f.Recipe, err = recipeOf(params.Recipe, def.BuildType); err != nil {
		return err
	}
	if f.Default = params.Default; f.Default != nil {
		if err := f.Default.Check(); err != nil {
			return fmt.Errorf("external parameters: default: %w", err)
		}
		if f.Default.Recipe.Files != f.Recipe.Files {
			return fmt.Errorf("external parameters: files: the recipe says %t, the default %t", f.Recipe.Files, f.Default.Recipe.Files)
		}
	}
	if f.Lock, err = lockOf(def, params); err != nil {
		return err
	}
	dep, err := sourceDependency(def.ResolvedDependencies, src)
	if err != nil {
		return err
	}
	f.Tree, f.Signature = dep.Digest["gitTree"], signatureOf(dep.Annotations["signature"])
	f.Within, err = withinOf(dep.Annotations["within"], src.Ref)
	return err
}

// withinOf returns the branch or tag that contained the commit of a build without a ref.
func withinOf(annotation any, ref string) (string, error) {
	within, _ := annotation.(string)
	switch isBranchOrTag := strings.HasPrefix(within, "refs/heads/") || strings.HasPrefix(within, "refs/tags/"); {
	case ref != "":
		return "", nil
	case !isBranchOrTag:
		return "", fmt.Errorf("source: got no ref, and %q as the branch or tag that contained the commit", within)
	}
	return within, nil
}

// recipeOf returns the recipe. It refuses unknown members, which could change what was
// built (SLSA v1.2, "Verifying artifacts").
func recipeOf(raw json.RawMessage, buildType string) (*attest.Recipe, error) {
	var r attest.Recipe
	err := strict.UnmarshalKnown(raw, limits.Statement, &r)
	if err == nil {
		err = r.CheckFor(buildType)
	}
	if err != nil {
		return nil, fmt.Errorf("external parameters: recipe: %w", err)
	}
	return &r, nil
}

// lockOf returns the digest of the lock file that lists the build's downloads, or "".
// By the build type's spec, a build that is hermetic or locked names its lock. lockOf
// fails if it does not.
func lockOf(def attest.BuildDefinition, params attest.ExternalParameters) (string, error) {
	if params.Hermetic && params.Lock != "" {
		return "", errors.New("external parameters: got hermetic and lock, want at most one of them")
	}
	if def.BuildType == attest.BuildTypeGolang || def.BuildType == attest.BuildTypeFiles {
		if params.Lock != "" {
			return "", fmt.Errorf("external parameters: got lock %q, want none for build type %s", params.Lock, def.BuildType)
		}
		return "", nil
	}
	if !params.Hermetic && params.Lock == "" {
		return "", nil
	}
	lock := ""
	for _, d := range def.ResolvedDependencies {
		if d.Name != "lock" || d.MediaType != attest.LockMediaType {
			continue
		}
		if lock != "" {
			return "", errors.New("resolved dependencies: got two locks, want one")
		}
		sum := d.Digest["sha256"]
		if raw, err := hex.DecodeString(sum); err != nil || len(raw) != 32 || sum != strings.ToLower(sum) {
			return "", fmt.Errorf("resolved dependencies: lock: got sha256 %q, want 64 hex digits", sum)
		}
		lock = "sha256:" + sum
	}
	switch {
	case lock == "" && params.Hermetic:
		return "", errors.New("external parameters: got hermetic, and the resolved dependencies name no lock")
	case lock == "":
		return "", fmt.Errorf("external parameters: got lock %q, and the resolved dependencies name no lock", params.Lock)
	case params.Lock != "" && params.Lock != lock:
		return "", fmt.Errorf("lock: the external parameters say %q, the resolved dependencies say %q", params.Lock, lock)
	}
	return lock, nil
}

// sourceDependency fails unless a dependency is the source at the commit in the
// external parameters. It returns that dependency, which also says the tree of the
// commit, and the signature of the tag or commit.
func sourceDependency(deps []attest.ResourceDescriptor, src attest.SourceParameters) (attest.ResourceDescriptor, error) {
	want := attest.GitURI(src.URI, src.Ref)
	var got []string
	for _, d := range deps {
		if d.URI != want {
			continue
		}
		if d.Digest["gitCommit"] == src.Commit && src.Commit != "" {
			return d, nil
		}
		got = append(got, d.Digest["gitCommit"])
	}
	return attest.ResourceDescriptor{}, fmt.Errorf("resolved dependencies: %s: got commits %q, want %q", want, got, src.Commit)
}

// signatureOf returns the source.Signature in an annotation, or nil if there is none
// or its status is unknown.
func signatureOf(annotation any) *source.Signature {
	raw, err := json.Marshal(annotation)
	var s source.Signature
	if err != nil || json.Unmarshal(raw, &s) != nil {
		return nil
	}
	switch s.Status {
	case source.Verified, source.Unverified, source.Bad, source.Unsigned:
		return &s
	}
	return nil
}
