package lint_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/test/linttest"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/test/spent"
)

// kinds is a file of each kind that checkers read, with a fault that is found in it.
var kinds = map[string]struct{ text, rule string }{
	"Dockerfile":               {"FROM debian:13\nRUN true\n", "dockerfile/base-by-tag"},
	".github/workflows/ci.yml": {"on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v4\n", "workflow/action-unpinned"},
	"action.yml":               {"runs:\n  using: composite\n  steps:\n    - uses: actions/checkout@v4\n", "workflow/action-unpinned"},
	".gitlab-ci.yml":           {"a: {image: 'debian:13', script: [make]}\n", "gitlab/image-by-tag"},
	"bitbucket-pipelines.yml":  {"pipelines: {default: [{step: {image: 'debian:13', script: [make]}}]}\n", "bitbucket/image-by-tag"},
	"task.yaml":                {"apiVersion: tekton.dev/v1\nkind: Task\nspec: {steps: [{image: 'debian:13'}]}\n", "tekton/image-by-tag"},
	"pod.yaml":                 {"apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 'debian:13'}]}\n", "manifest/image-by-tag"},
	"compose.yaml":             {"services: {a: {image: 'debian:13'}}\n", "manifest/image-by-tag"},
	"kustomization.yaml":       {"images: [{name: a, newTag: b}]\n", "manifest/image-by-tag"},
	"package-lock.json":        {`{"packages":{"node_modules/a":{"resolved":"https://r.example.com/a.tgz"}}}`, "lock/without-hash"},
	"Cargo.lock":               {"[[package]]\nname = \"a\"\nversion = \"1\"\nsource = \"registry+https://x\"\n", "lock/without-hash"},
	"pnpm-lock.yaml":           {"packages:\n  a@1.0.0:\n    resolution: {tarball: 'https://r.example.com/a.tgz'}\n", "lock/without-hash"},
	"pom.xml":                  {"<project/>", "lock/unverified"},
	".gitmodules":              {"[submodule \"a\"]\n\turl = ../a\n\tbranch = main\n", "git/submodule-branch"},
	".gitattributes":           {"*.bin filter=lfs\n", "git/lfs-without-lock"},
	"package.json":             {`{"dependencies":{"missing":"1"}}`, "lock/out-of-date"},
}

func inTree(t *testing.T, files map[string]string) (string, func() *lint.Report) {
	t.Helper()
	dir := linttest.Write(t, files, "")
	return dir, func() *lint.Report {
		return linttest.Run(t, dir, lint.Checkers(&pins.Resolver{Offline: true})...)
	}
}

func has(r *lint.Report, rule, file string) bool {
	return slices.ContainsFunc(r.Findings, func(f finding.Finding) bool { return f.Rule == rule && f.File == file })
}

func all(change func(name, text string) string) map[string]string {
	files := map[string]string{}
	for name, k := range kinds {
		files[name] = change(name, k.text)
	}
	return files
}

// TestKinds: the faults of the other tests are found where nothing is wrong with the files.
func TestKinds(t *testing.T) {
	_, run := inTree(t, all(func(_, text string) string { return text }))
	r := run()
	for name, k := range kinds {
		if !has(r, k.rule, name) {
			t.Errorf("%s: %s is not found", name, k.rule)
		}
	}
}

// TestHostileFiles: what is broken, too large or made to explode is a finding with the name of the file. Nothing
// fails, and no file hides the others.
func TestHostileFiles(t *testing.T) {
	bomb := "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
	for i := range 12 {
		bomb += fmt.Sprintf("a%d: &a%d [%s]\n", i+1, i+1, strings.TrimSuffix(strings.Repeat(fmt.Sprintf("*a%d, ", i), 9), ", "))
	}
	isYAML := func(name string) bool { return strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml") }
	for what, change := range map[string]func(name, text string) string{
		"50 MB":     func(_, text string) string { return text }, // see below
		"not UTF-8": func(_, text string) string { return text + "\xff\xfe\x00: \xc3\x28" },
		"cut off":   func(_, text string) string { return text + "\n{ [ \"" },
		"brackets":  func(_, text string) string { return text + "\nx: " + strings.Repeat("[{a: ", 200_000) },
		"a bomb": func(name, text string) string {
			if isYAML(name) {
				return text + bomb
			}
			return text
		},
		"a cycle": func(name, text string) string {
			if isYAML(name) {
				return text + "z: &z\n  y: *z\n"
			}
			return text
		},
		"anchors without end": func(name, text string) string {
			if isYAML(name) {
				var b strings.Builder
				for i := range 30_000 {
					fmt.Fprintf(&b, "k%d: &k%d x\nl%d: *k%d\n", i, i, i, i)
				}
				return text + b.String()
			}
			return text
		},
	} {
		t.Run(what, func(t *testing.T) {
			start := spent.Now()
			files := all(change)
			files["ok/Dockerfile"] = kinds["Dockerfile"].text
			dir, run := inTree(t, files)
			for name := range kinds {
				if what == "50 MB" {
					if err := os.Truncate(filepath.Join(dir, name), 50<<20); err != nil {
						t.Fatal(err)
					}
				}
			}
			r := run()
			if took := spent.Now() - start; took > 60*time.Second {
				t.Errorf("it took %s", took)
			}
			if !has(r, "dockerfile/base-by-tag", "ok/Dockerfile") {
				t.Error("the file that is as it should be was not checked")
			}
			for name := range kinds {
				want := "" // a rule that says that the file was not read
				switch {
				case what == "50 MB":
					want = "lint/unread"
				case isYAML(name) && (what == "a bomb" || what == "a cycle" || what == "not UTF-8"):
					want = "/syntax"
				}
				named := slices.ContainsFunc(slices.Concat(r.Findings, r.Undecided), func(f finding.Finding) bool { return f.File == name && strings.HasSuffix(f.Rule, want) })
				if !named {
					t.Errorf("%s: no finding %s names it", name, want)
				}
			}
			for _, f := range r.Findings {
				if f.Rule == "lint/failed" {
					t.Errorf("%s: %s", f.Position, f.Message)
				}
			}
		})
	}
}

// TestLinksOutOfTheTree: a link is named and not followed, whether it is a file or a directory, and nothing
// outside is read or written.
func TestLinksOutOfTheTree(t *testing.T) {
	outside := linttest.Write(t, all(func(_, text string) string { return text }), "")
	dir, run := inTree(t, map[string]string{"a/b": ""})
	for name := range kinds {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o755), os.Symlink(filepath.Join(outside, name), filepath.Join(dir, name))); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Symlink(outside, filepath.Join(dir, "dir")), os.Symlink("../../../../../../etc", filepath.Join(dir, "a/etc")), os.Symlink("loop", filepath.Join(dir, "loop"))); err != nil {
		t.Fatal(err)
	}
	r := run()
	for _, f := range r.Findings {
		if f.Rule != "lint/unread" {
			t.Errorf("got %s in %s: expected only that links are not read", f.Rule, f.Position)
		}
	}
	for name := range kinds {
		if !has(r, "lint/unread", name) {
			t.Errorf("%s is not named", name)
		}
	}
	if r.Checked != 0 {
		t.Errorf("%d files were read, want none", r.Checked)
	}
}

