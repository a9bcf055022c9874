package provenance_test

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/provenance"
)

// sample is one provenance of testdata: a statement, and the certificate of who
// signed it.
type sample struct {
	statement string
	signer    certificate.Summary // zero where there is none
}

func load(t testing.TB, name string) sample {
	t.Helper()
	statement, err := os.ReadFile("testdata/" + name + "/statement.json")
	if err != nil {
		t.Fatal(err)
	}
	s := sample{statement: string(statement)}
	text, err := os.ReadFile("testdata/" + name + "/certificate.pem")
	if errors.Is(err, fs.ErrNotExist) {
		return s
	}
	block, _ := pem.Decode(text)
	if err != nil || block == nil {
		t.Fatalf("%s: no certificate: %v", name, err)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if s.signer, err = certificate.SummarizeCertificate(cert); err != nil {
		t.Fatal(err)
	}
	return s
}

// read goes through both stages.
func (s sample) read(t testing.TB) (*provenance.Facts, error) {
	t.Helper()
	by, err := provenance.OriginOf(s.signer)
	if err != nil {
		return nil, err
	}
	statement, err := attest.ParseAnyStatement([]byte(s.statement))
	if err != nil {
		t.Fatal(err)
	}
	return provenance.Read(statement, by)
}

// bend changes a sample. A pair of texts is replaced in the statement.
type bend struct {
	name     string
	old, new string
	also     []string // more pairs of texts
	signer   func(*certificate.Summary)
	keep     bool   // the certificate keeps its digest of the external parameters
	want     string // in the error; empty: it is read all the same
}

// vouched is the sample with a certificate that names its external parameters, if it
// is a certificate that names any.
func (s sample) vouched(t testing.TB) sample {
	t.Helper()
	var st struct {
		Predicate struct {
			BuildDefinition struct {
				ExternalParameters json.RawMessage `json:"externalParameters"`
			} `json:"buildDefinition"`
		} `json:"predicate"`
	}
	if err := json.Unmarshal([]byte(s.statement), &st); err != nil {
		t.Fatal(err)
	}
	if strings.HasPrefix(s.signer.BuildConfigDigest, "sha256:") {
		s.signer.BuildConfigDigest = attest.ParametersDigest(st.Predicate.BuildDefinition.ExternalParameters)
	}
	return s
}

// bendAll fails unless each bend of a sample is found out for its reason.
func bendAll(t *testing.T, s sample, bends []bend) {
	t.Helper()
	for _, b := range bends {
		bent := s
		if b.old != "" {
			if bent.statement = strings.Replace(s.statement, b.old, b.new, 1); bent.statement == s.statement {
				t.Errorf("%s: %q is not in the statement", b.name, b.old)
			}
		}
		bent.statement = strings.NewReplacer(b.also...).Replace(bent.statement)
		if !b.keep {
			bent = bent.vouched(t)
		}
		if b.signer != nil {
			b.signer(&bent.signer)
		}
		facts, err := bent.read(t)
		switch {
		case b.want == "" && err != nil:
			t.Errorf("%s: got %v, want it read", b.name, err)
		case b.want != "" && (err == nil || !strings.Contains(err.Error(), b.want)):
			t.Errorf("%s: got %+v, error %v, want %q", b.name, facts, err, b.want)
		}
	}
}

// facts of a sample, without what is as large as the statement.
func facts(t *testing.T, s sample) provenance.Facts {
	t.Helper()
	f, err := s.read(t)
	if err != nil {
		t.Fatal(err)
	}
	short := *f
	short.Parameters, short.Dependencies = nil, nil
	return short
}

func TestParse(t *testing.T) {
	s := load(t, "colophon")
	for name, predicateType := range map[string]string{"another predicate": attest.PredicateSPDX, "none": "", "of tomorrow": "https://slsa.dev/provenance/v2"} {
		st, err := attest.ParseStatement([]byte(s.statement))
		if err != nil {
			t.Fatal(err)
		}
		st.PredicateType = predicateType
		if d, err := provenance.Parse(st); err == nil || !strings.Contains(err.Error(), "predicate: got") {
			t.Errorf("%s: got %+v, %v", name, d, err)
		}
	}
}

// TestNobodyElsesForm: a certificate of one system does not vouch for the
// provenance of another, and what needs a certificate is not read without.
func TestNobodyElsesForm(t *testing.T) {
	for _, tt := range []struct{ statement, signer, want string }{
		{"colophon", "github-attestation", "build type"},
		{"colophon", "tekton-v1", "build type"},
		{"github-attestation", "colophon", "build type"},
		{"github-attestation", "tekton-v1", "build type"},
		{"gitlab", "github-attestation", "build type"},
		{"gitlab", "colophon", "build type"},
		{"tekton-v1", "github-attestation", "build type"},
		{"tekton-v1", "colophon", "build type"},
		{"generator-container-v2.0.0", "tekton-v1", "build type"},
	} {
		s := load(t, tt.statement)
		s.signer = load(t, tt.signer).signer
		if f, err := s.read(t); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s signed as %s: got %+v, %v, want %q", tt.statement, tt.signer, f, err, tt.want)
		}
	}
}

