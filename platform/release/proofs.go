package release

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	"golang.org/x/sync/errgroup"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/platform/api"
	"github.com/colophon-build/colophon/sign"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// statement is one in-toto statement that a release must have. A statement of an
// earlier run replaces it if the predicate types are equal and match accepts the
// earlier predicate; for example, the times of two provenances may differ.
type statement struct {
	predicateType string
	predicate     json.RawMessage
	match         func(predicate json.RawMessage) bool
	about         []attest.Subject // nil: the subject of the proofs
}

// proofs signs and attaches the statements that the subject lacks.
type proofs struct {
	*run
	subject  v1.Descriptor
	files    []oci.File      // that the subject lists; then a statement is about all of them, or one
	uploaded <-chan struct{} // closed when the subject is in the registry
	existing []attached
	reused   atomic.Int32

	once    sync.Once
	session *sign.Session
	err     error
}

// attached is a verified attestation that an earlier run left.
type attached struct {
	predicateType string
	predicate     json.RawMessage
	about         []attest.Subject
}

// load finds the attestations of an interrupted run: those that verify in full and were
// signed by this builder for this commit, ref and recipe.
func (p *proofs) load(ctx context.Context) error {
	ext, err := p.externalParameters()
	if err != nil {
		return err
	}
	parameters := attest.ParametersDigest(ext)
	found, err := oci.Bundles(ctx, p.target, p.subject.Digest)
	if err != nil {
		return fmt.Errorf("looking for attestations of an earlier run: %w", err)
	}
	for _, a := range found {
		switch {
		case errors.Is(a.Err, oci.ErrMismatch):
			continue // it is damaged and proves nothing
		case a.Err != nil: // it may be valid, and signing again would then create a duplicate
			return fmt.Errorf("attestation %s of an earlier run: %w", a.Descriptor.Digest, a.Err)
		}
		b, err := bundle.ParsePlatform(a.Raw)
		if err != nil {
			continue
		}
		about, subject := p.aboutFiles(b.Statement.Subject)
		if len(p.files) > 0 && about == nil {
			continue
		}
		r := b.Verify(bundle.Subject{Digest: subject}, p.Trust.Material, time.Now())
		if r.Err() != nil || !p.signedForThis(r.Identity, parameters) {
			continue
		}
		p.existing = append(p.existing, attached{b.Statement.PredicateType, b.Statement.Predicate, about})
	}
	return nil
}

// aboutFiles returns the subjects of a statement if they are all files, or one of them, and the
// digest of the first. For an image it returns no subjects, and the image's digest.
func (p *proofs) aboutFiles(subjects []attest.Subject) ([]attest.Subject, v1.Hash) {
	if all := fileSubjects(p.files); sameSubjects(subjects, all) && len(all) > 0 {
		return all, p.files[0].Descriptor.Digest
	}
	for _, f := range p.files {
		if one := fileSubjects([]oci.File{f}); sameSubjects(subjects, one) {
			return one, f.Descriptor.Digest
		}
	}
	return nil, p.subject.Digest
}

// subjectsOf returns what a statement is about; nil if that is an image.
func (p *proofs) subjectsOf(s statement) []attest.Subject {
	if s.about != nil {
		return s.about
	}
	return fileSubjects(p.files)
}

// statementAbout returns the in-toto statement about the image, or about files.
func (p *proofs) statementAbout(s statement) ([]byte, error) {
	if about := p.subjectsOf(s); about != nil {
		return attest.NewStatementAbout(about, s.predicateType, s.predicate)
	}
	return attest.NewStatement(p.req.Image, p.subject.Digest.Hex, s.predicateType, s.predicate)
}

// signedForThis reports whether a certificate is this builder's, for this commit and ref,
// and for external parameters with this digest.
func (p *proofs) signedForThis(c certificate.Summary, parameters string) bool {
	return c.SubjectAlternativeName == p.builder.ID &&
		c.Issuer == p.URL &&
		c.SourceRepositoryURI == p.commit.URI &&
		c.SourceRepositoryDigest == p.commit.ID &&
		c.SourceRepositoryRef == p.commit.Ref &&
		c.BuildConfigDigest == parameters
}

