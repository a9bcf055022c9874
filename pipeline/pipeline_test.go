package pipeline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rhysd/actionlint"
	"github.com/rogpeppe/go-internal/diff"
	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/attest"
	"github.com/colophon-build/colophon/lint"
	"github.com/colophon-build/colophon/lint/finding"
	"github.com/colophon-build/colophon/lint/pins"
	"github.com/colophon-build/colophon/policy"
)

var release = "v1.2.0@sha256:" + strings.Repeat("a", 64)

const shared = "acme/pipelines@1234567890123456789012345678901234567890"

// chains is a key as that of Tekton Chains.
const chains = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEbfCcursjMoOP18RsMLAhDHyvPUxg
hGbDndxpD22xnQTUGF2g0L2FtyPJ9CeFBLx/x/+wqK6KhlVkECPeFceENA==
-----END PUBLIC KEY-----
`

// app are the files of a repository that init was not run in.
func app() map[string]string {
	return map[string]string{"Dockerfile": "FROM scratch\nCOPY app /app\nUSER 65532\nENTRYPOINT [\"/app\"]\n", ".dockerignore": ".git\n", "app": "hello\n"}
}

func tree(t testing.TB, files map[string]string) *finding.Tree {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := finding.OpenTree(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tree.Close() })
	return tree
}

// resolver answers what the repositories of the actions had when pins.txt was made.
func resolver(t testing.TB) *pins.Resolver {
	t.Helper()
	known, err := pins.ReadFile("testdata/resolutions.json")
	if err != nil {
		t.Fatal(err)
	}
	return &pins.Resolver{Offline: true, Known: known}
}

// requests are one of each kind of pipeline.
func requests() map[string]Request {
	own := Request{Kind: github, Origin: "git@github.com:acme/app.git", Install: release}
	private := own
	private.Image, private.TUF, private.Root = "registry.example.com/team/app", "https://tuf.example.com", []byte("{\n \"signed\": {}\n}\n")
	private.Reproducible = true
	calls := own
	calls.Install, calls.Workflow = "", shared
	others := own
	others.Shared = true
	privately := others
	privately.TUF, privately.Root = private.TUF, private.Root
	lab := Request{Kind: gitlab, Origin: "https://gitlab.com/acme/team/app.git", Install: release}
	component, included := lab, lab
	component.Shared = true
	included.Install, included.Workflow = "", shared
	asks := Request{Kind: colophon, Origin: own.Origin, Install: release, Platform: "https://colophon.example.com", Fingerprint: "sha256:" + strings.Repeat("f", 64)}
	asksFromLab, asksFromElsewhere := asks, asks
	asksFromLab.Origin, asksFromElsewhere.Origin = lab.Origin, "https://git.example.com/acme/app"
	inCluster := Request{Kind: tekton, Origin: asksFromElsewhere.Origin, Install: release, Image: "registry.example.com/acme/my.app", Chains: []byte(chains)}
	return map[string]Request{"tekton": inCluster, "colophon": asks, "colophon-gitlab": asksFromLab, "colophon-elsewhere": asksFromElsewhere, "gitlab": lab, "gitlab-shared": component, "gitlab-workflow": included, "github": own, "github-private": private, "github-workflow": calls, "github-shared": others, "github-shared-private": privately}
}

func make1(t *testing.T, r Request, files map[string]string) map[string]string {
	t.Helper()
	r.Resolver = resolver(t)
	p, err := Make(t.Context(), tree(t, files), r)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, f := range p.Files {
		if !f.Theirs {
			out[f.Path] = string(f.After)
		}
	}
	return out
}

// script is install.sh inside of another script.
var script = regexp.MustCompile(`(?s)(install\.sh" <<'EOF-OF-COLOPHON'\n).*?(EOF-OF-COLOPHON\n)`)

// TestText compares what is written with testdata/KIND.txtar. UPDATE=1 writes these.
func TestText(t *testing.T) {
	for name, r := range requests() {
		t.Run(name, func(t *testing.T) {
			got := make1(t, r, app())
			a := &txtar.Archive{}
			for _, file := range slices.Sorted(maps.Keys(got)) {
				if path.Base(file) != "install.sh" {
					a.Files = append(a.Files, txtar.File{Name: file, Data: script.ReplaceAll([]byte(got[file]), []byte("$1 [install.sh] $2"))})
				}
			}
			golden(t, filepath.Join("testdata", name+".txtar"), txtar.Format(a))
		})
	}
}

// golden compares text with a file. UPDATE=1 writes it.
func golden(t *testing.T, file string, text []byte) {
	t.Helper()
	if os.Getenv("UPDATE") != "" {
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, text, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v: UPDATE=1 writes it", err)
	}
	if !bytes.Equal(text, want) {
		t.Errorf("%s: UPDATE=1 writes it\n%s", file, diff.Diff("want", want, "got", text))
	}
}

// TestLint finds nothing in what is written: neither our linter, nor actionlint, nor the shell.
func TestLint(t *testing.T) {
	for name, r := range requests() {
		t.Run(name, func(t *testing.T) {
			files := app()
			maps.Copy(files, make1(t, r, app()))
			if _, component, ok := strings.Cut(files["templates/release.yml"], "\n---\n"); ok {
				files[".gitlab-ci/release.yml"] = component
			}
			report, err := lint.Run(t.Context(), tree(t, files), lint.Checkers(resolver(t)))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range report.Findings {
				if f.Rule == "workflow/action-commit-unknown" && strings.Contains(f.Message, "acme/pipelines") {
					continue // nobody can answer for it here
				}
				t.Errorf("%s: %s: %s", f.Position, f.Rule, f.Message)
			}
			if files[workflowFile] != "" {
				actions(t, []byte(files[workflowFile]))
			}
		})
	}
}

func actions(t *testing.T, workflow []byte) {
	t.Helper()
	l, err := actionlint.NewLinter(io.Discard, &actionlint.LinterOptions{Shellcheck: "", Pyflakes: ""})
	if err != nil {
		t.Fatal(err)
	}
	found, err := l.Lint("release.yaml", workflow, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		t.Errorf("actionlint: %v", f)
	}
	w, faults := actionlint.Parse(workflow)
	if len(faults) > 0 {
		t.Fatal(faults)
	}
	for id, job := range w.Jobs {
		for _, step := range job.Steps {
			run, ok := step.Exec.(*actionlint.ExecRun)
			if !ok {
				continue
			}
			if strings.Contains(run.Run.Value, "${{") {
				t.Errorf("job %s: an expression in a script: %s", id, run.Run.Value)
			}
			cmd := exec.Command("bash", "-n")
			cmd.Stdin = strings.NewReader(run.Run.Value)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("job %s: %v: %s\n%s", id, err, out, run.Run.Value)
			}
		}
	}
}

