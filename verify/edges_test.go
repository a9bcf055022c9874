package verify

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// TestLinksArePlain: what strangers wrote reaches the verdict as one short line without
// control characters.
func TestLinksArePlain(t *testing.T) {
	v := &Verdict{}
	v.add(Link{Claim: "a\x1b[31m\nb", Reason: strings.Repeat("long ", 1000)})
	if l := v.Links[0]; strings.ContainsAny(l.Claim, "\x1b\n") || len(l.Reason) > 2100 {
		t.Errorf("got %q and %d bytes", l.Claim, len(l.Reason))
	}
}

// TestOutcomeFallsBack: a verdict that was accepted is no longer, if something that is
// required next is not known.
func TestOutcomeFallsBack(t *testing.T) {
	v := &Verdict{Outcome: Accepted, Links: []Link{{Name: "a", Status: Holds}, {Name: "b", Status: Unknown}}}
	if v.decide(map[string]bool{"a": true, "b": true}); v.Outcome != Undecided {
		t.Errorf("got %v, want undecided", v.Outcome)
	}
}

// anEnvelope is a statement of an unknown type that nobody signed.
func anEnvelope() []byte {
	statement := base64.StdEncoding.EncodeToString([]byte(`{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"a","digest":{"sha256":"` + strings.Repeat("ab", 32) + `"}}],"predicateType":"https://example.com/x","predicate":{}}`))
	return []byte(`{"payloadType":"application/vnd.in-toto+json","payload":"` + statement + `","signatures":[{"sig":"AAAA"}]}`)
}

