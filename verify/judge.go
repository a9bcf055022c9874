package verify

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/distrust"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/trust"
)

// judge verifies one item and reads from its statement what the policy asks for. It
// keeps nothing else of the statement, so that many large statements do not fill
// the memory. platform says that it came in the way in which platforms attach theirs.
func (c *check) judge(it *item, b *bundle.Bundle, platform bool, subject func() bundle.Subject) {
	if it.read != nil {
		remembering := *c
		remembering.of = it.read.memory
		c = &remembering
	}
	it.signature = b.Image != "" || b.Statement == nil && c.about == aboutFile
	if b.Statement != nil {
		it.kind = b.Statement.PredicateType
		it.signature = it.kind == attest.PredicateSign
	} else if it.signature {
		it.kind = attest.PredicateSign
	}
	switch o := c.opts.Policy.Origin.(type) {
	case policy.BuilderProvenance:
		switch {
		case c.ofPublicBuilder(b):
			c.judgePublic(it, b, subject)
		case c.about == aboutFile && !ofPlatformBuilder(b):
			it.form = errNotPublic
		case platform && c.isPublic(b):
			it.form = untrusted(b) // those who sign for it are never a platform's
		case platform:
			c.judgePlatform(it, b, subject)
		}
	case policy.SignerProvenance:
		c.judgeNamed(it, b, o.Signer, subject)
		for _, p := range it.proofs {
			if p.Err() == nil && isProvenance(it) {
				p.build, p.says = c.namedBuild(b, p)
				c.noteSigner(p)
			}
		}
	case policy.SignatureOnly:
		c.judgeNamed(it, b, o.Signer, subject)
	}
	c.judgeAnyone(it, b, subject)
	c.judgeSource(it, b)
}

var errNotPublic = errors.New("not signed by a workflow on GitHub, a pipeline on GitLab or a builder of a platform: say who should have signed it")

// ofPlatformBuilder reports whether a certificate has the name of a platform's builder. It
// proves nothing.
func ofPlatformBuilder(b *bundle.Bundle) bool {
	return b.Certificate != nil && len(b.Certificate.URIs) == 1 && provenance.SystemOf(b.Certificate.URIs[0].String()) == provenance.Colophon
}

// ofPublicBuilder reports whether a bundle is verified by the rules for builders on
// GitHub and GitLab, or else by those for platforms. The name in the certificate
// decides that before anything is verified, because no platform's builder has the
// name of a workflow or a pipeline.
func (c *check) ofPublicBuilder(b *bundle.Bundle) bool {
	return len(c.plainRoots()) > 0 && c.isPublic(b)
}

func (c *check) isPublic(b *bundle.Bundle) bool {
	if b.Certificate == nil || len(b.Certificate.URIs) != 1 {
		return false
	}
	return reuse(c.of, publicKey{}, func() bool {
		system := provenance.SystemOf(b.Certificate.URIs[0].String())
		return system == provenance.GitHub || system == provenance.GitLab
	})
}

// untrusted returns the error for a workflow or pipeline, if no trust root here is one
// under which these sign.
func untrusted(b *bundle.Bundle) error {
	return &bundle.UntrustedError{Signer: b.Certificate.URIs[0].String(), Authority: b.Certificate.Issuer}
}

// judgePlatform verifies what should be signed by a builder of a Colophon platform.
func (c *check) judgePlatform(it *item, b *bundle.Bundle, subject func() bundle.Subject) {
	b, err := recall(c, c.of, platformKey{}, func() (*bundle.Bundle, error) {
		b, err := b.Platform()
		if err != nil && it.at != "" {
			err = fmt.Errorf("attestation %s: %w", it.at, err)
		}
		return b, err
	})
	if err != nil {
		it.form = err
		return
	}
	for _, r := range c.roots() {
		p := &proof{Result: c.result(b, true, bundle.Signer{}, r, subject), root: r, rules: ofPlatform}
		if c.about == aboutFile {
			p.rules = ofPlatformFile
		}
		if it.proofs = append(it.proofs, p); p.Err() != nil {
			continue
		}
		if err := c.trustPlatform(p); err != nil {
			p.signer = c.otherSigner(p, err)
			continue
		}
		switch {
		case it.kind == attest.PredicateSLSA1:
			if p.build, p.says = c.platformBuild(p, b.Statement); p.says == nil {
				p.says = c.matchKind(p.build, b.Statement, subject().Digest)
			}
		case sbom.Format(it.kind) != "":
			p.sbom, p.says = c.readSBOM(b.Statement.Predicate, it.kind, subject().Digest)
		}
	}
}