// TestOptionalParts: a part that a builder may leave out can be missing. One that is
// there is read strictly.
func TestOptionalParts(t *testing.T) {
	for _, tt := range []struct {
		name string
		path []string
		want string
		need bool
	}{
		{"generator-container-v2.0.0", []string{"invocation", "environment"}, "environment", false},
		{"gitlab-runner-v0.2", []string{"invocation", "environment"}, "environment", false},
		{"container-based", []string{"buildDefinition", "internalParameters"}, "internal parameters", false},
		{"github-attestation", []string{"buildDefinition", "internalParameters"}, "internal parameters", false},
		{"gitlab", []string{"buildDefinition", "internalParameters"}, "internal parameters", false},
		{"gitlab", []string{"buildDefinition", "externalParameters"}, "external parameters", true},
		{"colophon", []string{"buildDefinition", "externalParameters"}, "external parameters", true},
	} {
		s := load(t, tt.name)
		bent := func(value any) error {
			var st map[string]any
			if err := json.Unmarshal([]byte(s.statement), &st); err != nil {
				t.Fatal(err)
			}
			part := st["predicate"].(map[string]any)
			for _, key := range tt.path[:len(tt.path)-1] {
				part = part[key].(map[string]any)
			}
			last := tt.path[len(tt.path)-1]
			if part[last] == nil {
				t.Fatalf("%s has no %s", tt.name, last)
			}
			if part[last] = value; value == nil {
				delete(part, last)
			}
			raw, err := json.Marshal(st)
			if err != nil {
				t.Fatal(err)
			}
			_, err = sample{string(raw), s.signer}.vouched(t).read(t)
			return err
		}
		if err := bent(nil); (err != nil) != tt.need {
			t.Errorf("%s without %v: got %v, want it read: %v", tt.name, tt.path, err, !tt.need)
		}
		if err := bent("x"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %v is a text: got %v, want %q", tt.name, tt.path, err, tt.want)
		}
	}
}

func TestSystemOf(t *testing.T) {
	for name, want := range map[string]provenance.System{
		"http://127.0.0.1:8080/builders/buildkit/v1":                                              provenance.Colophon,
		"https://github.com/team/app/.github/workflows/release.yml@refs/tags/v1":                  provenance.GitHub,
		"https://github.com/team/app/.github/workflows/release.yml@refs/heads/builders/x":         provenance.GitHub,
		"https://gitlab.com/group/app//.gitlab-ci.yml@refs/heads/main":                            provenance.GitLab,
		"https://gitlab.com/group/app//.gitlab-ci.yml@refs/heads/a/builders/b":                    provenance.GitLab,
		"https://kubernetes.io/namespaces/tekton-chains/serviceaccounts/tekton-chains-controller": "",
		"ada@example.com": "",
		"":                "",
	} {
		if got := provenance.SystemOf(name); got != want {
			t.Errorf("%q: got %q, want %q", name, got, want)
		}
	}
}

// TestFactsJSON: the verdict carries the facts, so that they survive JSON.
func TestFactsJSON(t *testing.T) {
	for _, name := range []string{"colophon", "github-attestation", "container-based", "tekton-v0.2"} {
		f, err := load(t, name).read(t)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := json.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		var again provenance.Facts
		if err := json.Unmarshal(raw, &again); err != nil {
			t.Fatal(err)
		}
		f.Parameters, again.Parameters = nil, nil // of other white space
		if !reflect.DeepEqual(f, &again) {
			t.Errorf("%s: got %+v, want %+v", name, again, *f)
		}
	}
}