func parsedEnvelope(t *testing.T) *bundle.Bundle {
	t.Helper()
	b, err := bundle.ParseEnvelope(anEnvelope())
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestWhatASignatureIs: the signature of a file or an image, or a statement of its own
// type. A signature of bytes is not one of an image.
func TestWhatASignatureIs(t *testing.T) {
	statement := func(kind string) *attest.Statement { return &attest.Statement{PredicateType: kind} }
	for name, tt := range map[string]struct {
		b         *bundle.Bundle
		about     string
		kind      string
		signature bool
	}{
		"cosign's":                {&bundle.Bundle{Image: "sha256:a"}, aboutIndex, attest.PredicateSign, true},
		"of a file":               {&bundle.Bundle{}, aboutFile, attest.PredicateSign, true},
		"of bytes, for an image":  {&bundle.Bundle{}, aboutManifest, "", false},
		"a statement of its type": {&bundle.Bundle{Statement: statement(attest.PredicateSign)}, aboutManifest, attest.PredicateSign, true},
		"a provenance":            {&bundle.Bundle{Statement: statement(attest.PredicateSLSA1)}, aboutFile, attest.PredicateSLSA1, false},
	} {
		c := checkOf(policy.SummaryOnly{})
		c.about = tt.about
		it := &item{}
		c.judge(it, tt.b, false, nil)
		if it.kind != tt.kind || it.signature != tt.signature {
			t.Errorf("%s: got %q, signature %v", name, it.kind, it.signature)
		}
	}
	// A file that no public builder signed is told so; an image may have a platform's proof.
	for about, want := range map[string]error{aboutFile: errNotPublic, aboutManifest: nil} {
		c := checkOf(policy.BuilderProvenance{})
		c.about = about
		it := &item{}
		if c.judge(it, &bundle.Bundle{Statement: statement(attest.PredicateSLSA1)}, false, nil); it.form != want {
			t.Errorf("form: got %v, want %v", it.form, want)
		}
	}
	// A demanded attestation is a statement; the signature of a file is none.
	c := checkOf(policy.SummaryOnly{}, &trust.Root{})
	c.about = aboutFile
	c.opts.Policy.Attestations = []policy.Attestation{{PredicateType: attest.PredicateSign}}
	it := &item{kind: attest.PredicateSign}
	if c.judgeAnyone(it, &bundle.Bundle{Certificate: &x509.Certificate{}}, nil); len(it.anyone) != 0 {
		t.Error("a signature was taken for a demanded attestation")
	}
	// Every key that the policy names may have signed a demanded statement.
	keyed := checkOf(policy.SummaryOnly{})
	keyed.opts.Policy.Attestations = []policy.Attestation{{PredicateType: "https://example.com/x", Signer: keyOf(t, true)}}
	it = &item{kind: "https://example.com/x"}
	if keyed.judgeAnyone(it, parsedEnvelope(t), func() bundle.Subject { return bundle.Subject{} }); len(it.anyone) != 1 || it.anyone[0].key == nil || it.anyone[0].Err() == nil {
		t.Errorf("by a key: got %+v, want one proof that fails", it.anyone)
	}
	it = &item{kind: attest.PredicateVSA} // the policy names no verifiers
	if c.judgeAnyone(it, &bundle.Bundle{Certificate: &x509.Certificate{}, Statement: statement(attest.PredicateVSA)}, nil); len(it.anyone) != 0 {
		t.Error("a summary that nobody asked for was verified")
	}
}

// deaf is a source that does not answer about one manifest, and that counts the requests
// at a time.
type deaf struct {
	*shelf
	to            v1.Hash
	referrers     []v1.Descriptor
	err           error // of the list of referrers
	running, most atomic.Int64
}

func (d *deaf) enter() (leave func()) {
	n := d.running.Add(1)
	for most := d.most.Load(); n > most && !d.most.CompareAndSwap(most, n); most = d.most.Load() {
	}
	time.Sleep(2 * time.Millisecond)
	return func() { d.running.Add(-1) }
}

func (d *deaf) Manifest(ctx context.Context, h v1.Hash) ([]byte, string, error) {
	defer d.enter()()
	if h == d.to {
		return nil, "", errWrong
	}
	return d.shelf.Manifest(ctx, h)
}

func (d *deaf) Blob(ctx context.Context, b v1.Descriptor) (io.ReadCloser, error) {
	defer d.enter()()
	return d.shelf.Blob(ctx, b)
}

func (d *deaf) Referrers(context.Context, v1.Hash) ([]v1.Descriptor, error) {
	return d.referrers, d.err
}

func (d *deaf) Resolve(_ context.Context, reference string) (v1.Descriptor, error) {
	if d.err == nil {
		return v1.Descriptor{}, nil
	}
	return v1.Descriptor{}, fmt.Errorf("%s: %w", reference, d.err)
}

func (s *shelf) index(platforms map[string]v1.Descriptor) v1.Descriptor {
	var list []v1.Descriptor
	for name, d := range platforms {
		os, arch, _ := strings.Cut(name, "/")
		d.Platform = &v1.Platform{OS: os, Architecture: arch}
		list = append(list, d)
	}
	return s.put(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: list})
}

// TestUnansweredPartOfAnIndex: whether an index has one image is not known, if the source
// does not answer about what may be another.
func TestUnansweredPartOfAnIndex(t *testing.T) {
	s := newShelf(t)
	one, other := s.put(types.OCIManifestSchema1, []byte("one")), s.put(types.OCIManifestSchema1, []byte("other"))
	index := s.index(map[string]v1.Descriptor{"linux/amd64": one, "unknown/unknown": other})
	for _, to := range []v1.Descriptor{index, other, one} {
		c := &check{src: &deaf{shelf: s, to: to.Digest}}
		if _, ok, err := c.only(t.Context(), index); to.Digest != one.Digest && !errors.Is(err, errWrong) || ok {
			t.Errorf("got %v, %v, want that the source did not answer", ok, err)
		}
	}
	if (&item{}).signed() || !(&item{proofs: []*proof{{}}}).signed() || !(&item{anyone: []*proof{{}}}).signed() {
		t.Error("what has a proof is signed, and nothing else")
	}
	if got, err := whatIsThere([]string{attachmentPlatform}, []bool{false}, false); err != nil || len(got.platforms) != 1 {
		t.Errorf("attachments alone: got %+v, %v", got, err)
	}
}

