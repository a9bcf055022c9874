package verify_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/oci"
	"github.com/colophon-build/colophon/policy"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/test/prooftest"
	"github.com/colophon-build/colophon/trust"
	"github.com/colophon-build/colophon/verify"
)

// watched is a source that counts requests, and that can be closed.
type watched struct {
	oci.Source
	mu       sync.Mutex
	requests int
	closed   bool
}

func (c *watched) request() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests++; c.closed {
		panic("a request after the evidence was gathered")
	}
}

func (c *watched) Resolve(ctx context.Context, reference string) (v1.Descriptor, error) {
	c.request()
	return c.Source.Resolve(ctx, reference)
}

func (c *watched) Manifest(ctx context.Context, digest v1.Hash) ([]byte, string, error) {
	c.request()
	return c.Source.Manifest(ctx, digest)
}

func (c *watched) Blob(ctx context.Context, d v1.Descriptor) (io.ReadCloser, error) {
	c.request()
	return c.Source.Blob(ctx, d)
}

func (c *watched) Referrers(ctx context.Context, subject v1.Hash) ([]v1.Descriptor, error) {
	c.request()
	return c.Source.Referrers(ctx, subject)
}

const scanned = "https://example.com/scan/v1"

// gallery returns an image with proofs of many kinds, and policies that look at them in
// different ways: some accept it, some reject it, and some cannot decide.
func gallery(t testing.TB) (*prooftest.Store, verify.Options, map[string]policy.Policy) {
	p, s := prooftest.New(t), prooftest.NewStore(t)
	r := p.Release(s)
	r.Attach(prooftest.Kinds...)
	statement := func(kind string, predicate any) []byte {
		st, err := attest.NewStatement("app", r.Image.Digest.Hex, kind, predicate)
		if err != nil {
			t.Fatal(err)
		}
		return st
	}
	for _, passed := range []bool{true, false} {
		s.Attach(r.Image, p.Sign(adasCertificate, statement(scanned, map[string]any{"passed": passed, "by": "x"})), scanned)
	}
	s.Attach(r.Image, p.Sign(adasCertificate, statement(attest.PredicateSign, struct{}{})), attest.PredicateSign)
	at := p.Now
	s.Attach(r.Image, p.Sign(adasCertificate, statement(attest.PredicateVSA, attest.VSA{
		Verifier: attest.VSAVerifier{ID: verifierID}, TimeVerified: &at, ResourceURI: attest.ImageURI(s.Name()), Policy: attest.ResourceDescriptor{URI: "https://v.example.com/p", Digest: map[string]string{"sha256": strings.Repeat("ab", 32)}},
		VerificationResult: attest.VSAPassed, VerifiedLevels: []string{"SLSA_BUILD_LEVEL_3"}, SLSAVersion: "1.2",
	})), attest.PredicateVSA)
	payload := []byte(`{"critical":{"identity":{"docker-reference":"x"},"image":{"docker-manifest-digest":"` + r.Image.Digest.String() + `"},"type":"cosign container image signature"},"optional":null}`)
	holder := p.KeyHolder()
	s.Tagged(r.Image, "sig", s.Layer(payload, attest.SimpleSigningMediaType, holder.Simple(payload)))
	key := policy.DocumentSigner{Key: string(holder.PublicKey())}
	other := policy.DocumentSigner{Key: string(prooftest.New(t).KeyHolder().PublicKey())}
	opts := verify.Options{Trust: []*trust.Root{p.Root(), p.PlainRoot(people, trust.GitHubIssuer)}}
	app := demand
	policies := map[string]policy.Policy{}
	for name, d := range map[string]policy.Document{
		"app": app, "any source": {AnySource: true}, "another source": {Source: "git.example.com/team/lib"}, "another ref": {Source: app.Source, Ref: "v1.3.0"},
		"level":   {Source: app.Source, MinLevel: 3},
		"builder": {Source: app.Source, Builders: []string{prooftest.Builder}}, "another builder": {Source: app.Source, Builders: []string{"https://p.example.com/builders/x"}},
		"ada": named(byAda), "bob": named(policy.DocumentSigner{Identity: "https://accounts.example.com/bob", Issuer: people}),
		"pattern": named(policy.DocumentSigner{IdentityRegexp: "https://accounts.example.com/.*", Issuer: people}),
		"key":     named(key), "another key": named(other),
		"ada's provenance": {Source: app.Source, Signer: &byAda},
		"scan":             {Source: app.Source, Attestations: []policy.DocumentAttestation{{PredicateType: scanned, Signer: &byAda}}},
		"passed":           {Source: app.Source, Attestations: []policy.DocumentAttestation{{PredicateType: scanned, Signer: &byAda, Equals: map[string]any{"/by": "x"}}}},
		"failed":           {Source: app.Source, Attestations: []policy.DocumentAttestation{{PredicateType: scanned, Signer: &byAda, Equals: map[string]any{"/passed": false}}}},
		"builder's scan":   {Source: app.Source, Attestations: []policy.DocumentAttestation{{PredicateType: scanned}}},
		"verifier":         {Verifiers: []policy.DocumentVerifier{{ID: verifierID, Signer: byAda}}},
		"another verifier": {Verifiers: []policy.DocumentVerifier{{ID: "https://v.example.com/x", Signer: byAda}}},
		"contents":         {Source: app.Source, Contents: true},
		"no SBOM":          {Source: app.Source, NoSBOM: true},
		"repository":       {Source: app.Source, RequireSource: true},
	} {
		policies[name] = demanded(t, d)
	}
	return s, opts, policies
}

