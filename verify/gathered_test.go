package verify

import (
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/internal/limits"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/sbom"
	"github.com/colophon-build/colophon/trust"
)

// TestCacheKeepsItsSize: the oldest answer goes first, and one that comes again takes no
// room of another.
func TestCacheKeepsItsSize(t *testing.T) {
	key := func(n byte) (k [sha256.Size]byte) { k[0] = n; return k }
	accepted := &Verdict{Outcome: Accepted}
	c := &Cache{Age: time.Minute, Size: 2}
	for step, tt := range []struct {
		key  byte
		want []byte
	}{{1, []byte{1}}, {2, []byte{1, 2}}, {1, []byte{1, 2}}, {3, []byte{2, 3}}, {3, []byte{2, 3}}, {4, []byte{3, 4}}, {1, []byte{4, 1}}} {
		c.keep(key(tt.key), true, accepted, noon, Options{})
		var got []byte
		for _, k := range c.order {
			got = append(got, k[0])
		}
		if !slices.Equal(got, tt.want) || len(c.kept) != len(tt.want) {
			t.Errorf("step %d: got %v and %d answers, want %v", step, got, len(c.kept), tt.want)
		}
		for n := byte(1); n < 5; n++ {
			if v := c.recall(key(n), true, "name", noon); (v != nil) != slices.Contains(tt.want, n) || v != nil && v.Image != "name" {
				t.Errorf("step %d: answer %d: got %+v", step, n, v)
			}
		}
	}
	none := &Cache{Age: time.Minute}
	none.keep(key(1), true, accepted, noon, Options{}) // it must not fail without room
	for name, tt := range map[string]struct {
		ok bool
		v  *Verdict
	}{"no key": {false, accepted}, "rejected": {true, &Verdict{Outcome: Rejected}}, "undecided": {true, &Verdict{}}} {
		c := &Cache{Age: time.Minute, Size: 1}
		if c.keep(key(1), tt.ok, tt.v, noon, Options{}); len(c.kept) != 0 || c.recall(key(1), true, "", noon) != nil {
			t.Errorf("%s: it is remembered", name)
		}
	}
	material := new(root.BaseTrustedMaterial)
	c = &Cache{Age: time.Minute, Size: 1}
	c.keep(key(1), true, accepted, noon, Options{Trust: []*trust.Root{{Material: material, Expires: noon.Add(time.Second)}, {Material: material, Expires: noon.Add(time.Hour)}, {Material: material}}})
	for later, want := range map[time.Duration]bool{-1: false, 0: true, time.Second - 1: true, time.Second: false, time.Minute: false} {
		if got := c.recall(key(1), true, "", noon.Add(later)) != nil; got != want {
			t.Errorf("after %s: from memory %v, want %v", later, got, want)
		}
	}
	if c.recall(key(1), false, "", noon) != nil {
		t.Error("without a key there is an answer")
	}
	digest := "sha256:" + strings.Repeat("ab", 32)
	any := policy.Policy{Origin: policy.BuilderProvenance{Provenance: policy.Provenance{Source: policy.AnySource()}}}
	one, ok1 := cacheKey("a", digest, Options{Policy: any})
	two, ok2 := cacheKey("a", digest, Options{Policy: any, Trust: []*trust.Root{{Fingerprint: "x", Material: material}}})
	if _, ok := cacheKey("a", "v1", Options{Policy: any}); ok || !ok1 || !ok2 || one == two {
		t.Errorf("keys: got %v for a tag, %v and %v for a digest, the same for other trust: %v", ok, ok1, ok2, one == two)
	}
}