// TestAttachedToChildren: a platform is named if something is attached to it, and only
// then.
func TestAttachedToChildren(t *testing.T) {
	s := newShelf(t)
	index := s.index(map[string]v1.Descriptor{"linux/amd64": s.put(types.OCIManifestSchema1, []byte("one"))})
	something := []v1.Descriptor{{Digest: index.Digest}}
	for name, tt := range map[string]struct {
		origin policy.Origin
		list   []v1.Descriptor
		err    error
		want   int
	}{
		"something": {policy.BuilderProvenance{}, something, nil, 1}, "nothing": {policy.BuilderProvenance{}, nil, nil, 0}, "no answer": {policy.BuilderProvenance{}, something, errWrong, 0},
		"under tags": {policy.SignatureOnly{}, nil, nil, 1}, "no tags": {policy.SignatureOnly{}, nil, errMissing, 0},
	} {
		c := checkOf(tt.origin)
		c.src = &deaf{shelf: s, referrers: tt.list, err: tt.err}
		if got := c.attachedToChildren(t.Context(), index); len(got) != tt.want {
			t.Errorf("%s: got %v, want %d", name, got, tt.want)
		}
	}
}

// TestHintElsewhere: only who asked for a digest, and lacks something that is not the image
// itself, is sent to the index.
func TestHintElsewhere(t *testing.T) {
	absent, digest := Link{Name: LinkSignature, Status: Absent}, "sha256:a"
	for name, tt := range map[string]struct {
		outcome   Outcome
		link      Link
		reference string
		ev        evidence
		hint      bool
	}{
		"absent": {Rejected, absent, digest, evidence{}, true}, "the image": {Rejected, Link{Name: LinkImage, Status: Absent}, digest, evidence{}, false},
		"wrong": {Rejected, Link{Name: LinkSignature, Status: Broken}, digest, evidence{}, false}, "undecided": {Undecided, absent, digest, evidence{}, false},
		"not listed": {Rejected, absent, digest, evidence{err: errWrong}, false}, "by tag": {Rejected, absent, "v1", evidence{}, false},
		"something signed": {Rejected, absent, digest, evidence{items: []*item{{proofs: []*proof{{}}}}}, false},
	} {
		c := checkOf(policy.BuilderProvenance{})
		c.src = newShelf(t)
		v := &Verdict{Outcome: tt.outcome, Links: []Link{tt.link}}
		if c.hintElsewhere(t.Context(), v, tt.reference, v1.Descriptor{MediaType: types.OCIManifestSchema1}, &tt.ev); (v.Hint != "") != tt.hint {
			t.Errorf("%s: got hint %q", name, v.Hint)
		}
	}
	s := newShelf(t)
	index := s.index(map[string]v1.Descriptor{"linux/amd64": s.put(types.OCIManifestSchema1, []byte("one"))})
	for _, list := range [][]v1.Descriptor{nil, {{Digest: index.Digest}}} {
		c := checkOf(policy.BuilderProvenance{})
		c.src = &deaf{shelf: s, referrers: list}
		v := &Verdict{Outcome: Rejected, Links: []Link{absent}}
		if c.hintElsewhere(t.Context(), v, "v1", index, &evidence{}); (v.Hint != "") != (list != nil) {
			t.Errorf("an index, with %d things attached to its platform: got hint %q", len(list), v.Hint)
		}
	}
}

