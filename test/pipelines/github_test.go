package pipelines

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/colophon-build/colophon/test/gittest"
	"github.com/colophon-build/colophon/test/harness"
	"github.com/colophon-build/colophon/test/needs"
	"github.com/colophon-build/colophon/trust"
)

// world is a platform whose certificate authority takes tokens of GitHub's jobs, and a repository.
type world struct {
	*runner
	install string
	root    string // root metadata of the platform's TUF repository
	trusted string // trusted_root.json, for cosign
}

func newWorld(t *testing.T) *world {
	needs.Root(t, "a job of its own network")
	for _, program := range []string{"runc", "unshare", "curl"} {
		if _, err := exec.LookPath(program); err != nil {
			needs.Missing(t, "a runner: %v", err)
		}
	}
	for _, program := range []string{"buildkitd", "buildctl", "buildx", "crane", "cosign", "colophon-scan"} {
		harness.Bin(t, program)
	}
	ci := harness.StartCI(t)
	p := harness.Start(t, "--config", harness.Config(t, ci.Config()))
	dir := t.TempDir()
	w := &world{runner: &runner{t: t, platform: p, ci: ci, ref: "refs/tags/v1.2.0", hidden: filepath.Dir(p.Data), artifacts: filepath.Join(dir, "artifacts")},
		root: filepath.Join(dir, "root.json"), trusted: filepath.Join(dir, "trusted_root.json")}
	for path, file := range map[string]string{"/tuf/1.root.json": w.root, "/trusted_root.json": w.trusted} {
		if err := os.WriteFile(file, p.Get(path), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	w.install = w.runner.install()
	w.secrets = map[string]string{"REGISTRY_USER": "colophon", "REGISTRY_PASSWORD": p.Token("client.json"), "registry-user": "colophon", "registry-password": p.Token("client.json")}
	if out, err := w.colophon("trust", "add", p.URL+"/tuf", "--root", w.root, "--yes"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return w
}

func (w *world) colophon(args ...string) (string, error) {
	cmd := w.platform.Colophon(w.t.Context(), args...)
	cmd.Env = append(cmd.Env, "DOCKER_CONFIG="+w.t.TempDir())
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// write makes a repository in which colophon init github ran, and returns its workflow.
func (w *world) write(t *testing.T, name string, args ...string) *workflow {
	t.Helper()
	commit := w.commit(t, name, append([]string{"init", "github", "--source", "https://github.com/acme/" + name, "--resolutions", known(t)}, args...)...)
	by := "acme/" + name + "/.github/workflows/release.yaml@refs/tags/v1.2.0"
	w.claims = map[string]any{"repository": "acme/" + name, "sub": "repo:acme/" + name + ":ref:refs/tags/v1.2.0", "sha": commit,
		"workflow_ref": by, "workflow_sha": commit, "job_workflow_ref": by, "job_workflow_sha": commit}
	return read(t, filepath.Join(w.repo, ".github/workflows/release.yaml"))
}

// known is a file with what servers would answer.
func known(t *testing.T) string {
	return filepath.Join(harness.Root(t), "pipeline/testdata/resolutions.json")
}

// commit makes a repository in which colophon init ran, and returns the commit of its tag.
func (w *world) commit(t *testing.T, name string, args ...string) string {
	t.Helper()
	w.repo = filepath.Join(t.TempDir(), name)
	harness.Write(t, w.repo, map[string]string{
		"Dockerfile": "FROM scratch\nCOPY app /app\nUSER 65532\nENTRYPOINT [\"/app\"]\n", ".dockerignore": ".git\n", "app": "this is " + name + "\n",
	})
	if out, err := w.colophon(append(args, "--dir", w.repo)...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	harness.Commit(t, w.repo, "v1.2.0")
	return gittest.Git(t, w.repo, "rev-parse", "HEAD")
}

func read(t *testing.T, file string) *workflow {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	f := &workflow{}
	if err := yaml.Unmarshal(raw, f); err != nil {
		t.Fatal(err)
	}
	return f
}

// release runs a workflow from the beginning, and returns what the failed job said.
func (w *world) release(t *testing.T, f *workflow, inputs map[string]string) string {
	t.Helper()
	if err := errors.Join(os.RemoveAll(w.artifacts), os.Mkdir(w.artifacts, 0o755)); err != nil {
		t.Fatal(err)
	}
	w.execute(f, inputs)
	return w.run[w.failed]
}

func (w *world) own(image string) []string {
	return []string{"--install", w.install, "--image", image, "--tuf", w.platform.URL + "/tuf", "--root", w.root}
}

// tags returns the tags of an image in the registry.
func (w *world) tags(t *testing.T, image string) string {
	t.Helper()
	cmd := exec.Command(harness.Bin(t, "crane"), "ls", image)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+w.platform.DockerConfig())
	out, err := cmd.CombinedOutput()
	if err != nil {
		return ""
	}
	return strings.Join(strings.Fields(string(out)), " ")
}

// TestGitHub releases by the jobs that init writes. What they release is accepted by the policy that init wrote, and by cosign.
func TestGitHub(t *testing.T) {
	w := newWorld(t)
	image := w.platform.Addr + "/acme/app"
	f := w.write(t, "app", append(w.own(image), "--reproducible")...)
	found := filepath.Join(t.TempDir(), "found")
	w.probe = probe(t, found, w)
	if said := w.release(t, f, nil); w.failed != "" {
		t.Fatalf("job %s failed:\n%s", w.failed, said)
	}
	if got := w.tags(t, image); got != "v1.2.0" {
		t.Errorf("expected the tag v1.2.0, found %q", got)
	}
	policy := filepath.Join(w.repo, "ci/colophon/policy.yaml")
	out, err := w.colophon("verify", image+":v1.2.0", "--policy", policy, "--skip-source", "--json")
	if err != nil {
		t.Fatalf("verify: %v\n%s", err, out)
	}
	for _, want := range []string{`"claim": "https://spdx.dev/Document, by an identity that matches `, `refs/tags/v1.2.0, certified 20`, `; log entry `} {
		if !strings.Contains(out, want) {
			t.Errorf("verify does not say %q:\n%s", want, out)
		}
	}
	if out, err := w.colophon("level", image+":v1.2.0", "--policy", policy, "-q"); err != nil || strings.TrimSpace(out) != "2" {
		t.Errorf("level: %v\n%s", err, out)
	}
	// The files of the repository tick what the roadmap says of actions.
	out, err = w.colophon("level", w.repo, "--image", image+":v1.2.0", "--policy", policy, "--resolutions", known(t), "--json")
	if err != nil {
		t.Errorf("level: %v\n%s", err, out)
	}
	for _, step := range []string{"step/declared", "step/sbom", "step/actions-pinned", "step/policy"} {
		if _, rest, ok := strings.Cut(out, `"`+step+`"`); !ok || !strings.Contains(rest[:min(400, len(rest))], `"status": "met"`) {
			t.Errorf("level: %s is not met: %.400s", step, rest)
		}
	}
	by := []string{"--trusted-root", w.trusted, "--certificate-identity", "https://github.com/acme/app/.github/workflows/release.yaml@refs/tags/v1.2.0", "--certificate-oidc-issuer", trust.GitHubIssuer}
	w.cosign(t, append([]string{"verify", image + ":v1.2.0"}, by...)...)
	for _, kind := range []string{"slsaprovenance1", "spdxjson"} {
		w.cosign(t, append([]string{"verify-attestation", "--type", kind, image + ":v1.2.0"}, by...)...)
	}
	t.Run("the build finds no token", func(t *testing.T) { noToken(t, found) })
}

func (w *world) cosign(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command(harness.Bin(t, "cosign"), args...)
	cmd.Env = append(os.Environ(), "DOCKER_CONFIG="+w.platform.DockerConfig(), "HOME="+t.TempDir())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("cosign %s: %v\n%s", args[0], err, out)
	}
}

// probe returns a script that looks for what a build could steal, and writes down what it found.
func probe(t *testing.T, found string, w *world) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "probe.sh")
	job := w.ci.GitHub()
	script := `{ env; echo "-- files"; cat ` + filepath.Join(w.platform.Data, "client.json") + ` ~/.docker/config.json .git/config; ls ` + w.artifacts + `
echo "-- token"; curl --silent --max-time 3 --header "Authorization: Bearer ` + job["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] + `" "` + job["ACTIONS_ID_TOKEN_REQUEST_URL"] + `&audience=sigstore"; } >>` + found + ` 2>&1 || true
`
	if err := os.WriteFile(file, []byte(script), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func noToken(t *testing.T, found string) {
	raw, err := os.ReadFile(found)
	if err != nil || strings.Count(string(raw), "-- token") != 2 {
		t.Fatalf("expected what 2 jobs found: %v\n%s", err, raw)
	}
	for _, secret := range []string{"ACTIONS_ID_TOKEN", "REGISTRY_PASSWORD", "eyJ", `"token"`, `"auth`, "extraheader"} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the build found %s:\n%s", secret, raw)
		}
	}
}

