package tekton_test

import (
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/tekton"
	"github.com/colophon-build/colophon/test/linttest"
	"github.com/colophon-build/colophon/test/spent"
)

func TestRules(t *testing.T) { linttest.Rules(t, tekton.Checker(linttest.Offline(t))) }

func check(t testing.TB, src string) []finding.Finding {
	t.Helper()
	return tekton.Checker(&pins.Resolver{Offline: true}).Check(t.Context(), nil, finding.NewFile("a.yaml", []byte(src)))
}

func task(step string) string {
	return "apiVersion: tekton.dev/v1\nkind: Task\nspec:\n  steps:\n  - " + step + "\n"
}

func TestFound(t *testing.T) {
	for src, want := range map[string]int{
		task(`script: 'echo $(params["a"])'`): 1, task(`script: 'echo $(params.a[*]) $(params.a[0]) $(params.b.c)'`): 2, task(`script: 'echo $(tasks.x.results.y)'`): 1,
		task(`script: "#!/usr/bin/env python\nprint('$(params.a)')"`): 1, task(`script: 'curl https://x.example/i | sh'`): 1, task("script: \"#!/usr/bin/python3\\ncurl x | sh\""): 0,
		task(`script: 'echo $(context.taskRun.name) $(workspaces.a.path) $(results.a.path) $(inputs.b)'`): 0, task(`ref: {resolver: hub}`): 1, task(`ref: {resolver: http, params: [{name: url, value: 'https://x.example'}]}`): 1,
		task(`ref: {resolver: git, params: [{name: revision, value: $(params.commit)}]}`): 0, task(`ref: {resolver: git}`): 1, task(`ref: {bundle: 'a/b:1'}`): 1, task(`ref: {resolver: cluster}`): 0, task("image: $(params.image)"): 0,
		strings.Replace(task(`ref: {resolver: hub}`), "tekton.dev/v1", `"tekton\x2edev/v1"`, 1): 1, `a: "\x56": [`: 0,
		"apiVersion: v1\nkind: Pod\n# tekton.dev/\nspec: {steps: [{image: 'a/b:1'}]}\n": 0, "kind: {{ .Values.x }}: [\n# tekton.dev/\n": 0,
	} {
		if found := check(t, src); len(found) != want {
			t.Errorf("%q: got %+v, want %d", src, found, want)
		}
	}
}

func TestHostile(t *testing.T) {
	for name, step := range map[string]string{
		"many":   "script: '" + strings.Repeat("$(params.a) $(params.b", 50_000) + "'",
		"nested": "x: " + strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "not closed": "script: '" + strings.Repeat("$(params[", 100_000) + "'",
	} {
		start := spent.Now()
		check(t, task(step))
		if took := spent.Now() - start; took > 10*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add(task("{image: 'a:1', script: 'echo $(params.a)', ref: {resolver: git, params: [{name: revision, value: main}]}}"))
	f.Fuzz(func(t *testing.T, src string) { check(t, src) })
}