// earlier returns the predicate of an earlier run that replaces s; nil if there is none.
func (p *proofs) earlier(s statement) json.RawMessage {
	for _, e := range p.existing {
		if e.predicateType == s.predicateType && sameSubjects(e.about, p.subjectsOf(s)) && s.match(e.predicate) {
			return e.predicate
		}
	}
	return nil
}

// attachProvenance attaches the lock, if any, and the provenance. If an earlier run has
// attached a provenance, attachProvenance uses the lock that it names, which may be
// another one and is attached already.
func (p *proofs) attachProvenance(ctx context.Context, b *built) error {
	s, err := p.provenance(b)
	if err != nil {
		return err
	}
	if found := p.earlier(s); found != nil {
		p.lockSum = lockOf(found)
	} else if b.Lock != "" {
		if err := p.attachLock(ctx, b.Lock); err != nil {
			return err
		}
	}
	return p.attach(ctx, s)
}

// attachSignature logs a signature of the image's digest, and then attaches the signature in
// the form of a statement. The entry of a statement has the digest of its envelope, by which
// nobody finds it who has only the image; the other one is found by the image's digest. It
// is in the archive, not in the registry: the statement says the same.
func (p *proofs) attachSignature(ctx context.Context) error {
	s := p.signature()
	if p.earlier(s) == nil {
		if err := p.logDigest(ctx); err != nil {
			return err
		}
	}
	return p.attach(ctx, s)
}

func (p *proofs) logDigest(ctx context.Context) error {
	if err := p.open(ctx); err != nil {
		return err
	}
	signed, err := p.session.Digest(ctx, p.subject.Digest)
	if err != nil {
		return fmt.Errorf("signing the image's digest: %w", err)
	}
	return p.archive(ctx, signed)
}

// attach signs s and pushes it as a referrer, unless an earlier run did.
func (p *proofs) attach(ctx context.Context, s statement) error {
	if p.earlier(s) != nil {
		p.reused.Add(1)
		return nil
	}
	p.emit(api.Event{Phase: "sign", Step: s.predicateType})
	if err := p.open(ctx); err != nil {
		return err
	}
	raw, err := p.statementAbout(s)
	if err != nil {
		return err
	}
	signed, err := p.session.Statement(ctx, raw)
	if err != nil {
		return fmt.Errorf("signing %s: %w", s.predicateType, err)
	}
	if !p.inOwnRegistry() { // which archives what is pushed to it
		if err := p.archive(ctx, signed); err != nil {
			return err
		}
	}
	if err := p.awaitUpload(ctx); err != nil {
		return err
	}
	if _, err := oci.AttachBundle(ctx, p.target, p.subject, signed, s.predicateType, p.commit.Time); err != nil {
		return fmt.Errorf("attaching %s: %w", s.predicateType, err)
	}
	return nil
}

// archive has the platform's archive keep a bundle.
func (p *proofs) archive(ctx context.Context, signed []byte) error {
	if p.Archive == nil {
		return nil
	}
	if err := p.Archive(ctx, signed); err != nil {
		return fmt.Errorf("archiving the proof: %w", err)
	}
	return nil
}

