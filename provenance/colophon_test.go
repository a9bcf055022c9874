package provenance_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/source"
)

func TestColophon(t *testing.T) {
	s := load(t, "colophon")
	want := provenance.Facts{
		System: provenance.Colophon, Builder: "http://127.0.0.1:8080/builders/buildkit/v1", BuildType: attest.BuildTypeBuildKit,
		Source: "https://git.example.com/team/app", Ref: "refs/tags/v1.2.0", Commit: "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00",
		Tree:       "7ee0c0ffee00c0ffee00c0ffee00c0ffee00c0ff",
		Signature:  &source.Signature{Object: "tag", Status: source.Verified, Signer: "release@example.com"},
		Invocation: "http://127.0.0.1:8080/api/colophon/v1/releases/1",
		Recipe:     &attest.Recipe{Builder: "buildkit", Platforms: []string{"linux/amd64", "linux/arm64"}, Dockerfile: "Dockerfile"},
		Default:    &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: "buildkit", Dockerfile: "Dockerfile"}},
		Isolation:  &attest.Isolation{},
	}
	if got := facts(t, s); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	const (
		recipe    = `{"builder":"buildkit","platforms":["linux/amd64","linux/arm64"],"dockerfile":"Dockerfile"}`
		byDefault = `{"recipe":{"builder":"buildkit","dockerfile":"Dockerfile"}}`
	)
	other := strings.Repeat("ab", 20)
	bendAll(t, s, []bend{
		{name: "builder id", old: `"id":"http://127.0.0.1:8080/builders/buildkit/v1`, new: `"id":"http://127.0.0.1:8080/builders/buildkit/v2`, want: "builder id: the provenance says"},
		{name: "build type", old: "spec/buildkit/v1", new: "spec/buildkit/v2", want: "build type"},
		{name: "predicate", old: "provenance/v1", new: "provenance/v0.2", want: "no builder id"},
		{name: "source", old: "team/app", new: "team/evil", want: ""}, // the subject's name, which is nobody's claim
		{name: "source", old: `"uri":"https://git.example.com/team/app"`, new: `"uri":"https://git.example.com/team/evil"`, want: "source: the provenance says"},
		{name: "source respelled", old: `"uri":"https://git.example.com/team/app"`, new: `"uri":"https://git.example.com/team/app/"`, want: "canonical"},
		{name: "commit", old: `"commit":"381e`, new: `"commit":"381f`, want: "commit: the provenance says"},
		{name: "ref", old: `"ref":"refs/tags/v1.2.0"`, new: `"ref":"refs/tags/v1.2.1"`, want: "ref: the provenance says"},
		{name: "no ref", old: `"ref":"refs/tags/v1.2.0",`, new: ``, want: "ref: the provenance says"},
		{name: "no ref, and a branch that had the commit", old: `"ref":"refs/tags/v1.2.0",`, new: ``, signer: func(c *certificate.Summary) { c.SourceRepositoryRef = "" }, also: []string{"app@refs/tags/v1.2.0", "app", `"annotations":{`, `"annotations":{"within":"refs/heads/main",`}},
		{name: "no ref, and nothing that had the commit", old: `"ref":"refs/tags/v1.2.0",`, new: ``, signer: func(c *certificate.Summary) { c.SourceRepositoryRef = "" }, also: []string{"app@refs/tags/v1.2.0", "app"}, want: "got no ref, and"},
		{name: "no ref, and a pull request that had the commit", old: `"ref":"refs/tags/v1.2.0",`, new: ``, signer: func(c *certificate.Summary) { c.SourceRepositoryRef = "" }, also: []string{"app@refs/tags/v1.2.0", "app", `"annotations":{`, `"annotations":{"within":"refs/pull/7/head",`}, want: "got no ref, and"},
		{name: "invocation", old: "releases/1", new: "releases/2", want: "invocation: the provenance says"},
		{name: "dependency of another commit", old: `"gitCommit":"381e`, new: `"gitCommit":"381f`, want: "got commits"},
		{name: "dependency of another ref", old: "app@refs/tags/v1.2.0", new: "app@refs/tags/v1.2.1", want: "got commits []"},
		{name: "builder dependencies without a host", old: `"id":"http://127.0.0.1:8080/builders/buildkit/v1"`, new: `"id":"http://127.0.0.1:8080/builders/buildkit/v1","builderDependencies":[{"name":"tool","uri":"dns:build1"},{"name":"host","uri":"https://build1"}]`, want: ""},
		{name: "unknown parameter", old: `"recipe":`, new: `"cache":"x","recipe":`, want: "external parameters"},
		{name: "unknown member of the recipe", old: `"recipe":{"builder":"buildkit","platforms"`, new: `"recipe":{"secret":"x","builder":"buildkit","platforms"`, want: "recipe"},
		{name: "recipe without a builder", old: `"recipe":{"builder":"buildkit","platforms"`, new: `"recipe":{"platforms"`, want: `builder: got "", want "buildkit"`},
		{name: "recipe of another builder", old: `"recipe":{"builder":"buildkit","platforms"`, new: `"recipe":{"builder":"golang","platforms"`, want: `builder: got "golang", want "buildkit"`},
		{name: "recipe with another builder's field", old: `"dockerfile":"Dockerfile"},"default"`, new: `"package":"./cmd/x"},"default"`, want: "only another builder has"},
		{name: "recipe out of the tree", old: `"dockerfile":"Dockerfile"},"default"`, new: `"dockerfile":"../x"},"default"`, want: "clean path inside the tree"},
		{name: "recipe null", old: recipe, new: `null`, want: "recipe"},
		{name: "no recipe", old: `"recipe":` + recipe + `,`, new: ``, want: "recipe"},
		{name: "no default", old: `,"default":` + byDefault, new: ``, want: ""},
		{name: "unknown member of the default", old: `"default":{`, new: `"default":{"chosen":"x",`, want: "external parameters"},
		{name: "default that no file declares", old: byDefault, new: `{"recipe":{"builder":"buildkit","dockerfile":"evil/Dockerfile"}}`, want: "without a file that declares it"},
		{name: "default of a file without a digest", old: byDefault, new: `{"recipe":{"builder":"buildkit","dockerfile":"x"},"file":".colophon.yaml"}`, want: "digest of .colophon.yaml"},
		{name: "default for one platform", old: byDefault, new: `{"recipe":{"builder":"buildkit","platforms":["linux/amd64"]}}`, want: "without a file that declares it"},
		{name: "other parameters than the certificate's", old: `"dockerfile":"Dockerfile"},"default"`, new: `"dockerfile":"Dockerfile","target":"debug"},"default"`, keep: true, want: "digest of the external parameters: the provenance says"},
		{name: "certificate without parameters", signer: func(c *certificate.Summary) { c.BuildConfigDigest = "" }, keep: true, want: "digest of the external parameters: the provenance says"},
		{name: "cache mounts asked for, and not kept", old: `"recipe":{"builder":"buildkit","platforms"`, new: `"cacheMounts":true,"recipe":{"builder":"buildkit","platforms"`, want: `cache mounts: the external parameters say true, the internal parameters say ""`},
		{name: "cache mounts kept, and not asked for", old: `"resolvedDependencies":`, new: `"internalParameters":{"cacheMounts":"kept"},"resolvedDependencies":`, want: `cache mounts: the external parameters say false, the internal parameters say "kept"`},
		{name: "cache mounts asked for and kept", old: `"recipe":{"builder":"buildkit","platforms"`, new: `"cacheMounts":true,"recipe":{"builder":"buildkit","platforms"`, also: []string{`"resolvedDependencies":`, `"internalParameters":{"cacheMounts":"kept"},"resolvedDependencies":`}},
		{name: "internal parameters of a text", old: `"resolvedDependencies":`, new: `"internalParameters":"x","resolvedDependencies":`, want: "internal parameters"},
		{name: "certificate of another source", signer: func(c *certificate.Summary) { c.SourceRepositoryURI += "s" }, want: "source: the provenance says"},
		{name: "certificate of another commit", signer: func(c *certificate.Summary) { c.SourceRepositoryDigest = other }, want: "commit: the provenance says"},
		{name: "certificate without a commit", signer: func(c *certificate.Summary) { c.SourceRepositoryDigest = "" }, want: "commit: the provenance says"},
		{name: "certificate of another ref", signer: func(c *certificate.Summary) { c.SourceRepositoryRef = "" }, want: "ref: the provenance says"},
		{name: "certificate of another run", signer: func(c *certificate.Summary) { c.RunInvocationURI += "0" }, want: "invocation: the provenance says"},
		{name: "certificate of another build signer", signer: func(c *certificate.Summary) { c.BuildSignerURI = c.SubjectAlternativeName + "x" }, want: "build signer of the certificate"},
		{name: "certificate of a person", signer: func(c *certificate.Summary) { c.SubjectAlternativeName = "ada@example.com" }, want: "build type"},
	})
}

