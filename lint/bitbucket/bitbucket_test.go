package bitbucket_test

import (
	"strings"
	"testing"

	"github.com/colophon-build/colophon/lint/bitbucket"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/test/linttest"
)

func TestRules(t *testing.T) { linttest.Rules(t, bitbucket.Checker(linttest.Offline(t))) }

func check(t testing.TB, src string) []finding.Finding {
	t.Helper()
	return bitbucket.Checker(&pins.Resolver{Offline: true}).Check(t.Context(), nil, finding.NewFile("bitbucket-pipelines.yml", []byte(src)))
}

// A step that has an anchor is checked once, where it stands; wherever steps are nested, they are found.
func TestSteps(t *testing.T) {
	for src, want := range map[string]int{
		"definitions:\n  steps:\n  - step: &a\n      script: [pipe: a/b:1]\npipelines:\n  default:\n  - step: *a\n  - step: *a\n":                       1,
		"pipelines: {branches: {x: [{stage: {steps: [{step: {script: [{pipe: a/b:1}]}}]}}, {parallel: {steps: [{step: {script: [curl x | sh]}}]}}]}}\n": 2,
		"image: a/b:1\n": 1, "pipelines: {default: [{step: {script: [{pipe: 'docker://a/b@sha256:0'}, {pipe: $PIPE}]}}]}\n": 0,
		"a: &a {step: *a}\n": 1, "- a\n": 1, "": 1, "pipelines: {default: [{step: }, {step: x}, {step: [a]}, {step: {script: x, after-script: 1}}]}\n": 0,
	} {
		if found := check(t, src); len(found) != want {
			t.Errorf("%q: got %+v, want %d", src, found, want)
		}
	}
}

func TestHostile(t *testing.T) {
	for _, src := range []string{"a: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "pipelines: " + strings.Repeat("{step: ", 5000) + strings.Repeat("}", 5000)} {
		check(t, src)
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("image: {name: a:1}\npipelines: {default: [{step: &a {oidc: true, script: [make, {pipe: a/b:1}, docker push a]}}, {step: *a}]}\n")
	f.Fuzz(func(t *testing.T, src string) { check(t, src) })
}