// TestSupplied: bundles and envelopes that the caller supplied are items like any other,
// also where they cannot be read. What is not ready to verify says why.
func TestSupplied(t *testing.T) {
	envelope := anEnvelope()
	s := newShelf(t)
	c := checkOf(policy.SummaryOnly{})
	c.src, c.opts.Bundles = s, [][]byte{envelope, []byte("{}")}
	ev := c.gather(t.Context(), s.put(types.OCIManifestSchema1, []byte("image")).Digest)
	if len(ev.items) != 2 || ev.items[0].err != nil || ev.items[0].kind != "https://example.com/x" || ev.items[1].err == nil {
		t.Errorf("got %+v", ev.items)
	}
	if !AreBundles([][]byte{envelope}) {
		t.Error("an envelope is as good as a bundle")
	}
	v := Bundled(t.Context(), File{}, nil, time.Time{}, Options{})
	if l := v.Links[len(v.Links)-1]; v.Outcome != Undecided || l.Name != LinkSignature || l.Status != Unknown || l.Reason == "" {
		t.Errorf("not ready: got %v, %+v", v.Outcome, v.Links)
	}
	// What is not in the form of a platform says so, and where it is attached.
	for at, want := range map[string]string{"": "", "sha256:a": "attestation sha256:a: "} {
		it := &item{at: at}
		if c.judgePlatform(it, &bundle.Bundle{}, nil); it.form == nil || !strings.HasPrefix(it.form.Error(), want) || strings.Contains(it.form.Error(), "attestation") != (want != "") {
			t.Errorf("form: got %v, want %q", it.form, want)
		}
	}
	// A certificate that contradicts itself is no platform's.
	id := certificate.Summary{SubjectAlternativeName: "https://p.example.com/builders/x", Extensions: certificate.Extensions{BuildSignerURI: "https://p.example.com/builders/y"}}
	if _, err := c.platformBuild(&proof{Result: &bundle.Result{Identity: id}}, nil); err == nil || !strings.Contains(err.Error(), "build signer") {
		t.Errorf("a certificate that contradicts itself: got %v", err)
	}
}

// TestItemsOfAManifest: what says that it is a bundle and has another form is a fault; a
// tag's manifest says nothing of the kind. A failure without a digest may be anything.
func TestItemsOfAManifest(t *testing.T) {
	two := []v1.Descriptor{{MediaType: "a/b"}, {MediaType: "a/b"}}
	digest := v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "a"}}
	kind := map[string]string{attest.AnnotationType: "k"}
	for name, tt := range map[string]struct {
		a      oci.Attached
		want   string // of the only item; empty: there is none
		unread bool
		kind   string
	}{
		"a bundle of two layers": {oci.Attached{Descriptor: digest, ArtifactType: attest.BundleMediaType, Layers: two}, "got 2 layers", false, ""},
		"another type":           {oci.Attached{Descriptor: digest, ArtifactType: "a/b", Layers: two}, "", false, ""},
		"under a tag":            {oci.Attached{Descriptor: digest, Tag: oci.CosignSignatures, ArtifactType: attest.BundleMediaType, Layers: two}, "", false, ""},
		"unread":                 {oci.Attached{Descriptor: digest, Annotations: kind, Err: errWrong}, "attestation sha256:a: it is wrong", true, "k"},
		"the listing":            {oci.Attached{Annotations: kind, Err: errWrong}, "it is wrong", true, ""},
		"nothing of a tag":       {oci.Attached{Layers: []v1.Descriptor{{MediaType: "a/b"}}}, "", false, ""},
	} {
		items := new(check).attached(t.Context(), v1.Hash{}, &tt.a)
		if tt.want == "" {
			if len(items) != 0 {
				t.Errorf("%s: got %+v, want none", name, items)
			}
			continue
		}
		if len(items) != 1 || items[0].err == nil || !strings.HasPrefix(strings.TrimPrefix(items[0].err.Error(), "attestation sha256:a: bundle manifest sha256:a: "), tt.want) || items[0].unread != tt.unread || items[0].kind != tt.kind {
			t.Errorf("%s: got %+v", name, items)
		}
	}
}

// TestItemUnderATag: a tag's manifest has a signature in each layer, so that a fault is
// that of the layer.
func TestItemUnderATag(t *testing.T) {
	sum := sha256.Sum256([]byte("x"))
	l := v1.Descriptor{MediaType: attest.SimpleSigningMediaType, Digest: v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}, Size: 1, Data: []byte("x")}
	for tag, at := range map[oci.CosignTag]string{oci.CosignSignatures: l.Digest.String(), "": "sha256:a"} {
		items := new(check).attached(t.Context(), v1.Hash{}, &oci.Attached{Tag: tag, Descriptor: v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: "a"}}, Layers: []v1.Descriptor{l}})
		if len(items) != 1 || items[0].err == nil || !strings.HasPrefix(items[0].err.Error(), "attestation "+at+": ") {
			t.Errorf("tag %q: got %+v, want a fault of %s", tag, items, at)
		}
	}
	amd64 := &v1.Platform{OS: "linux", Architecture: "amd64"}
	for n, others := range map[int]bool{1: false, 2: true} {
		list := []v1.Descriptor{{Digest: l.Digest, Platform: amd64}, {Digest: l.Digest, Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}}[:n]
		raw, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, Manifests: list})
		if err != nil {
			t.Fatal(err)
		}
		if entries, more, err := selected(v1.Hash{}, raw, amd64); err != nil || len(entries) != 1 || more != others {
			t.Errorf("%d entries: got %v, others: %v, %v", n, entries, more, err)
		}
	}
}

