package verify

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/bundle"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/provenance"
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
	platformFile, badPlatformFile := by(ofPlatformFile, attest.PredicateSLSA1, good()), by(ofPlatformFile, attest.PredicateSLSA1, bad(2))
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
		"file, by a platform":          {builders, aboutFile, []*item{platformFile}, []*item{platformFile}},
		"file, by a platform, bad":     {builders, aboutFile, []*item{badPlatformFile}, []*item{badPlatformFile}},
		"file, of another kind":        {builders, aboutFile, []*item{by(ofPlatformFile, attest.PredicateSPDX, bad(1))}, nil},
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
		"by another, of wrong": {with(func(p *proof) { p.signer, p.says = errTheirs, errWrong }), &evidence{}, Broken, Holds, "not theirs to sign"},
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
		if (l.Carries == kind) != (l.Status == Holds) {
			t.Errorf("%s: a link that is %s carries %q", name, l.Status, l.Carries)
		}
	}
	// A key that needs no log entry is under no trust root.
	for unlogged, want := range map[bool]bool{true: true, false: false} {
		key := keyOf(t, unlogged)
		signer := SignerOf(key)
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
