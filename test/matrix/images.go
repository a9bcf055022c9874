package matrix

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"encoding/json"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle/notation"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
)

const (
	people    = "https://accounts.example.com"
	ada, eve  = "ada@example.com", "eve@example.com"
	scan      = "https://example.com/scan/v1"
	withdrawn = "https://example.com/withdrawn/v1"
	verifier  = "https://verifier.example.com"
	workflows = "https://github.com/team/app"
)

// maker makes the images.
type maker struct {
	t           testing.TB
	p, stranger *prooftest.Platform // a stranger's platform has the same names, and no trust
	host        string
	key, other  *prooftest.Holder
	loose       *prooftest.Holder // whose signatures are in no log
	notary      *prooftest.Notary
	stores      map[string]*prooftest.Store
	names       []string // what fill replaces, and by what
}

func newMaker(t testing.TB, host string) *maker {
	p := prooftest.New(t)
	m := &maker{t: t, p: p, stranger: prooftest.New(t), host: host, key: p.KeyHolder(), other: p.KeyHolder(), loose: p.KeyHolder(), notary: prooftest.NewNotary(t, "acme root"), stores: map[string]*prooftest.Store{}}
	m.loose.Unlogged = true
	m.names = []string{"{host}", host, "{key}", quoted(m.key), "{other}", quoted(m.other), "{loose}", quoted(m.loose), "{notary}", oneLine(prooftest.PEM(m.notary.Root)), "{root}", prooftest.URL, "{plain}", p.PlainRoot(people, trust.GitHubIssuer).Fingerprint}
	return m
}

// quoted returns a holder's public key as one line of YAML.
func quoted(h *prooftest.Holder) string { return oneLine(string(h.PublicKey())) }

func oneLine(text string) string { return `"` + strings.ReplaceAll(text, "\n", `\n`) + `"` }

// fill replaces {host}, {key} and the like, and {NAME:TAG} by the digest of that image.
func (m *maker) fill(text string) string { return strings.NewReplacer(m.names...).Replace(text) }

func (m *maker) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *maker) store(repository string) *prooftest.Store {
	s := m.stores[repository]
	if s == nil {
		s = prooftest.NewStore(m.t)
		s.RepositoryIs = m.host + "/" + repository
		m.stores[repository] = s
	}
	return s
}

// image stores an image of two platforms, whose layers have one file.
func (m *maker) image(repository, tag string) v1.Descriptor {
	return m.imageWith(repository, tag, "app", repository+":"+tag)
}

func (m *maker) imageWith(repository, tag, file, content string) v1.Descriptor {
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	m.must(w.WriteHeader(&tar.Header{Name: file, Mode: 0o755, Size: int64(len(content))}))
	_, err := w.Write([]byte(content))
	m.must(err)
	m.must(w.Close())
	s := m.store(repository)
	s.Tar = layer.Bytes()
	d, _ := s.Image(tag)
	m.names = append(m.names, "{"+repository+":"+tag+"}", d.Digest.String())
	return d
}

// released stores an image of team/app as a platform released it, but for what change changes.
func (m *maker) released(p *prooftest.Platform, tag string, change func(*prooftest.Release), kinds ...string) *prooftest.Release {
	return m.release(p, m.image("team/app", tag), change, kinds...)
}

func (m *maker) release(p *prooftest.Platform, image v1.Descriptor, change func(*prooftest.Release), kinds ...string) *prooftest.Release {
	r := p.ReleaseOf(image)
	if change != nil {
		change(r)
	}
	for _, kind := range kinds {
		m.store("team/app").Attach(r.Image, p.Sign(r.Signer(), r.Statement(kind)), kind)
	}
	return r
}

// from makes a release that of another source or ref.
func from(source, ref string) func(*prooftest.Release) {
	return func(r *prooftest.Release) {
		r.Parameters.Source.URI, r.Identity.SourceURI = source, source
		r.Parameters.Source.Ref, r.Identity.Ref = ref, ref
		r.Provenance.BuildDefinition.ResolvedDependencies[0].URI = attest.GitURI(source, ref)
	}
}

