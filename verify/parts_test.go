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
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
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

const anotherKey = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"

func keyOf(t *testing.T, unlogged bool) policy.Key {
	key, err := policy.ParseKey(anotherKey)
	if err != nil {
		t.Fatal(err)
	}
	key.InsecureNoLog = unlogged
	return key
}

func checkOf(o policy.Origin, roots ...*trust.Root) *check {
	return &check{now: noon, opts: Options{Trust: roots, Policy: policy.Policy{Origin: o}}}
}

// saysErr fails unless the text of err has want in it; want is "" for no error.
func saysErr(t *testing.T, name string, err error, want string) {
	t.Helper()
	if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
		t.Errorf("%s: got %v, want %q in it", name, err, want)
	}
}

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

// github is the certificate of a workflow, gitlab that of a pipeline.
func github(workflow string) certificate.Summary {
	return certificate.Summary{SubjectAlternativeName: workflow, Extensions: certificate.Extensions{
		Issuer: trust.GitHubIssuer, SourceRepositoryURI: "https://github.com/a/b", SourceRepositoryRef: "refs/heads/main", SourceRepositoryDigest: strings.Repeat("c", 40), RunnerEnvironment: "github-hosted",
	}}
}

const ownWorkflow = "https://github.com/a/b/.github/workflows/release.yml@refs/heads/main"

func gitlab() certificate.Summary {
	const pipeline = "https://gitlab.com/a/b//.gitlab-ci.yml@refs/heads/main"
	return certificate.Summary{SubjectAlternativeName: pipeline, Extensions: certificate.Extensions{
		Issuer: trust.GitLabIssuer, BuildSignerURI: pipeline, BuildConfigURI: pipeline, SourceRepositoryURI: "https://gitlab.com/a/b", SourceRepositoryRef: "refs/heads/main", SourceRepositoryDigest: strings.Repeat("c", 40),
		RunnerEnvironment: "gitlab-hosted", RunInvocationURI: "https://gitlab.com/a/b/-/jobs/1",
	}}
}

// TestReadPublic: first who signed decides, then what the statement says.
func TestReadPublic(t *testing.T) {
	demand := func(uri string) policy.Provenance {
		s, err := policy.ParseSource(uri)
		if err != nil {
			t.Fatal(err)
		}
		return policy.Provenance{Source: s}
	}
	const delegator = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/delegator_generic_slsa3.yml@refs/tags/v2.0.0"
	hub, lab := demand("https://github.com/a/b"), demand("https://gitlab.com/a/b")
	other := &attest.Statement{PredicateType: "https://example.com/test"}
	for name, tt := range map[string]struct {
		id           certificate.Summary
		p            policy.Provenance
		st           *attest.Statement
		signer, says string
	}{
		"a signature of a workflow":      {github(ownWorkflow), hub, nil, "", "this is a signature and no provenance"},
		"a signature of a pipeline":      {gitlab(), lab, nil, "", "this is a signature and no provenance"},
		"no provenance of a workflow":    {github(ownWorkflow), hub, other, "", "predicate: got"},
		"no provenance of a pipeline":    {gitlab(), lab, other, "", "predicate: got"},
		"no provenance of a delegator":   {github(delegator), hub, other, "predicate: got", ""},
		"a workflow of another":          {github(ownWorkflow), lab, nil, "neither a known builder nor a workflow of the required source", ""},
		"a pipeline of another":          {gitlab(), hub, nil, "want a pipeline of the source repository demanded", ""},
		"somebody":                       {certificate.Summary{SubjectAlternativeName: "ada@example.com"}, hub, other, "want a workflow or a pipeline", ""},
		"a certificate that contradicts": {certificate.Summary{SubjectAlternativeName: ownWorkflow}, hub, other, "issuer", ""},
	} {
		c := checkOf(policy.BuilderProvenance{Provenance: tt.p})
		p := &proof{Result: &bundle.Result{Identity: tt.id}}
		c.readPublic(p, &bundle.Bundle{Statement: tt.st})
		saysErr(t, name+", signer", p.signer, tt.signer)
		saysErr(t, name+", statement", p.says, tt.says)
		if p.build != nil {
			t.Errorf("%s: got a build", name)
		}
	}
}