// TestIsolation: a job that runs the code of the repository has no identity and can write nothing;
// the jobs that have an identity run none of it; one job can push.
func TestIsolation(t *testing.T) {
	for name, r := range requests() {
		if r.Workflow != "" || r.Kind != github {
			continue
		}
		t.Run(name, func(t *testing.T) {
			w, faults := actionlint.Parse([]byte(make1(t, r, app())[workflowFile]))
			if len(faults) > 0 {
				t.Fatal(faults)
			}
			if w.Permissions == nil || len(w.Permissions.Scopes) > 0 || w.Permissions.All != nil {
				t.Errorf("permissions of the workflow: expected none, found %+v", w.Permissions)
			}
			pushes := 0
			for id, job := range w.Jobs {
				may := map[string]string{}
				for scope, p := range job.Permissions.Scopes {
					may[scope] = p.Value.Value
				}
				script := scriptsOf(job)
				if strings.Contains(script, "docker buildx build") && words(may) != "contents=read" {
					t.Errorf("job %s runs the code of the repository, and has the permissions %s", id, words(may))
				}
				if r.Shared && may["id-token"] != "" && strings.Contains(script, "sh "+Dir) {
					t.Errorf("job %s has an identity, and runs a script of the repository that calls", id)
				}
				if may["packages"] == "write" {
					pushes++
				}
			}
			want := 1
			if r.Image != "" { // another registry than GitHub's
				want = 0
			}
			if pushes != want {
				t.Errorf("expected %d jobs that can push to GitHub's registry, found %d", want, pushes)
			}
		})
	}
}

func scriptsOf(job *actionlint.Job) (all string) {
	for _, step := range job.Steps {
		if run, ok := step.Exec.(*actionlint.ExecRun); ok {
			all += run.Run.Value + "\n"
		}
	}
	return all
}

