package gitlab_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/gitlab"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/test/linttest"
	"github.com/colophon-build/colophon/test/spent"
)

func TestRules(t *testing.T) { linttest.Rules(t, gitlab.Checker(linttest.Offline(t))) }

func check(t testing.TB, src string) []finding.Finding {
	t.Helper()
	return gitlab.Checker(&pins.Resolver{Offline: true}).Check(t.Context(), nil, finding.NewFile(".gitlab-ci.yml", []byte(src)))
}

func TestWants(t *testing.T) {
	for name, want := range map[string]bool{".gitlab-ci.yml": true, "sub/.gitlab-ci.yml": true, "go.gitlab-ci.yml": true, ".gitlab/ci/go.yml": true, ".gitlab-ci/a.yaml": true, "gitlab-ci.yml": false, ".gitlab/issue_templates/a.md": false, "ci.yml": false} {
		if gitlab.Wants(name) != want {
			t.Errorf("%s: got %v", name, !want)
		}
	}
}

// A file that cannot be read is a finding with a place, and the scripts of the others are read.
func TestBroken(t *testing.T) {
	for src, want := range map[string]string{
		"a: {script: [\n": "did not find", "": "expected one mapping", "- a\n": "expected one mapping", "a: 1\n---\nb: 2\n": "expected one mapping", "a: &a {b: *a}\n": "contains itself",
		"a: {image: 'a/b@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef', script: make, image: evil/b}\n": "twice", "a: {script: make}\n\"a\": {script: 'curl https://x.example | sh'}\n": "twice",
		"a: {script: \"\xff\"}\n": "UTF-8",
	} {
		found := check(t, src)
		if len(found) != 1 || found[0].Rule != "gitlab/syntax" || !strings.Contains(found[0].Message, want) {
			t.Errorf("%q: got %+v, want %q", src, found, want)
		}
	}
}

// What cannot be known from one file is no finding.
func TestNotFound(t *testing.T) {
	for _, src := range []string{
		"a: {script: [!reference [.b, script], make]}\n", "a: {extends: .elsewhere, script: [docker push x]}\n", "spec: {inputs: {a: {}}}\n---\na: {script: ['echo $[[ inputs.a ]]']}\n",
		"include: /local.yml\n", "a: {image: $IMAGE}\n", "workflow: {rules: [{if: $CI_COMMIT_TAG}]}\na: {environment: x, script: docker push x}\n",
		"a: {extends: a, script: make}\n", "a: {extends: .b}\n.b: {extends: .a}\n.a: {extends: .b}\n", "a: {script: 1}\n", "a: {services: x, cache: [], id_tokens: {}}\n", "a: {id_tokens: {T: {aud: x}}, script: ['go install example.com/tool@v1']}\n",
	} {
		if found := check(t, src); len(found) > 0 {
			t.Errorf("%q: got %+v", src, found)
		}
	}
}

// Templates that extend each other without end cost a bounded time.
func TestHostile(t *testing.T) {
	var wide, deep strings.Builder
	list := make([]string, 200)
	for i := range list {
		list[i] = fmt.Sprintf(".t%d", i)
	}
	for i := range list {
		fmt.Fprintf(&wide, ".t%d: {extends: [%s]}\n", i, strings.Join(list, ", "))
	}
	wide.WriteString("a: {extends: .t0}\n")
	for i := range 10_000 {
		fmt.Fprintf(&deep, ".t%d: {extends: .t%d}\nj%d: {extends: .t%d}\n", i, i+1, i, i)
	}
	for name, src := range map[string]string{"wide": wide.String(), "deep": deep.String(), "nested lists": "a: {script: " + strings.Repeat("[", 5000) + strings.Repeat("]", 5000) + "}\n"} {
		start := spent.Now()
		check(t, src)
		if took := spent.Now() - start; took > 20*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("include: [{project: a, ref: b}]\na: {extends: [.b], image: {name: a:1}, services: [b:2], script: [eval $CI_COMMIT_TITLE]}\n.b: {id_tokens: {T: {}}, cache: [{unprotect: true}]}\n")
	f.Fuzz(func(t *testing.T, src string) { check(t, src) })
}
