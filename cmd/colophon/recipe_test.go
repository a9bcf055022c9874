package main

import (
	"encoding/json"
	"testing"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/test/prooftest"
)

// TestRecipeFlags: verify takes the flags that release has, and accepts what was chosen
// only if they name all of it.
func TestRecipeFlags(t *testing.T) {
	lock := []byte(`{"version":1,"fetches":[]}`)
	s := stageOf(t, func(r *prooftest.Release) {
		r.Parameters.Recipe = json.RawMessage(`{"builder":"buildkit","dockerfile":"x/Dockerfile","target":"debug","buildArgs":{"A":"b,c"}}`)
		r.Parameters.Default = &attest.DefaultRecipe{Recipe: attest.Recipe{Builder: attest.BuildKit, Dockerfile: "x/Dockerfile"},
			File: ".colophon.yaml", Digest: attest.ParametersDigest(nil), Image: "other"}
		r.Parameters.Lock = attest.ParametersDigest(lock)
		deps := &r.Provenance.BuildDefinition.ResolvedDependencies
		*deps = append(*deps, attest.ResourceDescriptor{Name: "lock", MediaType: attest.LockMediaType, Digest: map[string]string{"sha256": r.Parameters.Lock[len("sha256:"):]}})
	})
	s.run(exitOK, []string{"trust", "add", s.file("root.json", s.p.Document()), "--yes"})
	verify := func(args ...string) []string {
		return append([]string{"verify", s.image, "--skip-source", "--source", "git.example.com/team/app"}, args...)
	}
	file, other := s.file("lock", lock), s.file("other", []byte(`{}`))
	all := []string{"--target", "debug", "--build-arg", "A=b,c", "--locked", file, "--declared-as", "other"}
	s.run(exitRejected, verify("--declared-as", "other"), "chose target debug, build argument A=b,c, lock sha256:")
	s.run(exitRejected, verify("--locked", file), `declares it for the image "other"`)
	s.run(exitRejected, verify("--locked", file, "--declared-as", "other"), "the requester of the build chose target debug, build argument A=b,c", "hint: if that is the recipe")
	s.run(exitRejected, verify("--locked", file, "--declared-as", "other", "--target", "debug"), "chose build argument A=b,c")
	s.run(exitRejected, verify(append(all, "--build-arg", "B=")...), "build argument B: got none")
	s.run(exitRejected, verify(append(all, "--dockerfile", "Dockerfile")...), `dockerfile: got "x/Dockerfile", want "Dockerfile"`)
	s.run(exitRejected, verify("--target", "debug", "--build-arg", "A=b,c", "--locked", other, "--declared-as", "other"), "lock that the requester brought")
	s.run(exitOK, verify(all...), ".colophon.yaml of the commit says dockerfile x/Dockerfile; the requester chose target debug, build argument A=b,c, lock sha256:")
	s.run(exitOK, verify(append(all, "--dockerfile", "x/Dockerfile")...), "accepted")
	s.run(exitOK, verify("--any-recipe"), "dangerous: any recipe is accepted", "the requester chose target debug")
	s.run(exitUsage, verify(append(all, "--any-recipe")...), "any-recipe")
	s.run(exitUsage, verify("--package", ".", "--target", "x"), "no builder has both")
	s.run(exitUsage, verify("--build-arg", "A"), "expected NAME=VALUE")
	policy := s.file("policy.json", []byte(`{"source":"git.example.com/team/app","recipe":{"image":"other","target":{"pattern":"debug|final"},"buildArgs":{"A":"b,c"},"lock":"`+attest.ParametersDigest(lock)+`"}}`))
	s.run(exitOK, []string{"verify", s.image, "--skip-source", "--policy", policy}, "accepted")
	s.run(exitUsage, []string{"verify", s.image, "--policy", policy, "--target", "debug"}, "policy")
}