// builtImages are those of team/app, and what comes near.
func (m *maker) builtImages() {
	all := prooftest.Kinds
	good := m.released(m.p, "v1.2.0", nil, all...)
	m.released(m.p, "v2.0.0", from(prooftest.Source, "refs/tags/v2.0.0"), all...)
	m.released(m.p, "main", from(prooftest.Source, "refs/heads/main"), all...)
	m.released(m.p, "elsewhere", from("https://git.example.com/team/other", prooftest.Ref), all...)
	m.released(m.p, "no-sbom", nil, attest.PredicateSign, attest.PredicateSLSA1)
	m.released(m.p, "no-provenance", nil, attest.PredicateSign, attest.PredicateSPDX, attest.PredicateCDX)
	m.released(m.stranger, "stranger", nil, all...)
	m.released(m.p, "worker", func(r *prooftest.Release) {
		r.Parameters.Recipe = json.RawMessage(`{"builder":"buildkit","platforms":["linux/amd64","linux/arm64"],"dockerfile":"worker/Dockerfile"}`)
	}, all...)
	m.release(m.p, m.imageWith("team/app", "installed", "var/lib/dpkg/status", "Package: zlib1g\nStatus: install ok installed\nVersion: 1.3\nArchitecture: amd64\n\n"), nil, all...)
	m.image("team/app", "unsigned")

	s := m.store("team/app")
	moved := m.image("team/app", "moved") // with the proofs of v1.2.0
	for _, kind := range all {
		s.Attach(moved, m.p.Sign(good.Signer(), good.Statement(kind)), kind)
	}
	tampered := m.released(m.p, "tampered", nil)
	for _, kind := range all {
		s.Attach(tampered.Image, m.p.Sign(tampered.Signer(), tampered.Statement(kind), func(b *protobundle.Bundle) {
			e := b.GetDsseEnvelope()
			e.Payload = bytes.Replace(e.Payload, []byte("127.0.0.1:8080/team/app"), []byte("127.0.0.1:8080/team/apq"), 1)
		}), kind)
	}
	foreign := *m.p
	foreign.ForeignLog = true
	unlogged := foreign.ReleaseOf(m.image("team/app", "foreign-log"))
	for _, kind := range all {
		s.Attach(unlogged.Image, foreign.Sign(unlogged.Signer(), unlogged.Statement(kind)), kind)
	}
	m.twoMakers()
	m.child()
}

// twoMakers is an image whose provenance is by one commit, and whose SBOMs are of another.
func (m *maker) twoMakers() {
	r := m.released(m.p, "mixed", nil, attest.PredicateSign, attest.PredicateSLSA1)
	other := m.p.ReleaseOf(r.Image)
	from(prooftest.Source, "refs/tags/v1.1.0")(other)
	for _, kind := range []string{attest.PredicateSPDX, attest.PredicateCDX} {
		m.store("team/app").Attach(r.Image, m.p.Sign(other.Signer(), other.Statement(kind)), kind)
	}
}

// child stores an index without proofs, of whose manifests one has them.
func (m *maker) child() {
	s := m.store("team/app")
	index := m.image("team/app", "child-signed")
	raw, _, err := s.Manifest(m.t.Context(), index.Digest)
	m.must(err)
	var idx v1.IndexManifest
	m.must(json.Unmarshal(raw, &idx))
	amd64, arm64 := idx.Manifests[0], idx.Manifests[1]
	m.names = append(m.names, "{signed child}", amd64.Digest.String(), "{unsigned child}", arm64.Digest.String())
	amd64.Platform = nil
	r := m.p.ReleaseOf(amd64)
	for _, kind := range prooftest.Kinds {
		s.Attach(amd64, m.p.Sign(r.Signer(), r.Statement(kind)), kind)
	}
}