// TestAFewAtATime: thousands of layers, platforms or attachments do not make thousands of
// requests, or fill the memory, at once.
func TestAFewAtATime(t *testing.T) {
	s := newShelf(t)
	config := s.put(types.OCIConfigJSON, map[string]string{"os": "linux", "architecture": "amd64"})
	manifest := func(layers ...v1.Descriptor) v1.Descriptor {
		return s.put(types.OCIManifestSchema1, v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: layers})
	}
	var layers, platforms []v1.Descriptor
	for i := range 5 * parallel {
		layers = append(layers, s.put(attest.BundleMediaType, fmt.Append(nil, i)))
		platforms = append(platforms, manifest(v1.Descriptor{MediaType: types.OCILayer, Digest: layers[0].Digest, Size: int64(i) + 100}))
		platforms[i].MediaType = types.OCIManifestSchema1
	}
	index := s.put(types.OCIImageIndex, v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: platforms})
	image := manifest(layers...)
	list := make([]v1.Descriptor, len(layers))
	for i, l := range layers {
		raw, err := json.Marshal(v1.Manifest{SchemaVersion: 2, MediaType: types.OCIManifestSchema1, Config: config, Layers: []v1.Descriptor{l}, Subject: &image})
		if err != nil {
			t.Fatal(err)
		}
		sum := sha256.Sum256(raw)
		list[i].Digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
		s.blobs[list[i].Digest], s.types[list[i].Digest] = raw, types.OCIManifestSchema1
	}
	for name, do := range map[string]func(d *deaf){
		"layers":    func(d *deaf) { readImage(t.Context(), d, image.Digest, Options{}) },
		"platforms": func(d *deaf) { readImage(t.Context(), d, index.Digest, Options{}) },
		"attachments": func(d *deaf) {
			(&check{src: d, now: noon, opts: Options{Policy: policy.Policy{Origin: policy.SummaryOnly{}}}}).gather(t.Context(), image.Digest)
		},
	} {
		src := &deaf{shelf: s, referrers: list}
		do(src)
		most := int64(parallel + 1) // layers, and one configuration
		if name == "platforms" {
			most = 2 * parallel // each with a manifest or configuration, and layers
		}
		if got := src.most.Load(); got > most || got < 2 {
			t.Errorf("%s: got %d requests at a time, want 2 to %d", name, got, most)
		}
	}
}