// TestNamedBuild: a provenance by the signer that the policy names is read only if it can
// be one of a public builder.
func TestNamedBuild(t *testing.T) {
	slsa := func(builder string) *attest.Statement {
		return &attest.Statement{PredicateType: attest.PredicateSLSA1, Predicate: []byte(`{"buildDefinition":{"buildType":"https://example.com/t","externalParameters":{},"resolvedDependencies":[]},"runDetails":{"builder":{"id":"` + builder + `"}}}`)}
	}
	const delegator = "https://github.com/slsa-framework/slsa-github-generator/.github/workflows/delegator_generic_slsa3.yml@refs/tags/v2.0.0"
	const platform = "https://p.example.com/builders/x"
	for name, tt := range map[string]struct {
		st       *attest.Statement
		id       certificate.Summary
		builders []string
		want     string
	}{
		"no provenance":      {&attest.Statement{PredicateType: "x"}, github(ownWorkflow), nil, "predicate: got"},
		"another builder":    {slsa("https://x.example.com"), github(ownWorkflow), []string{"https://y.example.com"}, "builder id: got"},
		"bad certificate":    {slsa("https://x.example.com"), certificate.Summary{SubjectAlternativeName: ownWorkflow}, nil, "issuer"},
		"a platform":         {slsa(platform), certificate.Summary{SubjectAlternativeName: platform}, nil, "want one of GitHub, GitLab or Tekton"},
		"a delegator":        {slsa("https://x.example.com"), github(delegator), nil, "signs for other builders"},
		"a workflow's build": {slsa("https://x.example.com"), github(ownWorkflow), []string{"https://x.example.com"}, `build type: got "https://example.com/t", want one that`},
		"somebody's build":   {slsa("https://x.example.com"), certificate.Summary{}, nil, "build type"},
	} {
		c := checkOf(policy.SignerProvenance{Provenance: policy.Provenance{Builders: tt.builders}, Signer: policy.Identity{}})
		b, err := c.namedBuild(&bundle.Bundle{Statement: tt.st}, &proof{Result: &bundle.Result{Identity: tt.id}})
		saysErr(t, name, err, tt.want)
		if b != nil {
			t.Errorf("%s: got a build", name)
		}
	}
}

// TestLevelByPolicy: the first name that the policy gives a level counts.
func TestLevelByPolicy(t *testing.T) {
	c := checkOf(policy.BuilderProvenance{Provenance: policy.Provenance{Levels: map[string]int{"a": 0, "b": 2}}})
	for _, tt := range []struct {
		names []string
		level int
		by    string
	}{{[]string{"x"}, 3, "us"}, {[]string{"a", "b"}, 0, byPolicy}, {[]string{"x", "b"}, 2, byPolicy}, {nil, 3, "us"}} {
		b := &build{evidence: provenance.Evidence{Level: 3, By: "us"}}
		if c.levelByPolicy(b, tt.names...); b.evidence.Level != tt.level || b.evidence.By != tt.by {
			t.Errorf("%v: got %+v", tt.names, b.evidence)
		}
	}
}