// judgePublic verifies what should be signed by a workflow on GitHub or a pipeline
// on GitLab.
func (c *check) judgePublic(it *item, b *bundle.Bundle, subject func() bundle.Subject) {
	for _, r := range c.plainRoots() {
		p := &proof{Result: c.result(b, false, bundle.Signer{}, r, subject), root: r, rules: ofPublic}
		if it.proofs = append(it.proofs, p); p.Err() == nil {
			c.readPublic(p, b)
		}
	}
}

// judgeNamed verifies what should be signed by the signer that the policy names.
func (c *check) judgeNamed(it *item, b *bundle.Bundle, named policy.Signer, subject func() bundle.Subject) {
	signer := SignerOf(named)
	for _, r := range rootsOf(c.roots(), signer) {
		it.proofs = append(it.proofs, &proof{Result: c.result(b, false, signer, r, subject), root: r, rules: ofNamed})
	}
}

// judgeAnyone verifies what policies demand beside the Origin: attestations and
// verification summaries, by any signer.
func (c *check) judgeAnyone(it *item, b *bundle.Bundle, subject func() bundle.Subject) {
	isSummary := it.kind == attest.PredicateVSA && len(c.opts.Policy.Verifiers) > 0
	isDemanded := slices.ContainsFunc(c.opts.Policy.Attestations, func(a policy.Attestation) bool { return a.PredicateType == it.kind })
	isForbidden := slices.ContainsFunc(c.opts.Policy.Absent, func(a policy.Absent) bool { return a.PredicateType == it.kind })
	isFact := c.asksFor(it.kind)
	if b.Statement == nil || !isSummary && !isDemanded && !isForbidden && !isFact {
		return
	}
	it.anyone = c.byAnyone(b, c.opts.Trust, subject)
	if isForbidden || isSummary || isDemanded {
		it.stale = c.byAnyone(b, c.stale, subject)
	}
	if isForbidden {
		it.forbids = slices.Concat(it.anyone, it.stale)
	}
	if !it.holds() {
		return
	}
	if isFact {
		it.fact, it.factErr = recall(c, c.of, factKey{}, func() (*fact, error) { return c.keepFact(b.Statement.Predicate) })
	}
	if isSummary {
		c.readSummary(it, b)
	}
	it.matches = make(map[int]error)
	for i, a := range c.opts.Policy.Attestations {
		if a.PredicateType == it.kind {
			_, it.matches[i] = recall(c, c.of, matchKey(values(a.Equals)), func() (struct{}, error) { return struct{}{}, a.Match(b.Statement.Predicate) })
		}
	}
	it.absent = make(map[int]forbidden)
	for i, a := range c.opts.Policy.Absent {
		if a.PredicateType == it.kind {
			is, err := recall(c, c.of, absentKey(values(a.Equals)), func() (bool, error) { return a.Match(b.Statement.Predicate) })
			it.absent[i] = forbidden{is, err}
		}
	}
}

// Keys of what is remembered about an item.
type (
	platformKey struct{} // the bundle in the form of platforms
	publicKey   struct{} // whether a public builder signed
	resultKey   struct {
		about    v1.Hash // digest of the subject
		platform bool
		key      string // PKIX of the key that must have signed; empty: a certificate
		hash     crypto.Hash
		unlogged bool
		root     *trust.Root
	}
	originKey   string // subject alternative name
	documentKey struct{}
	factsKey    string // signer
	summaryKey  struct{}
	commitsKey  struct{}
	factKey     struct{}
	matchKey    string // values demanded
	absentKey   string // values that must be absent
)

// values returns demanded values as a key, which has their types.
func values(equals map[string]any) string {
	if len(equals) == 0 {
		return ""
	}
	return fmt.Sprintf("%#v", equals) // in the order of the pointers
}