// TestGitHubAttacks: whoever can replace what one job hands to the next gets nothing tagged.
func TestGitHubAttacks(t *testing.T) {
	w := newWorld(t)
	image := w.platform.Addr + "/acme/app"
	f := w.write(t, "app", append(w.own(image), "--reproducible")...)
	other := filepath.Join(t.TempDir(), "other.tar")
	in := func(name string) string { return filepath.Join(w.artifacts, name) }
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Error(err)
		}
	}
	must(os.WriteFile(filepath.Join(w.repo, "app"), []byte("another app\n"), 0o644))
	gittest.Git(t, w.repo, "commit", "-q", "-a", "-m", "another")
	gittest.Git(t, w.repo, "tag", "-f", "v1.2.0")
	w.release(t, &workflow{Env: f.Env, Jobs: map[string]*job{"build": f.Jobs["build"]}}, nil)
	must(sh("cp", in("image/image.tar"), other))
	gittest.Git(t, w.repo, "tag", "-f", "v1.2.0", "HEAD~1")
	for _, c := range []struct {
		name, before string
		do           func()
		job, said    string
	}{
		{"another image in place of one build", "attest", func() { must(sh("cp", other, in("image/image.tar"))) }, "attest", "image.tar: FAILED"},
		{"another image in place of both builds", "attest", func() {
			must(errors.Join(sh("cp", other, in("image/image.tar")), sh("cp", other, in("rebuilt/image.tar"))))
		}, "attest", "image.tar: FAILED"},
		{"another image with the provenance of this", "sbom", func() {
			must(os.RemoveAll(in("attested")))
			if out, err := w.colophon("copy", other, "oci:"+in("attested")); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}, "sbom", "not found"},
		{"another list of what is in the image", "sign", func() { must(os.WriteFile(in("sbom/sbom.spdx.json"), []byte("{}"), 0o644)) }, "sign", "sbom.spdx.json: FAILED"},
		{"no provenance", "sign", func() {
			// The image as it was built, with nothing attached.
			must(os.RemoveAll(in("attested")))
			if out, err := w.colophon("copy", in("image/image.tar"), "oci:"+in("attested")); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		}, "sign", "rejected"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.before = map[string]func(){c.before: c.do}
			said := w.release(t, f, nil)
			if w.failed != c.job || !strings.Contains(said, c.said) {
				t.Errorf("expected the job %s to fail with %q, found %q:\n%s", c.job, c.said, w.failed, said)
			}
			if got := w.tags(t, image); got != "" {
				t.Errorf("found the tags %s", got)
			}
		})
	}
}