// TestGoPackage: a platform builds it, and jobs do not.
func TestGoPackage(t *testing.T) {
	files := map[string]string{"go.mod": "module example.com/app\n\ngo 1.26\n", "main.go": "package main\n\nfunc main() {}\n"}
	if got := make1(t, requests()["colophon"], files)[".colophon.yaml"]; !strings.Contains(got, "package: .\n") {
		t.Errorf("found the recipe %s", got)
	}
	if _, err := Make(t.Context(), tree(t, files), requests()["github"]); !errors.Is(err, ErrRequest) {
		t.Errorf("jobs: found %v", err)
	}
}

func words(m map[string]string) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, " ")
}

// TestPolicy reads the policy back, and demands L3 only of a workflow that the repository cannot change.
func TestPolicy(t *testing.T) {
	for name, want := range map[string]int{"github": 2, "github-workflow": 3, "gitlab": 2, "gitlab-workflow": 2, "tekton": 2, "colophon": 3} {
		sets, err := policy.ParseSets([]byte(make1(t, requests()[name], app())[policyFile]))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := sets[0].Rules[0].Accept[0].Provenance().MinLevel; got != want {
			t.Errorf("%s: expected Build L%d, found L%d", name, want, got)
		}
		if d := sets[0].Dangers(); len(d) > 0 {
			t.Errorf("%s: %v", name, d)
		}
	}
}

// TestRecipe builds as .colophon.yaml says, and refuses what a script cannot have.
func TestRecipe(t *testing.T) {
	files := app()
	files["build/app.Dockerfile"] = files["Dockerfile"]
	recipe := func(lines string) map[string]string {
		files[".colophon.yaml"] = "version: 1\nimages:\n  - name: app\n" + lines
		return files
	}
	r := requests()["github"]
	got := make1(t, r, recipe("    dockerfile: build/app.Dockerfile\n    target: final\n    platforms: [linux/amd64, linux/arm64]\n    buildArgs: {FLAVOR: plain}\n"))
	for _, want := range []string{"--file ./build/app.Dockerfile", "--target final", "--platform linux/amd64,linux/arm64", "--build-arg 'FLAVOR=plain'"} {
		if !strings.Contains(got[workflowFile], want+" \\\n") {
			t.Errorf("the workflow lacks %s", want)
		}
	}
	if got[".colophon.yaml"] != "" {
		t.Error("the recipe that is there is replaced")
	}
	// buildx takes these names for repositories of others, unless they are paths.
	for _, remote := range []string{"git@git.example:evil/app", "github.com/evil/app"} {
		if w := make1(t, r, recipe("    dockerfile: build/app.Dockerfile\n    context: "+remote+"\n"))[workflowFile]; !strings.Contains(w, " ./"+remote+"\n") {
			t.Errorf("the workflow builds %s as it stands", remote)
		}
	}
	for _, value := range []string{`"$(id)"`, `"'; id; '"`, `"${{ github.token }}"`, `"a b"`} {
		if _, err := Make(t.Context(), tree(t, recipe("    buildArgs: {FLAVOR: "+value+"}\n")), r); !errors.Is(err, ErrRequest) {
			t.Errorf("build argument %s: found %v", value, err)
		}
	}
}