// byAnyone verifies a bundle by any signer: one proof for each of roots, and for each key
// that the policy names.
func (c *check) byAnyone(b *bundle.Bundle, roots []*trust.Root, subject func() bundle.Subject) (all []*proof) {
	if b.Certificate != nil {
		for _, r := range roots {
			all = append(all, &proof{Result: c.result(b, false, bundle.Signer{}, r, subject), root: r})
		}
		return all
	}
	for _, key := range c.keys() {
		for _, r := range rootsOf(roots, key) {
			all = append(all, &proof{Result: c.result(b, false, key, r, subject), root: r, key: &key})
		}
	}
	return all
}

// judgeSource verifies a summary about commits, for the policy's SourceVerifiers. It is about
// the commits that it names; trackLink asks whether that of the provenance is among them.
func (c *check) judgeSource(it *item, b *bundle.Bundle) {
	if it.kind != attest.PredicateVSA || b.Statement == nil || !demandsTrack(c.opts.Policy) || len(c.opts.Policy.Provenance().SourceVerifiers) == 0 {
		return
	}
	names, err := recall(c, c.of, commitsKey{}, func() (names []string, _ error) {
		for _, s := range b.Statement.Subject {
			if id := s.Digest[attest.GitCommit]; id != "" {
				names = append(names, id)
			}
		}
		return names, nil
	})
	if err != nil || len(names) == 0 {
		return
	}
	subject := func() bundle.Subject { // one signature is about all of them
		return bundle.Subject{Digest: v1.Hash{Algorithm: attest.GitCommit, Hex: names[0]}}
	}
	of := &item{at: it.at, kind: it.kind, read: it.read, names: names}
	of.anyone, of.stale = c.byAnyone(b, c.opts.Trust, subject), c.byAnyone(b, c.stale, subject)
	c.readSummary(of, b)
	it.commits = of
}

// readSummary reads the summary of an item if a signature of it holds.
func (c *check) readSummary(it *item, b *bundle.Bundle) {
	if it.holds() {
		it.vsa, it.vsaErr = recall(c, c.of, summaryKey{}, func() (*attest.VSA, error) { return attest.ParseVSA(b.Statement.Predicate) })
	}
}

// holds reports whether a signature of an item holds under a trust root, or a stale one.
func (it *item) holds() bool {
	return slices.ContainsFunc(slices.Concat(it.anyone, it.stale), func(p *proof) bool { return p.Err() == nil })
}

// result verifies a bundle under one trust root, as signed by signer; the zero Signer
// stands for any certificate. That takes most of the time of a verification, and depends
// on a policy only if the policy names a key.
func (c *check) result(b *bundle.Bundle, platform bool, signer bundle.Signer, r *trust.Root, subject func() bundle.Subject) *bundle.Result {
	of := subject()
	key := resultKey{about: of.Digest, platform: platform, root: r, unlogged: signer.InsecureNoLog, hash: signer.Hash}
	if signer.Key != nil {
		der, err := x509.MarshalPKIXPublicKey(signer.Key)
		if err != nil {
			return &bundle.Result{Index: -1, Signature: err}
		}
		key.key = string(der)
	}
	got, err := recall(c, c.of, key, func() (*bundle.Result, error) {
		var got *bundle.Result
		if signer.Key != nil {
			got = b.VerifyBy(signer, of, materialOf(r), c.now)
		} else {
			got = b.Verify(of, materialOf(r), c.now)
		}
		got.Signature, got.Log = bounded(got.Signature), bounded(got.Log)
		return got, nil
	})
	switch {
	case err != nil:
		return &bundle.Result{Index: -1, Signature: err}
	case signer.Key != nil || signer.Identity == "" && signer.Pattern == nil || got.Signature != nil:
		return got
	}
	named := *got
	named.Signature = signer.Match(got.Identity)
	return &named
}

// rootsOf returns the trust roots that a signer may have signed under. A key that is
// accepted without a log needs none; a nil root stands for that.
func rootsOf(roots []*trust.Root, s bundle.Signer) []*trust.Root {
	if len(roots) == 0 && s.InsecureNoLog {
		return []*trust.Root{nil}
	}
	return roots
}

func materialOf(r *trust.Root) root.TrustedMaterial {
	if r == nil {
		return new(root.BaseTrustedMaterial)
	}
	return r.Material
}

