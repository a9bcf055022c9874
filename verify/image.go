package verify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/internal/printable"
	"github.com/colophon-build/colophon/internal/strict"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/source"
)

// image reads every byte of image d that is asked for: the index, its manifests, their
// configurations and layers. The source compares each with its digest. Of a layout, other
// tools must take the same image for the reference.
func (c *check) image(ctx context.Context, reference string, d v1.Descriptor) (Link, reading) {
	link := Link{Name: LinkImage}
	if c.opts.Pinned {
		return pinned(ctx, c.src, d.Digest)
	}
	sole := make(chan error, 1)
	if layout, ok := c.src.(*oci.Layout); ok { // meanwhile: layers are hashed for most of the time
		go func() { sole <- layout.CheckSole(ctx, reference, d) }()
	} else {
		sole <- nil
	}
	r, err := readImage(ctx, c.src, d.Digest, c.opts)
	if other := <-sole; err == nil {
		err = other
	}
	if err != nil {
		return failed(LinkImage, statusOf(err), err), reading{}
	}
	link.Status = Holds
	link.Claim = fmt.Sprintf("%s; %s these bytes", strings.Join(r.platforms, ", "), c.serves())
	if len(r.missing) > 0 {
		link.Claim += "; not there: " + strings.Join(r.missing, ", ")
	}
	return link, r
}

// reading says what of an image was read.
type reading struct {
	platforms []string // "linux/amd64"
	missing   []string // platforms that the index names, and that the source does not have
	others    bool     // the index has platforms that nobody asked for

	annotations map[string]string // of the index or manifest itself
	inside      []string          // digests of the manifests in the index that were asked for
}

// part reports whether the image has more than what was read.
func (r reading) part() bool { return r.others || len(r.missing) > 0 }

// pinned reads an image as far as its digest alone says what it is: the manifest or index itself.
func pinned(ctx context.Context, src oci.Source, digest v1.Hash) (Link, reading) {
	raw, mediaType, err := src.Manifest(ctx, digest)
	if err != nil {
		err = fmt.Errorf("manifest %s: %w", digest, err)
		return failed(LinkImage, statusOf(err), err), reading{}
	}
	var platforms []string
	var entries []v1.Descriptor
	if types.MediaType(mediaType).IsIndex() {
		entries, _, err = selected(digest, raw, nil)
		for _, d := range entries {
			platforms = append(platforms, entryName(d))
		}
	} else {
		platforms = []string{"one manifest"}
		_, err = parseImage(digest, raw, mediaType)
	}
	if err != nil {
		return failed(LinkImage, statusOf(err), err), reading{}
	}
	claim := strings.Join(platforms, ", ") + "; the digest pins these bytes, which were not read"
	return Link{Name: LinkImage, Status: Holds, Claim: claim}, reading{platforms: platforms, annotations: annotationsOf(raw), inside: digestsOf(entries)}
}

func (c *check) serves() string {
	if c.opts.Layout {
		return "the layout holds"
	}
	return "the registry serves"
}

// statusOf returns the status of a link whose evidence gave err: broken if the
// content is wrong, absent if it is missing, unknown if the source did not answer.
func statusOf(err error) Status {
	switch {
	case errors.Is(err, oci.ErrMismatch), errors.Is(err, errImage), errors.Is(err, errPlatform):
		return Broken
	case errors.Is(err, oci.ErrNotFound):
		return Absent
	}
	return Unknown
}

// errImage means that the image's own documents are malformed or contradict each other.
var errImage = errors.New("malformed image")

// errPlatform means that the image is not for the platform that was asked for.
var errPlatform = errors.New("platform")

// reader reads what one image consists of, each blob once.
type reader struct {
	src   oci.Source
	group *errgroup.Group
	ctx   context.Context
	mu    sync.Mutex
	seen  map[string]bool // by digest and size, so that a descriptor with a wrong size is read, too
}