// TestRefuses requests that would become something else in YAML or a shell.
func TestRefuses(t *testing.T) {
	for what, c := range map[string]struct {
		change func(*Request)
		want   string
	}{
		"another forge":              {func(r *Request) { r.Origin = "https://git.example.com/acme/app" }, "on github.com"},
		"no repository":              {func(r *Request) { r.Origin = "https://github.com/acme" }, "HOST/OWNER/NAME"},
		"kind":                       {func(r *Request) { r.Kind = "jenkins" }, "jenkins"},
		"tag in the image":           {func(r *Request) { r.Image = "ghcr.io/acme/app:v1" }, "without a tag"},
		"expression":                 {func(r *Request) { r.Image = "ghcr.io/${{github.token}}" }, "without a tag"},
		"second line":                {func(r *Request) { r.Image = "ghcr.io/acme/app\nx: y" }, "without a tag"},
		"release without digest":     {func(r *Request) { r.Install = "v1.2.0" }, "VERSION@sha256:DIGEST"},
		"release with a shell":       {func(r *Request) { r.Install = "v1$(id)@sha256:" + strings.Repeat("a", 64) }, "VERSION@sha256:DIGEST"},
		"workflow by tag":            {func(r *Request) { r.Install, r.Workflow = "", "acme/pipelines@v1" }, "40 digits"},
		"workflow by its file":       {func(r *Request) { r.Install, r.Workflow = "", strings.Replace(shared, "@", "/"+workflowFile+"@", 1) }, "OWNER/REPO@COMMIT"},
		"workflow of another":        {func(r *Request) { r.Install, r.Workflow = "", "acme/..@"+strings.Repeat("1", 40) }, "OWNER/REPO@COMMIT"},
		"workflow and release":       {func(r *Request) { r.Workflow = shared }, "none of both"},
		"both":                       {func(r *Request) { r.Workflow, r.Shared = shared, true }, "either"},
		"no root":                    {func(r *Request) { r.TUF = "https://tuf.example.com" }, "together"},
		"image with an empty digest": {func(r *Request) { r.Image = "a/b/c@" }, "without a tag"},
		"root that is no UTF-8":      {func(r *Request) { r.TUF, r.Root = "https://tuf.example.com", []byte("{\"a\":\"\xff\"}") }, "root metadata"},
		"root that is no JSON":       {func(r *Request) { r.TUF, r.Root = "https://tuf.example.com", []byte("EOF-OF-COLOPHON\nid") }, "root metadata"},
	} {
		r := requests()["github"]
		c.change(&r)
		if _, err := Make(t.Context(), tree(t, app()), r); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: expected an error with %q, found %v", what, c.want, err)
		}
	}
	r := requests()["github"]
	r.Origin = "https://ada:hunter2@github.com/acme/app"
	for name, text := range make1(t, r, app()) {
		if strings.Contains(text, "hunter2") {
			t.Errorf("%s has the credentials of the remote", name)
		}
	}
	for _, fingerprint := range []string{"", "sha256:$(id)", strings.Repeat("f", 64)} {
		r := requests()["colophon"]
		r.Fingerprint = fingerprint
		if _, err := Make(t.Context(), tree(t, app()), r); !errors.Is(err, ErrRequest) {
			t.Errorf("fingerprint %q: found %v", fingerprint, err)
		}
	}
	files := app()
	delete(files, "Dockerfile")
	if _, err := Make(t.Context(), tree(t, files), requests()["github"]); !errors.Is(err, ErrRequest) {
		t.Errorf("nothing to build: found %v", err)
	}
}

// TestScalars: a value that YAML 1.1 or 1.2 takes for another type, a mapping or a comment stays the text that
// the recipe has, and the root metadata stays in its script.
func TestScalars(t *testing.T) {
	for _, value := range []string{"on", "no", "null", "true", "1e3", "0x10", "1_000", "2026-01-02", ".inf", "1:30", "a:", "a,b"} {
		files := app()
		files[value+"/Dockerfile"] = files["Dockerfile"]
		files[".colophon.yaml"] = fmt.Sprintf("version: 1\nimages:\n  - name: app\n    context: %q\n    dockerfile: %q\n    target: %q\n", value, value+"/Dockerfile", value)
		for name, file := range map[string]string{"github-workflow": workflowFile, "gitlab-workflow": gitlabFile} {
			text := make1(t, requests()[name], files)[file]
			for _, key := range []string{"context", "target"} {
				if n := valueOf(t, text, key); n == nil || n.Value != value || n.ShortTag() != "!!str" {
					t.Errorf("%s: expected %s %q as text, found %+v", file, key, value, n)
				}
			}
		}
		if n := valueOf(t, make1(t, requests()["github"], files)[".github/dependabot.yml"], "directory"); n == nil || n.ShortTag() != "!!str" {
			t.Errorf("directory of %q: found %+v", value, n)
		}
	}
	r := requests()["github"]
	r.Image = "ghcr.io/acme/1e3"
	if n := valueOf(t, make1(t, r, app())[".colophon.yaml"], "name"); n == nil || n.Value != "1e3" || n.ShortTag() != "!!str" {
		t.Errorf("the recipe calls the image %+v", n)
	}
	files := map[string]string{"go.mod": "module example.com/app\n", ".colophon.yaml": "version: 1\nimages:\n  - name: app\n    dockerfile: \"a: b #x\\u0085y/Dockerfile\"\n", "a: b #x\u0085y/Dockerfile": "FROM scratch\n"}
	text := make1(t, requests()["colophon"], files)[".github/dependabot.yml"]
	if n := valueOf(t, text[strings.Index(text, "docker\n"):], "directory"); n == nil || n.Value != "/a: b #x\u0085y" {
		t.Errorf("the directory of a Dockerfile: found %+v in %s", n, text)
	}
}