func encoded(t testing.TB, v *verify.Verdict) string {
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// TestEvidenceOfManyPolicies: evidence that was gathered once for many policies gives each
// of them the verdict that it gets alone, with no request, to all who ask at once.
func TestEvidenceOfManyPolicies(t *testing.T) {
	store, opts, policies := gallery(t)
	var ask verify.Ask
	policies["none"] = policy.Policy{}
	for _, p := range policies {
		ask.Policies = append(ask.Policies, p)
	}
	for name, check := range map[string]verify.SourceCheck{
		"not asked": nil,
		"there": func(_ context.Context, q source.Question) (source.Standing, error) {
			return source.Standing{Commit: true, Ref: source.RefThere, Now: q.Commit, Tree: q.Tree}, nil
		},
		"gone": func(context.Context, source.Question) (source.Standing, error) { return source.Standing{}, nil },
		"no answer": func(context.Context, source.Question) (source.Standing, error) {
			return source.Standing{}, io.ErrClosedPipe
		},
	} {
		opts.SourceCheck = check
		src := &watched{Source: store}
		now := time.Now()
		ev := verify.Gather(t.Context(), src, "v1.2.0", now, opts, ask)
		src.closed = true
		for i, p := range ask.Policies {
			if got, want := encoded(t, ev.Verdicts()[i]), encoded(t, ev.Verdict(p)); got != want {
				t.Errorf("repository %s: got\n%s, and when it is asked again\n%s", name, got, want)
			}
		}
		var all sync.WaitGroup
		outcomes := map[verify.Outcome]int{}
		for of, p := range policies {
			alone := opts
			alone.Policy = p
			want := verify.Image(t.Context(), store, "v1.2.0", now, alone)
			outcomes[want.Outcome]++
			for range 4 {
				all.Go(func() {
					if got := ev.Verdict(p); encoded(t, got) != encoded(t, want) {
						t.Errorf("repository %s: %s: got\n%s, want\n%s", name, of, encoded(t, got), encoded(t, want))
					}
				})
			}
		}
		all.Wait()
		t.Logf("repository %s: %v", name, outcomes)
		if outcomes[verify.Rejected] < 5 || check == nil && outcomes[verify.Accepted] < 5 {
			t.Errorf("repository %s: got %v, want policies of each outcome", name, outcomes)
		}
	}
}

// TestEvidenceOfAnotherPolicy: a verdict that needs what was not read is undecided, and
// never what the rest of the evidence would say. One that needs nothing more is as good as
// any.
func TestEvidenceOfAnotherPolicy(t *testing.T) {
	store, opts, policies := gallery(t)
	needs := map[string]bool{ // what a policy like "app" does not
		"another key": true, "key": true, "scan": true, "passed": true, "failed": true, "builder's scan": true, "verifier": true, "another verifier": true, "contents": true,
		"ada": true, "bob": true, "pattern": true, "ada's provenance": true, // the signatures under tags
	}
	now := time.Now()
	ev := verify.Gather(t.Context(), store, "v1.2.0", now, opts, verify.Ask{Policies: []policy.Policy{policies["app"]}})
	for name, p := range policies {
		got := ev.Verdict(p)
		alone := opts
		alone.Policy = p
		want := verify.Image(t.Context(), store, "v1.2.0", now, alone)
		switch {
		case encoded(t, got) == encoded(t, want):
			if needs[name] {
				t.Errorf("%s: got the verdict without what it needs", name)
			}
		case got.Outcome != verify.Undecided || !strings.Contains(got.Why(), "gather it again"):
			t.Errorf("%s: got %s: %s", name, got.Outcome, got.Why())
		case !needs[name]:
			t.Errorf("%s: got %s, and it needs nothing more", name, got.Why())
		}
	}
	for name, ask := range map[string]verify.Ask{"nothing": {}, "a policy that is none": {Policies: []policy.Policy{{}}}} {
		src := &watched{Source: store}
		if v := verify.Gather(t.Context(), src, "v1.2.0", now, opts, ask).Verdict(policies["app"]); v.Outcome != verify.Undecided || src.requests > 0 {
			t.Errorf("asked for %s: got %s after %d requests", name, v.Outcome, src.requests)
		}
	}
	// What could not be resolved is so for every policy.
	missing := verify.Gather(t.Context(), store, "v9", now, opts, verify.Ask{Policies: []policy.Policy{policies["app"]}})
	for _, name := range []string{"app", "key"} {
		alone := opts
		alone.Policy = policies[name]
		if got, want := missing.Verdict(policies[name]), verify.Image(t.Context(), store, "v9", now, alone); encoded(t, got) != encoded(t, want) || got.Outcome == verify.Accepted {
			t.Errorf("%s of a missing tag: got %s, want %s", name, encoded(t, got), encoded(t, want))
		}
	}
}

// TestRequestsOfManyPolicies: many policies cost no more requests than the one that asks for
// most, but for one that finds out where a rejected image may have its proofs.
func TestRequestsOfManyPolicies(t *testing.T) {
	store, opts, policies := gallery(t)
	one := &watched{Source: store}
	verify.Gather(t.Context(), one, "v1.2.0", time.Now(), opts, verify.Ask{Policies: []policy.Policy{policies["scan"]}})
	var ask verify.Ask
	for name, p := range policies {
		if name != "contents" { // reads the layers again
			ask.Policies = append(ask.Policies, p)
		}
	}
	all := &watched{Source: store}
	verify.Gather(t.Context(), all, "v1.2.0", time.Now(), opts, ask)
	if all.requests > one.requests+1 {
		t.Errorf("got %d requests for %d policies, want at most %d", all.requests, len(ask.Policies), one.requests+1)
	}
}

var sinkVerdict *verify.Verdict

// BenchmarkRules: one image, whose evidence was read, and 100 rules: those that were asked for
// then, and the same judged again.
func BenchmarkRules(b *testing.B) {
	store, opts, policies := gallery(b)
	app := policies["app"]
	for name, others := range map[string]func(i int) policy.Policy{
		"same": func(int) policy.Policy { return app },
		"sources": func(i int) policy.Policy {
			return demanded(b, policy.Document{Source: fmt.Sprintf("git.example.com/team/app%d", i)})
		},
	} {
		b.Run(name, func(b *testing.B) {
			var ask verify.Ask
			for i := range 100 {
				ask.Policies = append(ask.Policies, others(i))
			}
			ev := verify.Gather(b.Context(), store, "v1.2.0", time.Now(), opts, ask)
			b.Run("asked", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					for _, v := range ev.Verdicts() {
						sinkVerdict = v
					}
				}
			})
			b.Run("again", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					for _, p := range ask.Policies {
						sinkVerdict = ev.Verdict(p)
					}
				}
			})
		})
	}
}