// readImage reads the platforms of the image that opts ask for. A platform of an index
// whose manifest the source does not have is missing, unless opts want the whole image:
// the digest of the index still pins its bytes, wherever they come from. A manifest that
// is there must be complete.
func readImage(ctx context.Context, src oci.Source, digest v1.Hash, opts Options) (got reading, err error) {
	r := &reader{src: src, seen: make(map[string]bool)}
	r.group, r.ctx = errgroup.WithContext(ctx)
	r.group.SetLimit(parallel)
	raw, mediaType, err := src.Manifest(ctx, digest)
	if err != nil {
		return got, fmt.Errorf("manifest %s: %w", digest, err)
	}
	defer func() { got.annotations = annotationsOf(raw) }()
	if !types.MediaType(mediaType).IsIndex() {
		platform, err := r.manifest(digest, raw, mediaType, nil)
		if want := opts.Platform; err == nil && want != nil && platform != platformName(want) {
			err = fmt.Errorf("%w: the image is for %s, want %s", errPlatform, platform, platformName(want))
		}
		return reading{platforms: []string{platform}}, errors.Join(err, r.group.Wait())
	}
	entries, others, err := selected(digest, raw, opts.Platform)
	if err != nil {
		return got, err
	}
	// Manifests have their own group: they start layers in r.group, which may be full.
	var manifests errgroup.Group
	manifests.SetLimit(parallel)
	platforms, missing := make([]string, len(entries)), make([]bool, len(entries))
	for i, d := range entries {
		manifests.Go(func() error {
			raw, mediaType, err := src.Manifest(r.ctx, d.Digest)
			if missing[i] = errors.Is(err, oci.ErrNotFound) && !opts.Whole; missing[i] {
				platforms[i] = entryName(d)
				return nil
			}
			if err != nil {
				return fmt.Errorf("manifest %s: %w", d.Digest, err)
			}
			platforms[i], err = r.manifest(d.Digest, raw, mediaType, d.Platform)
			return err
		})
	}
	if err := errors.Join(manifests.Wait(), r.group.Wait()); err != nil {
		return got, err
	}
	got, err = whatIsThere(platforms, missing, others)
	got.inside = digestsOf(entries)
	return got, err
}

func digestsOf(entries []v1.Descriptor) (digests []string) {
	for _, d := range entries {
		digests = append(digests, d.Digest.String())
	}
	return digests
}

// annotationsOf returns the annotations of a manifest or index, which the caller has parsed.
func annotationsOf(raw []byte) map[string]string {
	var doc struct {
		Annotations map[string]string `json:"annotations"`
	}
	if strict.Unmarshal(raw, limits.Manifest, &doc) != nil {
		return nil
	}
	return doc.Annotations
}

// whatIsThere fails if no platform is there that can be run.
func whatIsThere(platforms []string, missing []bool, others bool) (reading, error) {
	got := reading{others: others}
	runnable := false
	for i, p := range platforms {
		if missing[i] {
			got.missing = append(got.missing, p)
			continue
		}
		got.platforms = append(got.platforms, p)
		runnable = runnable || p != attachmentPlatform
	}
	if !runnable && len(got.missing) > 0 {
		return reading{}, fmt.Errorf("%s: %w", strings.Join(got.missing, ", "), oci.ErrNotFound)
	}
	return got, nil
}

// selected returns the entries of an index that are for the platform want, or all if
// want is nil. An entry without a platform may be for any. others reports whether the
// index has more entries.
func selected(digest v1.Hash, raw []byte, want *v1.Platform) (entries []v1.Descriptor, others bool, err error) {
	var index v1.IndexManifest
	if err := strict.Unmarshal(raw, limits.Manifest, &index); err != nil {
		return nil, false, fmt.Errorf("%w: index %s: %w", errImage, digest, err)
	}
	if n := len(index.Manifests); n == 0 || n > limits.IndexManifests {
		return nil, false, fmt.Errorf("%w: index of %d manifests, want 1 to %d", errImage, n, limits.IndexManifests)
	}
	if want == nil {
		return index.Manifests, false, nil
	}
	var has []string
	for _, d := range index.Manifests {
		has = append(has, entryName(d))
		if d.Platform == nil || satisfies(d.Platform, want) {
			entries = append(entries, d)
		}
	}
	if len(entries) == 0 {
		return nil, false, fmt.Errorf("%w: the index has %s, want %s", errPlatform, strings.Join(has, ", "), want)
	}
	return entries, len(entries) < len(has), nil
}