// TestGitHubShared releases by the jobs of another repository, which reach Build L3 by the policy.
func TestGitHubShared(t *testing.T) {
	w := newWorld(t)
	image := w.platform.Addr + "/acme/app"
	f := w.write(t, "pipelines", "--install", w.install, "--shared", "--tuf", w.platform.URL+"/tuf", "--root", w.root)
	commit := gittest.Git(t, w.repo, "rev-parse", "HEAD")
	caller := w.write(t, "app", "--workflow", "acme/pipelines@"+commit, "--image", image)
	called := caller.Jobs["release"]
	by := "acme/pipelines/.github/workflows/release.yaml@" + commit
	if called.Uses != by {
		t.Errorf("the caller uses %q", called.Uses)
	}
	w.claims["job_workflow_ref"], w.claims["job_workflow_sha"] = by, commit
	inputs := map[string]string{}
	for name, i := range f.On.WorkflowCall.Inputs {
		inputs[name] = text(i.Default)
	}
	for name, v := range called.With {
		inputs[name] = text(v)
	}
	t.Run("a branch", func(t *testing.T) {
		w.ref = "refs/heads/main"
		defer func() { w.ref = "refs/tags/v1.2.0" }()
		w.release(t, f, inputs)
		for name := range f.Jobs {
			if w.run[name] != "skipped" {
				t.Errorf("the job %s ran: %s", name, w.run[name])
			}
		}
	})
	t.Run("a copy of the jobs in the repository itself", func(t *testing.T) {
		w.claims["job_workflow_ref"], w.claims["job_workflow_sha"] = w.claims["workflow_ref"], w.claims["workflow_sha"]
		defer func() { w.claims["job_workflow_ref"], w.claims["job_workflow_sha"] = by, commit }()
		if said := w.release(t, f, inputs); w.failed != "sign" || !strings.Contains(said, "rejected") || w.tags(t, image) != "" {
			t.Errorf("the job %q failed, found the tags %q:\n%s", w.failed, w.tags(t, image), said)
		}
	})
	// A repository that calls may not choose the program that runs beside the identity.
	harness.Write(t, w.repo, map[string]string{"ci/colophon/install.sh": "echo stolen; exit 1\n", "measured/stolen": ""})
	gittest.Git(t, w.repo, "add", ".")
	gittest.Git(t, w.repo, "commit", "-q", "-m", "steal")
	gittest.Git(t, w.repo, "tag", "-f", "v1.2.0")
	w.claims["sha"] = gittest.Git(t, w.repo, "rev-parse", "HEAD")
	w.claims["workflow_sha"] = w.claims["sha"]
	if said := w.release(t, f, inputs); w.failed != "" {
		t.Fatalf("job %s failed:\n%s", w.failed, said)
	}
	for name, said := range w.run {
		if strings.Contains(said, "stolen") {
			t.Errorf("job %s ran a script of the repository:\n%s", name, said)
		}
	}
	policy := filepath.Join(w.repo, "ci/colophon/policy.yaml")
	for _, c := range [][]string{{"verify", "--skip-source", "--json"}, {"level", "--min-build-level", "3", "--json"}} {
		out, err := w.colophon(append([]string{c[0], image + ":v1.2.0", "--policy", policy}, c[1:]...)...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", c[0], err, out)
		}
		if !strings.Contains(out, by+" is trusted for Build L3 by the policy") {
			t.Errorf("%s does not say what the level rests on:\n%s", c[0], out)
		}
	}
}