// TestSourceSignature: who signed the source is kept as the builder saw it, and
// a status that nobody knows says nothing.
func TestSourceSignature(t *testing.T) {
	s := load(t, "colophon")
	for annotation, want := range map[string]*source.Signature{
		`{"status":"unsigned"}`: {Status: source.Unsigned},
		`{"object":"commit","status":"unverified","key":"SHA256:x"}`: {Object: "commit", Status: source.Unverified, Key: "SHA256:x"},
		`{"status":"bad","reason":"x"}`:                              {Status: source.Bad, Reason: "x"},
		`{"status":"Verified","signer":"release@example.com"}`:       nil,
		`{"signer":"release@example.com"}`:                           nil,
		`"verified"`:                                                 nil,
		`null`:                                                       nil,
	} {
		bent := s
		bent.statement = strings.Replace(s.statement, `{"object":"tag","signer":"release@example.com","status":"verified"}`, annotation, 1)
		if got := facts(t, bent).Signature; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", annotation, got, want)
		}
	}
}

// TestPinned: a provenance that claims to be hermetic, or locked, names the lock.
func TestPinned(t *testing.T) {
	const (
		hermetic = `"hermetic":true,`
		sum      = "a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3"
		locked   = `"lock":"sha256:` + sum + `",`
		golang   = "golang"
	)
	lock := func(digest string) string {
		return `{"name":"lock","mediaType":"application/vnd.colophon.lock.v1+json","digest":{` + digest + `}},`
	}
	right := lock(`"sha256":"` + sum + `"`)
	for name, tt := range map[string]struct {
		parameters, dependencies, builder string
		reason                            string // empty: it is read
		lock                              string // of the facts
		evidence                          string
	}{
		"neither":                  {"", "", "", "", "", "agree with the certificate"},
		"hermetic":                 {hermetic, right, "", "", sum, "hermetic: built again from the lock sha256:" + sum + " with the same result; the lock is attached"},
		"locked":                   {locked, right, "", "", sum, "built only with the downloads listed in the lock sha256:" + sum + "; the lock is attached"},
		"hermetic without a lock":  {hermetic, "", "", "hermetic, and the resolved dependencies name no lock", "", ""},
		"locked without a lock":    {locked, "", "", "name no lock", "", ""},
		"both":                     {hermetic + locked, right, "", "want at most one of them", "", ""},
		"another lock":             {locked, lock(`"sha256":"` + strings.Repeat("ab", 32) + `"`), "", sum, "", ""},
		"two locks":                {hermetic, right + right, "", "two locks", "", ""},
		"a lock of another name":   {hermetic, strings.Replace(right, "lock", "Lock", 1), "", "name no lock", "", ""},
		"a submodule called lock":  {hermetic, `{"name":"lock","digest":{"gitCommit":"381e"}},`, "", "name no lock", "", ""},
		"another algorithm":        {hermetic, lock(`"sha512":"` + sum + `"`), "", "want 64 hex digits", "", ""},
		"a digit less":             {hermetic, lock(`"sha256":"` + sum[1:] + `"`), "", "want 64 hex digits", "", ""},
		"capitals":                 {hermetic, lock(`"sha256":"` + strings.ToUpper(sum) + `"`), "", "want 64 hex digits", "", ""},
		"golang":                   {hermetic, "", golang, "", "", "hermetic: built twice"},
		"golang with a lock":       {locked, right, golang, "want none for build type", "", ""},
		"golang, neither":          {"", "", golang, "", "", "agree with the certificate"},
		"a lock that nobody needs": {"", right, "", "", "", "agree with the certificate"},
	} {
		s := load(t, "colophon")
		s.statement = strings.Replace(s.statement, `"recipe":`, tt.parameters+`"recipe":`, 1)
		s.statement = strings.Replace(s.statement, `"resolvedDependencies":[`, `"resolvedDependencies":[`+tt.dependencies, 1)
		if tt.builder != "" {
			s.statement = strings.Replace(s.statement, "spec/buildkit/v1", "spec/golang/v1", 1)
			s.statement = strings.ReplaceAll(s.statement, `"builder":"buildkit"`, `"builder":"golang"`)
			s.statement = strings.ReplaceAll(s.statement, `,"dockerfile":"Dockerfile"`, ``)
		}
		f, err := s.vouched(t).read(t)
		if tt.reason != "" {
			if err == nil || !strings.Contains(err.Error(), tt.reason) {
				t.Errorf("%s: got %v, want %q", name, err, tt.reason)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if got := strings.TrimPrefix(f.Lock, "sha256:"); got != tt.lock || (f.Lock != "") != (tt.lock != "") || f.Hermetic != (tt.parameters == hermetic) {
			t.Errorf("%s: got lock %q, hermetic %v", name, f.Lock, f.Hermetic)
		}
		r := requirement(t, f.Requirements(provenance.Evidence{Lock: "the lock is attached"}), "consistent build process")
		if r.Status != provenance.IsMet || !strings.Contains(r.Evidence, tt.evidence) || strings.Contains(r.Evidence, "hermetic") != f.Hermetic {
			t.Errorf("%s: got %+v, want it met, for %q", name, r, tt.evidence)
		}
	}
}