// TestRecipesForPeople: what is said of a recipe is in what it differs, and who chose it.
func TestRecipesForPeople(t *testing.T) {
	declared := &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.BuildKit, Target: "app"}, File: ".colophon.yaml"}
	for want, b := range map[string]*provenance.Facts{
		"":                               {},
		"; the requester chose target x": {Recipe: &attest.Recipe{Builder: attest.BuildKit, Target: "x"}, Default: &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.BuildKit}}},
		"; .colophon.yaml of the commit says target app":                                              {Recipe: &attest.Recipe{Builder: attest.BuildKit, Target: "app"}, Default: declared},
		"; .colophon.yaml of the commit says target app; the requester chose target x, lock sha256:a": {Recipe: &attest.Recipe{Builder: attest.BuildKit, Target: "x"}, Default: declared, Lock: "sha256:a"},
	} {
		if got := (&build{Facts: b}).recipeClaim(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// TestRecipeOfTheCommit: a file is named only if it says something, and something else
// only if a file says it.
func TestRecipeOfTheCommit(t *testing.T) {
	own, other := attest.Recipe{Builder: attest.BuildKit}, attest.Recipe{Builder: attest.BuildKit, Target: "app"}
	for _, d := range []attest.DefaultRecipe{{Recipe: own, File: ".colophon.yaml"}, {Recipe: other}} {
		if got := (&build{Facts: &provenance.Facts{Recipe: &d.Recipe, Default: &d}}).recipeClaim(); got != "" {
			t.Errorf("%+v: got %q", d, got)
		}
	}
}

// TestHintFollows: a hint says what to do, and only about what was not accepted.
func TestHintFollows(t *testing.T) {
	untrusted, trusted, valid := signedProof(1, errWrong, nil, nil), signedProof(2, errWrong, nil, nil), signedProof(0, nil, nil, nil)
	of := func(p ...*proof) *item { return &item{proofs: p} }
	chosen := of(untrusted, signedProof(5, nil, nil, &policy.ChosenError{}))
	for name, tt := range map[string]struct {
		outcome Outcome
		ev      evidence
		want    string
	}{
		"accepted":       {Accepted, evidence{}, ""},
		"not listed":     {Rejected, evidence{err: errWrong}, ""},
		"nothing":        {Rejected, evidence{}, "nothing that proves its origin"},
		"nothing signed": {Undecided, evidence{items: []*item{{}}}, "nothing that proves its origin"},
		"not read":       {Undecided, evidence{items: []*item{{unread: true, err: errWrong}}}, ""},
		"chosen":         {Rejected, evidence{items: []*item{of(valid), chosen}}, "if that is the recipe that you expect"},
		"by nobody":      {Rejected, evidence{items: []*item{of(untrusted), {}, of(untrusted)}}, "by nobody whom this machine trusts"},
		"one trusted":    {Rejected, evidence{items: []*item{of(untrusted), of(trusted)}}, ""},
		"one valid":      {Rejected, evidence{items: []*item{of(untrusted, valid)}}, ""},
	} {
		v := &Verdict{Outcome: tt.outcome}
		if v.hint(&tt.ev); (v.Hint == "") != (tt.want == "") || !strings.Contains(v.Hint, tt.want) {
			t.Errorf("%s: got %q, want %q", name, v.Hint, tt.want)
		}
	}
}

// TestWhatIsGathered: what of an image is read, and how.
func TestWhatIsGathered(t *testing.T) {
	layer := func(mediaType string, size int64) v1.Descriptor {
		return v1.Descriptor{MediaType: types.MediaType(mediaType), Size: size}
	}
	for want, layers := range map[int64][]v1.Descriptor{
		0: {layer("text/plain", 9)}, 7: {layer(attest.BundleMediaType, 7), layer("text/plain", 9), layer(attest.EnvelopeMediaType, -1)},
		limits.Bundle + 2: {layer(attest.SimpleSigningMediaType, limits.Bundle+1), layer(attest.EnvelopeMediaType, 2)},
	} {
		if got := signedSize(oci.Attached{Layers: layers}); got != want {
			t.Errorf("signed size: got %d, want %d", got, want)
		}
	}
	bundleLayer := layer(attest.BundleMediaType, 1)
	for name, tt := range map[string]struct {
		a    oci.Attached
		l    v1.Descriptor
		want bool
	}{
		"a referrer": {oci.Attached{Layers: []v1.Descriptor{bundleLayer}}, bundleLayer, true},
		"a tag":      {oci.Attached{Tag: oci.CosignSignatures, Layers: []v1.Descriptor{bundleLayer}}, bundleLayer, false},
		"two layers": {oci.Attached{Layers: []v1.Descriptor{bundleLayer, bundleLayer}}, bundleLayer, false},
		"another":    {oci.Attached{Layers: []v1.Descriptor{bundleLayer}}, layer(attest.EnvelopeMediaType, 1), false},
	} {
		if got := platformForm(&tt.a, tt.l); got != tt.want {
			t.Errorf("platform's form: %s: got %v", name, got)
		}
	}
	plainRoot, platform := &trust.Root{}, &trust.Root{URL: "https://p.example.com", Builders: []trust.Builder{{ID: "x"}}}
	both, one := []oci.CosignTag{oci.CosignSignatures, oci.CosignAttestations}, []oci.CosignTag{oci.CosignAttestations}
	for name, tt := range map[string]struct {
		origin     policy.Origin
		roots      []*trust.Root
		more, vsas bool
		want       []oci.CosignTag
	}{
		"platform":              {policy.BuilderProvenance{}, []*trust.Root{platform}, false, false, nil},
		"public":                {policy.BuilderProvenance{}, []*trust.Root{platform, plainRoot}, false, false, one},
		"platform, and more":    {policy.BuilderProvenance{}, []*trust.Root{platform}, true, false, both},
		"platform and verifier": {policy.BuilderProvenance{}, []*trust.Root{platform}, false, true, both},
		"summary":               {policy.SummaryOnly{}, []*trust.Root{platform}, false, false, nil},
		"signer":                {policy.SignerProvenance{}, []*trust.Root{platform}, false, false, both},
		"signature":             {policy.SignatureOnly{}, nil, false, false, both},
	} {
		c := checkOf(tt.origin, tt.roots...)
		if tt.more {
			c.opts.Policy.Attestations = []policy.Attestation{{}}
		}
		if tt.vsas {
			c.opts.Policy.Verifiers = []policy.Verifier{{}}
		}
		if got := c.cosignTags(); !slices.Equal(got, tt.want) {
			t.Errorf("tags: %s: got %v, want %v", name, got, tt.want)
		}
	}
	uri := func(text string) *x509.Certificate {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return &x509.Certificate{URIs: []*url.URL{u}}
	}
	for name, tt := range map[string]struct {
		cert  *x509.Certificate
		roots []*trust.Root
		want  bool
	}{
		"workflow": {uri(ownWorkflow), []*trust.Root{plainRoot}, true}, "pipeline": {uri(gitlab().SubjectAlternativeName), []*trust.Root{plainRoot}, true},
		"no plain root": {uri(ownWorkflow), []*trust.Root{platform}, false}, "key": {nil, []*trust.Root{plainRoot}, false}, "no name": {&x509.Certificate{}, []*trust.Root{plainRoot}, false},
		"platform": {uri("https://p.example.com/builders/x"), []*trust.Root{plainRoot}, false},
	} {
		if got := checkOf(policy.BuilderProvenance{}, tt.roots...).ofPublicBuilder(&bundle.Bundle{Certificate: tt.cert}); got != tt.want {
			t.Errorf("of a public builder: %s: got %v", name, got)
		}
	}
	// Each key that the policy names, wherever it names it.
	key, ada := keyOf(t, false), policy.Identity{Name: "ada", Issuer: "i"}
	c := checkOf(policy.SignatureOnly{Signer: key})
	c.opts.Policy.Attestations = []policy.Attestation{{Signer: ada}, {Signer: keyOf(t, true)}, {}}
	c.opts.Policy.Verifiers = []policy.Verifier{{Signer: key}, {Signer: ada}}
	if got := c.keys(); len(got) != 3 || got[0].InsecureNoLog || !got[1].InsecureNoLog || got[2].Key == nil {
		t.Errorf("keys: got %+v", got)
	}
	pattern, err := policy.ParsePattern("a.*", "i")
	if err != nil {
		t.Fatal(err)
	}
	if s := SignerOf(ada); s.Identity != "ada" || s.Issuer != "i" || s.Key != nil {
		t.Errorf("an identity: got %+v", s)
	}
	if s := SignerOf(pattern); s.Pattern == nil || s.Issuer != "i" || s.Identity != "" {
		t.Errorf("a pattern: got %+v", s)
	}
	if materialOf(nil) == nil || len(materialOf(nil).RekorLogs()) != 0 {
		t.Error("no root has material")
	}
}

// TestReady: what a verification needs before it begins.
func TestReady(t *testing.T) {
	source := policy.AnySource()
	origin := policy.BuilderProvenance{Provenance: policy.Provenance{Source: source}}
	fresh, stale := &trust.Root{URL: "https://p.example.com"}, &trust.Root{Expires: ago(time.Second), Repository: &trust.Repository{URL: "https://r.example.com"}}
	today := &trust.Root{Expires: noon, Repository: &trust.Repository{URL: "https://r.example.com"}}
	for name, tt := range map[string]struct {
		roots []*trust.Root
		at    time.Time
		bend  func(*policy.Policy)
		left  int
		want  string
	}{
		"a root":           {[]*trust.Root{fresh}, noon, nil, 1, ""},
		"no root":          {nil, noon, nil, 0, trust.ErrEmpty.Error()},
		"no time":          {[]*trust.Root{fresh}, time.Time{}, nil, 1, "the time of verification is not set"},
		"no root needed":   {nil, noon, func(p *policy.Policy) { p.Origin = policy.SignatureOnly{Signer: keyOf(t, true)} }, 0, ""},
		"stale":            {[]*trust.Root{stale}, noon, nil, 1, ""},
		"stale, forbidden": {[]*trust.Root{stale}, noon, func(p *policy.Policy) { p.FreshTrust = true }, 0, "the one from https://r.example.com is stale"},
		"one is fresh":     {[]*trust.Root{stale, fresh, today}, noon, func(p *policy.Policy) { p.FreshTrust = true }, 2, ""},
		"a named root": {[]*trust.Root{fresh}, noon, func(p *policy.Policy) {
			o := origin
			o.Root = "https://p.example.com"
			p.Origin = o
		}, 1, ""},
		"another named root": {[]*trust.Root{fresh}, noon, func(p *policy.Policy) {
			o := origin
			o.Root = "https://q.example.com"
			p.Origin = o
		}, 1, `the policy names the trust root "https://q.example.com"`},
		"no policy": {[]*trust.Root{fresh}, noon, func(p *policy.Policy) { p.Origin = nil }, 1, "policy names no source"},
	} {
		c := checkOf(origin, tt.roots...)
		c.now = tt.at
		if tt.bend != nil {
			tt.bend(&c.opts.Policy)
		}
		saysErr(t, name, c.ready(), tt.want)
		if tt.want == "" && len(c.opts.Trust) != tt.left {
			t.Errorf("%s: got %d roots, want %d", name, len(c.opts.Trust), tt.left)
		}
	}
	if aboutOf(v1.Descriptor{MediaType: types.OCIImageIndex}) != aboutIndex || aboutOf(v1.Descriptor{MediaType: types.OCIManifestSchema1}) != aboutManifest {
		t.Error("an index is no manifest")
	}
}

// TestSBOMLinks: which documents are needed, and what they must say.
func TestSBOMLinks(t *testing.T) {
	doc := func(format, source string, unread ...string) ref {
		p := signedProof(5, nil, nil, nil)
		p.sbom = &sbom.Document{Info: sbom.Info{Format: format, Version: "1", Packages: 2, Source: source}, Unread: unread}
		return ref{&item{}, p, nil}
	}
	whole := signedProof(5, nil, nil, nil)
	whole.build = &build{Facts: &provenance.Facts{Source: "https://git.example.com/a", Commit: "c"}}
	from := ref{&item{}, whole, nil}
	spdx, cdx := doc("SPDX", ""), doc("CycloneDX", attest.GitURI("https://git.example.com/a", "c"))
	other := doc("SPDX", "git+https://git.example.com/b@c")
	for name, tt := range map[string]struct {
		s        set
		sbom     policy.SBOM
		complete bool
		status   Status
		said     string
	}{
		"both":             {set{ofPlatform, from, ref{}, spdx, cdx}, policy.SBOMRequired, true, Holds, "SPDX 1, 2 packages; CycloneDX 1, 2 packages; about this image"},
		"no SPDX":          {set{ofPlatform, from, ref{}, ref{}, cdx}, policy.SBOMRequired, false, Absent, "the image carries no SPDX document"},
		"no CycloneDX":     {set{ofPlatform, from, ref{}, spdx, ref{}}, policy.SBOMRequired, false, Absent, "the image carries no CycloneDX document"},
		"one, optional":    {set{ofPlatform, from, ref{}, ref{}, cdx}, policy.SBOMOptional, false, Holds, "CycloneDX 1"},
		"none, optional":   {set{ofPlatform, from, ref{}, ref{}, ref{}}, policy.SBOMOptional, false, NotAsked, "the policy accepts an image without an SBOM"},
		"public":           {set{ofPublic, from, ref{}, spdx, cdx}, policy.SBOMRequired, false, NotAsked, "workflows on GitHub"},
		"named":            {set{ofNamed, from, ref{}, spdx, cdx}, policy.SBOMRequired, false, NotAsked, "a policy that names a signer"},
		"another source":   {set{ofPlatform, from, ref{}, other, cdx}, policy.SBOMRequired, false, Broken, "source of the SPDX document"},
		"no provenance":    {set{ofPlatform, ref{}, ref{}, other, cdx}, policy.SBOMRequired, false, Holds, "SPDX 1"},
		"unread":           {set{ofPlatform, from, ref{}, doc("SPDX", "", "a"), cdx}, policy.SBOMRequired, false, Holds, "SPDX 1, 2 packages without those in files"},
		"unread, complete": {set{ofPlatform, from, ref{}, doc("SPDX", "", "a"), cdx}, policy.SBOMRequired, true, Broken, "the policy demands complete SBOMs; SPDX document without"},
	} {
		c := checkOf(policy.BuilderProvenance{SBOM: tt.sbom, CompleteSBOM: tt.complete})
		l := c.sbomLink(t.Context(), v1.Hash{}, &evidence{}, tt.s)
		if l.Name != LinkSBOM || l.Status != tt.status || !strings.HasPrefix(l.Claim+l.Reason, tt.said) {
			t.Errorf("%s: got %+v, want %s, %q", name, l, tt.status, tt.said)
		}
	}
}

// TestFacts: facts are those of proofs that hold, and none if the main ones do not.
func TestFacts(t *testing.T) {
	at := noon
	p := signedProof(5, nil, nil, nil)
	p.Index, p.Certified, p.Times, p.root = 7, at, []time.Time{noon}, &trust.Root{Fingerprint: "f"}
	p.build = &build{Facts: &provenance.Facts{Source: "s"}}
	p.sbom = &sbom.Document{Info: sbom.Info{Format: "SPDX"}}
	good, bare := ref{&item{at: "a", kind: "k"}, p, nil}, ref{&item{}, &proof{Result: &bundle.Result{Index: -1}}, nil}
	s := signedThing(good)
	if s.Digest != "a" || s.PredicateType != "k" || s.TrustRoot != "f" || s.LogIndex == nil || *s.LogIndex != 7 || s.Certified == nil || !s.Certified.Equal(at) || len(s.Times) != 1 || s.SBOM == nil || s.SBOM.Format != "SPDX" {
		t.Errorf("got %+v", s)
	}
	if s := signedThing(bare); s.TrustRoot != "" || s.LogIndex != nil || s.Certified != nil || s.SBOM != nil {
		t.Errorf("by a key: got %+v", s)
	}
	first := ref{&item{}, &proof{Result: &bundle.Result{Index: 0}}, nil}
	if s := signedThing(first); s.LogIndex == nil {
		t.Error("the first entry of a log has no index")
	}
	for name, tt := range map[string]struct {
		origin policy.Origin
		s      set
		signed int
		build  bool
	}{
		"public":                  {policy.BuilderProvenance{}, set{rules: ofPublic, provenance: good}, 1, true},
		"platform":                {policy.BuilderProvenance{}, set{ofPlatform, good, bare, good, ref{}}, 3, true},
		"platform, no signature":  {policy.BuilderProvenance{}, set{ofPlatform, good, ref{}, good, good}, -1, false},
		"platform, no provenance": {policy.BuilderProvenance{}, set{ofPlatform, ref{}, good, good, good}, -1, false},
		"signature":               {policy.SignatureOnly{}, set{rules: ofNamed, signature: bare}, 1, false},
		"no signature":            {policy.SignatureOnly{}, set{rules: ofNamed}, -1, false},
	} {
		f := checkOf(tt.origin).factsOf(tt.s)
		if (f == nil) != (tt.signed < 0) || f != nil && (len(f.Signed) != tt.signed || (f.Build != nil) != tt.build) {
			t.Errorf("%s: got %+v", name, f)
		}
	}
}

// TestOptionsForPeople: what explains a verdict names the roots, signers and verifiers.
func TestOptionsForPeople(t *testing.T) {
	platform := &trust.Root{URL: "https://p.example.com", Fingerprint: "f", Builders: []trust.Builder{{ID: "x"}, {ID: "y"}}}
	plainRoot := &trust.Root{Fingerprint: "g"}
	builders := policy.BuilderProvenance{}
	const public = "a public builder on GitHub or, if a source is demanded, a workflow or pipeline of that repository"
	for name, tt := range map[string]struct {
		origin           policy.Origin
		roots            []*trust.Root
		trusted, signers string
	}{
		"no root":        {builders, nil, "no trust root", "no signer is trusted"},
		"platform":       {builders, []*trust.Root{platform}, "platform https://p.example.com f", "signer x or y"},
		"plain":          {builders, []*trust.Root{plainRoot}, "Sigstore trusted root g", "signer " + public},
		"both":           {builders, []*trust.Root{plainRoot, platform}, "Sigstore trusted root g, platform https://p.example.com f", "signer x or y or " + public},
		"named root":     {policy.BuilderProvenance{Root: platform.URL}, []*trust.Root{plainRoot, platform}, "platform https://p.example.com f", "signer x or y"},
		"named builders": {policy.BuilderProvenance{Provenance: policy.Provenance{Builders: []string{"z", "y"}}}, []*trust.Root{platform}, "platform https://p.example.com f", "signer z or y"},
		"named signer":   {policy.SignatureOnly{Signer: policy.Identity{Name: "ada", Issuer: "i"}}, nil, "no trust root", "signed by ada"},
	} {
		o := checkOf(tt.origin, tt.roots...).opts
		if got := o.trusted(); got != tt.trusted {
			t.Errorf("%s: got %q, want %q", name, got, tt.trusted)
		}
		if got := o.signers(); got != tt.signers && !(tt.roots == nil && tt.origin != policy.Origin(nil) && strings.HasPrefix(got, tt.signers)) {
			t.Errorf("%s: got %q, want %q", name, got, tt.signers)
		}
		if o.unlogged() != "" {
			t.Errorf("%s: got %q", name, o.unlogged())
		}
	}
	o := checkOf(policy.SignatureOnly{Signer: keyOf(t, true)}).opts
	if !strings.Contains(o.unlogged(), "dangerous") || checkOf(policy.SignatureOnly{Signer: keyOf(t, false)}).opts.unlogged() != "" {
		t.Error("a key without a log is dangerous, and only that")
	}
	o.Policy.Verifiers = []policy.Verifier{{ID: "a", Signer: policy.Identity{Name: "x", Issuer: "i"}}, {ID: "b", Signer: policy.Identity{Name: "y", Issuer: "i"}}}
	if got := verifiers(o.Policy.Verifiers); !strings.HasPrefix(got, "verifier a, signed by x") || !strings.Contains(got, " or verifier b, signed by y") {
		t.Errorf("verifiers: got %q", got)
	}
}

// TestUnsignedClaims: what an unsigned provenance says, in both of its versions.
func TestUnsignedClaims(t *testing.T) {
	subject := []attest.Subject{{Digest: map[string]string{"sha256": "a"}}}
	for name, tt := range map[string]struct {
		predicate string
		subject   []attest.Subject
		want, err string
	}{
		"nothing":       {`{}`, subject, "no builder, 0 dependencies ", ""},
		"version 0.2":   {`{"builder":{"id":"b"},"materials":[{"uri":"https://x/a.git"},{"uri":"pkg:docker/x"}]}`, subject, "b, 2 dependencies https://x/a.git", ""},
		"version 1":     {`{"buildDefinition":{"resolvedDependencies":[{"uri":"git+https://x/a"},{"uri":"https://x/b.git"}]},"runDetails":{"builder":{"id":"c"}}}`, subject, "c, 2 dependencies git+https://x/a https://x/b.git", ""},
		"not an object": {`1`, subject, "", "number"},
		"no subject":    {`{}`, nil, "", "no subject"},
	} {
		got, err := claimed(&attest.Statement{Subject: tt.subject, Predicate: []byte(tt.predicate)})
		saysErr(t, name, err, tt.err)
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// TestAttachedLocks: a lock may be missing, but not replaced by another.
func TestAttachedLocks(t *testing.T) {
	digest := func(c string) v1.Hash { return v1.Hash{Algorithm: "sha256", Hex: strings.Repeat(c, 64)} }
	lock := func(l v1.Descriptor) oci.Attached {
		return oci.Attached{ArtifactType: attest.LockMediaType, Layers: []v1.Descriptor{l}}
	}
	want := digest("a")
	mine, other, huge := lock(v1.Descriptor{Digest: want, Size: limits.Lock + 1}), lock(v1.Descriptor{Digest: digest("b")}), lock(v1.Descriptor{Digest: want, Size: -1})
	two := other
	two.Layers = slices.Repeat(other.Layers, 2)
	tagged := other
	tagged.Tag = oci.CosignSignatures
	typed := other
	typed.ArtifactType = "x"
	for name, tt := range map[string]struct {
		list   []oci.Attached
		state  string
		unsure bool
		want   string
	}{
		"none":                {nil, "the lock is not attached", false, ""},
		"another":             {[]oci.Attached{other}, "", false, "lock attached to the image: got sha256:b"},
		"another, and unread": {[]oci.Attached{{Err: errWrong}, other}, "", true, "lock attached to the image: got sha256:b"},
		"another, and gone":   {[]oci.Attached{{Err: errMissing}, other}, "", false, "lock attached to the image: got sha256:b"},
		"unread":              {[]oci.Attached{{Err: errWrong}}, "the lock is not attached", false, ""},
		"under a tag":         {[]oci.Attached{tagged}, "the lock is not attached", false, ""},
		"two layers":          {[]oci.Attached{two}, "the lock is not attached", false, ""},
		"another type":        {[]oci.Attached{typed}, "the lock is not attached", false, ""},
		"too large":           {[]oci.Attached{mine}, "", false, "lock: "},
		"negative":            {[]oci.Attached{huge}, "", false, "got -1 bytes"},
		"another, then mine":  {[]oci.Attached{other, mine}, "", false, "lock: "},
	} {
		state, unsure, err := new(check).attachedLock(t.Context(), tt.list, want.String())
		saysErr(t, name, err, tt.want)
		if !strings.HasPrefix(state, tt.state) || (state == "") != (tt.state == "") || unsure != tt.unsure {
			t.Errorf("%s: got %q, unsure %v", name, state, unsure)
		}
	}
}

// TestSummaryOfVerdict: a summary says only what was decided.
func TestSummaryOfVerdict(t *testing.T) {
	digest := "sha256:" + strings.Repeat("ab", 32)
	met := []provenance.Requirement{{}}
	for name, tt := range map[string]struct {
		v              Verdict
		result, levels string
	}{
		"rejected":            {Verdict{Outcome: Rejected}, attest.VSAFailed, attest.VSAFailed},
		"undecided":           {Verdict{Digest: digest}, "", ""},
		"accepted, no digest": {Verdict{Outcome: Accepted}, "", ""},
		"accepted, no level":  {Verdict{Outcome: Accepted, Digest: digest}, attest.VSAPassed, attest.BuildUnevaluated},
		"accepted, level 0":   {Verdict{Outcome: Accepted, Digest: digest, Requirements: met}, attest.VSAPassed, attest.BuildLevelName(0)},
		"accepted, level 2":   {Verdict{Outcome: Accepted, Digest: digest, Level: 2, Requirements: met}, attest.VSAPassed, attest.BuildLevelName(2)},
		"a verifier's level":  {Verdict{Outcome: Accepted, Digest: digest, Level: 2}, attest.VSAPassed, attest.BuildLevelName(2)},
	} {
		s, err := tt.v.Summary("https://v.example.com/x", "pkg:oci/app", attest.ResourceDescriptor{URI: "https://v.example.com/p", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}}, noon.Add(time.Millisecond))
		if (err == nil) != (tt.result != "") || err == nil && (s.VerificationResult != tt.result || len(s.VerifiedLevels) != 1 || s.VerifiedLevels[0] != tt.levels || !s.TimeVerified.Equal(noon)) {
			t.Errorf("%s: got %+v, %v", name, s, err)
		}
	}
	var o Outcome
	for text, want := range map[string]Outcome{"undecided": Undecided, "accepted": Accepted, "rejected": Rejected} {
		if err := o.UnmarshalText([]byte(text)); err != nil || o != want {
			t.Errorf("%s: got %s, %v", text, o, err)
		}
	}
	if err := o.UnmarshalText([]byte("Accepted")); err == nil || errors.Is(err, errWrong) {
		t.Error("an outcome in another spelling is one")
	}
}

// TestProvenanceOfAnotherLock: a provenance whose lock was replaced says something wrong.
// Whether it was is not known if its own lock may be among what could not be read.
func TestProvenanceOfAnotherLock(t *testing.T) {
	other := oci.Attached{ArtifactType: attest.LockMediaType, Layers: []v1.Descriptor{{Digest: v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("b", 64)}}}}
	for name, tt := range map[string]struct {
		list         []oci.Attached
		lock         string
		says, unread bool
	}{
		"no lock is named": {[]oci.Attached{other}, "", false, false}, "none is attached": {nil, "sha256:a", false, false},
		"another": {[]oci.Attached{other}, "sha256:a", true, false}, "another, and unread": {[]oci.Attached{other, {Err: errWrong}}, "sha256:a", true, true},
	} {
		p := signedProof(5, nil, nil, nil)
		p.build = &build{Facts: &provenance.Facts{Lock: tt.lock}}
		it := &item{proofs: []*proof{p}}
		new(check).compareLocks(t.Context(), tt.list, &evidence{items: []*item{it}})
		if (p.says != nil) != tt.says || it.unread != tt.unread || (it.err != nil) != tt.unread {
			t.Errorf("%s: got %v, item %v, unread %v", name, p.says, it.err, it.unread)
		}
	}
}
