package workflow_test

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/lint/workflow"
	"github.com/colophon-build/colophon/test/linttest"
	"github.com/colophon-build/colophon/test/spent"
)

// offline answers from a file, as it is used where no server can be asked.
func offline(t testing.TB) *pins.Resolver {
	t.Helper()
	known, err := pins.ReadFile("testdata/resolutions.json")
	if err != nil {
		t.Fatal(err)
	}
	return &pins.Resolver{Offline: true, Known: known}
}

func TestRules(t *testing.T) {
	linttest.Rules(t, workflow.Checker(offline(t))) // of those of scripts, package script
}

// A file that cannot be read is a finding with a place.
func TestBroken(t *testing.T) {
	for src, want := range map[string]string{
		"on: push\njobs:\n  a: [\n":           "did not find",
		"":                                    "expected one mapping",
		"on: push\n":                          "expected jobs",
		"on: push\njobs:\n  a: 1\n":           `the job "a"`,
		"a: &a {b: *a}\njobs: *a\n":           "contains itself",
		"on: push\njobs: {}\n---\non: push\n": "expected one mapping",
		"on: push\njobs:\n  a: {steps: \"\xff\"}\n":                                                          "UTF-8",
		"\xff\xfe" + strings.Join(strings.Split("on: push\njobs:\n  a: {steps: []}\n", ""), "\x00") + "\x00": "UTF-16",
	} {
		found := check(t, src)
		if len(found) != 1 || found[0].Rule != "workflow/syntax" || !strings.Contains(found[0].Message, want) {
			t.Errorf("%q: got %+v, want %q", src, found, want)
		}
	}
}

func check(t testing.TB, src string) []finding.Finding {
	t.Helper()
	c := workflow.Checker(offline(t))
	return c.Check(t.Context(), nil, finding.NewFile(".github/workflows/a.yml", []byte(src)))
}

// Expressions that are nested or repeated without end do not stop the program.
func TestHostileExpressions(t *testing.T) {
	for name, text := range map[string]string{
		"nested":     "${{ " + strings.Repeat("(", 1_000_000) + " }}",
		"not closed": strings.Repeat("${{ ", 100_000),
		"many":       strings.Repeat("${{ a }}", 100_000),
		"indices":    "${{ a" + strings.Repeat("[a", 500_000) + " }}",
		"strings":    "${{ '" + strings.Repeat("''", 500_000) + " }}",
		"not":        "${{ " + strings.Repeat("!", 1_000_000) + "a }}",
	} {
		start := spent.Now()
		check(t, "on: push\njobs:\n  a:\n    steps:\n      - run: \""+text+"\"\n")
		if took := spent.Now() - start; took > 5*time.Second {
			t.Errorf("%s: took %s", name, took)
		}
	}
}

// Whatever a file contains, findings are in the file, and mending twice is mending once.
func FuzzCheck(f *testing.F) {
	archives, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(archives) < 10 {
		f.Fatal(archives, err)
	}
	more, _ := filepath.Glob("../script/testdata/*.txtar")
	for _, a := range append(archives, more...) {
		for _, text := range linttest.Read(f, a).Bad {
			f.Add(text)
		}
	}
	c := workflow.Checker(offline(f))
	f.Fuzz(func(t *testing.T, src string) {
		for round := range 8 {
			file := finding.NewFile(".github/workflows/a.yml", []byte(src))
			var edits []finding.Edit
			for _, found := range c.Check(t.Context(), nil, file) {
				if found.File != file.Path || found.Line > file.Lines() {
					t.Fatalf("%+v", found)
				}
				if found.Rule == "workflow/syntax" && round > 0 {
					t.Fatalf("mended to what cannot be read: %s\n%s", found.Message, src)
				}
				edits = append(edits, found.Edits...)
			}
			after, err := lint.Edit(file.Data, edits)
			if err != nil {
				t.Fatal(err)
			}
			if string(after) == src {
				return
			}
			src = string(after)
		}
		t.Fatalf("mending does not end: %s", src)
	})
}