// satisfies reports whether a client may take an entry for the platform p for one for the
// platform want. Clients normalize what indexes say, so the spelling does not count, and an
// entry whose platform cannot be told may be for any. A want without a variant stands for all.
func satisfies(p, want *v1.Platform) bool {
	has, err := normalPlatform(p)
	if err != nil {
		return true
	}
	wanted, err := normalPlatform(want)
	if err != nil {
		return true
	}
	return has.OS == wanted.OS && has.Architecture == wanted.Architecture && (want.Variant == "" || has.Variant == wanted.Variant)
}

// normalPlatform is attest.NormalPlatform of a platform.
func normalPlatform(p *v1.Platform) (*v1.Platform, error) {
	name := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		name += "/" + p.Variant
	}
	name, err := attest.NormalPlatform(name)
	if err != nil {
		return nil, err
	}
	return v1.ParsePlatform(name)
}

// attachmentPlatform is the name for people of the platform unknown/unknown, which
// BuildKit's attestation manifests have.
const attachmentPlatform = "attachment"

// platformName returns OS and architecture, as configurations name them.
func platformName(p *v1.Platform) string {
	if name := p.OS + "/" + p.Architecture; name != "unknown/unknown" {
		return name
	}
	return attachmentPlatform
}

// entryName returns the name for people of an entry of an index.
func entryName(d v1.Descriptor) string {
	if d.Platform == nil {
		return d.Digest.String()
	}
	return platformName(d.Platform)
}

// manifest reads the configuration, and starts to read the layers. want is the
// platform that the index gives the manifest, or nil.
func (r *reader) manifest(digest v1.Hash, raw []byte, mediaType string, want *v1.Platform) (string, error) {
	m, err := parseImage(digest, raw, mediaType)
	if err != nil {
		return "", err
	}
	for _, l := range m.Layers {
		if r.first(l) {
			r.group.Go(func() error { return r.layer(l) })
		}
	}
	if want == nil && !m.Config.MediaType.IsConfig() {
		return r.artifact(m)
	}
	return r.config(m.Config, want)
}

// parseImage returns the manifest of an image.
func parseImage(digest v1.Hash, raw []byte, mediaType string) (m v1.Manifest, err error) {
	if !types.MediaType(mediaType).IsImage() {
		return m, fmt.Errorf("%w: manifest %s: media type: got %q, want that of an image manifest", errImage, digest, mediaType)
	}
	if err := strict.Unmarshal(raw, limits.Manifest, &m); err != nil {
		return m, fmt.Errorf("%w: manifest %s: %w", errImage, digest, err)
	}
	if n := len(m.Layers); n > limits.Layers {
		return m, fmt.Errorf("%w: manifest %s: got %d layers, want at most %d", errImage, digest, n, limits.Layers)
	}
	for _, l := range m.Layers {
		if l.Size < 0 || l.Size > limits.LayerPacked {
			return m, fmt.Errorf("%w: size of layer %s: got %d bytes, want at most %d", errImage, l.Digest, l.Size, limits.LayerPacked)
		}
	}
	return m, nil
}

// artifact reads the configuration of what is no image, such as a Helm chart, and
// returns its type. The configuration may be anything. A tool could still run the
// artifact as an image; the platform in an index is always compared.
func (r *reader) artifact(m v1.Manifest) (string, error) {
	if m.Config.Size < 0 || m.Config.Size > limits.Config {
		return "", fmt.Errorf("%w: size of configuration %s: got %d bytes, want at most %d", errImage, m.Config.Digest, m.Config.Size, limits.Config)
	}
	if err := readThrough(r.ctx, r.src, m.Config); err != nil {
		return "", fmt.Errorf("configuration %s: %w", m.Config.Digest, err)
	}
	return "artifact of type " + cmp.Or(m.ArtifactType, string(m.Config.MediaType)), nil
}