// keys returns the keys that the policy names.
func (c *check) keys() (keys []bundle.Signer) {
	add := func(s policy.Signer) {
		if k, ok := s.(policy.Key); ok {
			keys = append(keys, SignerOf(k))
		}
	}
	add(c.opts.Policy.Signer()) // it also signs the attestations that name no signer
	for _, a := range c.opts.Policy.Attestations {
		add(a.Signer)
	}
	for _, a := range c.opts.Policy.Absent {
		add(a.Signer)
	}
	for _, v := range slices.Concat(c.opts.Policy.Verifiers, c.opts.Policy.Provenance().SourceVerifiers) {
		add(v.Signer)
	}
	return keys
}

// SignerOf returns the signer that a policy demands, for package bundle. Of an
// unknown type it returns a signer that no certificate matches.
func SignerOf(p policy.Signer) bundle.Signer {
	switch s := p.(type) {
	case policy.Identity:
		return bundle.Signer{Identity: s.Name, Issuer: s.Issuer}
	case policy.Pattern:
		return bundle.Signer{Pattern: s.Name(), Issuer: s.Issuer()}
	case policy.Key:
		return bundle.Signer{Key: s.Public(), InsecureNoLog: s.InsecureNoLog}
	}
	return bundle.Signer{}
}

var (
	errNotTheKey   = errors.New("signer: not the key that the policy names")
	errAnotherRoot = errors.New("signer: verified under another trust root than what the verdict rests on")
)

// signed returns a check that a proof is by the signer demanded, under the trust root
// demanded.
func signed(s policy.Signer) func(*proof) error {
	by, root := SignerOf(s), policy.RootOf(s)
	return func(p *proof) error {
		if root != "" && (p.root == nil || !p.root.Named(root)) {
			return fmt.Errorf("trust root of the signature: want %q", root)
		}
		if by.Key == nil && p.key == nil {
			return by.Match(p.Identity)
		}
		// A proof without a log entry does not answer a demand for one.
		if by.Key == nil || p.key == nil || by.InsecureNoLog != p.key.InsecureNoLog || !sameKey(by.Key, p.key.Key) {
			return errNotTheKey
		}
		return nil
	}
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// matchKind fails unless a platform's provenance is about the kind of thing that is verified,
// image or file. Of a file it must give the file's name: a subject is a name and a digest, and
// the binary for one platform must not pass as that for another. digest is that of the file.
func (c *check) matchKind(b *build, s *attest.Statement, digest v1.Hash) error {
	switch isFile := attest.IsFiles(b.BuildType); {
	case isFile && c.about != aboutFile:
		return fmt.Errorf("build type: got %q, whose provenance is about release files, want that of an image", b.BuildType)
	case !isFile && c.about == aboutFile:
		return fmt.Errorf("build type: got %q, whose provenance is about an image, want that of release files", b.BuildType)
	case !isFile:
		return nil
	}
	var names []string
	for _, subject := range s.Subject {
		if subject.Digest[digest.Algorithm] != digest.Hex {
			continue
		}
		if subject.Name == c.title && c.title != "" {
			return nil
		}
		names = append(names, subject.Name)
	}
	return fmt.Errorf("name: the file is called %q, and its provenance calls it %q; a file counts only under its own name", c.title, names)
}

// signerFact returns who made a proof. key is the key that the policy names, if it names one.
func signerFact(p *proof, named policy.Signer) distrust.Signer {
	s := distrust.Signer{Identity: p.Identity.SubjectAlternativeName, Issuer: p.Identity.Issuer, After: p.Certified}
	for _, t := range p.Times {
		if s.Before.IsZero() || t.Before(s.Before) {
			s.Before = t
		}
	}
	if s.Identity != "" {
		return s
	}
	key, ok := named.(policy.Key)
	public := key.Public()
	if p.key != nil {
		public, ok = p.key.Key, true
	}
	if der, err := x509.MarshalPKIXPublicKey(public); ok && err == nil {
		s.Key = keyName(der)
	}
	return s
}

// keyName returns how a list names a key, SubjectPublicKeyInfo in DER.
func keyName(der []byte) string {
	sum := sha256.Sum256(der)
	return "sha256:" + hex.EncodeToString(sum[:])
}