// What the rules said of real repositories, and was not so.
func TestNotFound(t *testing.T) {
	const head = "permissions: {}\non: {pull_request: , push: {tags: ['v*']}}\njobs:\n"
	const inject = "runs-on: x, steps: [{run: 'git push origin \"${{ github.event.pull_request.head.ref }}\"'}]"
	const bot = "if: \"github.event.pull_request.user.login == 'dependabot[bot]' && github.repository == 'a/b'\""
	const registry = "services: {r: {image: 'registry:2@sha256:3333333333333333333333333333333333333333333333333333333333333333'}}, "
	const push = "steps: [{uses: 'docker/build-push-action@263435318d21b8e681c14492fe198d362a7d2c83', with: {push: true}}]"
	const goreleaser = "{uses: 'goreleaser/goreleaser-action@f06c13b6b1a9625abc9e6e439d9c05a8f2190e94', env: {K: '${{ secrets.K }}'}, with: {"
	for src, want := range map[string]bool{
		head + "  a: {" + inject + "}\n": true, head + "  a: {" + bot + ", " + inject + "}\n": false,
		head + "  a: {" + bot + ", runs-on: x}\n  b: {needs: a, " + inject + "}\n":                                                  false,
		head + "  a: {" + bot + ", runs-on: x}\n  b: {needs: [a], if: always(), " + inject + "}\n":                                  true,
		head + "  a: {if: \"github.event.pull_request.user.login == 'x' || true\", " + inject + "}\n":                               true,
		head + "  a: {if: \"${{ github.event.pull_request.user.login == 'x' && false }} x\", " + inject + "}\n":                     true,
		head + "  a: {if: \"github.event.pull_request['user'].login == 'x' && (github.sha || true)\", " + inject + "}\n":            false,
		head + "  a: {env: {T: \"${{ github.event['issue'].title }}\"}, runs-on: x, steps: [{run: \"echo ${{ env['T'] }}\"}]}\n":    true,
		head + "  a: {env: {T: \"${{ github.head_ref }}\"}, runs-on: x, steps: [{run: \"echo ${{ env.T || 'x' }}\"}]}\n":            true,
		head + "  a: {env: {T: \"${{ github.head_ref }}\"}, runs-on: x, steps: [{run: \"echo ${{ env.T == 'x' }}\"}]}\n":            false,
		head + "  a: {if: \"github.actor == 'dependabot[bot]'\", " + inject + "}\n":                                                 true,
		head + "  a: {runs-on: x, " + push + "}\n":                                                                                  true,
		head + "  a: {runs-on: x, " + registry + push + "}\n":                                                                       false,
		head + "  a: {runs-on: x, steps: [" + goreleaser + "args: release}}]}\n":                                                    true,
		head + "  a: {runs-on: x, environment: x, steps: [" + goreleaser + "args: build}}]}\n":                                      true,
		head + "  a: {runs-on: x, environment: x, steps: [" + goreleaser + "args: check}}]}\n":                                      false,
		head + "  a: {runs-on: x, environment: x, steps: [" + goreleaser + "install-only: true}}]}\n":                               false,
		"on: push\npermissions: {contents: write}\njobs: {a: {runs-on: x}, b: {runs-on: x}}\n":                                      true,
		"on: push\npermissions: {contents: write}\njobs: {a: {runs-on: x}, b: {permissions: {}, runs-on: x}}\n":                     false,
		head + "  a: {secrets: inherit, uses: team/app/.github/workflows/b.yml@263435318d21b8e681c14492fe198d362a7d2c83}\n":         false,
		head + "  a: {secrets: inherit, uses: team/app/.github/workflows/elsewhere.yml@263435318d21b8e681c14492fe198d362a7d2c83}\n": true,
	} {
		files := map[string]string{".github/workflows/a.yml": src, ".github/workflows/b.yml": "on: workflow_call\npermissions: {}\njobs: {a: {runs-on: x}}\n"}
		r := linttest.Run(t, linttest.Write(t, files, ""), workflow.Checker(offline(t)))
		if found := len(r.Findings) > 0; found != want {
			t.Errorf("%s: got %+v", src, r.Findings)
		}
	}
}