// TestLevelsOfPublicBuilders: GitLab's own runners have level 2, other runners level 1,
// whoever else says gitlab-hosted.
func TestLevelsOfPublicBuilders(t *testing.T) {
	const project, commit = "https://gitlab.com/a/b", "cccccccccccccccccccccccccccccccccccccccc"
	job := `{"buildDefinition":{"buildType":"https://docs.gitlab.com/ci/pipeline_security/slsa/provenance_v1","externalParameters":{"source":"` + project + `"},"internalParameters":{"job":1},
		"resolvedDependencies":[{"uri":"` + project + `","digest":{"gitCommit":"` + commit + `"}}]},"runDetails":{"builder":{"id":"` + project + `/-/runners/1"},"metadata":{"invocationId":"1"}}}`
	run := func(builder string) string {
		return `{"buildDefinition":{"buildType":"https://tekton.dev/chains/v2/slsa","externalParameters":{},"resolvedDependencies":[{"name":"inputs/result","uri":"git+https://git.example.com/a.git","digest":{"sha1":"` + commit + `"}}]},
		"runDetails":{"builder":{"id":"` + builder + `"},"metadata":{"invocationId":"1"}}}`
	}
	on := func(runner string) certificate.Summary {
		id := gitlab()
		id.RunnerEnvironment = runner
		return id
	}
	for name, tt := range map[string]struct {
		predicate string
		id        certificate.Summary
		level     int
	}{
		"GitLab's runner":   {job, on("gitlab-hosted"), 2},
		"another runner":    {job, on("self-hosted"), 1},
		"Tekton":            {run(trust.TektonBuilder), certificate.Summary{}, trust.TektonLevel},
		"another's Tekton":  {run("https://x.example.com"), certificate.Summary{}, 0},
		"a job, by its key": {job, certificate.Summary{}, 1},
	} {
		d, err := provenance.Parse(&attest.Statement{PredicateType: attest.PredicateSLSA1, Predicate: []byte(tt.predicate)})
		if err != nil {
			t.Fatal(err)
		}
		by, err := provenance.OriginOf(tt.id)
		if err != nil {
			t.Fatal(err)
		}
		c := checkOf(policy.SignerProvenance{Provenance: policy.Provenance{Source: policy.AnySource()}, Signer: keyOf(t, true)})
		b, err := c.publicBuild(d, by, 0, false)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if b.evidence.Level != tt.level || (b.evidence.By != "") != (tt.level > 0) {
			t.Errorf("%s: got level %d by %q, want %d", name, b.evidence.Level, b.evidence.By, tt.level)
		}
		// A signature is unlogged if it has no entry and needs none.
		for _, index := range []int64{-1, 0} {
			for _, needless := range []bool{true, false} {
				c.opts.Policy.Origin = policy.SignerProvenance{Provenance: policy.Provenance{Source: policy.AnySource()}, Signer: keyOf(t, needless)}
				if tt.id.Issuer != "" {
					continue // of a certificate
				}
				b, err := c.namedBuild(&bundle.Bundle{Statement: &attest.Statement{PredicateType: attest.PredicateSLSA1, Predicate: []byte(tt.predicate)}}, &proof{Result: &bundle.Result{Index: index}})
				if err != nil || b.evidence.Unlogged != (index < 0 && needless) {
					t.Errorf("%s, entry %d, needs none: %v: got %+v, %v", name, index, needless, b, err)
				}
			}
		}
	}
}

// TestChosenSet: a set is passed over only if its repository contradicts it, and the next
// one lacks nothing.
func TestChosenSet(t *testing.T) {
	of := func(uri string, says error) set {
		p := signedProof(5, nil, nil, says)
		p.build = &build{Facts: &provenance.Facts{Source: uri, Commit: "c"}}
		return set{rules: ofNamed, provenance: ref{&item{}, p, says}}
	}
	gone, there, silent := of("gone", nil), of("there", nil), of("silent", nil)
	for name, tt := range map[string]struct {
		sets []set
		want string
	}{
		"the first":                   {[]set{there, gone}, "there"},
		"one after it":                {[]set{gone, there}, "there"},
		"no answer":                   {[]set{silent, there}, "silent"},
		"one that lacks something":    {[]set{gone, of("there", errWrong)}, "gone"},
		"one behind what lacks":       {[]set{gone, of("gone", errWrong), there}, "gone"},
		"no answer of the second one": {[]set{gone, silent, there}, "silent"},
		"all are gone":                {[]set{gone, of("gone", nil)}, "gone"},
	} {
		c := checkOf(policy.SignerProvenance{Provenance: policy.Provenance{Source: policy.AnySource()}})
		c.opts.SourceCheck = func(_ context.Context, q source.Question) (source.Standing, error) {
			switch q.URI {
			case "there":
				return source.Standing{Commit: true, Ref: source.RefThere}, nil
			case "silent":
				return source.Standing{}, errWrong
			}
			return source.Standing{}, nil
		}
		if s, _ := c.choose(t.Context(), tt.sets); s.provenance.proof.build.Source != tt.want {
			t.Errorf("%s: got %s, want %s", name, s.provenance.proof.build.Source, tt.want)
		}
	}
}