// TestFacts: what expressions may look at is what was verified and asked for. What may be
// missing is said.
func TestFacts(t *testing.T) {
	store, opts, policies := gallery(t)
	app := policies["app"]
	gather := func(ask verify.Ask) *verify.Evidence {
		ask.Policies = append(ask.Policies, app)
		return verify.Gather(t.Context(), store, "v1.2.0", time.Now(), opts, ask)
	}
	ev := gather(verify.Ask{Predicates: []string{scanned}, Packages: true})
	var passed []bool
	all, err := ev.Statements(app, scanned)
	for _, s := range all {
		value, err := s.Predicate()
		if err != nil || s.Signer != ada || s.Issuer != people || s.PredicateType != scanned || s.TrustRoot == "" || s.LogIndex == nil {
			t.Errorf("got %+v, %v", s, err)
			continue
		}
		passed = append(passed, value.(map[string]any)["passed"].(bool))
	}
	if len(passed) != 2 || passed[0] == passed[1] || err != nil {
		t.Errorf("got %v, %v, want both statements", passed, err)
	}
	if _, err := ev.Statements(app, attest.PredicateVSA); err == nil {
		t.Error("statements that were not asked for: got no error")
	}
	if _, err := ev.Statements(policies["key"], scanned); err == nil {
		t.Error("in the eyes of a policy that was not asked for, and looks at more: got no error")
	}
	var documents []string
	v := ev.Verdict(app)
	for _, s := range v.Facts.Signed {
		list, ok := ev.Packages(v, s)
		if s.SBOM == nil {
			if ok {
				t.Errorf("%s has packages", s.PredicateType)
			}
			continue
		}
		for _, p := range list {
			documents = append(documents, fmt.Sprint(s.SBOM.Format, " ", p.Name, " ", p.Version, " ", p.PURL, " ", p.License))
		}
		if !ok || len(list) != s.SBOM.Packages {
			t.Errorf("%s: got %d packages, want %d", s.SBOM.Format, len(list), s.SBOM.Packages)
		}
	}
	if len(documents) != 4 {
		t.Errorf("got the packages %q, want 4", documents)
	}
	unasked := gather(verify.Ask{})
	for _, s := range unasked.Verdicts()[0].Facts.Signed {
		if list, ok := unasked.Packages(unasked.Verdicts()[0], s); ok || list != nil {
			t.Error("packages that were not asked for are known")
		}
	}
	// A stranger's statement is no fact, and one that cannot be read may be one.
	scene := newWithdrawn(t)
	store, opts = scene.s, scene.opts
	store.Attach(scene.r.Image, scene.bundle(prooftest.New(t), adasCertificate, `{"passed":true}`), scanned)
	if all, err := gather(verify.Ask{Predicates: []string{scanned}}).Statements(app, scanned); len(all) > 0 || err != nil {
		t.Errorf("by a stranger: got %+v, %v", all, err)
	}
	blob, _ := store.Attach(scene.r.Image, scene.bundle(scene.p, adasCertificate, `{"passed":true}`), scanned)
	store.Remove(blob.Digest)
	if all, err := gather(verify.Ask{Predicates: []string{scanned}}).Statements(app, scanned); len(all) > 0 || err == nil {
		t.Errorf("unread: got %+v, %v", all, err)
	}
	large := `{"x":"` + strings.Repeat("x", 1<<20) + `"}`
	store.Attach(scene.r.Image, scene.bundle(scene.p, adasCertificate, large), scanned)
	for range 4 {
		store.Attach(scene.r.Image, scene.bundle(scene.p, adasCertificate, large), "")
	}
	if all, err := gather(verify.Ask{Predicates: []string{scanned}}).Statements(app, scanned); len(all) >= 5 || err == nil {
		t.Errorf("too large: got %d, %v", len(all), err)
	}
}