// attest attaches a statement about an image, signed by a person.
func (m *maker) attest(p *prooftest.Platform, repository string, image v1.Descriptor, who, kind string, predicate any) {
	st, err := attest.NewStatement("app", image.Digest.Hex, kind, predicate)
	m.must(err)
	m.store(repository).Attach(image, p.Sign(prooftest.Identity{SAN: who, Issuer: people}, st), kind)
}

// at returns the platform some time later.
func (m *maker) at(later time.Duration) *prooftest.Platform {
	p := *m.p
	p.Clock = p.Clock.Add(later)
	return &p
}

// summary is what a verifier says about an image of a repository.
func (m *maker) summary(repository, result string, levels ...string) attest.VSA {
	at := m.p.Now
	return attest.VSA{
		Verifier: attest.VSAVerifier{ID: verifier}, TimeVerified: &at, ResourceURI: attest.ImageURI(m.host + "/" + repository), Policy: attest.ResourceDescriptor{URI: verifier + "/policy"},
		VerificationResult: result, VerifiedLevels: levels, SLSAVersion: attest.SLSAVersion,
	}
}

// attestedImages are released images with more, and such as only a verifier vouches for.
func (m *maker) attestedImages() {
	const app, vendor = "team/app", "vendor/app"
	passed, failed := map[string]any{"passed": true, "critical": 0}, map[string]any{"passed": false, "critical": 2}
	with := func(tag string) v1.Descriptor { return m.released(m.p, tag, nil, prooftest.Kinds...).Image }
	m.attest(m.p, app, with("scanned"), ada, scan, passed)
	m.attest(m.p, app, with("scanned-by-eve"), eve, scan, passed)
	m.attest(m.stranger, app, with("scanned-by-a-stranger"), ada, scan, passed)
	critical := with("critical") // the last scan counts
	m.attest(m.p, app, critical, ada, scan, passed)
	m.attest(m.at(time.Second), app, critical, ada, scan, failed)
	mended := with("mended")
	m.attest(m.at(time.Second), app, mended, ada, scan, passed)
	m.attest(m.p, app, mended, ada, scan, failed)
	m.attest(m.p, app, with("withdrawn"), ada, withdrawn, map[string]any{"why": "a back door"})
	m.attest(m.p, app, with("withdrawn-by-eve"), eve, withdrawn, map[string]any{"why": "envy"})
	m.attest(m.stranger, app, with("withdrawn-by-a-stranger"), ada, withdrawn, map[string]any{"why": "envy"})

	m.attest(m.p, vendor, m.image(vendor, "verified"), ada, attest.PredicateVSA, m.summary(vendor, attest.VSAPassed, "SLSA_BUILD_LEVEL_3"))
	m.attest(m.p, vendor, m.image(vendor, "level-1"), ada, attest.PredicateVSA, m.summary(vendor, attest.VSAPassed, "SLSA_BUILD_LEVEL_1"))
	m.attest(m.p, vendor, m.image(vendor, "verified-by-eve"), eve, attest.PredicateVSA, m.summary(vendor, attest.VSAPassed, "SLSA_BUILD_LEVEL_3"))
	m.attest(m.p, vendor, m.image(vendor, "verified-elsewhere"), ada, attest.PredicateVSA, m.summary("vendor/other", attest.VSAPassed, "SLSA_BUILD_LEVEL_3"))
	recalled := m.image(vendor, "recalled")
	m.attest(m.p, vendor, recalled, ada, attest.PredicateVSA, m.summary(vendor, attest.VSAPassed, "SLSA_BUILD_LEVEL_3"))
	m.attest(m.at(time.Second), vendor, recalled, ada, attest.PredicateVSA, m.summary(vendor, attest.VSAFailed, attest.VSAFailed))
}