// TestSets: which evidence a verdict could rest on.
func TestSets(t *testing.T) {
	by := func(rules rules, kind string, p *proof) *item {
		p.rules, p.root = rules, nil
		return &item{kind: kind, signature: kind == attest.PredicateSign, proofs: []*proof{p}}
	}
	good := func() *proof { return signedProof(5, nil, nil, nil) }
	bad := func(passed int) *proof { return signedProof(passed, errWrong, nil, nil) }
	platform, public, named := by(ofPlatform, attest.PredicateSLSA1, good()), by(ofPublic, attest.PredicateSLSA1, good()), by(ofNamed, attest.PredicateSLSA02, good())
	signature, spdx, cdx := by(ofPlatform, attest.PredicateSign, good()), by(ofPlatform, attest.PredicateSPDX, good()), by(ofPlatform, attest.PredicateCDX, good())
	badPlatform, badPublic, worsePublic, badNamed := by(ofPlatform, attest.PredicateSLSA1, bad(2)), by(ofPublic, attest.PredicateSLSA1, bad(3)), by(ofPublic, attest.PredicateSLSA1, bad(1)), by(ofNamed, attest.PredicateSLSA1, bad(1))
	mine := by(ofNamed, attest.PredicateSign, good())
	builders := policy.BuilderProvenance{}
	for name, tt := range map[string]struct {
		origin policy.Origin
		about  string
		items  []*item
		want   []*item // the provenance of each set, or its signature
	}{
		"nothing":                      {builders, "", nil, []*item{nil}},
		"platform":                     {builders, "", []*item{platform}, []*item{platform}},
		"platform's, bad":              {builders, "", []*item{badPlatform}, []*item{badPlatform}},
		"public":                       {builders, "", []*item{public}, []*item{public}},
		"public, bad":                  {builders, "", []*item{worsePublic, badPublic}, []*item{badPublic}},
		"whole public before platform": {builders, "", []*item{platform, public}, []*item{public, platform}},
		"whole platform first":         {builders, "", []*item{public, platform, signature, spdx, cdx}, []*item{platform, public}},
		"bad beside good":              {builders, "", []*item{badPlatform, worsePublic, public}, []*item{public}},
		"bad platform, bad public":     {builders, "", []*item{badPlatform, worsePublic}, []*item{worsePublic}},
		"file, by a platform":          {builders, aboutFile, []*item{badPlatform}, []*item{badPlatform}},
		"file, of another kind":        {builders, aboutFile, []*item{by(ofPlatform, attest.PredicateSPDX, bad(1))}, nil},
		"named":                        {policy.SignerProvenance{}, "", []*item{badNamed, named}, []*item{named}},
		"named, bad":                   {policy.SignerProvenance{}, "", []*item{badNamed}, []*item{badNamed}},
		"named, nothing":               {policy.SignerProvenance{}, "", []*item{spdx}, []*item{nil}},
		"signature":                    {policy.SignatureOnly{}, "", []*item{named, mine}, []*item{mine}},
		"no signature":                 {policy.SignatureOnly{}, "", []*item{named}, []*item{nil}},
	} {
		c := checkOf(tt.origin)
		c.about = tt.about
		sets := c.sets(&evidence{items: tt.items})
		if tt.want == nil {
			tt.want = tt.items
		}
		var got []*item
		for _, s := range sets {
			r := s.provenance
			if tt.origin == (policy.SignatureOnly{}) {
				r = s.signature
			}
			got = append(got, r.item)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", name, got, tt.want)
		}
	}
	all := []*item{platform, signature, spdx, cdx}
	s := checkOf(builders).sets(&evidence{items: all})[0]
	if s.signature.item != signature || s.spdx.item != spdx || s.cdx.item != cdx || !s.signature.holds() || s.rules != ofPlatform {
		t.Errorf("a platform's set: got %+v", s)
	}
	signature.proofs[0].Result.Identity.Issuer = "other"
	if s := checkOf(builders).sets(&evidence{items: all})[0]; s.signature.holds() || !s.spdx.holds() {
		t.Errorf("of another release: got %+v", s.signature)
	}
	if s := checkOf(builders).platformSet(&evidence{items: all}, ref{}); !s.signature.holds() {
		t.Errorf("beside nothing: got %+v", s.signature)
	}
}

