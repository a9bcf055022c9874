package provenance_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"

	"github.com/colophon-build/colophon/provenance"
)

// From the certificate of a real attestation by GitHub's own action, OfJob makes the same
// provenance as that action.
func TestOfJobAsGitHub(t *testing.T) {
	real := load(t, "github-attestation")
	p, err := provenance.OfJob(real.signer, "", "")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	var statement struct{ Predicate any }
	var got any
	if err := json.Unmarshal([]byte(real.statement), &statement); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, statement.Predicate) {
		t.Errorf("got %v\nwant %v", got, statement.Predicate)
	}
}

// The facts of a job of GitLab are those of the provenance that GitLab documents.
func TestOfJobAsGitLab(t *testing.T) {
	p, err := provenance.OfJob(pipelineCertificate(), "12270831", "build")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	documented := load(t, "gitlab")
	documented.signer = pipelineCertificate()
	made := documented
	made.statement = `{"_type":"https://in-toto.io/Statement/v1","subject":[{"digest":{"sha256":"` + strings.Repeat("ab", 32) + `"}}],"predicateType":"https://slsa.dev/provenance/v1","predicate":` + string(raw) + `}`
	if got, want := facts(t, made), facts(t, documented); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestOfJobRefuses(t *testing.T) {
	github, gitlab := load(t, "github-attestation").signer, pipelineCertificate()
	for name, tt := range map[string]struct {
		signer certificate.Summary
		change func(*certificate.Summary)
		runner string
		want   string
	}{
		"a person":             {signer: certificate.Summary{SubjectAlternativeName: "ada@example.com"}, want: "want a job of GitHub or GitLab"},
		"a Colophon builder":   {signer: load(t, "colophon").signer, want: "want a job of GitHub or GitLab"},
		"no workflow":          {signer: github, change: func(c *certificate.Summary) { c.BuildConfigURI = "" }, want: "workflow of the certificate"},
		"contradicting itself": {signer: github, change: func(c *certificate.Summary) { c.SourceRepositoryDigest = strings.Repeat("0", 40) }, want: "commit in the certificate"},
		"no runner":            {signer: gitlab, want: "/-/runners/NUMBER"},
		"a runner of another":  {signer: gitlab, runner: "1/../2", want: "/-/runners/NUMBER"},
	} {
		if tt.change != nil {
			tt.change(&tt.signer)
		}
		if p, err := provenance.OfJob(tt.signer, tt.runner, "build"); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %+v, %v, want %q", name, p, err, tt.want)
		}
	}
}