// signedImages are such as cosign signed, and such as a workflow on GitHub built.
func (m *maker) signedImages() {
	const tool, hub = "vendor/tool", "hub/app"
	m.cosign(m.key, m.image(tool, "by-key"), "")
	m.cosign(m.other, m.image(tool, "by-another-key"), "")
	m.cosign(m.loose, m.image(tool, "unlogged"), "")
	m.cosign(m.p.Certified(prooftest.Identity{SAN: ada, Issuer: people}), m.image(tool, "by-ada"), "")
	m.cosign(m.p.Certified(prooftest.Identity{SAN: eve, Issuer: people}), m.image(tool, "by-eve"), "")
	m.cosign(m.stranger.Certified(prooftest.Identity{SAN: ada, Issuer: people}), m.image(tool, "by-a-stranger"), "")
	m.cosign(m.key, m.image(tool, "moved"), m.fill("{"+tool+":by-key}"))
	m.attest(m.p, tool, m.image(tool, "bundle"), ada, attest.PredicateSign, struct{}{})
	m.image(tool, "unsigned")
	m.notarized()

	m.workflow(hub, "built", workflows, "release.yml", prooftest.Ref)
	m.workflow(hub, "nightly", workflows, "nightly.yml", prooftest.Ref)
	m.workflow(hub, "branch", workflows, "release.yml", "refs/heads/main")
	m.workflow(hub, "fork", "https://github.com/eve/app", "release.yml", prooftest.Ref)
}

// cosign signs an image as cosign v2 does; about is the digest that is signed, if it is another.
func (m *maker) cosign(h *prooftest.Holder, image v1.Descriptor, about string) {
	if about == "" {
		about = image.Digest.String()
	}
	payload := []byte(`{"critical":{"identity":{"docker-reference":"` + m.host + `/vendor/tool"},"image":{"docker-manifest-digest":"` + about + `"},"type":"cosign container image signature"},"optional":null}`)
	s := m.store("vendor/tool")
	s.Tagged(image, "sig", s.Layer(payload, attest.SimpleSigningMediaType, h.Simple(payload)))
}

// notarized are images that notation signed.
func (m *maker) notarized() {
	const repository = "vendor/notary"
	sign := func(by *prooftest.NotarySigner, tag, format string) v1.Descriptor {
		image := m.image(repository, tag)
		m.store(repository).AttachNotation(image, by.Sign(format, image), format)
		return image
	}
	sign(m.notary.Signer(), "jws", notation.JWS)
	good := sign(m.notary.Signer(), "cose", notation.COSE)
	sign(prooftest.NewNotary(m.t, "acme root").Signer(), "by-a-stranger", notation.JWS)
	sign(m.notary.Signer(func(c *x509.Certificate) { c.Subject.Organization = []string{"evil"} }), "by-evil", notation.JWS)
	sign(m.notary.Signer(func(c *x509.Certificate) { c.CRLDistributionPoints = []string{"http://crl.example.com"} }), "may-be-revoked", notation.JWS)
	m.store(repository).AttachNotation(m.image(repository, "moved"), m.notary.Signer().Sign(notation.JWS, good), notation.JWS)
}

// workflow stores an image with the provenance that GitHub's Artifact Attestations make.
func (m *maker) workflow(repository, tag, source, file, ref string) {
	image := m.image(repository, tag)
	san := source + "/.github/workflows/" + file + "@" + ref
	invocation := source + "/actions/runs/7/attempts/1"
	st, err := attest.NewStatement("app", image.Digest.Hex, attest.PredicateSLSA1, map[string]any{
		"buildDefinition": map[string]any{
			"buildType":            trust.BuildTypeActions,
			"externalParameters":   map[string]any{"workflow": map[string]any{"ref": ref, "repository": source, "path": ".github/workflows/" + file}},
			"resolvedDependencies": []any{map[string]any{"uri": "git+" + source + "@" + ref, "digest": map[string]any{"gitCommit": prooftest.Commit}}},
		},
		"runDetails": map[string]any{"builder": map[string]any{"id": san}, "metadata": map[string]any{"invocationId": invocation}},
	})
	m.must(err)
	id := prooftest.Identity{SAN: san, Issuer: trust.GitHubIssuer, SourceURI: source, Commit: prooftest.Commit, Ref: ref, Invocation: invocation}
	m.store(repository).Attach(image, m.p.Sign(id, st), attest.PredicateSLSA1)
}