// TestManyFiles: a tree of 100,000 files, or 20,000 without COLOPHON_LONG=1, is linted, and all of its findings are there.
func TestManyFiles(t *testing.T) {
	dir, run := inTree(t, map[string]string{"Dockerfile": kinds["Dockerfile"].text})
	const each = 1000
	dirs := 20
	if needs.AskedForLong() {
		dirs = 100
	}
	for i := range dirs {
		sub := filepath.Join(dir, fmt.Sprint("d", i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		pod := filepath.Join(linttest.Write(t, map[string]string{"pod": kinds["pod.yaml"].text}, ""), "pod")
		for j := range each {
			name := fmt.Sprintf("%d.txt", j)
			if j%100 == 0 {
				name = fmt.Sprintf("%d.yaml", j)
			}
			if err := os.Link(pod, filepath.Join(sub, name)); err != nil { // which is faster than to write each
				t.Fatal(err)
			}
		}
	}
	start := spent.Now()
	r := run()
	if r.Files != dirs*each+1 || r.Checked != dirs*each/100+1 {
		t.Errorf("got %d files, %d of them read; want %d and %d", r.Files, r.Checked, dirs*each+1, dirs*each/100+1)
	}
	images := 0
	for _, f := range r.Findings {
		if f.Rule == "manifest/image-by-tag" {
			images++
		}
	}
	if took := spent.Now() - start; images != dirs*each/100 || took > 30*time.Second {
		t.Errorf("got %d images by tag in %s, want %d", images, took, dirs*each/100)
	}
}

// TestMendWhatChanged: no kind of file that is mended is written if it has changed since it was read.
func TestMendWhatChanged(t *testing.T) {
	bad := map[string]string{"pod.yaml": "apiVersion: v1\nkind: Pod\nspec: {containers: [{image: 'postgres:17'}]}\n", ".github/workflows/ci.yml": "on: push\npermissions: {}\njobs:\n  a:\n    runs-on: ubuntu-24.04\n    container: postgres:17\n    steps: [{run: make}]\n"}
	dir := linttest.Write(t, bad, "")
	tree, err := finding.OpenTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	defer tree.Close()
	r, err := lint.Run(t.Context(), tree, lint.Checkers(linttest.Offline(t)))
	if err != nil {
		t.Fatal(err)
	}
	changes, err := lint.Mend(tree, r.Findings)
	if err != nil || len(changes) != len(bad) {
		t.Fatalf("got %d changes, %v; want %d", len(changes), err, len(bad))
	}
	for name, text := range bad {
		for what, now := range map[string]string{"longer": text + "# mine\n", "the same length": strings.Replace(text, "17", "16", 1), "empty": ""} {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(now), 0o644); err != nil {
				t.Fatal(err)
			}
			one := slices.DeleteFunc(slices.Clone(changes), func(c lint.Change) bool { return c.File != name })
			if _, err := lint.Write(tree, one); !errors.Is(err, lint.ErrChanged) {
				t.Errorf("%s, %s: got %v, want ErrChanged", name, what, err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != now {
				t.Errorf("%s, %s: it was written: %q, %v", name, what, got, err)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if written, err := lint.Write(tree, changes); err != nil || len(written) != len(bad) {
		t.Errorf("got %q, %v: want both written when they are as they were", written, err)
	}
}