// valueOf returns the first value of a key in a text of YAML.
func valueOf(t *testing.T, text, key string) *yaml.Node {
	t.Helper()
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, key+": ") || strings.HasPrefix(line, "- "+key+": ") {
			var doc yaml.Node
			if err := yaml.Unmarshal([]byte(strings.TrimPrefix(line, "- ")), &doc); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			return doc.Content[0].Content[1]
		}
	}
	return nil
}

// TestRootInScripts: no root metadata ends the script that it is in, or has what a CI system evaluates there.
func TestRootInScripts(t *testing.T) {
	for _, odd := range []string{"\u0085evil: yes", "\u2028evil: yes", "\u2029evil: yes", "\ufeff", "\u007f", "\U0001f600", "\U000f0000", "${{ secrets.X }}", "$[[ inputs.image ]]", "$(params.TAG)"} {
		root := []byte(`{"signed":{"a":"` + odd + `"}}`)
		for _, name := range []string{"github-shared", "gitlab-shared", "tekton"} {
			r := requests()[name]
			r.TUF, r.Root = "https://tuf.example.com", root
			for file, text := range make1(t, r, app()) {
				_, rest, ok := strings.Cut(text, `root.json" <<'EOF-OF-COLOPHON'`+"\n")
				if !ok {
					continue
				}
				line, rest, _ := strings.Cut(rest, "\n")
				next, _, _ := strings.Cut(rest, "\n")
				var back struct{ Signed struct{ A string } }
				if err := json.Unmarshal([]byte(line), &back); err != nil || back.Signed.A != odd || strings.TrimSpace(next) != "EOF-OF-COLOPHON" {
					t.Errorf("%s: expected %q, found %q (%v)", file, odd, back.Signed.A, err)
				}
				if strings.Contains(line, "$") || strings.ContainsFunc(line, func(r rune) bool { return r > '~' || r < ' ' }) {
					t.Errorf("%s: %q stands in the script as it is", file, odd)
				}
			}
		}
	}
}

// TestSharedPaths: the shared jobs build nothing outside of the repository.
func TestSharedPaths(t *testing.T) {
	for _, name := range []string{"github-shared", "gitlab-shared"} {
		n := &names{Request: requests()[name]}
		guard, _, _ := strings.Cut(n.Build(), "\n")
		for paths, want := range map[[2]string]bool{{".", "Dockerfile"}: true, {"a..b", "..x/Dockerfile"}: true, {"..", "Dockerfile"}: false, {"a/../..", "Dockerfile"}: false, {".", "../Dockerfile"}: false, {".", "a/.."}: false} {
			cmd := exec.Command("sh", "-ec", guard+"\ntrue")
			cmd.Env = []string{"CONTEXT=" + paths[0], "DOCKERFILE=" + paths[1]}
			if err := cmd.Run(); (err == nil) != want {
				t.Errorf("%s: context %q, Dockerfile %q: expected to pass: %v, found %v", name, paths[0], paths[1], want, err)
			}
		}
	}
}

// TestDirectory: Dependabot reads the directory that has the Dockerfile.
func TestDirectory(t *testing.T) {
	for _, c := range []struct{ context, dockerfile, want string }{
		{"", "", "/"}, {".", "", "/"}, {".docker", "", "/.docker"}, {"./a/.docker/", "", "/a/.docker"}, {"a", ".docker/Dockerfile", "/.docker"}, {"a", "./Dockerfile", "/"},
	} {
		n := &names{Recipe: attest.Recipe{Context: c.context, Dockerfile: c.dockerfile}}
		if got := n.dockerDir(); got != c.want {
			t.Errorf("%+v: found %s", c, got)
		}
	}
}

