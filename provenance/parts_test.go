package provenance

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/source"
	"github.com/colophon-build/colophon/trust"
)

// TestGitInputs: the repositories among a task's inputs, however their addresses end.
func TestGitInputs(t *testing.T) {
	at := func(uri, commit string) attest.ResourceDescriptor {
		return attest.ResourceDescriptor{URI: uri, Digest: map[string]string{"sha1": commit}}
	}
	for want, inputs := range map[string][]attest.ResourceDescriptor{
		"[]":                            {at("https://a.example.com/b", "1"), at("pkg:oci/x.git@1", "1")},
		"[[https://a.example.com/b 1]]": {at("git+https://a.example.com/b.git@refs/heads/main", "1"), at("https://a.example.com/b.git", "1"), at("git+https://a.example.com/b", "1")},
		"[[https://a.example.com/b 1] [https://a.example.com/b 2]]": {at("https://a.example.com/b.git", "1"), at("https://a.example.com/b.git", "2")},
		"[[ssh:// 1]]": {at("git+ssh://", "1")},
		"[[.git@x 1]]": {at("git+.git@x", "1")},
	} {
		if got := fmt.Sprint(gitInputs(inputs)); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

// TestCommitAmong: all that is said of the source names one commit.
func TestCommitAmong(t *testing.T) {
	one, two, long := strings.Repeat("1", 40), strings.Repeat("2", 40), strings.Repeat("3", 64)
	of := func(uri string, digest ...string) attest.ResourceDescriptor {
		d := attest.ResourceDescriptor{URI: uri, Digest: map[string]string{}}
		for i := 0; i < len(digest); i += 2 {
			d.Digest[digest[i]] = digest[i+1]
		}
		return d
	}
	for name, test := range map[string]struct {
		deps []attest.ResourceDescriptor
		want string // commit, or words of the error
	}{
		"one":            {[]attest.ResourceDescriptor{of("a", "gitCommit", one), of("b", "gitCommit", two)}, one},
		"twice":          {[]attest.ResourceDescriptor{of("a", "sha1", one), of("a", "sha256", one)}, one},
		"sha256":         {[]attest.ResourceDescriptor{of("a", "sha256", long)}, long},
		"two":            {[]attest.ResourceDescriptor{of("a", "sha1", one), of("a", "sha1", two)}, "want one"},
		"two in one":     {[]attest.ResourceDescriptor{of("a", "sha1", one, "gitCommit", two)}, "want one"},
		"none":           {[]attest.ResourceDescriptor{of("b", "sha1", one)}, `got commit ""`},
		"branch":         {[]attest.ResourceDescriptor{of("a", "sha1", "main")}, "want 40 or 64 hex digits"},
		"other digest":   {[]attest.ResourceDescriptor{of("a", "md5", one)}, `got commit ""`},
		"and one beside": {[]attest.ResourceDescriptor{of("a"), of("a", "sha1", one)}, one},
	} {
		got, err := commitAmong(test.deps, "a")
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) || (err == nil) != (got == test.want) {
			t.Errorf("%s: got %s, want %s", name, got, test.want)
		}
	}
	src := attest.SourceParameters{URI: "https://a.example.com/b", Ref: "refs/tags/v1", Commit: one}
	dep := of(attest.GitURI(src.URI, src.Ref), "gitCommit", one)
	if _, err := sourceDependency([]attest.ResourceDescriptor{of("x"), of(dep.URI, "gitCommit", two), dep}, src); err != nil {
		t.Error(err)
	}
	if _, err := sourceDependency([]attest.ResourceDescriptor{of(dep.URI, "gitCommit", two)}, src); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("got commits [%q]", two)) {
		t.Errorf("another commit: got %v, want both named", err)
	}
	src.Commit = ""
	if _, err := sourceDependency([]attest.ResourceDescriptor{of(dep.URI)}, src); err == nil {
		t.Error("no commit at all: got no error")
	}
	for status, ok := range map[any]bool{source.Verified: true, source.Unsigned: true, source.Bad: true, source.Unverified: true, "of tomorrow": false, "": false} {
		if got := signatureOf(map[string]any{"status": status}); (got != nil) != ok {
			t.Errorf("a signature that is %q: got %v", status, got)
		}
	}
	if signatureOf(nil) != nil || signatureOf([]int{1}) != nil || signatureOf(func() {}) != nil {
		t.Error("what is no signature was read as one")
	}
}

// TestAttempts: a run is named alike by provenance and certificate, or not at all.
func TestAttempts(t *testing.T) {
	for _, test := range [][3]string{{"", "", ""}, {"1", "2", "1-2"}, {"1", "", "1-"}, {"", "2", "-2"}} {
		if got := attempt(attest.Number(test[0]), attest.Number(test[1])); got != test[2] {
			t.Errorf("run %q, attempt %q: got %q, want %q", test[0], test[1], got, test[2])
		}
	}
	for invocation, want := range map[string]string{"https://github.com/a/b/actions/runs/1/attempts/2": "1-2", "https://github.com/a/b/actions/runs/1": "", "": ""} {
		if got := (Origin{Source: "https://github.com/a/b", Invocation: invocation}).attempt(); got != want {
			t.Errorf("%s: got %q, want %q", invocation, got, want)
		}
	}
}