// TestInstallAction runs the action that --shared writes, in a job that nobody gave anything.
func TestInstallAction(t *testing.T) {
	r := &runner{t: t, tools: t.TempDir()}
	release := r.install()
	action := filepath.Join(harness.Root(t), "integrations/github/install")
	raw, err := os.ReadFile(filepath.Join(action, "action.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Inputs map[string]struct{ Default string }
		Runs   struct{ Steps []step }
	}
	if err := yaml.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		release, programs, want string
	}{
		"two programs":                  {release, "colophon colophon-scan", "installed"},
		"one":                           {release, f.Inputs["programs"].Default, "installed"},
		"the release that is published": {f.Inputs["release"].Default, "colophon", "cannot download"},
		"another digest":                {release[:len(release)-64] + strings.Repeat("0", 64), "colophon", "SHA256SUMS: expected sha256"},
		"a path":                        {release, "../colophon", "--program: found"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			env := map[string]string{"PATH": r.tools + ":/usr/bin:/bin", "JOB": dir, "RUNNER_TEMP": dir, "GITHUB_ACTION_PATH": action, "GITHUB_PATH": filepath.Join(dir, "path")}
			for k, v := range f.Runs.Steps[0].Env {
				if env[k], err = evaluate(v, map[string]string{"inputs.release": c.release, "inputs.programs": c.programs}); err != nil {
					t.Fatal(err)
				}
			}
			out, err := r.shell(false, dir, f.Runs.Steps[0].Run, env)
			installed, _ := filepath.Glob(filepath.Join(dir, "bin/*"))
			want := 0
			if c.want == "installed" {
				want = len(strings.Fields(c.programs))
			}
			if (err == nil) != (want > 0) || len(installed) != want || !strings.Contains(string(out), c.want) {
				t.Errorf("expected %q and %d programs, found %q (%v):\n%s", c.want, want, installed, err, out)
			}
		})
	}
}

func text(v any) string {
	raw, _ := json.Marshal(v)
	return strings.Trim(string(raw), `"`)
}