// TestByHand: a workflow that publishes when somebody starts it, and only then, needs an approval too.
func TestByHand(t *testing.T) {
	for on, want := range map[string]bool{"workflow_dispatch": true, "{workflow_dispatch: {inputs: {}}}": true, "[workflow_dispatch, push]": false, "workflow_call": false, "push": false} {
		src := "on: " + on + "\npermissions: {}\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: npm publish}]}}\n"
		if got := slices.ContainsFunc(check(t, src), func(f finding.Finding) bool { return f.Rule == "workflow/release-environment" }); got != want {
			t.Errorf("on %s: got %t, want %t", on, got, want)
		}
	}
}

// TestMergedJobs: what a job, a step or a trigger merges counts as if it was written there, as Forgejo has it.
func TestMergedJobs(t *testing.T) {
	const written = "on: {pull_request_target: {}}\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v4\n        with: {ref: \"${{ github.event.pull_request.head.sha }}\"}\n"
	const merged = "x: &x {pull_request_target: {}}\ny: &y\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v4\n        with: {<<: {ref: \"${{ github.event.pull_request.head.sha }}\"}}\non: {<<: *x}\npermissions: {}\njobs: {<<: *y}\n"
	rules := func(src string) (out []string) {
		for _, f := range check(t, src) {
			out = append(out, f.Rule)
		}
		return out
	}
	if got, want := rules(merged), rules(written); len(want) < 2 || strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
}

// TestCallersCode: GitHub takes names in any case, and properties in brackets. A condition that denies an event, or
// names one of several, keeps nobody out.
func TestCallersCode(t *testing.T) {
	const src = "on: {pull_request_target: , workflow_run: , push: }\npermissions: {}\njobs:\n  a:\n    if: %q\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v4\n        env: {SHA: \"${{ github.event['pull_request'].head.sha }}\"}\n        with: {ref: %q}\n"
	for _, c := range []struct {
		condition, ref string
		want           bool
	}{
		{"", "${{ github.event.pull_request.head.sha }}", true},
		{"", "${{ github.event['pull_request']['head'].sha }}", true},
		{"", "${{ GitHub.Event.Pull_Request.Head.SHA }}", true},
		{"", "${{ github . head_ref }}", true},
		{"", "${{ github['head_ref'] || github.sha }}", true},
		{"", "${{ format('refs/pull/{0}/head', github.event['number']) }}", true},
		{"", "${{ github.event.workflow_run.head_branch }}", true},
		{"", "${{ env['SHA'] }}", true},
		{"", "${{ Env.sha }}", true},
		{"", "${{ github.event.pull_request.base.sha }}", false},
		{"", "${{ github.sha }}", false},
		{"github.event_name == 'push'", "${{ github.head_ref }}", false},
		{"github.event_name == 'push' && github.head_ref", "${{ github.head_ref }}", false},
		{"${{ github.event_name == 'push' }}", "${{ github.head_ref }}", false},
		{"GitHub.Event_Name == 'push'", "${{ github.head_ref }}", false},
		{"!(github.event_name == 'push')", "${{ github.head_ref }}", true},
		{"(github.event_name == 'push') == false", "${{ github.head_ref }}", true},
		{"github.event_name == 'push' || true", "${{ github.head_ref }}", true},
		{"contains('x', github.event_name == 'push') || always()", "${{ github.head_ref }}", true},
	} {
		found := slices.ContainsFunc(check(t, fmt.Sprintf(src, c.condition, c.ref)), func(f finding.Finding) bool { return f.Rule == "workflow/untrusted-checkout" })
		if found != c.want {
			t.Errorf("%s with if %q: got %t, want %t", c.ref, c.condition, found, c.want)
		}
	}
}