func (p *proofs) awaitUpload(ctx context.Context) error {
	select {
	case <-p.uploaded:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open opens a signing session: one certificate for all statements of the release.
func (p *proofs) open(ctx context.Context) error {
	p.once.Do(func() {
		id, err := p.identity()
		if err != nil {
			p.err = err
			return
		}
		token, err := p.Token(ctx, id)
		if err != nil {
			p.err = fmt.Errorf("workload token: %w", err)
			return
		}
		p.session, p.err = sign.Open(ctx, p.SigningConfig, p.Trust.Material, token, p.Transport)
	})
	return p.err
}

// anyOf accepts every earlier predicate. It is for statements that an image has only
// once for a builder, commit and ref.
func anyOf(json.RawMessage) bool { return true }

func (p *proofs) signature() statement {
	return statement{predicateType: attest.PredicateSign, predicate: json.RawMessage("{}"), match: anyOf}
}

func (p *proofs) provenance(b *built) (statement, error) {
	ext, err := p.externalParameters()
	if err != nil {
		return statement{}, err
	}
	internal, err := json.Marshal(b.Config)
	if err != nil {
		return statement{}, err
	}
	found := map[string]any{"signature": p.commit.Signature, "committed": p.commit.Time}
	if p.commit.Within != "" {
		found["within"] = p.commit.Within
	}
	deps := p.sourceDependencies(found)
	if b.Lock != "" {
		deps = append(deps, lockDependency(b.Lock))
	}
	tools := b.Tools
	if p.BuilderHost != "" {
		tools = append(slices.Clone(tools), attest.HostDependency(p.BuilderHost))
	}
	pred := attest.Provenance{
		BuildDefinition: attest.BuildDefinition{
			BuildType: p.buildType(), ExternalParameters: ext, InternalParameters: internal,
			ResolvedDependencies: append(deps, b.Dependencies...),
		},
		RunDetails: attest.RunDetails{
			Builder: attest.BuilderInfo{ID: p.builder.ID, Version: map[string]string{"colophon": p.Version}, BuilderDependencies: tools},
			Metadata: attest.BuildMetadata{
				InvocationID: p.invocationURI(), StartedOn: &b.Started, FinishedOn: &b.Finished,
			},
			// Byproducts are the builder's claims; everything else in the provenance is the
			// trusted side's own knowledge.
			Byproducts: []attest.ResourceDescriptor{
				p.byproduct("build log", b.Log, "text/plain"),
				p.byproduct("what the builder says", b.Account, "application/json"),
			},
		},
	}
	raw, err := json.Marshal(pred)
	return statement{
		predicateType: attest.PredicateSLSA1,
		predicate:     raw,
		match:         func(earlier json.RawMessage) bool { return p.sameBuild(earlier, ext) },
	}, err
}

// buildType returns the build type of the release.
func (j *run) buildType() string {
	if j.recipe.Files {
		return j.recipe.BuildType()
	}
	return j.builder.BuildType
}

// byproduct describes a file in Dir/logs, named by its hex sha256.
func (p *proofs) byproduct(name, sum, mediaType string) attest.ResourceDescriptor {
	return attest.ResourceDescriptor{Name: name, URI: p.URL + api.PathLogs + "/sha256:" + sum, Digest: map[string]string{"sha256": sum}, MediaType: mediaType}
}

// sameBuild reports whether a provenance describes the requested build.
func (j *run) sameBuild(provenance, externalParameters json.RawMessage) bool {
	e, err := attest.ParseProvenance(provenance)
	return err == nil && e.BuildDefinition.BuildType == j.buildType() &&
		sameJSON(e.BuildDefinition.ExternalParameters, externalParameters)
}

// sboms returns the statements with the SBOMs of the image, or of each release file.
func (p *proofs) sboms(b *built) ([]statement, error) {
	if len(p.files) > 0 {
		return p.fileSBOMs(b)
	}
	spdx, err := p.readSBOM(fileSPDX, b.SPDX)
	if err != nil {
		return nil, err
	}
	cdx, err := p.readSBOM(fileCDX, b.CDX)
	if err != nil {
		return nil, err
	}
	// An SBOM of an earlier run is kept, even if another version of the scanner wrote
	// it differently, because consumers should find only one.
	return []statement{
		{predicateType: attest.PredicateSPDX, predicate: spdx, match: anyOf},
		{predicateType: attest.PredicateCDX, predicate: cdx, match: anyOf},
	}, nil
}

func sameJSON(a, b []byte) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// verifyAsStranger verifies the image by digest, as any consumer would. It returns an
// error, so that no tag is created, unless the outcome is accepted.
func (j *run) verifyAsStranger(ctx context.Context, digest string) error {
	j.emit(api.Event{Phase: "verify", Step: digest})
	v, err := j.verdict(ctx, digest)
	if err != nil {
		return err
	}
	if err := j.tell(ctx, digest, v); err != nil {
		return err
	}
	if v.Outcome == verify.Undecided {
		return undecided{&api.Error{Message: "the released proof could not be verified, so no tag was created: " + v.Why(), Hint: "run the release again to finish it"}}
	}
	if v.Outcome != verify.Accepted {
		return &api.Error{Message: fmt.Sprintf("the released proof does not verify, so no tag was created: %s", v.Why()), Hint: "if the cause was temporary, run the release again to finish it"}
	}
	j.verified = v
	return nil
}

func (j *run) verdict(ctx context.Context, reference string) (*verify.Verdict, error) {
	demand, err := j.expected().Policy()
	if err != nil {
		return nil, err
	}
	opts := verify.Options{Trust: []*trust.Root{j.Trust}, Policy: demand, Whole: true}
	if j.recipe.Files {
		return verify.Released(ctx, j.target, reference, time.Now(), opts), nil
	}
	return verify.Image(ctx, j.target, reference, time.Now(), opts), nil
}

// finishTagged finishes a release that already has some of its tags: it creates the
// missing tags and returns the digest. It returns "" if no tag exists yet. Building
// again instead could give other bytes and leave the release with only some of its
// tags for ever. If a tag exists but does not prove this release, finishTagged returns
// an error before anything is built.
func (j *run) finishTagged(ctx context.Context) (digest string, err error) {
	found, err := j.resolveTags(ctx)
	if err != nil {
		return "", err
	}
	var first v1.Descriptor
	var missing []string
	for i, tag := range j.tags {
		switch d := found[i]; {
		case d == nil:
			missing = append(missing, tag)
			continue
		case digest == "":
			first, digest = *d, d.Digest.String()
		case d.Digest != first.Digest:
			return "", &api.Error{Message: fmt.Sprintf("tags of %s disagree: %s is %s, but another tag of this release is %s", j.req.Image, tag, d.Digest, digest)}
		default:
			continue // the same digest was verified already
		}
		v, err := j.verdict(ctx, digest)
		if err != nil {
			return "", err
		}
		if v.Outcome == verify.Undecided {
			return "", fmt.Errorf("%s:%s exists but could not be verified: %s", j.req.Image, tag, v.Why())
		}
		if v.Outcome != verify.Accepted {
			return "", &api.Error{
				Message: fmt.Sprintf("tag %s:%s exists but is not this release: its digest is %s, which does not prove %s at %s: %s", j.req.Image, tag, digest, j.commit.URI, j.commit.ID, v.Why()),
				Hint:    "tags never move; release another ref"}
		}
		j.verified = v
	}
	if digest == "" {
		return "", nil
	}
	if err := j.sameRecipe(ctx, digest); err != nil {
		return "", err
	}
	j.resumed, j.unchanged = true, len(missing) == 0
	if len(missing) > 0 {
		if err := j.tell(ctx, digest, j.verified); err != nil {
			return "", err
		}
	}
	return digest, j.tag(ctx, first, missing)
}

// resolveTags resolves all tags of the release concurrently. The result has an entry
// for each tag; nil if the tag does not exist.
func (j *run) resolveTags(ctx context.Context) ([]*v1.Descriptor, error) {
	found := make([]*v1.Descriptor, len(j.tags))
	g, gctx := errgroup.WithContext(ctx)
	for i, tag := range j.tags {
		g.Go(func() error {
			d, err := j.target.Resolve(gctx, tag)
			if errors.Is(err, oci.ErrNotFound) {
				return nil
			} else if err != nil {
				return fmt.Errorf("looking for %s:%s: %w", j.req.Image, tag, err)
			}
			found[i] = &d
			return nil
		})
	}
	return found, g.Wait()
}

// sameRecipe returns an error if the tagged image was built from this commit with other
// parameters.
func (j *run) sameRecipe(ctx context.Context, digest string) error {
	hash, err := v1.NewHash(digest)
	if err != nil {
		return err
	}
	ext, err := j.externalParameters()
	if err != nil {
		return err
	}
	p := &proofs{run: j, subject: v1.Descriptor{Digest: hash}}
	if j.recipe.Files {
		if p.files, err = j.filesIn(ctx, hash); err != nil {
			return err
		}
		j.files = p.files
	}
	if err := p.load(ctx); err != nil {
		return err
	}
	for _, e := range p.existing {
		if e.predicateType == attest.PredicateSLSA1 && j.sameBuild(e.predicate, ext) {
			j.lockSum = lockOf(e.predicate)
			return nil
		}
	}
	return &api.Error{
		Message: fmt.Sprintf("%s:%s exists and was built from this commit, but with other parameters than %s", j.req.Image, j.tags[0], ext),
		Hint:    "use another image name, or the same parameters as before"}
}