// TestSignatureLinks: what is wrong with a signature, as far as it is the signature's fault.
func TestSignatureLinks(t *testing.T) {
	with := func(change func(*proof)) ref {
		p := &proof{Result: &bundle.Result{Passed: 5, Identity: certificate.Summary{SubjectAlternativeName: "ada"}}}
		change(p)
		return ref{&item{kind: attest.PredicateSign}, p, p.fault()}
	}
	foreign := with(func(*proof) {})
	foreign.err = errTheirs
	foreignUnlogged := with(func(p *proof) { p.Log = errWrong })
	foreignUnlogged.err = errTheirs
	unread := &evidence{items: []*item{{kind: attest.PredicateSign, err: errMissing, unread: true}}}
	for name, tt := range map[string]struct {
		r              ref
		ev             *evidence
		signature, log Status
		reason         string
	}{
		"good":                 {with(func(*proof) {}), &evidence{}, Holds, Holds, ""},
		"good, another unread": {with(func(*proof) {}), unread, Holds, Holds, ""},
		"bad":                  {with(func(p *proof) { p.Signature = errWrong }), &evidence{}, Broken, Holds, "it is wrong"},
		"bad, another unread":  {with(func(p *proof) { p.Signature = errWrong }), unread, Unknown, Unknown, "x: not found"},
		"by another":           {with(func(p *proof) { p.signer = errTheirs }), &evidence{}, Broken, Holds, "not theirs to sign"},
		"says something else":  {with(func(p *proof) { p.says = errWrong }), &evidence{}, Holds, Holds, ""},
		"of another release":   {foreign, &evidence{}, Broken, Holds, "not theirs to sign"},
		"unlogged, of another": {foreignUnlogged, &evidence{}, Holds, Broken, ""},
		"unlogged":             {with(func(p *proof) { p.Log = errWrong }), &evidence{}, Holds, Broken, ""},
		"undecidable":          {with(func(p *proof) { p.Signature, p.Log, p.Undecidable = errWrong, errTheirs, true }), &evidence{}, Unknown, Broken, "it is wrong"},
		"none":                 {ref{}, &evidence{}, Absent, Absent, "the image carries no signature"},
		"none, one unread":     {ref{}, unread, Unknown, Unknown, "x: not found"},
	} {
		c := checkOf(policy.BuilderProvenance{})
		signature, log := c.signatureLinks(tt.ev, set{rules: ofPlatform, signature: tt.r})
		if signature.Name != LinkSignature || log.Name != LinkLog || signature.Status != tt.signature || log.Status != tt.log || signature.Reason != tt.reason {
			t.Errorf("%s: got %+v and %+v", name, signature, log)
		}
	}
	for name, tt := range map[string]struct {
		origin policy.Origin
		rules  rules
		what   string
		takes  map[*item]bool
	}{
		"platform":  {policy.BuilderProvenance{}, ofPlatform, "signature", map[*item]bool{{signature: true}: true, {kind: attest.PredicateSign}: true, {kind: attest.PredicateSLSA1}: false}},
		"public":    {policy.BuilderProvenance{}, ofPublic, "provenance", map[*item]bool{{signature: true}: false, {kind: attest.PredicateSLSA02}: true, {kind: attest.PredicateSLSA1}: true}},
		"signature": {policy.SignatureOnly{}, ofNamed, "signature", map[*item]bool{{signature: true}: true, {kind: attest.PredicateSLSA1}: false}},
	} {
		takes, what := checkOf(tt.origin).takes(set{rules: tt.rules})
		for it, want := range tt.takes {
			if takes(it) != want || what != tt.what {
				t.Errorf("%s: %+v: got %v, %s", name, it, !want, what)
			}
		}
	}
	if got := checkOf(nil).signatureClaim(&proof{Result: &bundle.Result{}}); got != "by the key that the policy names" {
		t.Errorf("by a key: got %q", got)
	}
}