// TestFiles: what is there is told apart from what is up to the repository, and nothing follows a link.
func TestFiles(t *testing.T) {
	files := app()
	files["renovate.json"], files[workflowFile] = "{}\n", "mine\n"
	dir := tree(t, files).Dir
	r := requests()["github"]
	r.Resolver = resolver(t)
	plan := func() (*Plan, error) {
		opened, err := finding.OpenTree(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		defer opened.Close()
		return Make(t.Context(), opened, r)
	}
	p, err := plan()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range p.Files {
		switch {
		case f.Theirs:
			found = append(found, "theirs "+f.Path)
		case f.Before != nil:
			found = append(found, "replaces "+f.Path)
		default:
			found = append(found, "new "+f.Path)
		}
	}
	want := "new .colophon.yaml; replaces .github/workflows/release.yaml; new ci/colophon/install.sh; new ci/colophon/policy.yaml; theirs renovate.json"
	if got := strings.Join(found, "; "); got != want {
		t.Errorf("expected %s\nfound %s", want, got)
	}
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "ci"), 0o755), os.Symlink(t.TempDir(), filepath.Join(dir, "ci/colophon"))); err != nil {
		t.Fatal(err)
	}
	if _, err := plan(); err == nil || !strings.Contains(err.Error(), "ci/colophon/") {
		t.Errorf("a link out of the repository: found %v", err)
	}
}

// TestPins: the pins in the program are well-formed and name commits that their repositories had; a
// tag that was moved is an alarm.
func TestPins(t *testing.T) {
	all, err := embedded()
	if err != nil || len(all) == 0 {
		t.Fatal(err, len(all))
	}
	page, err := os.ReadFile("../docs/init.md")
	if err != nil {
		t.Fatal(err)
	}
	_, date, _ := strings.Cut(pinned, "Read on ")
	if date, _, _ = strings.Cut(date, " "); !regexp.MustCompile(`^20\d\d-\d\d-\d\d$`).MatchString(date) || !strings.Contains(string(page), "as their repositories had them on "+date+":") {
		t.Errorf("pins.txt was read on %q, and docs/init.md does not say so", date)
	}
	for name, p := range all {
		if row := fmt.Sprintf("| `%s` | `%s` | `%s` |\n", name, p.tag, p.commit); !strings.Contains(string(page), row) {
			t.Errorf("docs/init.md lacks %s", row)
		}
		now, err := resolver(t).Ref(t.Context(), name, p.tag)
		if err != nil || now.Commit != p.commit {
			t.Errorf("%s %s: expected %s, found %s (%v)", name, p.tag, p.commit, now.Commit, err)
		}
	}
	moved := resolver(t)
	original, err := os.ReadFile("testdata/resolutions.json")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "resolutions.json")
	raw := bytes.ReplaceAll(original, []byte(all["actions/checkout"].commit), []byte(strings.Repeat("0", 40)))
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if moved.Known, err = pins.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := current(t.Context(), moved); !errors.Is(err, ErrMoved) {
		t.Errorf("a moved tag: found %v", err)
	}
	gone := resolver(t)
	tag := []byte(`"refs/tags/` + all["actions/checkout"].tag + `"`)
	raw = bytes.ReplaceAll(original, tag, bytes.Replace(tag, []byte("tags"), []byte("heads"), 1))
	if err := os.WriteFile(file, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if gone.Known, err = pins.ReadFile(file); err != nil {
		t.Fatal(err)
	}
	if _, _, err := current(t.Context(), gone); !errors.Is(err, ErrMoved) || !strings.Contains(err.Error(), "found no such tag") {
		t.Errorf("a tag that is gone, with a branch of its name: found %v", err)
	}
	for _, silent := range []*pins.Resolver{nil, {Offline: true}} {
		if _, _, err := current(t.Context(), silent); err != nil {
			t.Errorf("nobody answers for actions: found %v", err)
		}
		for name, want := range map[string]error{"github": ErrUnanswered, "gitlab": ErrUnanswered, "github-workflow": nil, "gitlab-workflow": nil, "colophon": nil} {
			r := requests()[name]
			r.Resolver = silent
			if _, err := Make(t.Context(), tree(t, app()), r); !errors.Is(err, want) {
				t.Errorf("%s: nobody answers for images: found %v", name, err)
			}
		}
	}
}

// TestIntegrations: integrations/github is what --shared writes, with a digest that no release has, so
// that it installs nothing until somebody names a release. UPDATE=1 writes it.
func TestIntegrations(t *testing.T) {
	r := requests()["github-shared"]
	r.Install = "v0.0.0@sha256:" + strings.Repeat("0", 64)
	for name, text := range make1(t, r, nil) {
		golden(t, filepath.Join("../integrations/github", name), []byte(text))
	}
	r = requests()["gitlab-shared"]
	r.Install = "v0.0.0@sha256:" + strings.Repeat("0", 64)
	for name, text := range make1(t, r, nil) {
		golden(t, filepath.Join("../integrations/gitlab", name), []byte(text))
	}
}
