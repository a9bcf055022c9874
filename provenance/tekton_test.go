package provenance_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/colophon-build/colophon/provenance"
	"github.com/colophon-build/colophon/trust"
)

func TestTekton(t *testing.T) {
	for name, buildType := range map[string]string{"tekton-v0.2": "tekton.dev/v1beta1/PipelineRun", "tekton-v1": "https://tekton.dev/chains/v2/slsa"} {
		s := load(t, name)
		want := provenance.Facts{System: provenance.Tekton, Builder: trust.TektonBuilder, BuildType: buildType, Source: "https://git.example.com/team/app", Commit: commit}
		if name == "tekton-v1" {
			want.Invocation = "a0f3c0de-uid"
		}
		if got := facts(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
		// The account of a cluster says nothing about the build.
		s.signer.SubjectAlternativeName = "https://kubernetes.io/namespaces/tekton-chains/serviceaccounts/tekton-chains-controller"
		if got := facts(t, s); !reflect.DeepEqual(got, want) {
			t.Errorf("%s, by an account: got %+v, want %+v", name, got, want)
		}
		bent := map[string]string{"tekton-v0.2": `"tekton.dev/v1beta1/CustomRun"`, "tekton-v1": `"https://tekton.dev/chains/v2/other"`}[name]
		one := `{"sha1":"` + commit + `"}}`
		bends := []bend{
			// Two repositories went in, and nobody says which is the source.
			{name: "two inputs", old: one, new: one + `,{"name":"inputs/result","uri":"git+https://git.example.com/team/other.git","digest":{"sha1":"2222222222222222222222222222222222222222"}}`, want: "inputs: got 2, want 1"},
			{name: "two commits", old: one, new: one + `,{"name":"inputs/result","uri":"git+https://git.example.com/team/app.git","digest":{"sha1":"2222222222222222222222222222222222222222"}}`, want: "inputs: got 2, want 1"},
			{name: "a repository that cannot be read", old: one, new: one + `,{"name":"inputs/result","uri":"git+ssh://","digest":{}}`, want: "inputs: got 2, want 1"},
			{name: "no commit", old: `"sha1":"` + commit, new: `"sha1":"main`, want: "want 40 or 64 hex digits"},
			{name: "build type", old: `"` + buildType + `"`, new: bent, want: "build type"},
			{name: "a builder of one's own", old: trust.TektonBuilder + `"`, new: `https://tekton.example.com/chains"`},
		}
		if name == "tekton-v1" {
			bends = append(bends, bend{name: "no git", old: "git+https://git.example.com/team/app.git", new: "https://git.example.com/team/app", want: "inputs: got 0, want 1"})
		} else {
			// Then the source is where the pipeline is kept, whatever that demands.
			s := s
			s.statement = strings.Replace(s.statement, "git+https://git.example.com/team/app.git", "https://git.example.com/team/app", 1)
			if got := facts(t, s); got.Source != "https://git.example.com/team/pipelines" {
				t.Errorf("the pipeline alone: got %+v", got)
			}
		}
		bendAll(t, s, bends)
	}
	// Another commit of the pipeline's repository is another input, and so is another
	// repository at the same commit.
	s := load(t, "tekton-v0.2")
	for uri, commit := range map[string]string{"https://git.example.com/team/pipelines": commit, "https://git.example.com/team/app": strings.Repeat("1", 40)} {
		s := s
		s.statement = strings.NewReplacer("git+https://git.example.com/team/app.git", "git+"+uri+".git", "381e42a0c0ffee00c0ffee00c0ffee00c0ffee00", commit).Replace(s.statement)
		if got := facts(t, s); got.Source != uri || got.Commit != commit {
			t.Errorf("beside the pipeline: got %s at %s, want %s at %s", got.Source, got.Commit, uri, commit)
		}
	}
}