// TestProvenanceLinks: a provenance is wrong only if its signature holds.
func TestProvenanceLinks(t *testing.T) {
	facts := &build{Facts: &provenance.Facts{Source: "https://git.example.com/a", Commit: "c"}}
	whole := signedProof(5, nil, nil, nil)
	whole.build = facts
	of := func(p *proof) ref { return ref{&item{kind: attest.PredicateSLSA1}, p, p.fault()} }
	unread := &evidence{items: []*item{{err: errMissing, unread: true}}}
	for name, tt := range map[string]struct {
		s      set
		ev     *evidence
		status Status
		reason string
	}{
		"good":                    {set{rules: ofPublic, provenance: of(whole)}, unread, Holds, ""},
		"platform's, wrong":       {set{rules: ofPlatform, provenance: of(signedProof(5, nil, nil, errWrong))}, &evidence{}, Broken, "it is wrong"},
		"platform's, none":        {set{rules: ofPlatform}, &evidence{}, Absent, "the image carries no provenance"},
		"public, wrong":           {set{rules: ofPublic, provenance: of(signedProof(5, nil, nil, errWrong))}, &evidence{}, Broken, "it is wrong"},
		"public, wrong or unread": {set{rules: ofPublic, provenance: of(signedProof(5, nil, nil, errWrong))}, unread, Unknown, "x: not found"},
		"public, bad signature":   {set{rules: ofPublic, provenance: of(signedProof(5, errWrong, nil, nil))}, &evidence{}, Unknown, "its signature does not hold"},
		"public, not theirs":      {set{rules: ofPublic, provenance: of(signedProof(5, nil, errTheirs, nil))}, &evidence{}, Unknown, "its signature does not hold"},
		"public, none":            {set{rules: ofPublic}, &evidence{}, Unknown, "its signature does not hold"},
	} {
		l := checkOf(policy.BuilderProvenance{}).provenanceLink(tt.ev, tt.s)
		if l.Name != LinkProvenance || l.Status != tt.status || l.Reason != tt.reason || (l.Claim != "") != (tt.status == Holds) {
			t.Errorf("%s: got %+v, want %s, %q", name, l, tt.status, tt.reason)
		}
	}
	// What SLSA requires of a provenance that is missing, wrong, or not read.
	for status, want := range map[Status]string{Absent: string(provenance.NotMet), Broken: string(provenance.NotMet), Unknown: string(provenance.NotKnown), NotAsked: ""} {
		v := &Verdict{Links: []Link{{Name: LinkSource, Status: Broken}, {Name: LinkProvenance, Status: status, Reason: "a\nb"}}}
		checkOf(nil).fillRequirements(v, set{})
		if want == "" && len(v.Requirements) == 0 {
			continue
		}
		if v.Level != 0 || !slices.ContainsFunc(v.Requirements, func(r provenance.Requirement) bool {
			return string(r.Status) == want && !strings.Contains(r.Evidence, "\n") && strings.HasPrefix(r.Evidence, "a")
		}) {
			t.Errorf("%s: got %+v", status, v.Requirements)
		}
	}
	v := &Verdict{Digest: "sha256:aa"}
	c := checkOf(nil)
	c.about = aboutIndex
	s := set{provenance: ref{&item{at: "sha256:bb", kind: "kind"}, whole, nil}}
	if c.fillRequirements(v, s); !slices.ContainsFunc(v.Requirements, func(r provenance.Requirement) bool {
		return strings.Contains(r.Evidence, "sha256:bb, kind about the index sha256:aa")
	}) {
		t.Errorf("got %+v", v.Requirements)
	}
	if whole.build.evidence.Provenance != "" {
		t.Error("the proof itself changed")
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

// TestAttestationLinks: who must have signed an attestation, and what its link says.
func TestAttestationLinks(t *testing.T) {
	const kind = "https://example.com/test"
	root := &trust.Root{}
	ada, bob := certificate.Summary{SubjectAlternativeName: "ada", Extensions: certificate.Extensions{Issuer: "i"}}, certificate.Summary{SubjectAlternativeName: "bob", Extensions: certificate.Extensions{Issuer: "i"}}
	by := func(id certificate.Summary, r *trust.Root) *proof {
		return &proof{Result: &bundle.Result{Identity: id}, root: r}
	}
	said := func(differs error, p ...*proof) *item {
		return &item{kind: kind, anyone: p, matches: map[int]error{0: differs}}
	}
	rests := set{provenance: ref{&item{}, by(ada, root), nil}}
	named := policy.Attestation{PredicateType: kind, Signer: policy.Identity{Name: "bob", Issuer: "i"}}
	unnamed := policy.Attestation{PredicateType: kind}
	for name, tt := range map[string]struct {
		origin policy.Origin
		s      set
		a      policy.Attestation
		items  []*item
		status Status
		said   string
	}{
		"by the signer":           {policy.BuilderProvenance{}, rests, unnamed, []*item{said(nil, by(ada, root))}, Holds, kind + ", by ada"},
		"by another":              {policy.BuilderProvenance{}, rests, unnamed, []*item{said(nil, by(bob, root))}, Broken, kind + `: signer: got "bob"`},
		"under another root":      {policy.BuilderProvenance{}, rests, unnamed, []*item{said(nil, by(ada, &trust.Root{}))}, Broken, kind + ": " + errAnotherRoot.Error()},
		"by whom it names":        {policy.BuilderProvenance{}, set{}, named, []*item{said(nil, by(bob, nil))}, Holds, kind + ", by bob"},
		"says something else":     {policy.BuilderProvenance{}, rests, unnamed, []*item{said(errWrong, by(ada, root))}, Broken, kind + ": the last one: it is wrong"},
		"none":                    {policy.BuilderProvenance{}, rests, unnamed, nil, Absent, "the image carries no " + kind},
		"malformed":               {policy.BuilderProvenance{}, rests, unnamed, []*item{{kind: kind, err: errWrong}}, Absent, "the image carries no " + kind},
		"unread":                  {policy.BuilderProvenance{}, rests, unnamed, []*item{said(nil, by(ada, root)), {err: errWrong, unread: true}}, Unknown, kind + ": it is wrong"},
		"no provenance":           {policy.BuilderProvenance{}, set{}, unnamed, []*item{said(nil, by(ada, root))}, Unknown, kind + ": " + errNoProvenance.Error()},
		"no signature":            {policy.SignatureOnly{}, rests, unnamed, []*item{said(nil, by(ada, root))}, Unknown, kind + ": " + errNoSignature.Error()},
		"by who signed the image": {policy.SignatureOnly{}, set{signature: rests.provenance}, unnamed, []*item{said(nil, by(ada, root))}, Holds, kind + ", by ada"},
	} {
		l := checkOf(tt.origin).attestationLink(&evidence{items: tt.items}, tt.s, 0, tt.a)
		if l.Name != LinkAttestation || l.Status != tt.status || !strings.HasPrefix(l.Claim+l.Reason, tt.said) {
			t.Errorf("%s: got %+v, want %s, %q", name, l, tt.status, tt.said)
		}
	}
	// A key that needs no log entry is under no trust root.
	for unlogged, want := range map[bool]bool{true: true, false: false} {
		key := keyOf(t, unlogged)
		signer := signerOf(key)
		s := set{provenance: ref{&item{}, &proof{Result: &bundle.Result{}, key: &signer}, nil}}
		test, who, err := checkOf(policy.SignerProvenance{Signer: key}).attestationSigner(s, unnamed)
		if err != nil || who != "the key given" || (test(&proof{Result: &bundle.Result{}, root: root, key: &signer}) == nil) != want {
			t.Errorf("a key, without a log %v: got %q, %v", unlogged, who, err)
		}
	}
}

// TestSummaryLinks: one verifier is enough, and the reason of the first that says no is told.
func TestSummaryLinks(t *testing.T) {
	const resource = "pkg:oci/app"
	verifier := func(name string) policy.Verifier {
		return policy.Verifier{ID: "https://v.example.com/" + name, Signer: policy.Identity{Name: name, Issuer: "i"}}
	}
	say := func(name, result string) *item {
		return &item{kind: attest.PredicateVSA, vsa: &attest.VSA{Verifier: attest.VSAVerifier{ID: "https://v.example.com/" + name}, ResourceURI: resource, VerificationResult: result, VerifiedLevels: []string{"SLSA_BUILD_LEVEL_2"}},
			anyone: []*proof{{Result: &bundle.Result{Times: []time.Time{noon}, Identity: certificate.Summary{SubjectAlternativeName: name, Extensions: certificate.Extensions{Issuer: "i"}}}}}}
	}
	passed, failed := attest.VSAPassed, attest.VSAFailed
	a, b := verifier("a"), verifier("b")
	for name, tt := range map[string]struct {
		by     []policy.Verifier
		items  []*item
		status Status
		said   string
		level  int
	}{
		"none":                   {[]policy.Verifier{a}, nil, Absent, "the image carries no verification summary", 0},
		"one":                    {[]policy.Verifier{a}, []*item{say("a", passed)}, Holds, "PASSED by https://v.example.com/a", 2},
		"the first of two":       {[]policy.Verifier{a, b}, []*item{say("b", passed), say("a", passed)}, Holds, "PASSED by https://v.example.com/a", 2},
		"the second of two":      {[]policy.Verifier{a, b}, []*item{say("b", passed)}, Holds, "PASSED by https://v.example.com/b", 2},
		"first good, second bad": {[]policy.Verifier{a, b}, []*item{say("b", failed), say("a", passed)}, Holds, "PASSED by https://v.example.com/a", 2},
		"first bad, second good": {[]policy.Verifier{a, b}, []*item{say("a", failed), say("b", passed)}, Holds, "PASSED by https://v.example.com/b", 2},
		"bad":                    {[]policy.Verifier{a}, []*item{say("a", failed)}, Broken, "summary by https://v.example.com/a: result", 0},
		"by another":             {[]policy.Verifier{a}, []*item{say("b", passed)}, Broken, `signer: got "b"`, 0},
		"unread":                 {[]policy.Verifier{a, b}, []*item{say("a", passed), {err: errWrong, unread: true}}, Unknown, "it is wrong", 0},
	} {
		c := checkOf(policy.SummaryOnly{})
		c.opts.Policy.Verifiers = tt.by
		ev := &evidence{items: tt.items}
		v := &Verdict{Outcome: Accepted, Level: 0}
		c.demanded(v, ev, set{}, resource)
		l := v.Links[0]
		if tt.status == Absent {
			tt.said = l.Claim + l.Reason // of the words, another test
		}
		if len(v.Links) != 1 || l.Name != LinkSummary || l.Status != tt.status || !strings.HasPrefix(l.Claim+l.Reason, tt.said) || v.Level != tt.level || (v.Outcome == Accepted) != (tt.status == Holds) {
			t.Errorf("%s: got %+v, level %d, %s, want %s, %q", name, l, v.Level, v.Outcome, tt.status, tt.said)
		}
	}
	c := checkOf(policy.BuilderProvenance{})
	v := &Verdict{Outcome: Accepted, Level: 3}
	if c.demanded(v, &evidence{}, set{}, resource); len(v.Links) != 0 || v.Outcome != Accepted {
		t.Errorf("nothing demanded: got %+v", v)
	}
	c.opts.Policy.Verifiers = []policy.Verifier{a}
	if c.demanded(v, &evidence{items: []*item{say("a", passed)}}, set{}, resource); v.Level != 3 {
		t.Errorf("beside a provenance: got level %d, want that of the provenance", v.Level)
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
	if s := signerOf(ada); s.Identity != "ada" || s.Issuer != "i" || s.Key != nil {
		t.Errorf("an identity: got %+v", s)
	}
	if s := signerOf(pattern); s.Pattern == nil || s.Issuer != "i" || s.Identity != "" {
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
	if got := o.verifiers(); !strings.HasPrefix(got, "verifier a, signed by x") || !strings.Contains(got, " or verifier b, signed by y") {
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