// first reports whether d was not seen before.
func (r *reader) first(d v1.Descriptor) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	key := fmt.Sprint(d.Digest, d.Size)
	seen := r.seen[key]
	r.seen[key] = true
	return !seen
}

func (r *reader) layer(d v1.Descriptor) error {
	if err := readThrough(r.ctx, r.src, d); err != nil {
		return fmt.Errorf("layer %s: %w", d.Digest, err)
	}
	return nil
}

// readBuffers are for readThrough: to read a large file in small parts takes as long as to hash it.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 128<<10); return &b }}

// readThrough reads a blob to its end and checks its size. The source compares
// the content with the digest.
func readThrough(ctx context.Context, src oci.Source, d v1.Descriptor) error {
	blob, err := src.Blob(ctx, d)
	if err != nil {
		return err
	}
	defer blob.Close()
	buf := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buf)
	n, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, io.LimitReader(blob, d.Size+1), *buf) // Discard alone would use 8 KiB
	if err == nil && n != d.Size {
		err = fmt.Errorf("%w: got %d bytes, want %d", oci.ErrMismatch, n, d.Size)
	}
	return err
}

// config reads the configuration and returns its platform, which must be the one
// that the index gives, if want is not nil.
func (r *reader) config(d v1.Descriptor, want *v1.Platform) (string, error) {
	if d.Size < 0 || d.Size > limits.Config {
		return "", fmt.Errorf("%w: size of configuration %s: got %d bytes, want at most %d", errImage, d.Digest, d.Size, limits.Config)
	}
	blob, err := r.src.Blob(r.ctx, d)
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	defer blob.Close()
	raw, err := strict.ReadSized(blob, d.Size, limits.Config)
	if err != nil {
		return "", fmt.Errorf("configuration %s: %w", d.Digest, err)
	}
	var c struct {
		OS   string `json:"os"`
		Arch string `json:"architecture"`
	}
	if err := strict.Unmarshal(raw, limits.Config, &c); err != nil {
		return "", fmt.Errorf("%w: configuration %s: %w", errImage, d.Digest, err)
	}
	got := c.OS + "/" + c.Arch
	switch {
	case want == nil && c.OS+c.Arch == "":
		return "no platform", nil
	case want == nil:
		return got, nil
	}
	named := platformName(want)
	if named == attachmentPlatform {
		return named, nil
	}
	if named != got {
		return "", fmt.Errorf("%w: platform of configuration %s: got %q, want %q", errImage, d.Digest, got, named)
	}
	return got, nil
}

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

// maxSaid is the maximum size of an annotation that a link repeats, in bytes.
const maxSaid = 200

// contradictions adds to the image link what the image's own annotations say otherwise than
// its proof. Other tools show the annotations as facts. They decide nothing here: they prove
// nothing, and builders other than Colophon's write into them what they like.
func (c *check) contradictions(v *Verdict) {
	if v.Facts == nil || v.Facts.Build == nil {
		return
	}
	for i := range v.Links {
		if l := &v.Links[i]; l.Name == LinkImage && l.Status == Holds {
			l.Claim += contradicted(c.read.annotations, v.Facts.Build.Source, v.Facts.Build.Commit)
		}
	}
}

func contradicted(annotations map[string]string, provedSource, provedCommit string) (out string) {
	differ := func(name, proved string, same func(string) bool) {
		if text := annotations[name]; text != "" && proved != "" && !same(text) {
			out += fmt.Sprintf("; its annotation %s says %q, but the proof says %s", name, printable.Cut(text, maxSaid), proved)
		}
	}
	differ(ocispecs.AnnotationSource, provedSource, func(text string) bool {
		uri, err := source.Canonical(text)
		return err == nil && uri == provedSource
	})
	differ(ocispecs.AnnotationRevision, provedCommit, func(text string) bool { return text == provedCommit })
	return out
}