// TestConditionsOnAttestations: a condition sees the last attestation by the signer that the
// policy demands, and none if it cannot be told which one is the last.
func TestConditionsOnAttestations(t *testing.T) {
	scene := newWithdrawn(t)
	const set = `apiVersion: colophon.build/v1
kind: ImagePolicy
metadata: {name: prod}
spec:
  unmatched: deny
  rules:
  - name: scanned
    images: [{glob: "**"}]
    accept:
    - built:
        source: ` + prooftest.Source + `
        attestations: [{predicateType: "` + scanned + `", signer: {certificate: {issuer: "` + people + `", identity: {is: "` + ada + `"}}}}]
    conditions: [{expression: 'attestations.exists(a, a.identity == "` + ada + `" && a.flag("/passed"))', message: no scan passed}]
`
	sets, err := policy.ParseSets([]byte(set))
	if err != nil {
		t.Fatal(err)
	}
	decide := func() *verify.Decision {
		image := policy.Image{Name: "reg.example.com/app", Digest: scene.r.Image.Digest.String()}
		return verify.Gather(t.Context(), scene.s, image.Digest, time.Now(), scene.opts, verify.AskFor(sets, image)).Decide(sets, image)
	}
	if d := decide(); d.Outcome == verify.Accepted {
		t.Error("without a scan: accepted")
	}
	scene.s.Attach(scene.r.Image, scene.bundle(scene.p, adasCertificate, `{"passed":true}`), scanned)
	if d := decide(); d.Outcome != verify.Accepted {
		t.Errorf("got %v: %s", d.Outcome, d.Reason)
	}
	scene.s.Attach(scene.r.Image, scene.bundle(scene.p, adasCertificate, `{"passed":false}`), scanned)
	if d := decide(); d.Outcome == verify.Accepted {
		t.Error("the last scan failed, or may be the last: accepted")
	}
}