// TestFetchedCode: the same of commands.
func TestFetchedCode(t *testing.T) {
	for command, want := range map[string]bool{
		"git checkout ${{ github.head_ref }}": true, "git fetch origin ${{ github.event['pull_request'].head.sha }}": true, "git fetch origin pull/1/head": true,
		"git fetch origin ${{ github.sha }}": false, "git log ${{ github.head_ref }}": false,
	} {
		src := "on: pull_request_target\npermissions: {}\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: \"" + command + "\"}]}}\n"
		if got := slices.ContainsFunc(check(t, src), func(f finding.Finding) bool { return f.Rule == "workflow/untrusted-checkout" }); got != want {
			t.Errorf("%s: got %t, want %t", command, got, want)
		}
	}
}

// TestManyExpressions: whatever GitHub accepts is looked at: a text with expressions of up to 21,000 characters.
func TestManyExpressions(t *testing.T) {
	run := strings.Repeat("${{1}}", 3000) + "${{ github.event.issue.title }}"
	src := "on: issues\npermissions: {}\njobs: {a: {runs-on: ubuntu-24.04, steps: [{run: \"echo " + run + "\"}]}}\n"
	if !slices.ContainsFunc(check(t, src), func(f finding.Finding) bool { return f.Rule == "workflow/script-injection" }) {
		t.Error("the last expression was not looked at")
	}
}

// TestEscaped: what counts is the value that the YAML has, not how the file writes it.
func TestEscaped(t *testing.T) {
	src := `{on: issues, permissions: {}, jobs: {a: {runs-on: ubuntu-24.04, steps: [{run: "echo $\x7b{ github.event.issue.title }}"}]}}}`
	if !slices.ContainsFunc(check(t, src), func(f finding.Finding) bool { return f.Rule == "workflow/script-injection" }) {
		t.Error("an expression with an escape was not looked at")
	}
}

// TestComments: the version beside a commit is that of the commit, with or without "v".
func TestComments(t *testing.T) {
	const old, now = "eef61447b9ff4aafe5dcd4e0bbf5d482be7e7871", "11bd71901bbe5b1630ceea73d27597364c9af683" // v4.2.1, v4.2.2
	for pin, want := range map[string]bool{
		now + " # v4.2.2": false, now + " # 4.2.2": false, now + " # v4": false, now + " # v5": false, now + " # since 2024": false, now: false,
		old + " # v4.2.2": true, old + " # 4.2.2": true, old + " # v4": true, old + " # v9.9.9": true, old + " # 9.9.9 newest": true,
	} {
		src := "on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@" + pin + "\n"
		if got := slices.ContainsFunc(check(t, src), func(f finding.Finding) bool { return f.Rule == "workflow/action-comment-wrong" }); got != want {
			t.Errorf("%s: got %t, want %t", pin, got, want)
		}
	}
}

// TestConditionsOfRunners: a job is free of pull requests if it runs for none of the events of the workflow that
// they cause.
func TestConditionsOfRunners(t *testing.T) {
	const src = "on: {pull_request_target: , pull_request: , push: }\npermissions: {}\njobs: {a: {if: %q, runs-on: self-hosted, steps: [{run: make}]}}\n"
	for condition, want := range map[string]bool{
		"": true, "github.event_name == 'push'": false, "github.event_name != 'pull_request'": true, "!(github.event_name == 'push')": true,
		"github.event_name != 'pull_request' && github.event_name != 'pull_request_target'": false,
	} {
		if got := slices.ContainsFunc(check(t, fmt.Sprintf(src, condition)), func(f finding.Finding) bool { return f.Rule == "workflow/self-hosted-runner" }); got != want {
			t.Errorf("if %q: got %t, want %t", condition, got, want)
		}
	}
}

// TestShells: a shell may be named by its path.
func TestShells(t *testing.T) {
	for shell, want := range map[string]int{"bash": 1, "sh -e {0}": 1, "/bin/bash -e {0}": 1, "/usr/bin/dash {0}": 1, "/usr/bin/env bash {0}": 1, "python": 0} {
		src := "on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - shell: " + shell + "\n        run: curl https://x.example.com/i | sh\n"
		if got := check(t, src); len(got) != want {
			t.Errorf("%s: got %+v", shell, got)
		}
	}
}