// TestJudgements: a requirement is met only if all that it rests on is, and the evidence
// is that of what decided.
func TestJudgements(t *testing.T) {
	met, not, unknown := judged{IsMet, "m"}, judged{NotMet, "n"}, judged{NotKnown, "u"}
	for _, test := range []struct{ a, b, want judged }{
		{met, met, judged{IsMet, "m; m"}}, {met, not, not}, {not, met, not}, {met, unknown, unknown}, {unknown, met, unknown}, {unknown, not, not}, {not, unknown, not},
		{not, judged{NotMet, "other"}, not}, {unknown, judged{NotKnown, "other"}, unknown},
	} {
		if got := test.a.and(test.b); got != test.want {
			t.Errorf("%v and %v: got %v, want %v", test.a, test.b, got, test.want)
		}
	}
	for _, r := range WithoutProvenance(NotMet, "why") {
		if r.Name != reqExists && (r.Status != NotKnown || r.Evidence != "no valid provenance") {
			t.Errorf("without provenance: got %+v", r)
		}
	}
	for _, r := range list(nil) {
		if r.Status != NotKnown {
			t.Errorf("nothing judged: got %+v", r)
		}
	}
	f := &Facts{Builder: "x", BuildType: "y", Runner: "github-hosted"}
	for _, r := range f.Requirements(Evidence{Level: 3, By: "t", Provenance: "p", Signed: "s"}) {
		if r.Name == reqHosted && !strings.Contains(r.Evidence, "the certificate says that the runner is github-hosted") {
			t.Errorf("hosted: got %+v, want what the certificate says in it", r)
		}
	}
}

// TestCommonFacts: each form's parameters, dependencies and run.
func TestCommonFacts(t *testing.T) {
	var d Document
	d.BuildType = "y"
	if _, err := d.Facts(Origin{System: GitHub}); err == nil || !strings.Contains(err.Error(), github.wants) {
		t.Errorf("an unknown build type: got %v, want the known ones", err)
	}
	d.BuildType, d.predicateType = trust.BuildTypeActions, attest.PredicateSLSA02
	if _, err := d.Facts(Origin{System: GitHub}); err == nil || !strings.Contains(err.Error(), "predicate of build type") {
		t.Errorf("a known build type in another predicate: got %v, want its predicate", err)
	}
	deps := []attest.ResourceDescriptor{{URI: "https://a.example.com/b"}}
	v1 := &attest.Provenance{}
	v1.BuildDefinition.ExternalParameters, v1.BuildDefinition.ResolvedDependencies, v1.RunDetails.Metadata.InvocationID = []byte(`{"a":1}`), deps, "run"
	v02 := &attest.Provenance02{Materials: deps}
	v02.Invocation.Parameters, v02.Metadata.BuildInvocationID = []byte(`{"a":1}`), "run"
	for name, d := range map[string]*Document{"v1": {v1: v1}, "v0.2": {v02: v02}} {
		f := d.common(Origin{})
		if string(f.Parameters) != `{"a":1}` || len(f.Dependencies) != 1 || f.Invocation != "run" {
			t.Errorf("%s: got %+v", name, f)
		}
		if f := d.common(Origin{Invocation: "certified"}); f.Invocation != "certified" {
			t.Errorf("%s: got run %q, want the certificate's", name, f.Invocation)
		}
	}
	if _, err := githubOrigin(certificate.Summary{SubjectAlternativeName: "https://example.com/x"}); err == nil {
		t.Error("a name that is no workflow's was read")
	}
	if _, err := gitLabOrigin(certificate.Summary{SubjectAlternativeName: "https://example.com/x"}); err == nil {
		t.Error("a name that is no pipeline's was read")
	}
}

// TestConsistent: the digest of a workflow's file speaks of the source's commit only if
// the workflow is of the source at its ref.
func TestConsistent(t *testing.T) {
	const repo, other, ref = "https://github.com/a/b", "https://github.com/a/c", "refs/heads/main"
	o := Origin{Source: repo, Ref: ref, Commit: strings.Repeat("1", 40)}
	for config, ok := range map[string]bool{
		repo + "/.github/workflows/x.yml@" + ref: false, other + "/.github/workflows/x.yml@" + ref: true, repo + "/.github/workflows/x.yml@refs/heads/dev": true, "x": true,
	} {
		id := certificate.Summary{Extensions: certificate.Extensions{BuildConfigURI: config, BuildConfigDigest: strings.Repeat("2", 40)}}
		if err := o.consistent(id); (err == nil) != ok {
			t.Errorf("%s of another commit: got %v, want it accepted: %v", config, err, ok)
		}
	}
}
